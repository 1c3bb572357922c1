// SPDX-License-Identifier: Apache-2.0
// MatMulInteger, ConvInteger, QLinearMatMul and QLinearConv. Products are exact: operands less their zero points fit 16
// bits, sums wrap at 32. A result is requantised as
//   y = saturate(round(float(sum) * (a_scale * b_scale / y_scale)) + y_zero_point)
// in float, rounding to nearest even.
#include <algorithm>

#include "ops/integer_matmul.h"
#include "ops/window.h"

namespace edgert::ops {
namespace {

/// x of 8 bits less its zero point, where there is one, as int16. `zero_point` broadcasts to x.
ValueId centred(OnnxNode& node, ValueId x, ValueId zero_point) {
  const DType dtype = dtype_of(node, x);
  if (dtype != DType::I8 && dtype != DType::U8)
    node.fail(std::string("operands must be int8 or uint8, not ") + edgert::to_string(dtype));
  const ValueId wide = cast(node, x, DType::I16);
  return zero_point == ir::kNone ? wide : binary(node, PointwiseOp::Sub, wide, cast(node, zero_point, DType::I16));
}

/// Input i, one number or one for each index along dimension `axis` of `rank`, so that it broadcasts; kNone when absent.
ValueId per_axis(OnnxNode& node, std::size_t i, std::size_t axis, std::size_t rank, std::int64_t extent) {
  if (!node.has_input(i)) return ir::kNone;
  const Dims dims = node.type(i).dims;
  if (ir::element_count(dims) == 1) return reshape(node, node.input(i), {});
  if (dims.size() == rank) return node.input(i);
  require_dims(dims, {extent}, "a scale or zero point");
  return along_axis(node, node.input(i), axis, rank);
}

/// x [N, C, spatial...] convolved with w [M, C / groups, ...], both int16: the windows' elements become rows of a matrix.
ValueId convolve_integers(OnnxNode& node, ValueId x, ValueId w) {
  const Dims dims = dims_of(node, x);
  const Dims w_dims = dims_of(node, w);
  const std::size_t rank = dims.size();
  if (rank < 3 || w_dims.size() != rank) node.fail("input and weights must have the same rank, 3 or more");
  const Dims spatial(dims.begin() + 2, dims.end());
  const Dims kernel(w_dims.begin() + 2, w_dims.end());
  if (node.has("kernel_shape") && kernel_shape(node, rank - 2) != kernel)
    node.fail("kernel_shape is not that of the weights");
  const Window window = read_window(node, spatial, kernel);
  const std::int64_t groups = node.int_or("group", 1);
  if (groups < 1 || dims[1] % groups != 0 || w_dims[0] % groups != 0 || w_dims[1] != dims[1] / groups)
    node.fail("weights " + ir::to_string(w_dims) + " don't fit the input " + ir::to_string(dims) + " in " +
              std::to_string(groups) + " groups");
  std::vector<std::int64_t> before{0, 0};
  std::vector<std::int64_t> after{0, 0};
  before.insert(before.end(), window.begin.begin(), window.begin.end());
  after.insert(after.end(), window.end.begin(), window.end.end());
  const ValueId padded = pad_zero(node, x, before, after);
  const Dims padded_dims = dims_of(node, padded);
  Dims out{dims[0], w_dims[0]};
  for (std::size_t i = 0; i < window.rank(); ++i)
    out.push_back(window_positions(padded_dims[i + 2], window.span(i), window.stride[i]));
  const std::int64_t positions = ir::element_count(Dims(out.begin() + 2, out.end()));
  const std::int64_t taps = ir::element_count(kernel);
  constexpr std::int64_t kMostTaps = 4096;
  if (taps > kMostTaps) node.fail("kernels of more than " + std::to_string(kMostTaps) + " elements are not supported");
  std::vector<ValueId> rows;
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    ValueId elements = padded;
    std::int64_t rest = tap;
    for (std::size_t i = window.rank(); i-- > 0; rest /= kernel[i])
      elements = slice(node, elements, i + 2, rest % kernel[i] * window.dilation[i], out[i + 2], window.stride[i]);
    rows.push_back(reshape(node, elements, {dims[0], dims[1], 1, positions}));
  }
  const std::int64_t depth = ir::element_count({w_dims[1], taps});
  const ValueId right = reshape(node, concat(node, rows, 2), {dims[0], groups, depth, positions});
  const ValueId left = reshape(node, w, {1, groups, w_dims[0] / groups, depth});
  return reshape(node, integer_matmul(node, left, right), out);
}

/// The formula above. `scales` and `zero_point` broadcast to the sums; the inputs y_scale and y_zero_point are one
/// number each.
ValueId requantised(OnnxNode& node, ValueId sums, ValueId a_scale, ValueId b_scale, std::size_t y_scale) {
  const auto as_float = [&](ValueId x) { return cast(node, x, DType::F32); };
  const auto scalar = [&](std::size_t i) {
    if (ir::element_count(node.type(i).dims) != 1) node.fail("the output's scale and zero point must be one number each");
    return reshape(node, node.input(i), {});
  };
  const ValueId product = binary(node, PointwiseOp::Mul, as_float(a_scale), as_float(b_scale));
  const ValueId factor = binary(node, PointwiseOp::Div, product, as_float(scalar(y_scale)));
  const ValueId rounded = unary(node, PointwiseOp::Round, binary(node, PointwiseOp::Mul, as_float(sums), factor));
  const ValueId zero_point = scalar(y_scale + 1);
  const DType dtype = dtype_of(node, zero_point);
  if (dtype != DType::I8 && dtype != DType::U8) node.fail("the output must be int8 or uint8");
  return cast(node, binary(node, PointwiseOp::Add, rounded, as_float(zero_point)), dtype);
}

/// Operands a (inputs a_index, its scale, its zero point) and b of a matrix product; a's numbers may be one a row, b's
/// one a column.
struct MatMulOperands {
  std::size_t a, b, a_zero_point, b_zero_point;
};

ValueId multiply_integers(OnnxNode& node, const MatMulOperands& i) {
  const Dims a_dims = node.type(i.a).dims;
  const Dims b_dims = node.type(i.b).dims;
  if (a_dims.empty() || b_dims.empty()) node.fail("operands must have rank 1 or more");
  const auto matrix = [&](std::size_t operand, std::size_t zero_point, bool left) {
    const Dims& dims = left ? a_dims : b_dims;
    const std::size_t axis = left && dims.size() > 1 ? dims.size() - 2 : dims.size() - 1;
    const ValueId x = centred(node, node.input(operand), per_axis(node, zero_point, axis, dims.size(), dims[axis]));
    return dims.size() > 1 ? x : reshape(node, x, left ? Dims{1, dims[0]} : Dims{dims[0], 1});
  };
  const ValueId y = integer_matmul(node, matrix(i.a, i.a_zero_point, true), matrix(i.b, i.b_zero_point, false));
  Dims dims = dims_of(node, y);
  if (b_dims.size() == 1) dims.pop_back();
  if (a_dims.size() == 1) dims.erase(dims.end() - (b_dims.size() == 1 ? 1 : 2));
  return reshape(node, y, dims);
}

void import_matmul_integer(OnnxNode& node) { node.set_output(0, multiply_integers(node, {0, 1, 2, 3})); }

void import_qlinear_matmul(OnnxNode& node) {
  const ValueId sums = multiply_integers(node, {0, 3, 2, 5});
  const Dims dims = dims_of(node, sums);
  const std::size_t rank = dims.size();
  const auto scale = [&](std::size_t i, std::size_t from_end) {
    if (rank < from_end && ir::element_count(node.type(i).dims) != 1)
      node.fail("operands of rank 1 must have one scale");
    const std::size_t axis = rank < from_end ? 0 : rank - from_end;
    return per_axis(node, i, axis, rank, rank == 0 ? 1 : dims[axis]);
  };
  node.set_output(0, requantised(node, sums, scale(1, 2), scale(4, 1), 6));
}

/// Of x (input `x`) and w (input `w`, numbers for each of its M rows), less the zero points.
ValueId convolve_centred(OnnxNode& node, std::size_t x, std::size_t w, std::size_t x_zero_point, std::size_t w_zero_point) {
  const std::size_t rank = node.type(w).dims.size();
  const std::int64_t outputs = rank == 0 ? 0 : node.type(w).dims[0];
  if (node.has_input(x_zero_point) && ir::element_count(node.type(x_zero_point).dims) != 1)
    node.fail("the input's zero point must be one number");
  return convolve_integers(node, centred(node, node.input(x), per_axis(node, x_zero_point, 0, 1, 1)),
                           centred(node, node.input(w), per_axis(node, w_zero_point, 0, rank, outputs)));
}

void import_conv_integer(OnnxNode& node) { node.set_output(0, convolve_centred(node, 0, 1, 2, 3)); }

/// Inputs: x, its scale and zero point, w, its scale and zero point, y's, and a bias in units of the sums.
void import_qlinear_conv(OnnxNode& node) {
  ValueId sums = convolve_centred(node, 0, 3, 2, 5);
  const Dims dims = dims_of(node, sums);
  if (node.has_input(8)) {
    require_type(node.type(8), DType::I32, "the bias");
    require_dims(node.type(8).dims, {dims[1]}, "the bias");
    sums = binary(node, PointwiseOp::Add, sums, along_axis(node, node.input(8), 1, dims.size()));
  }
  const ValueId w_scale = per_axis(node, 4, 1, dims.size(), dims[1]);
  node.set_output(0, requantised(node, sums, per_axis(node, 1, 0, 1, 1), w_scale, 6));
}

}  // namespace

void register_quantized_linear(Registry& registry) {
  registry.add_onnx("MatMulInteger", &import_matmul_integer, 10);
  registry.add_onnx("ConvInteger", &import_conv_integer, 10);
  registry.add_onnx("QLinearMatMul", &import_qlinear_matmul, 10);
  registry.add_onnx("QLinearConv", &import_qlinear_conv, 10);
}

}  // namespace edgert::ops
