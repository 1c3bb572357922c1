// SPDX-License-Identifier: Apache-2.0
// Strips: a few hundred values that operators bring together from strided tensors of any type, so that arithmetic is
// written for consecutive values of few types. A strip holds float for f32, f16 and bf16; double; int64 or uint64 for
// integers of any width; bytes for bool.
#pragma once

#include <cstddef>
#include <cstdint>

#include "edgert/cpu/isa/pointwise_kernels.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"
#include "edgert/scalar/convert.h"
#include "edgert/scalar/pointwise_functions.h"
#include "edgert/types.h"

namespace edgert::cpu {

using scalar::Arithmetic;

inline constexpr std::int64_t kStrip = 256;  // a dozen of strips fit the first-level cache

/// How elements of a type are computed; None for those that pointwise operations do not take.
constexpr Arithmetic arithmetic_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::F32: case DType::F16: case DType::BF16: return Arithmetic::F32;
    case DType::F64: return Arithmetic::F64;
    case DType::I8: case DType::I16: case DType::I32: case DType::I64: return Arithmetic::Signed;
    case DType::U8: case DType::U16: case DType::U32: case DType::U64: return Arithmetic::Unsigned;
    case DType::Bool: return Arithmetic::Bool;
    default: return Arithmetic::None;
  }
}
/// Bytes of one value in a strip.
constexpr std::size_t lane_bytes(Arithmetic arithmetic) noexcept {
  return arithmetic == Arithmetic::F32 ? 4 : arithmetic == Arithmetic::Bool ? 1 : 8;
}

/// to[i] = from[i * stride], converted.
template <class To, class From>
void widen_strip(void* to, const void* from, std::int64_t stride, std::int64_t n) noexcept {
  const From* const source = static_cast<const From*>(from);
  for (std::int64_t i = 0; i < n; ++i) static_cast<To*>(to)[i] = static_cast<To>(source[i * stride]);
}

/// Brings `n` elements of a tensor into a strip.
inline void load_strip(DType dtype, void* to, const void* from, std::int64_t stride, std::int64_t n, Isa isa) noexcept {
  switch (dtype) {
    case DType::F32: return widen_strip<float, float>(to, from, stride, n);
    case DType::F16: case DType::BF16: {
      const bool brain = dtype == DType::BF16;
      if (stride == 1) return EDGERT_ISA_DISPATCH(isa, strip_widen(static_cast<float*>(to), from, n, brain));
      const std::uint16_t* const source = static_cast<const std::uint16_t*>(from);
      for (std::int64_t i = 0; i < n; ++i) {
        const std::uint16_t bits = source[i * stride];
        static_cast<float*>(to)[i] =
            brain ? scalar::to_float(scalar::BFloat16{bits}) : scalar::to_float(scalar::Half{bits});
      }
      return;
    }
    case DType::F64: return widen_strip<double, double>(to, from, stride, n);
    case DType::I8: return widen_strip<std::int64_t, std::int8_t>(to, from, stride, n);
    case DType::I16: return widen_strip<std::int64_t, std::int16_t>(to, from, stride, n);
    case DType::I32: return widen_strip<std::int64_t, std::int32_t>(to, from, stride, n);
    case DType::I64: return widen_strip<std::int64_t, std::int64_t>(to, from, stride, n);
    case DType::U8: return widen_strip<std::uint64_t, std::uint8_t>(to, from, stride, n);
    case DType::U16: return widen_strip<std::uint64_t, std::uint16_t>(to, from, stride, n);
    case DType::U32: return widen_strip<std::uint64_t, std::uint32_t>(to, from, stride, n);
    case DType::U64: return widen_strip<std::uint64_t, std::uint64_t>(to, from, stride, n);
    case DType::Bool: return widen_strip<std::uint8_t, std::uint8_t>(to, from, stride, n);
    default: return;
  }
}

template <class To, class From>
void narrow_strip(void* to, std::int64_t stride, const void* from, std::int64_t n) noexcept {
  const From* const source = static_cast<const From*>(from);
  for (std::int64_t i = 0; i < n; ++i) static_cast<To*>(to)[i * stride] = static_cast<To>(source[i]);
}

/// Puts `n` values of a strip into a tensor.
inline void store_strip(DType dtype, void* to, std::int64_t stride, const void* from, std::int64_t n,
                        Isa isa) noexcept {
  switch (dtype) {
    case DType::F32: return narrow_strip<float, float>(to, stride, from, n);
    case DType::F16: case DType::BF16: {
      const bool brain = dtype == DType::BF16;
      const float* const source = static_cast<const float*>(from);
      if (stride == 1) return EDGERT_ISA_DISPATCH(isa, strip_narrow(to, source, n, brain));
      for (std::int64_t i = 0; i < n; ++i) {
        static_cast<std::uint16_t*>(to)[i * stride] =
            brain ? scalar::to_bfloat16(source[i]).bits : scalar::to_half(source[i]).bits;
      }
      return;
    }
    case DType::F64: return narrow_strip<double, double>(to, stride, from, n);
    case DType::I8: case DType::U8: return narrow_strip<std::uint8_t, std::uint64_t>(to, stride, from, n);
    case DType::I16: case DType::U16: return narrow_strip<std::uint16_t, std::uint64_t>(to, stride, from, n);
    case DType::I32: case DType::U32: return narrow_strip<std::uint32_t, std::uint64_t>(to, stride, from, n);
    case DType::I64: case DType::U64: return narrow_strip<std::uint64_t, std::uint64_t>(to, stride, from, n);
    case DType::Bool: return narrow_strip<std::uint8_t, std::uint8_t>(to, stride, from, n);
    default: return;
  }
}

/// Whether elements lie in memory as strips hold them.
constexpr bool is_lane_type(DType dtype) noexcept { return bytes_of(dtype) == lane_bytes(arithmetic_of(dtype)); }

inline void* element_at(void* base, std::int64_t offset, DType dtype) noexcept {
  return static_cast<unsigned char*>(base) + offset * static_cast<std::int64_t>(bytes_of(dtype));
}

/// Reads operands of a nest strip by strip from its first position on. Long rows are cut, in place where they lie as
/// strips do; short rows are brought together, so that arithmetic always sees a good number of values.
template <int kOperands>
class StripReader {
 public:
  /// Operand k reads `*views[k]`, whose first element for this nest is at element `base[k]`; a null view is not read.
  /// `buffers` has room for kOperands strips of 8-byte values.
  StripReader(const Nest<kOperands>& nest, const TensorView* const (&views)[kOperands],
              const std::int64_t (&base)[kOperands], void* buffers, Isa isa) noexcept
      : nest_(nest), cursor_(nest, nest.rank, 0), start_(cursor_), buffers_(buffers), isa_(isa) {
    for (int k = 0; k < kOperands; ++k) {
      views_[k] = views[k];
      base_[k] = base[k];
      if (views[k] == nullptr) continue;
      const bool in_place = is_lane_type(views[k]->dtype) && (nest.inner_stride(k) == 1 || nest.inner() == 1);
      if (!in_place) longest_ = kStrip;
    }
  }

  /// Goes to the next strip; false when there is none.
  bool next() noexcept {
    start_ = cursor_;
    const std::int64_t rest = nest_.count - done_;
    if (rest == 0) return false;
    const std::int64_t row = nest_.inner() - cursor_.innermost();
    if (row >= kStrip / 2 || row == rest) {
      size_ = row < longest_ ? row : longest_;
      for (int k = 0; k < kOperands; ++k) {
        if (views_[k] == nullptr) continue;
        const bool in_place = is_lane_type(views_[k]->dtype) && (nest_.inner_stride(k) == 1 || size_ == 1);
        values_[k] = in_place ? at(k, cursor_) : buffer(k);
        if (!in_place) load_strip(views_[k]->dtype, buffer(k), at(k, cursor_), nest_.inner_stride(k), size_, isa_);
      }
      cursor_.advance(size_);
    } else {
      size_ = rest < kStrip ? rest : kStrip;
      gather();
    }
    done_ += size_;
    return true;
  }

  std::int64_t size() const noexcept { return size_; }
  /// The strip's values of operand k; null when it is not read.
  const void* values(int k) const noexcept { return values_[k]; }
  /// Where operand k's values may be written before write(): its own elements if they lie so, else a buffer.
  void* target(int k, const TensorView& view) const noexcept {
    const bool whole = size_ <= nest_.inner() - start_.innermost();
    const bool in_place = is_lane_type(view.dtype) && whole && (nest_.inner_stride(k) == 1 || size_ == 1);
    return in_place ? element_at(view.data, base_[k] + start_.offset(k), view.dtype) : buffer(k);
  }
  /// Puts the strip at `from` into operand k's elements, unless target() was there already.
  void write(int k, const TensorView& view, const void* from) const noexcept {
    if (from != buffer(k)) return;
    const unsigned char* bytes = static_cast<const unsigned char*>(from);
    Cursor<kOperands> cursor = start_;
    for (std::int64_t written = 0; written < size_;) {
      const std::int64_t row = nest_.inner() - cursor.innermost();
      const std::int64_t count = row < size_ - written ? row : size_ - written;
      store_strip(view.dtype, element_at(view.data, base_[k] + cursor.offset(k), view.dtype), nest_.inner_stride(k),
                  bytes, count, isa_);
      bytes += count * static_cast<std::int64_t>(lane_bytes(arithmetic_of(view.dtype)));
      cursor.advance(count);
      written += count;
    }
  }

 private:
  void* buffer(int k) const noexcept { return static_cast<unsigned char*>(buffers_) + k * kStrip * 8; }
  void* at(int k, const Cursor<kOperands>& cursor) const noexcept {
    return element_at(views_[k]->data, base_[k] + cursor.offset(k), views_[k]->dtype);
  }
  void gather() noexcept {
    for (std::int64_t filled = 0; filled < size_;) {
      const std::int64_t row = nest_.inner() - cursor_.innermost();
      const std::int64_t count = row < size_ - filled ? row : size_ - filled;
      for (int k = 0; k < kOperands; ++k) {
        if (views_[k] == nullptr) continue;
        const std::int64_t lane = static_cast<std::int64_t>(lane_bytes(arithmetic_of(views_[k]->dtype)));
        load_strip(views_[k]->dtype, static_cast<unsigned char*>(buffer(k)) + filled * lane, at(k, cursor_),
                   nest_.inner_stride(k), count, isa_);
        values_[k] = buffer(k);
      }
      cursor_.advance(count);
      filled += count;
    }
  }

  const Nest<kOperands>& nest_;
  Cursor<kOperands> cursor_;
  Cursor<kOperands> start_;
  void* buffers_;
  Isa isa_;
  std::int64_t longest_ = 4 * kStrip;
  std::int64_t done_ = 0;
  std::int64_t size_ = 0;
  const TensorView* views_[kOperands] = {};
  std::int64_t base_[kOperands] = {};
  const void* values_[kOperands] = {};
};

}  // namespace edgert::cpu
