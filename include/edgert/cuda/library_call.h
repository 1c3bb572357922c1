// SPDX-License-Identifier: Apache-2.0
// Steps that a vendor's library computes in place of a kernel, in plans built with --tactics: what such a step says of
// itself, what it must satisfy, and who runs it. Nothing here needs the libraries; cuda/library/*.h do.
#pragma once

#include <cstring>

#include "edgert/checked.h"
#include "edgert/cuda/driver_types.h"
#include "edgert/plan.h"

namespace edgert::cuda {

enum class LibraryActivation : std::uint8_t { None = 0, Relu = 1, GeluTanh = 2, Gelu = 3, Silu = 4, Sigmoid = 5 };
inline constexpr LibraryActivation kLastActivation = LibraryActivation::Sigmoid;

/// What every call begins with. Its launch has the arguments of LibraryArgument, in that order; all operands are of one type,
/// F32, F16 or BF16, and are added up in f32. y = activation(product + bias + residual).
struct LibraryCommon {
  DType dtype;
  LibraryActivation activation;
  std::uint8_t rounds;      ///< 1: what is multiplied may be rounded to TF32
  std::uint8_t reserved;    ///< 0
  std::uint32_t algorithm;  ///< which of those that the library proposes for the device, best first
  std::uint64_t workspace_bytes;
};

/// Of schema::Library::CublasLt: a [rows, depth] times the transpose of weights [columns, depth]. Pitches are elements from
/// row to row.
struct LibraryMatMul {
  LibraryCommon common;
  std::uint32_t rows, columns, depth;
  std::uint32_t input_pitch, output_pitch, residual_pitch;
};

/// Of schema::Library::Cudnn: a convolution of x [batch, height, width, channels] with weights [out_channels, kernel[0],
/// kernel[1], channels / groups]. Pitches are elements from pixel to pixel; rows and images follow each other.
struct LibraryConv {
  LibraryCommon common;
  std::uint32_t batch, channels, height, width;
  std::uint32_t out_channels, out_height, out_width, groups;
  std::uint32_t kernel[2], stride[2], dilation[2], pad_begin[2], pad_end[2];
  std::uint32_t input_pitch, output_pitch, residual_pitch;
  std::uint32_t reserved;
};
static_assert(sizeof(LibraryMatMul) == 40 && sizeof(LibraryConv) == 104, "these are bytes of plans");

/// Bias, residual and workspace are null where there are none.
enum class LibraryArgument : std::uint32_t { Input = 0, Weights = 1, Bias = 2, Residual = 3, Output = 4, Workspace = 5 };
inline constexpr std::uint32_t kLibraryArguments = 6;

inline const char* to_string(schema::Library library) noexcept {
  return library == schema::Library::CublasLt ? "cublaslt" : library == schema::Library::Cudnn ? "cudnn" : "unknown library";
}

/// Runs the steps of one library; cuda/library/*.h make them. A runner serves one program at a time, in whose context it is
/// called, and must outlive it.
struct LibraryRunner {
  /// Puts a checked call on `stream`. `addresses` are those of the kLibraryArguments arguments. The first time it may open the
  /// library and allocate; a session calls it once before it captures. UnknownOperator where the library does not offer the
  /// call's algorithm, DeviceUnavailable without the library.
  Status (*enqueue)(void* user, const schema::LibraryCall& call, const DevicePointer* addresses, Stream stream, const LogSink& log) noexcept = nullptr;
  /// Gives back what enqueue made. Called when the program closes.
  void (*release)(void* user) noexcept = nullptr;
  void* user = nullptr;
};
struct Libraries {
  LibraryRunner cublaslt, cudnn;

  const LibraryRunner& of(schema::Library library) const noexcept { return library == schema::Library::CublasLt ? cublaslt : cudnn; }
};

namespace detail {

/// Bytes from the first to the last element of each operand.
struct LibrarySpans {
  std::uint64_t bytes[kLibraryArguments] = {};

  std::uint64_t& operator[](LibraryArgument argument) noexcept { return bytes[static_cast<std::uint32_t>(argument)]; }
};

/// Null, or what is wrong with the call. Extents below 2^31 keep every product of two inside 64 bits.
inline bool span_of(std::uint64_t rows, std::uint64_t row_elements, std::uint64_t pitch, std::uint64_t element, std::uint64_t& bytes) noexcept {
  std::uint64_t elements = 0;
  return row_elements <= pitch && checked_mul(rows - 1, pitch, elements) && checked_add(elements, row_elements, elements) &&
         checked_mul(elements, element, bytes);
}
inline bool in_extent(std::uint32_t value) noexcept { return value >= 1 && value <= 0x7fffffffu; }

inline const char* spans_of(const LibraryMatMul& m, std::uint64_t element, LibrarySpans& spans) noexcept {
  if (!in_extent(m.rows) || !in_extent(m.columns) || !in_extent(m.depth)) return "a library call has extents of 1 to 2^31 - 1";
  if (m.common.activation > LibraryActivation::GeluTanh) return "cuBLASLt has no such activation";
  using Argument = LibraryArgument;
  const bool fits = span_of(m.rows, m.depth, m.input_pitch, element, spans[Argument::Input]) &&
                    span_of(m.columns, m.depth, m.depth, element, spans[Argument::Weights]) &&
                    span_of(m.rows, m.columns, m.output_pitch, element, spans[Argument::Output]) &&
                    (m.residual_pitch == 0 || span_of(m.rows, m.columns, m.residual_pitch, element, spans[Argument::Residual]));
  spans[Argument::Bias] = m.columns * element;
  return fits ? nullptr : "a library call's pitches are too small, or its operands too large";
}

/// Whether windows of `kernel` taps give `out` results along a dimension.
inline bool is_window(std::uint64_t in, std::uint64_t out, std::uint64_t kernel, std::uint64_t stride, std::uint64_t dilation, std::uint64_t pads) noexcept {
  std::uint64_t reach = 0;
  if (!checked_mul(kernel - 1, dilation, reach) || reach >= in + pads) return false;
  return out == (in + pads - reach - 1) / stride + 1;
}

inline const char* spans_of(const LibraryConv& c, std::uint64_t element, LibrarySpans& spans) noexcept {
  bool sane = c.reserved == 0;
  for (const std::uint32_t extent : {c.batch, c.channels, c.height, c.width, c.out_channels, c.out_height, c.out_width, c.groups, c.kernel[0], c.kernel[1],
                                     c.stride[0], c.stride[1], c.dilation[0], c.dilation[1]}) {
    sane = sane && in_extent(extent);
  }
  if (!sane) return "a library call has extents of 1 to 2^31 - 1";
  if (c.channels % c.groups != 0 || c.out_channels % c.groups != 0) return "a library call's groups do not divide its channels";
  for (int d = 0; d < 2; ++d) {
    if (c.pad_begin[d] > 0x7fffffffu || c.pad_end[d] > 0x7fffffffu ||
        !is_window(d == 0 ? c.height : c.width, d == 0 ? c.out_height : c.out_width, c.kernel[d], c.stride[d], c.dilation[d],
                   std::uint64_t{c.pad_begin[d]} + c.pad_end[d])) {
      return "a library call's windows do not fit its extents";
    }
  }
  using Argument = LibraryArgument;
  std::uint64_t in_pixels = 0, out_pixels = 0, taps = 0, depth = 0;
  const bool fits = checked_mul(std::uint64_t{c.height} * c.width, std::uint64_t{c.batch}, in_pixels) &&
                    checked_mul(std::uint64_t{c.out_height} * c.out_width, std::uint64_t{c.batch}, out_pixels) &&
                    checked_mul(std::uint64_t{c.kernel[0]}, std::uint64_t{c.kernel[1]}, taps) &&
                    checked_mul(taps, std::uint64_t{c.channels / c.groups}, depth) &&
                    span_of(in_pixels, c.channels, c.input_pitch, element, spans[Argument::Input]) &&
                    span_of(c.out_channels, depth, depth, element, spans[Argument::Weights]) &&
                    span_of(out_pixels, c.out_channels, c.output_pitch, element, spans[Argument::Output]) &&
                    (c.residual_pitch == 0 || span_of(out_pixels, c.out_channels, c.residual_pitch, element, spans[Argument::Residual]));
  spans[Argument::Bias] = c.out_channels * element;
  return fits ? nullptr : "a library call's pitches are too small, or its operands too large";
}

template <class Problem>
const char* read_spans(const schema::LibraryCall& call, LibraryCommon& common, LibrarySpans& spans, bool& adds) noexcept {
  Problem problem;
  if (rules::count(call.problem()) != sizeof(problem)) return "a library call's problem has the wrong size";
  std::memcpy(&problem, call.problem()->Data(), sizeof(problem));
  common = problem.common;
  adds = problem.residual_pitch != 0;
  if (common.dtype != DType::F32 && common.dtype != DType::F16 && common.dtype != DType::BF16) return "a library call is of an unknown type";
  if (common.activation > kLastActivation || common.rounds > 1 || common.reserved != 0 || common.workspace_bytes > rules::kMaxRegionBytes) {
    return "a library call's activation or flags are unknown";
  }
  return spans_of(problem, bits_of(common.dtype) / 8, spans);
}

}  // namespace detail

/// Null when every operand of the launch's call lies inside its storage and none but the output and the workspace is written;
/// else what is wrong. The arguments themselves have been checked.
inline const char* check_library_call(const schema::Profile& profile, const schema::Launch& launch) noexcept {
  using Argument = LibraryArgument;
  const schema::LibraryCall& call = *launch.call();
  LibraryCommon common = {};
  detail::LibrarySpans spans;
  bool adds = false;
  const char* why = "a library call names no library that is known";
  if (call.library() == schema::Library::CublasLt) why = detail::read_spans<LibraryMatMul>(call, common, spans, adds);
  if (call.library() == schema::Library::Cudnn) why = detail::read_spans<LibraryConv>(call, common, spans, adds);
  if (why != nullptr) return why;
  spans[Argument::Workspace] = common.workspace_bytes;
  if (rules::count(launch.arguments()) != kLibraryArguments) return "a library call has six arguments";
  for (std::uint32_t i = 0; i < kLibraryArguments; ++i) {
    const schema::LaunchArgument& argument = *launch.arguments()->Get(i);
    const auto role = static_cast<Argument>(i);
    if (argument.kind() == schema::ArgumentKind::Immediate) {
      const bool optional = role == Argument::Bias || (role == Argument::Residual && !adds) || (role == Argument::Workspace && common.workspace_bytes == 0);
      if (!optional || argument.value() != 0) return "a library call lacks an operand";
      continue;
    }
    if (argument.kind() != schema::ArgumentKind::Address) return "a library call's operands are addresses";
    const schema::Storage& storage = *profile.storages()->Get(argument.storage());
    if (!in_range(argument.value(), spans[role], storage.size())) return "a library call's operand reaches outside its storage";
    const bool writes = role == Argument::Output || role == Argument::Workspace;
    if (writes && (storage.region() == schema::Region::Weights || storage.region() == schema::Region::Input)) {
      return "a library call writes to weights or to an input";
    }
  }
  return nullptr;
}

}  // namespace edgert::cuda
