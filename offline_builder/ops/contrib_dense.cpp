// SPDX-License-Identifier: Apache-2.0
// What ONNX Runtime's optimiser makes of convolutions and matrix products (com.microsoft): fused with an activation, a
// sum, a factor or a transposition; and MatMulNBits, whose constant matrix is stored in few bits.
#include <limits>

#include "edgert/scalar/convert.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

/// ONNX's activation of this name, with parameters in the order of `FusedConv`'s activation_params.
ValueId activate(OnnxNode& node, ValueId x, const std::string& name, const std::vector<float>& parameters) {
  const auto parameter = [&](std::size_t i, float fallback) { return i < parameters.size() ? parameters[i] : fallback; };
  if (name.empty()) return x;
  if (name == "Relu") return unary(node, PointwiseOp::Relu, x);
  if (name == "Sigmoid") return unary(node, PointwiseOp::Sigmoid, x);
  if (name == "Tanh") return unary(node, PointwiseOp::Tanh, x);
  if (name == "LeakyRelu") return unary(node, PointwiseOp::LeakyRelu, x, parameter(0, 0.01f));
  if (name == "HardSigmoid") return unary(node, PointwiseOp::HardSigmoid, x, parameter(0, 0.2f), parameter(1, 0.5f));
  if (name == "Clip") {
    constexpr float kMost = std::numeric_limits<float>::max();
    return unary(node, PointwiseOp::Clip, x, parameter(0, -kMost), parameter(1, kMost));
  }
  node.fail("the activation '" + name + "' is not supported");
}

/// activation(Conv(X, W, B) + Z)
void import_fused_conv(OnnxNode& node) {
  const auto optional = [&](std::size_t i) { return node.has_input(i) ? node.inputs[i] : ir::kNone; };
  ValueId y = onnx_operator(node, "Conv", 11, {node.input(0), node.input(1), optional(2)}, node.attributes)[0];
  if (node.has_input(3)) {
    require_dims(node.type(3).dims, dims_of(node, y), "Z");
    y = binary(node, PointwiseOp::Add, y, node.input(3));
  }
  node.set_output(0, activate(node, y, node.string_or("activation", ""), node.floats_or("activation_params", {})));
}

void import_fused_gemm(OnnxNode& node) {
  const ValueId y = onnx_operator(node, "Gemm", 13, node.inputs, node.attributes)[0];
  std::vector<float> parameters;
  for (const char* name : {"activation_alpha", "activation_beta"}) {
    if (node.has(name)) parameters.push_back(node.float_or(name, 0));
  }
  node.set_output(0, activate(node, y, node.string_or("activation", ""), parameters));
}

/// Input i with its last two dimensions exchanged where the attribute says so.
ValueId matrices(OnnxNode& node, std::size_t i, const char* transposed) {
  const ValueId x = node.input(i);
  const std::size_t rank = node.type(i).dims.size();
  if (node.int_or(transposed, 0) == 0 || rank < 2) return x;
  std::vector<std::int64_t> perm = iota(static_cast<std::int64_t>(rank));
  std::swap(perm[rank - 1], perm[rank - 2]);
  return transpose(node, x, perm);
}

/// alpha * A * B
void import_fused_matmul(OnnxNode& node) {
  if (node.int_or("transBatchA", 0) != 0 || node.int_or("transBatchB", 0) != 0) node.fail("transBatchA and transBatchB are not supported");
  const ValueId a = matrices(node, 0, "transA");
  const ValueId b = matrices(node, 1, "transB");
  const ValueId y = onnx_operator(node, "MatMul", 13, {a, b}, {})[0];
  const float alpha = node.float_or("alpha", 1.0f);
  const auto factor = [&] { return scalar_constant(node, dtype_of(node, y), static_cast<double>(alpha)); };
  node.set_output(0, alpha == 1.0f ? y : binary(node, PointwiseOp::Mul, y, factor()));
}

/// A matrix of K rows and N columns in blocks of a column's elements: [N][blocks of K][block elements], packed with
/// the first element in the lowest bits. An element is (stored - zero point) * scale, both one for a block.
struct Blocks {
  std::int64_t k, n, size, bits, count;  ///< count: blocks a column

  std::int64_t bytes() const { return size * bits / 8; }
  /// Bytes of packed zero points a column.
  std::int64_t zero_point_bytes() const { return (count * bits + 7) / 8; }
  unsigned element(const std::uint8_t* packed, std::int64_t i) const {
    const std::int64_t bit = i * bits;
    return static_cast<unsigned>(packed[bit / 8] >> (bit % 8)) & ((1u << bits) - 1);
  }
};

Blocks read_blocks(OnnxNode& node) {
  Blocks blocks{};
  blocks.k = to_int32(node.required_int("K"), 1, "attribute 'K'");
  blocks.n = to_int32(node.required_int("N"), 1, "attribute 'N'");
  blocks.bits = node.int_or("bits", 4);
  blocks.size = node.required_int("block_size");
  if (blocks.bits != 2 && blocks.bits != 4 && blocks.bits != 8) node.fail("elements of " + std::to_string(blocks.bits) + " bits");
  if (blocks.size < 16 || blocks.size > 1 << 20 || (blocks.size & (blocks.size - 1)) != 0) {
    node.fail("blocks of " + std::to_string(blocks.size) + " elements");
  }
  blocks.count = (blocks.k + blocks.size - 1) / blocks.size;
  checked_constant_size(node, {blocks.k, blocks.n});
  return blocks;
}

/// Input i, a constant with `count` elements, as float.
std::vector<float> block_numbers(OnnxNode& node, std::size_t i, std::int64_t count, const char* what) {
  require_constant(node, i, what);
  const ValueId x = cast(node, node.input(i), DType::F32);
  require(ir::element_count(dims_of(node, x)) == count, std::string(what) + " must have " + std::to_string(count) + " elements");
  const float* from = node.graph.value(x).constant.as<float>();
  return std::vector<float>(from, from + count);
}

/// A * B + bias, with B unpacked when the model is imported.
void import_matmul_n_bits(OnnxNode& node) {
  const Blocks blocks = read_blocks(node);
  if (node.has_input(4)) node.fail("g_idx is not supported");
  require_constant(node, 1, "B");
  require_type(node.type(1), DType::U8, "B");
  require(ir::element_count(node.type(1).dims) == blocks.n * blocks.count * blocks.bytes(), "B does not have N * K elements");
  const auto* packed = node.graph.value(node.input(1)).constant.as<std::uint8_t>();
  const std::vector<float> scales = block_numbers(node, 2, blocks.n * blocks.count, "the scales");
  std::vector<float> zeros(scales.size(), static_cast<float>(1u << (blocks.bits - 1)));
  if (node.has_input(3) && node.type(3).dtype == DType::U8) {
    require_constant(node, 3, "the zero points");
    require(ir::element_count(node.type(3).dims) == blocks.n * blocks.zero_point_bytes(), "the zero points have another number");
    const auto* points = node.graph.value(node.input(3)).constant.as<std::uint8_t>();
    for (std::int64_t i = 0; i < blocks.n * blocks.count; ++i) {
      const std::uint8_t* column = points + i / blocks.count * blocks.zero_point_bytes();
      zeros[static_cast<std::size_t>(i)] = static_cast<float>(blocks.element(column, i % blocks.count));
    }
  } else if (node.has_input(3)) {
    zeros = block_numbers(node, 3, blocks.n * blocks.count, "the zero points");
  }
  std::vector<float> matrix(static_cast<std::size_t>(blocks.k * blocks.n));
  for (std::int64_t n = 0; n < blocks.n; ++n) {
    for (std::int64_t k = 0; k < blocks.k; ++k) {
      const std::int64_t block = n * blocks.count + k / blocks.size;
      const auto b = static_cast<std::size_t>(block);
      const auto stored = static_cast<float>(blocks.element(packed + block * blocks.bytes(), k % blocks.size));
      matrix[static_cast<std::size_t>(k * blocks.n + n)] = (stored - zeros[b]) * scales[b];
    }
  }
  const ValueId a = cast_narrow(node, node.input(0));
  require(!dims_of(node, a).empty() && dims_of(node, a).back() == blocks.k, "A's last extent must be K");
  ValueId y = matmul(node, a, float_constant(node, {blocks.k, blocks.n}, matrix));
  if (node.has_input(5)) y = binary(node, PointwiseOp::Add, y, cast_narrow(node, node.input(5)));
  node.set_output(0, cast(node, y, node.type(0).dtype));
}

}  // namespace

void register_contrib_dense(Registry& registry) {
  const auto add = [&](const char* name, OnnxImporter importer) {
    registry.add_onnx(name, importer, 1, 1 << 30, "com.microsoft");
  };
  add("FusedConv", &import_fused_conv);
  add("FusedGemm", &import_fused_gemm);
  add("FusedMatMul", &import_fused_matmul);
  add("TransposeMatMul", &import_fused_matmul);
  add("MatMulNBits", &import_matmul_n_bits);
}

}  // namespace edgert::ops
