// SPDX-License-Identifier: Apache-2.0
// The pointwise vocabulary: operation codes, the program that a fused chain of them makes, and the epilogue that dense
// kernels apply to their results. Included by the host compiler and by device code.
#pragma once

#include "edgert/scalar/compiler.h"

namespace edgert::scalar {

/// Numbers are part of the plan format.
enum class PointwiseOp : unsigned char {
  // One operand
  Identity = 0, Neg = 1, Abs = 2, Sign = 3, Reciprocal = 4, Sqrt = 5, Exp = 6, Log = 7, Sin = 8, Cos = 9, Tan = 10,
  Asin = 11, Acos = 12, Atan = 13, Sinh = 14, Cosh = 15, Tanh = 16, Asinh = 17, Acosh = 18, Atanh = 19, Erf = 20,
  Floor = 21, Ceil = 22, Round = 23, Not = 24, BitNot = 25, IsNan = 26, IsInf = 27,
  // One operand, activations; alpha and beta as in ONNX
  Relu = 40, LeakyRelu = 41, Elu = 42, Selu = 43, Celu = 44, ThresholdedRelu = 45, Sigmoid = 46, HardSigmoid = 47,
  Silu = 48, HardSwish = 49, Softplus = 50, Softsign = 51, Mish = 52, Gelu = 53, GeluTanh = 54, Clip = 55, Shrink = 56,
  // Two operands
  Add = 80, Sub = 81, Mul = 82, Div = 83, Mod = 84, Fmod = 85, Pow = 86, Min = 87, Max = 88, And = 89, Or = 90,
  Xor = 91, BitAnd = 92, BitOr = 93, BitXor = 94, ShiftLeft = 95, ShiftRight = 96, PRelu = 97,
  Equal = 110, Less = 111, LessOrEqual = 112, Greater = 113, GreaterOrEqual = 114,
  // Three operands: condition, then, else
  Where = 120,
};

/// Operands of an operation: 1, 2 or 3; 0 for a number that is none.
EDGERT_SCALAR constexpr unsigned arity(PointwiseOp op) {
  const unsigned code = static_cast<unsigned>(op);
  if (code <= 27 || (code >= 40 && code <= 56)) return 1;
  if ((code >= 80 && code <= 97) || (code >= 110 && code <= 114)) return 2;
  return code == 120 ? 3 : 0;
}

/// Whether the result is boolean whatever the operands are.
EDGERT_SCALAR constexpr bool is_predicate(PointwiseOp op) {
  const unsigned code = static_cast<unsigned>(op);
  return (code >= 110 && code <= 114) || (code >= 89 && code <= 91) || op == PointwiseOp::IsNan ||
         op == PointwiseOp::IsInf || op == PointwiseOp::Not;
}

inline constexpr unsigned kMaxPointwiseInputs = 12;
inline constexpr unsigned kMaxPointwiseSteps = 24;

/// One operation. Operands a, b, c number the program's values: the inputs first (0 .. inputs-1), then the result of
/// each instruction in order. `type` is the operands' DType number (for Where: of the second and third); all operands
/// of one instruction have it. The result has the same type, or Bool for a predicate.
struct PointwiseStep {
  PointwiseOp op;
  unsigned char type;
  unsigned char a, b, c;
  unsigned char reserved[3];
  float alpha, beta;
};

/// A straight-line program; its result is that of the last instruction.
struct PointwiseProgram {
  unsigned inputs;
  unsigned steps;
  unsigned reserved[2];
  PointwiseStep step[kMaxPointwiseSteps];
};

/// What a dense kernel does with an accumulator before it stores it: add the bias of the output channel, then
/// y = activation(acc + residual) or y = activation(acc) + residual. An activation is a one-operand operation.
enum class ResidualMode : unsigned char { None = 0, BeforeActivation = 1, AfterActivation = 2 };
struct Epilogue {
  PointwiseOp activation;
  ResidualMode residual;
  unsigned char reserved[2];
  float alpha, beta;
};

}  // namespace edgert::scalar
