// SPDX-License-Identifier: Apache-2.0
// ONNX DFT and STFT: a Fourier transform of a length that is known when the plan is built is a matrix product, with the
// sines and cosines (and a constant window) in the matrix. Complex numbers are pairs along the last dimension.
#include <algorithm>

#include "edgert/scalar/trigonometry.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

constexpr double kTwoPi = 6.283185307179586476925;
constexpr std::int64_t kMaxMatrixElements = std::int64_t{1} << 24;

/// exp(2 pi i j / n), exact where the axes of the plane are met.
struct Unit {
  double re, im;
  Unit(std::int64_t j, std::int64_t n) {
    const std::int64_t quarter = j % n * 4;
    if (quarter % n == 0) {
      static constexpr double kCosines[] = {1, 0, -1, 0};
      re = kCosines[quarter / n % 4];
      im = kCosines[(quarter / n + 3) % 4];
      return;
    }
    const double angle = kTwoPi * static_cast<double>(j % n) / static_cast<double>(n);
    re = scalar::cos(angle);
    im = scalar::sin(angle);
  }
};

struct Transform {
  std::int64_t length;  ///< of the whole period
  bool inverse, onesided;
  std::int64_t parts_in;  ///< 1 for real input, 2 for complex

  std::int64_t spectrum() const { return length / 2 + 1; }
  /// Elements of the signal that are read; further ones are cut off, missing ones count as 0.
  std::int64_t reads() const { return inverse && onesided ? spectrum() : length; }
  std::int64_t makes() const { return !inverse && onesided ? spectrum() : length; }
  std::int64_t parts_out() const { return inverse && onesided ? 1 : 2; }

  /// What part `p` of input element j contributes to part `q` of output element k.
  double weight(std::int64_t j, std::int64_t p, std::int64_t k, std::int64_t q) const {
    const Unit unit(j * k, length);
    const double scale = inverse ? 1 / static_cast<double>(length) : 1;
    const double im = inverse ? unit.im : -unit.im;
    if (p == q) return scale * unit.re * twin(j);
    return scale * (p == 0 ? im : -im) * twin(j);
  }

 private:
  /// A one-sided spectrum stands for the other side too, but for elements without a twin there.
  double twin(std::int64_t j) const { return inverse && onesided && j != 0 && 2 * j != length ? 2 : 1; }
};

/// [extent * parts in, elements made * parts out]
ValueId matrix_of(OnnxNode& node, const Transform& transform, std::int64_t extent, DType dtype) {
  const Dims dims{extent * transform.parts_in, transform.makes() * transform.parts_out()};
  const std::int64_t count = ir::element_count(dims);
  if (count > kMaxMatrixElements) {
    node.fail("a transform of length " + std::to_string(transform.length) + " is too long to be a matrix product");
  }
  std::vector<std::byte> bytes;
  bytes.reserve(static_cast<std::size_t>(count) * (dtype == DType::F64 ? 8 : 4));
  for (std::int64_t row = 0; row < dims[0]; ++row) {
    for (std::int64_t column = 0; column < dims[1]; ++column) {
      const double weight = transform.weight(row / transform.parts_in, row % transform.parts_in,
                                             column / transform.parts_out(), column % transform.parts_out());
      const std::vector<std::byte> one = scalar_bytes(node, dtype, weight);
      bytes.insert(bytes.end(), one.begin(), one.end());
    }
  }
  return constant(node, {dtype, dims}, ir::Bytes::adopt(std::move(bytes)));
}

std::int64_t one_known_int(OnnxNode& node, std::size_t i, const char* what) {
  const std::vector<std::int64_t> values = known_ints(node, i, what);
  if (values.size() != 1) node.fail(std::string(what) + " must be a scalar");
  return values[0];
}

void import_dft(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  const std::size_t rank = dims.size();
  if (rank < 2 || dims.back() < 1 || dims.back() > 2) node.fail("the input must end in a dimension of 1 or 2");
  std::int64_t axis_number = node.opset < 20 ? node.int_or("axis", 1) : -2;
  if (node.has_input(2)) axis_number = one_known_int(node, 2, "the axis");
  const std::size_t axis = axis_of(node, axis_number, rank);
  if (axis + 1 == rank) node.fail("the last dimension cannot be transformed");
  Transform transform{dims[axis], node.int_or("inverse", 0) != 0, node.int_or("onesided", 0) != 0, dims.back()};
  if (transform.inverse && transform.onesided) transform.length = 2 * (dims[axis] - 1);
  if (node.has_input(1)) transform.length = one_known_int(node, 1, "dft_length");
  if (transform.length < 1) node.fail("the transform's length is " + std::to_string(transform.length));
  checked_constant_size(node, {transform.length});

  // The axis beside the parts, and both as one dimension of rows.
  std::vector<std::int64_t> perm = iota(static_cast<std::int64_t>(rank));
  std::swap(perm[axis], perm[rank - 2]);
  const std::int64_t extent = std::min(dims[axis], transform.reads());
  ValueId x = slice(node, cast_narrow(node, node.input(0)), axis, 0, extent);
  x = transpose(node, x, perm);
  Dims moved = dims_of(node, x);
  const std::int64_t rows = ir::element_count(Dims(moved.begin(), moved.end() - 2));
  x = reshape(node, x, {rows, extent * transform.parts_in});
  const ValueId y = matmul(node, x, matrix_of(node, transform, extent, dtype_of(node, x)));
  moved[rank - 2] = transform.makes();
  moved[rank - 1] = transform.parts_out();
  node.set_output(0, cast(node, transpose(node, reshape(node, y, moved), perm), dtype));
}

/// Frames of the signal [B, length, parts], which overlap, are gathered and transformed together.
void import_stft(OnnxNode& node) {
  Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  if (dims.size() == 2) dims.push_back(1);
  if (dims.size() != 3 || dims[2] < 1 || dims[2] > 2) node.fail("the signal must be [batch, length, 1 or 2]");
  const std::int64_t step = one_known_int(node, 1, "frame_step");
  std::int64_t length = dims[1];
  if (node.has_input(2)) length = ir::element_count(node.type(2).dims);
  if (node.has_input(3)) length = one_known_int(node, 3, "frame_length");
  if (step < 1 || length < 1 || length > dims[1]) {
    node.fail("frames of " + std::to_string(length) + " at steps of " + std::to_string(step) + " in a signal " +
              ir::to_string(dims));
  }
  const std::int64_t frames = (dims[1] - length) / step + 1;
  checked_constant_size(node, {frames, length});
  std::vector<std::int64_t> positions;
  for (std::int64_t frame = 0; frame < frames; ++frame) {
    for (std::int64_t i = 0; i < length; ++i) positions.push_back(frame * step + i);
  }
  const Transform transform{length, false, node.int_or("onesided", 1) != 0, dims[2]};
  if (transform.onesided && dims[2] == 2) node.fail("a complex signal has no one-sided transform");

  const ValueId signal = reshape(node, cast_narrow(node, node.input(0)), dims);
  ValueId x = gather(node, signal, int64_constant(node, {frames, length}, positions), 1);
  ValueId matrix = matrix_of(node, transform, length, dtype_of(node, x));
  if (node.has_input(2)) {
    require_dims(node.type(2).dims, {length}, "the window");
    const ValueId window = cast(node, cast_narrow(node, node.input(2)), dtype_of(node, x));
    if (is_constant_expression(node, window)) {
      const Dims matrix_dims = dims_of(node, matrix);
      matrix = reshape(node, matrix, {length, dims[2], matrix_dims[1]});
      matrix = binary(node, PointwiseOp::Mul, matrix, reshape(node, window, {length, 1, 1}));
      matrix = reshape(node, matrix, matrix_dims);
    } else {
      x = binary(node, PointwiseOp::Mul, x, reshape(node, window, {length, 1}));
    }
  }
  const ValueId y = matmul(node, reshape(node, x, {dims[0], frames, length * dims[2]}), matrix);
  node.set_output(0, cast(node, reshape(node, y, {dims[0], frames, transform.makes(), 2}), dtype));
}

}  // namespace

void register_dft(Registry& registry) {
  registry.add_onnx("DFT", &import_dft, 17);
  registry.add_onnx("STFT", &import_stft, 17);
}

}  // namespace edgert::ops
