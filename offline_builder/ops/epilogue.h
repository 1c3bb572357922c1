// SPDX-License-Identifier: Apache-2.0
// What the shape rules of dense operators check about bias, residual and epilogue.
#pragma once

#include "edgert/scalar/pointwise.h"
#include "ops/infer.h"

namespace edgert::ops {

/// "Relu"; defined in pointwise.cpp.
const char* pointwise_name(scalar::PointwiseOp op);

/// Inputs 2 and 3 are the bias [channels] and the residual of y's type; either may be absent.
inline void require_epilogue(const InferContext& context, const scalar::Epilogue& epilogue, std::int64_t channels,
                             const ir::TensorType& y) {
  require(scalar::arity(epilogue.activation) == 1, "an activation is an operation of one operand");
  require(epilogue.residual <= scalar::ResidualMode::AfterActivation, "no such residual mode");
  if (context.has(2)) {
    require_type(context.type(2), DType::F32, "the bias");
    require_dims(context.type(2).dims, {channels}, "the bias");
  }
  require(context.has(3) == (epilogue.residual != scalar::ResidualMode::None),
          "a residual without its mode, or the reverse");
  if (context.has(3)) {
    require_type(context.type(3), y.dtype, "the residual");
    require_dims(context.type(3).dims, y.dims, "the residual");
  }
}

inline std::string describe_epilogue(const scalar::Epilogue& epilogue) {
  std::string text;
  if (epilogue.activation != scalar::PointwiseOp::Identity) {
    text += std::string(" activation=") + pointwise_name(epilogue.activation);
    if (epilogue.alpha != 0 || epilogue.beta != 0) {
      text += '(' + std::to_string(epilogue.alpha) + ',' + std::to_string(epilogue.beta) + ')';
    }
  }
  if (epilogue.residual == scalar::ResidualMode::BeforeActivation) text += " residual=before";
  if (epilogue.residual == scalar::ResidualMode::AfterActivation) text += " residual=after";
  return text;
}

}  // namespace edgert::ops
