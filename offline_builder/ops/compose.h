// SPDX-License-Identifier: Apache-2.0
// The words that ONNX importers are written in: each adds the node that it names, or nothing where that would change
// nothing, and returns the result. Folded to a constant when the operands are constants (Graph::emit). Each function is
// defined beside its operator.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "edgert/scalar/pointwise.h"
#include "ops/definitions.h"
#include "ops/infer.h"

namespace edgert::ops {

using ir::Dims;
using ir::ValueId;
using scalar::PointwiseOp;

// Constants
ValueId constant(OnnxNode& node, const ir::TensorType& type, ir::Bytes bytes);
ValueId int64_constant(OnnxNode& node, const Dims& dims, const std::vector<std::int64_t>& values);
ValueId float_constant(OnnxNode& node, const Dims& dims, const std::vector<float>& values);
/// Rank 0; `value` converted to `dtype`, which must be a type that scalar_bytes() knows.
ValueId scalar_constant(OnnxNode& node, DType dtype, double value);
/// The bytes of one element, first to last; fails for types narrower than a byte.
std::vector<std::byte> scalar_bytes(const OnnxNode& node, DType dtype, double value);
/// 0 .. count-1 as int64; throws BuildError for more than 2^24.
std::vector<std::int64_t> iota(std::int64_t count);
/// Fails when a constant of these extents would be unreasonably large; else the number of its elements.
std::int64_t checked_constant_size(const OnnxNode& node, const Dims& dims);
/// Fails unless input i is a constant, naming the model inputs that the user can fix with --value to make it one.
void require_constant(const OnnxNode& node, std::size_t i, const std::string& what);
/// The elements of input i, an int32 or int64 constant that decides a shape; fails like require_constant.
std::vector<std::int64_t> known_ints(const OnnxNode& node, std::size_t i, const std::string& what);
/// Whether x depends on constants only, folded yet or not.
bool is_constant_expression(const OnnxNode& node, ValueId x);

// Views
ValueId reshape(OnnxNode& node, ValueId x, const Dims& dims);
ValueId transpose(OnnxNode& node, ValueId x, const std::vector<std::int64_t>& perm);
/// Elements start, start + step, ... along `axis`, `size` of them; step >= 1.
ValueId slice(OnnxNode& node, ValueId x, std::size_t axis, std::int64_t start, std::int64_t size,
              std::int64_t step = 1);
/// Unidirectional broadcast to `dims`. A constant is not blown up unless `fold` asks for it.
ValueId expand(OnnxNode& node, ValueId x, const Dims& dims, bool fold = false);
/// numpy broadcasting of all operands to their common extents, by views.
std::vector<ValueId> broadcast_operands(OnnxNode& node, std::vector<ValueId> operands);
ValueId concat(OnnxNode& node, const std::vector<ValueId>& operands, std::size_t axis);
/// A vector as [.., d, ..] at axis `axis` and extents 1 elsewhere, of rank `rank`: a per-channel vector beside a
/// tensor.
ValueId along_axis(OnnxNode& node, ValueId vector, std::size_t axis, std::size_t rank);

// Elementwise
ValueId cast(OnnxNode& node, ValueId x, DType to);
/// Half and bfloat16 as float, in which the CPU backend computes them; other types as they are.
ValueId cast_narrow(OnnxNode& node, ValueId x);
ValueId unary(OnnxNode& node, PointwiseOp op, ValueId x, float alpha = 0, float beta = 0);
ValueId binary(OnnxNode& node, PointwiseOp op, ValueId a, ValueId b);
ValueId select(OnnxNode& node, ValueId condition, ValueId then, ValueId otherwise);

// The rest
/// Inputs [..., M, K] and [..., K, N] of ranks of 2 or more; batch dimensions broadcast. `bias` [N] or kNone.
ValueId matmul(OnnxNode& node, ValueId a, ValueId b, ValueId bias = ir::kNone);
/// Reduces `axes` (ReduceKind number `kind`) to extent 1, or away.
ValueId reduce(OnnxNode& node, unsigned kind, ValueId x, const std::vector<std::size_t>& axes, bool keepdims);
ValueId gather(OnnxNode& node, ValueId data, ValueId indices, std::size_t axis);
/// Zeros before and after along each axis; negative counts cut elements off.
ValueId pad_zero(OnnxNode& node, ValueId x, const std::vector<std::int64_t>& before,
                 const std::vector<std::int64_t>& after);
/// Index of the largest (or smallest) element along `axis`, int64, extent 1 there.
ValueId arg_reduce(OnnxNode& node, ValueId x, std::size_t axis, bool minimum, bool select_last);

// Other importers
using OnnxAttributes = std::map<std::string, OnnxNode::Attribute>;
/// What ONNX's operator `op_type` of the default domain at `opset` makes of the operands (kNone for one left out): its
/// first `outputs` outputs.
std::vector<ValueId> onnx_operator(OnnxNode& node, const char* op_type, int opset, std::vector<ValueId> operands,
                                   OnnxAttributes attributes, std::size_t outputs = 1);
OnnxNode::Attribute int_attribute(std::int64_t value);
OnnxNode::Attribute float_attribute(float value);

// Attributes
/// ONNX's number of an element type (TensorProto.DataType); fails for those that plans don't have.
DType dtype_from_onnx(const OnnxNode& node, std::int64_t number);
/// An axis attribute counted from the front.
std::size_t axis_of(const OnnxNode& node, std::int64_t axis, std::size_t rank);
/// Axes counted from the front, each once, in ascending order; fails when one is repeated or out of range.
std::vector<std::size_t> axes_of(const OnnxNode& node, const std::vector<std::int64_t>& axes, std::size_t rank);

inline Dims dims_of(const OnnxNode& node, ValueId x) { return node.graph.value(x).type.dims; }
inline DType dtype_of(const OnnxNode& node, ValueId x) { return node.graph.value(x).type.dtype; }

}  // namespace edgert::ops
