// SPDX-License-Identifier: Apache-2.0
// Element types and tensor views.
#pragma once

#include <cstddef>
#include <cstdint>

#include "edgert/checked.h"

namespace edgert {

inline constexpr std::uint32_t kMaxRank = 8;

/// The numbers are those of schema/plan.fbs.
enum class DType : std::uint8_t {
  Undefined = 0, F32 = 1, F16 = 2, BF16 = 3, F64 = 4,
  I8 = 5, U8 = 6, I16 = 7, U16 = 8, I32 = 9, U32 = 10, I64 = 11, U64 = 12,
  Bool = 13, I4 = 14, U4 = 15,
  F8E4M3FN = 16, F8E4M3FNUZ = 17, F8E5M2 = 18, F8E5M2FNUZ = 19, F8E8M0 = 20, F4E2M1 = 21, I2 = 22, U2 = 23,
};
inline constexpr std::uint8_t kDTypeCount = 24;

/// Bits of one element; 0 for Undefined and for numbers that are no type.
constexpr std::uint32_t bits_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::Undefined: return 0;
    case DType::I2: case DType::U2: return 2;
    case DType::I4: case DType::U4: case DType::F4E2M1: return 4;
    case DType::F8E4M3FN: case DType::F8E4M3FNUZ: case DType::F8E5M2: case DType::F8E5M2FNUZ: case DType::F8E8M0:
    case DType::I8: case DType::U8: case DType::Bool: return 8;
    case DType::F16: case DType::BF16: case DType::I16: case DType::U16: return 16;
    case DType::F32: case DType::I32: case DType::U32: return 32;
    case DType::F64: case DType::I64: case DType::U64: return 64;
  }
  return 0;
}

constexpr const char* to_string(DType dtype) noexcept {
  switch (dtype) {
    case DType::Undefined: return "undefined";
    case DType::F32: return "f32";
    case DType::F16: return "f16";
    case DType::BF16: return "bf16";
    case DType::F64: return "f64";
    case DType::I8: return "i8";
    case DType::U8: return "u8";
    case DType::I16: return "i16";
    case DType::U16: return "u16";
    case DType::I32: return "i32";
    case DType::U32: return "u32";
    case DType::I64: return "i64";
    case DType::U64: return "u64";
    case DType::Bool: return "bool";
    case DType::I4: return "i4";
    case DType::U4: return "u4";
    case DType::F8E4M3FN: return "f8e4m3fn";
    case DType::F8E4M3FNUZ: return "f8e4m3fnuz";
    case DType::F8E5M2: return "f8e5m2";
    case DType::F8E5M2FNUZ: return "f8e5m2fnuz";
    case DType::F8E8M0: return "f8e8m0";
    case DType::F4E2M1: return "f4e2m1";
    case DType::I2: return "i2";
    case DType::U2: return "u2";
  }
  return "invalid";
}

/// How a tensor's elements lie in its storage. The numbers are part of the plan format: a number never changes its
/// meaning, a runtime refuses one that it does not know. Packed formats are neutral to the instruction set.
enum class WeightFormat : std::uint16_t {
  Strided = 0,
  /// F32, dims [groups, K, N]: for each group, for each panel of 16 columns, K rows of 16 consecutive floats; columns
  /// past N are zero. Bytes: groups * ceil(N / 16) * K * 64.
  PanelF32x16 = 1,
};

/// A typed, strided view of memory owned by somebody else. Strides count elements and are never negative; a broadcast
/// dimension has stride 0. An absent optional input has dtype Undefined.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::Undefined;
  std::uint8_t rank = 0;
  WeightFormat format = WeightFormat::Strided;
  std::int64_t dims[kMaxRank] = {};
  std::int64_t strides[kMaxRank] = {};

  constexpr bool present() const noexcept { return dtype != DType::Undefined; }
  constexpr std::int64_t elements() const noexcept {
    std::int64_t count = 1;
    for (std::uint32_t i = 0; i < rank; ++i) count *= dims[i];
    return count;
  }
  /// Typed access without a check.
  template <class T>
  T* as() const noexcept {
    return static_cast<T*>(data);
  }
};

/// Whether there are no elements at all.
constexpr bool is_empty(const TensorView& view) noexcept {
  for (std::uint32_t i = 0; i < view.rank; ++i) {
    if (view.dims[i] == 0) return true;
  }
  return false;
}

constexpr bool same_dims(const TensorView& a, const TensorView& b) noexcept {
  if (a.rank != b.rank) return false;
  for (std::uint32_t i = 0; i < a.rank; ++i) {
    if (a.dims[i] != b.dims[i]) return false;
  }
  return true;
}

/// Whether the elements lie in row-major order without gaps. Dimensions of extent 1 may have any stride.
constexpr bool is_dense(const TensorView& view) noexcept {
  std::int64_t expected = 1;
  for (std::uint32_t i = view.rank; i-- > 0;) {
    if (view.dims[i] != 1 && view.strides[i] != expected) return false;
    expected *= view.dims[i];
  }
  return true;
}

/// out = bytes from the view's first element to the end of its last one; false on overflow, on a negative extent or
/// stride, or on a format that is unknown or does not fit type and rank. An empty tensor spans 0 bytes.
[[nodiscard]] constexpr bool span_bytes(const TensorView& view, std::uint64_t& out) noexcept {
  std::uint64_t count = 1;
  for (std::uint32_t i = 0; i < view.rank; ++i) {
    if (view.dims[i] < 0 || view.strides[i] < 0) return false;
    if (!checked_mul(count, static_cast<std::uint64_t>(view.dims[i]), count)) return false;
  }
  // A count that fits int64 keeps every loop over the elements free of overflow.
  if (count > static_cast<std::uint64_t>(INT64_MAX) / 64) return false;
  if (view.format == WeightFormat::PanelF32x16) {
    if (view.dtype != DType::F32 || view.rank != 3) return false;
    std::uint64_t columns = 0;
    std::uint64_t rows = 0;
    if (!checked_align(static_cast<std::uint64_t>(view.dims[2]), 16, columns)) return false;
    if (!checked_mul(static_cast<std::uint64_t>(view.dims[0]), static_cast<std::uint64_t>(view.dims[1]), rows)) return false;
    return checked_mul(rows, columns, rows) && checked_mul(rows, 4, out);
  }
  if (view.format != WeightFormat::Strided) return false;
  if (count == 0) {
    out = 0;
    return true;
  }
  std::uint64_t last = 0;
  for (std::uint32_t i = 0; i < view.rank; ++i) {
    std::uint64_t step = 0;
    if (!checked_mul(static_cast<std::uint64_t>(view.dims[i] - 1), static_cast<std::uint64_t>(view.strides[i]), step)) return false;
    if (!checked_add(last, step, last)) return false;
  }
  std::uint64_t bits = 0;
  if (!checked_add(last, 1, last) || last > static_cast<std::uint64_t>(INT64_MAX) / 64) return false;
  if (!checked_mul(last, bits_of(view.dtype), bits)) return false;
  out = (bits + 7) / 8;
  return true;
}

}  // namespace edgert
