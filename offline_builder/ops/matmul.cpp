// SPDX-License-Identifier: Apache-2.0
// MatMul, and ONNX MatMul and Gemm. In the graph b is [K, N] for every batch of a, or has a's rank and batch
// dimensions.
#include "edgert/cpu/ops/matmul.h"

#include <algorithm>

#include "edgert/cpu/ops/reduce.h"
#include "ops/compose.h"
#include "ops/epilogue.h"
#include "ops/integer_matmul.h"
#include "ops/pack.h"

namespace edgert::ops {
namespace {

using cpu::MatMulAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::MatMul>();

Dims batch_of(const Dims& dims) { return Dims(dims.begin(), dims.end() - 2); }

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 2, 4);
  const ir::TensorType& a = context.type(0);
  const ir::TensorType& b = context.type(1);
  require_type(a, DType::F32, "the left operand");
  require_type(b, DType::F32, "the right operand");
  require(a.dims.size() >= 2 && b.dims.size() >= 2, "operands must have rank 2 or more");
  const Dims batch = batch_of(a.dims);
  const std::int64_t depth = a.dims.back();
  if (context.graph.value(context.inputs[1]).format == WeightFormat::PanelF32x16) {
    require(b.dims.size() == 3 && (b.dims[0] == 1 || b.dims[0] == ir::element_count(batch)),
            "packed weights of other batches");
  } else {
    require(b.dims.size() == 2 || batch_of(b.dims) == batch,
            "batch dimensions of " + ir::to_string(a.dims) + " and " + ir::to_string(b.dims) + " differ");
  }
  require(b.dims[b.dims.size() - 2] == depth,
          "cannot multiply " + ir::to_string(a.dims) + " by " + ir::to_string(b.dims));
  ir::TensorType y{DType::F32, a.dims};
  y.dims.back() = b.dims.back();
  require_epilogue(context, context.attributes.as<MatMulAttributes>().epilogue, y.dims.back(), y);
  return {y};
}

std::string describe(const ir::AttributeBlob& blob) { return describe_epilogue(blob.as<MatMulAttributes>().epilogue); }

std::uint64_t work(const InferContext& context) {
  return static_cast<std::uint64_t>(
      ir::element_count({ir::element_count(context.type(0).dims), context.type(1).dims.back()}));
}

/// Constants become panels. Another b gets a's rank, which the kernel asks of it, by a view.
void pack(ir::Graph& graph, ir::NodeId id) {
  const ir::Node& node = graph.node(id);
  const ir::Value& b = graph.value(node.inputs[1]);
  if (b.format != WeightFormat::Strided) return;
  const Dims dims = b.type.dims;
  const std::int64_t rows = dims[dims.size() - 2];
  const std::int64_t columns = dims.back();
  if (b.is_constant()) {
    const std::int64_t groups = ir::element_count(batch_of(dims));
    const float* from = b.constant.as<float>();
    ir::Bytes bytes = pack_panels(groups, rows, columns, [&](std::int64_t g, std::int64_t k, std::int64_t n) {
      return from[(g * rows + k) * columns + n];
    });
    const ir::TensorType type{DType::F32, {groups, rows, columns}};
    graph.set_input(id, 1, graph.add_constant(b.name, type, std::move(bytes), WeightFormat::PanelF32x16));
    return;
  }
  Dims full = graph.value(node.inputs[0]).type.dims;
  if (full.size() == dims.size()) return;
  full[full.size() - 2] = rows;
  full.back() = columns;
  ExpandAttributes attributes{};
  store_dims(full, attributes.dims, attributes.rank);
  const std::vector<std::string> provenance = node.provenance;
  const ir::NodeId view = graph.add_node(kExpand, {node.inputs[1]}, ir::AttributeBlob::of(attributes), provenance);
  graph.set_input(id, 1, graph.node(view).outputs[0]);
}

/// For types that the kernel does not know, small products as sums: a [.., M, 1, K] times b [.., 1, N, K] over K.
ValueId matmul_by_sums(OnnxNode& node, ValueId a, ValueId b) {
  constexpr std::int64_t kMaxProducts = std::int64_t{1} << 24;
  const auto lifted = [&](ValueId value, std::size_t before_end) {
    Dims dims = dims_of(node, value);
    dims.insert(dims.end() - static_cast<std::ptrdiff_t>(before_end), 1);
    return reshape(node, value, dims);
  };
  std::vector<std::int64_t> perm = iota(static_cast<std::int64_t>(dims_of(node, b).size()));
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  const Dims a_dims = dims_of(node, a);
  const Dims b_dims = dims_of(node, b);
  require(a_dims.back() == b_dims[b_dims.size() - 2],
          "cannot multiply " + ir::to_string(a_dims) + " by " + ir::to_string(b_dims));
  const ValueId products = binary(node, PointwiseOp::Mul, lifted(a, 1), lifted(transpose(node, b, perm), 2));
  const Dims dims = dims_of(node, products);
  if (ir::element_count(dims) > kMaxProducts) {
    node.fail(std::string("large matrix products need type f32, not ") + edgert::to_string(dtype_of(node, a)));
  }
  return reduce(node, static_cast<unsigned>(cpu::ReduceKind::Sum), products, {dims.size() - 1}, false);
}

/// Operands of rank 1 are a row on the left, a column on the right, and the result loses that dimension again.
void import_matmul(OnnxNode& node) {
  const DType dtype = node.type(0).dtype;
  ValueId a = cast_narrow(node, node.input(0));
  ValueId b = cast_narrow(node, node.input(1));
  const Dims a_dims = dims_of(node, a);
  const Dims b_dims = dims_of(node, b);
  if (a_dims.empty() || b_dims.empty()) node.fail("operands must have rank 1 or more");
  if (a_dims.size() == 1) a = reshape(node, a, {1, a_dims[0]});
  if (b_dims.size() == 1) b = reshape(node, b, {b_dims[0], 1});
  const ValueId y = matmul(node, a, b);
  Dims dims = dims_of(node, y);
  if (b_dims.size() == 1) dims.pop_back();
  if (a_dims.size() == 1) dims.erase(dims.end() - (b_dims.size() == 1 ? 1 : 2));
  node.set_output(0, cast(node, reshape(node, y, dims), dtype));
}

ValueId scale(OnnxNode& node, ValueId x, float factor) {
  return factor == 1.0f ? x : binary(node, PointwiseOp::Mul, x, scalar_constant(node, dtype_of(node, x), factor));
}

/// alpha * A * B + beta * C, each of A and B transposed or not.
void import_gemm(OnnxNode& node) {
  const DType dtype = node.type(0).dtype;
  ValueId a = cast_narrow(node, node.input(0));
  ValueId b = cast_narrow(node, node.input(1));
  if (dims_of(node, a).size() != 2 || dims_of(node, b).size() != 2) node.fail("A and B must have rank 2");
  if (node.int_or("transA", 0) != 0) a = transpose(node, a, {1, 0});
  if (node.int_or("transB", 0) != 0) b = transpose(node, b, {1, 0});
  const float alpha = node.float_or("alpha", 1.0f);
  if (is_constant_expression(node, b)) {
    b = scale(node, b, alpha);
  } else {
    a = scale(node, a, alpha);
  }
  const float beta = node.float_or("beta", 1.0f);
  if (!node.has_input(2) || beta == 0.0f) return node.set_output(0, cast(node, matmul(node, a, b), dtype));
  const ValueId c = scale(node, cast_narrow(node, node.input(2)), beta);
  const Dims c_dims = dims_of(node, c);
  const Dims y_dims{dims_of(node, a)[0], dims_of(node, b)[1]};
  require(ir::broadcast(c_dims, y_dims) == y_dims,
          "C of shape " + ir::to_string(c_dims) + " does not broadcast to " + ir::to_string(y_dims));
  const bool is_row = !c_dims.empty() && c_dims.back() == y_dims[1] && (c_dims.size() == 1 || c_dims[0] == 1);
  if (is_row && dtype_of(node, a) == DType::F32) {
    return node.set_output(0, cast(node, matmul(node, a, b, reshape(node, c, {y_dims[1]})), dtype));
  }
  node.set_output(0, cast(node, binary(node, PointwiseOp::Add, matmul(node, a, b), c), dtype));
}

}  // namespace

extern const OperatorDef kMatMul = [] {
  OperatorDef op;
  op.name = "MatMul";
  op.attribute_bytes = sizeof(MatMulAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.layout = LayoutRule::InnerDense;
  op.in_place = 1u << 3;
  op.work = &work;
  op.pack = &pack;
  return op;
}();

ValueId matmul(OnnxNode& node, ValueId a, ValueId b, ValueId bias) {
  const DType dtype = dtype_of(node, a);
  const bool integers = dtype == DType::I32 || dtype == DType::U32 || dtype == DType::I64 || dtype == DType::U64;
  if (integers && bias == ir::kNone) return integer_matmul(node, a, b);
  if (dtype != DType::F32 && bias == ir::kNone) return matmul_by_sums(node, a, b);
  const Dims a_dims = dims_of(node, a);
  const Dims b_dims = dims_of(node, b);
  // The same matrix for every batch: it is never repeated, so that it can be packed once.
  const bool one_matrix =
      std::all_of(b_dims.begin(), b_dims.end() - 2, [](std::int64_t extent) { return extent == 1; });
  if (one_matrix && b_dims.size() <= a_dims.size()) {
    b = reshape(node, b, Dims(b_dims.end() - 2, b_dims.end()));
  } else {
    const Dims batch = ir::broadcast(batch_of(a_dims), batch_of(b_dims));
    const auto with_batch = [&](const Dims& dims) {
      Dims full = batch;
      full.insert(full.end(), dims.end() - 2, dims.end());
      return full;
    };
    a = expand(node, a, with_batch(a_dims));
    b = expand(node, b, with_batch(b_dims), true);
  }
  return node.emit(kMatMul, {a, b, bias, ir::kNone}, MatMulAttributes{});
}

void register_matmul(Registry& registry) {
  registry.add(kMatMul);
  registry.add_onnx("MatMul", &import_matmul);
  registry.add_onnx("Gemm", &import_gemm, 1);
}

}  // namespace edgert::ops
