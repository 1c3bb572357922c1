// SPDX-License-Identifier: Apache-2.0
// Checks that the operators' shape rules share. Each throws BuildError; the caller knows which node it is about.
#pragma once

#include <cstdint>
#include <string>

#include "ops/operator.h"

namespace edgert::ops {

inline void require(bool condition, const std::string& reason) {
  if (!condition) throw ir::BuildError(reason);
}

/// Inputs 0 .. required-1 must be there, and none after `most`.
inline void require_inputs(const InferContext& context, std::size_t required, std::size_t most) {
  for (std::size_t i = 0; i < required; ++i) require(context.has(i), "input " + std::to_string(i) + " is missing");
  require(context.inputs.size() <= most, "too many inputs");
}

inline void require_type(const ir::TensorType& type, DType dtype, const char* what) {
  require(type.dtype == dtype,
          std::string(what) + " must be " + edgert::to_string(dtype) + ", not " + edgert::to_string(type.dtype));
}

inline void require_dims(const ir::Dims& dims, const ir::Dims& expected, const char* what) {
  require(dims == expected,
          std::string(what) + " must have shape " + ir::to_string(expected) + ", not " + ir::to_string(dims));
}

inline void require_rank(const ir::Dims& dims) {
  require(dims.size() <= kMaxRank, "tensors of more than 8 dimensions are not supported: " + ir::to_string(dims));
}

/// The extents in an attribute struct; throws when its rank is out of range.
inline ir::Dims dims_of(const std::int64_t (&dims)[kMaxRank], std::uint32_t rank) {
  require(rank <= kMaxRank, "rank " + std::to_string(rank) + " is above 8");
  return ir::Dims(dims, dims + rank);
}

inline void store_dims(const ir::Dims& dims, std::int64_t (&out)[kMaxRank], std::uint32_t& rank) {
  require_rank(dims);
  for (std::size_t i = 0; i < dims.size(); ++i) out[i] = dims[i];
  rank = static_cast<std::uint32_t>(dims.size());
}

/// `value` as an attribute of 32 bits, in [minimum, 2^31 - 1].
inline std::int32_t to_int32(std::int64_t value, std::int64_t minimum, const std::string& what) {
  require(value >= minimum && value <= INT32_MAX,
          what + " is " + std::to_string(value) + ", outside [" + std::to_string(minimum) + ", 2147483647]");
  return static_cast<std::int32_t>(value);
}

/// How many windows of `window` elements at distance `stride` fit into `extent`, at least one; throws where none does.
inline std::int64_t window_positions(std::int64_t extent, std::int64_t window, std::int64_t stride, bool ceil = false) {
  require(extent >= window, "the kernel spans " + std::to_string(window) + " elements, more than the padded input's " +
                                std::to_string(extent));
  return (extent - window + (ceil ? stride - 1 : 0)) / stride + 1;
}

}  // namespace edgert::ops
