// SPDX-License-Identifier: Apache-2.0
// IntegerMatMul, of which the quantised operators and MatMul of integers are made.
#include "ops/integer_matmul.h"

#include "edgert/cpu/ops/integer_matmul.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::IntegerMatMul>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 2, 2);
  const ir::TensorType& a = context.type(0);
  const ir::TensorType& b = context.type(1);
  require(a.dims.size() >= 2 && b.dims.size() == a.dims.size(), "operands must have the same rank, 2 or more");
  require(a.dims.back() == b.dims[b.dims.size() - 2],
          "cannot multiply " + ir::to_string(a.dims) + " by " + ir::to_string(b.dims));
  ir::TensorType y{a.dtype == DType::I16 ? DType::I32 : a.dtype, a.dims};
  y.dims.back() = b.dims.back();
  return runnable(kEntry, context, {y});
}

std::uint64_t work(const InferContext& context) {
  return static_cast<std::uint64_t>(
      ir::element_count({ir::element_count(context.type(0).dims), context.type(1).dims.back()}));
}

const OperatorDef kIntegerMatMul = [] {
  OperatorDef op;
  op.name = "IntegerMatMul";
  op.attribute_bytes = sizeof(cpu::NoAttributes);
  op.infer = &infer;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

}  // namespace

ValueId integer_matmul(OnnxNode& node, ValueId a, ValueId b) {
  const Dims a_dims = dims_of(node, a);
  const Dims b_dims = dims_of(node, b);
  require(a_dims.size() >= 2 && b_dims.size() >= 2, "operands must have rank 2 or more");
  const auto with_batch = [](Dims batch, const Dims& dims) {
    batch.insert(batch.end(), dims.end() - 2, dims.end());
    return batch;
  };
  const Dims batch = ir::broadcast(Dims(a_dims.begin(), a_dims.end() - 2), Dims(b_dims.begin(), b_dims.end() - 2));
  a = expand(node, a, with_batch(batch, a_dims));
  b = expand(node, b, with_batch(batch, b_dims));
  return node.emit(kIntegerMatMul, {a, b}, cpu::NoAttributes{});
}

void register_integer_matmul(Registry& registry) { registry.add(kIntegerMatMul); }

}  // namespace edgert::ops
