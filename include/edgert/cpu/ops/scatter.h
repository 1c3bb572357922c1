// SPDX-License-Identifier: Apache-2.0
// Puts or accumulates rows of updates into a copy of data: y = data, then for i = 0, 1, ...:
// y[indices[i], :] = combine(y[indices[i], :], updates[i, :]). An index out of range is Error::IndexOutOfRange.
// Inputs: data [R, K], indices [N] int64, updates [N, K] of data's type. Outputs: y [R, K], which may lie exactly on
// data. Any strides. Combining needs a type that is computed with; putting takes any of whole bytes.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/ops/copy.h"
#include "edgert/cpu/strided.h"
#include "edgert/cpu/strip_io.h"

namespace edgert::cpu {

enum class ScatterReduction : std::uint32_t { None = 0, Add = 1, Mul = 2, Max = 3, Min = 4 };
struct ScatterAttributes {
  ScatterReduction reduction;
};

namespace scatter_detail {

template <class T>
T combined(ScatterReduction reduction, T old, T update) noexcept {
  if constexpr (static_cast<T>(0.5) == T{0}) {  // integers, modulo 2^bits
    if (reduction == ScatterReduction::Max) return old < update ? update : old;
    if (reduction == ScatterReduction::Min) return update < old ? update : old;
    const std::uint64_t a = static_cast<std::uint64_t>(old);
    const std::uint64_t b = static_cast<std::uint64_t>(update);
    return static_cast<T>(reduction == ScatterReduction::Add ? a + b : a * b);
  } else {
    if (reduction == ScatterReduction::Max) return scalar::max(old, update);
    if (reduction == ScatterReduction::Min) return scalar::min(old, update);
    return reduction == ScatterReduction::Add ? old + update : old * update;
  }
}
// Half and bfloat16 are computed in float and rounded after every update.
inline scalar::Half combined(ScatterReduction reduction, scalar::Half old, scalar::Half update) noexcept {
  return scalar::to_half(combined(reduction, scalar::to_float(old), scalar::to_float(update)));
}
inline scalar::BFloat16 combined(ScatterReduction reduction, scalar::BFloat16 old, scalar::BFloat16 update) noexcept {
  return scalar::to_bfloat16(combined(reduction, scalar::to_float(old), scalar::to_float(update)));
}

/// Each part owns a range of y's rows: it copies them and applies the updates that fall there, in order.
template <class T, class Function>
Status scatter(const Work& work, Function function) noexcept {
  const TensorView& data = work.in(0);
  const TensorView& indices = work.in(1);
  const TensorView& updates = work.in(2);
  const TensorView& y = work.out(0);
  const std::int64_t columns = y.dims[1];
  if (columns == 0) return {};
  const PartRange rows = part_range(y.dims[0], work.part, work.parts);
  T* const to = static_cast<T*>(y.data);
  for (std::int64_t row = rows.begin; row < rows.end && y.data != data.data; ++row) {
    copy_detail::copy_row(to + row * y.strides[0], y.strides[1], static_cast<const T*>(data.data) + row * data.strides[0],
                          data.strides[1], columns);
  }
  for (std::int64_t i = 0; i < indices.dims[0]; ++i) {
    const std::int64_t row = indices.as<const std::int64_t>()[i * indices.strides[0]];
    if (row < 0 || row >= y.dims[0]) return Error::IndexOutOfRange;
    if (row < rows.begin || row >= rows.end) continue;
    T* const target = to + row * y.strides[0];
    const T* const from = static_cast<const T*>(updates.data) + i * updates.strides[0];
    for (std::int64_t k = 0; k < columns; ++k) function(target[k * y.strides[1]], from[k * updates.strides[1]]);
  }
  return {};
}

template <class T>
Status combine(const Work& work) noexcept {
  const ScatterReduction reduction = work.as<ScatterAttributes>().reduction;
  return scatter<T>(work, [reduction](T& to, T update) { to = combined(reduction, to, update); });
}
template <class T>
Status put(const Work& work) noexcept {
  return scatter<T>(work, [](T& to, T update) { to = update; });
}

}  // namespace scatter_detail

struct Scatter {
  static constexpr std::uint16_t kId = 60;
  static constexpr const char* kName = "Scatter";
  using Attributes = ScatterAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 3)) return wrong;
    const TensorView& data = operands.in(0);
    const TensorView& indices = operands.in(1);
    const TensorView& updates = operands.in(2);
    const TensorView& y = operands.out(0);
    const ScatterReduction reduction = operands.as<ScatterAttributes>().reduction;
    if (reduction > ScatterReduction::Min) return "unknown reduction";
    if (data.rank != 2 || updates.rank != 2 || indices.rank != 1) return "data and updates need rank 2, indices rank 1";
    if (indices.dtype != DType::I64) return "indices are not int64";
    if (data.dtype != y.dtype || updates.dtype != y.dtype) return "data, updates and output differ in type";
    if (!same_dims(data, y)) return "data and output differ in dims";
    if (updates.dims[0] != indices.dims[0] || updates.dims[1] != y.dims[1]) return "updates do not fit indices and data";
    const scalar::Arithmetic arithmetic = arithmetic_of(y.dtype);
    const bool computed = arithmetic != scalar::Arithmetic::None && arithmetic != scalar::Arithmetic::Bool;
    if (reduction != ScatterReduction::None && !computed) return "this type cannot be accumulated";
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }
  static Status run(const Work& work) {
    const DType dtype = work.out(0).dtype;
    if (work.as<ScatterAttributes>().reduction == ScatterReduction::None) {
      switch (bytes_of(dtype)) {
        case 1: return scatter_detail::put<Raw<std::uint8_t>>(work);
        case 2: return scatter_detail::put<Raw<std::uint16_t>>(work);
        case 4: return scatter_detail::put<Raw<std::uint32_t>>(work);
        default: return scatter_detail::put<Raw<std::uint64_t>>(work);
      }
    }
    switch (dtype) {
      case DType::F32: return scatter_detail::combine<float>(work);
      case DType::F64: return scatter_detail::combine<double>(work);
      case DType::F16: return scatter_detail::combine<scalar::Half>(work);
      case DType::BF16: return scatter_detail::combine<scalar::BFloat16>(work);
      case DType::I8: return scatter_detail::combine<std::int8_t>(work);
      case DType::U8: return scatter_detail::combine<std::uint8_t>(work);
      case DType::I16: return scatter_detail::combine<std::int16_t>(work);
      case DType::U16: return scatter_detail::combine<std::uint16_t>(work);
      case DType::I32: return scatter_detail::combine<std::int32_t>(work);
      case DType::U32: return scatter_detail::combine<std::uint32_t>(work);
      case DType::I64: return scatter_detail::combine<std::int64_t>(work);
      default: return scatter_detail::combine<std::uint64_t>(work);
    }
  }
};

}  // namespace edgert::cpu
