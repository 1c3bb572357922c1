// SPDX-License-Identifier: Apache-2.0
// Determinant, and ONNX Det.
#include "edgert/cpu/ops/determinant.h"

#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Determinant>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const ir::TensorType& x = context.type(0);
  require(x.dims.size() == 3, "the input must have rank 3");
  return runnable(kEntry, context, {{x.dtype, {x.dims[0]}}});
}

std::uint64_t work(const InferContext& context) {
  const Dims& dims = context.type(0).dims;
  return static_cast<std::uint64_t>(ir::element_count({ir::element_count(dims), dims[1]}));
}

const OperatorDef kDeterminant = [] {
  OperatorDef op;
  op.name = "Determinant";
  op.attribute_bytes = sizeof(cpu::NoAttributes);
  op.infer = &infer;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

/// Of the last two dimensions.
void import_det(OnnxNode& node) {
  const DType dtype = node.type(0).dtype;
  Dims dims = node.type(0).dims;
  if (dims.size() < 2 || dims[dims.size() - 1] != dims[dims.size() - 2])
    node.fail("the input must hold square matrices, not " + ir::to_string(dims));
  const std::int64_t size = dims.back();
  dims.resize(dims.size() - 2);
  const ValueId x = reshape(node, cast_narrow(node, node.input(0)), {ir::element_count(dims), size, size});
  const ValueId y = node.emit(kDeterminant, {x}, cpu::NoAttributes{});
  node.set_output(0, cast(node, reshape(node, y, dims), dtype));
}

}  // namespace

void register_determinant(Registry& registry) {
  registry.add(kDeterminant);
  registry.add_onnx("Det", &import_det, 11);
}

}  // namespace edgert::ops
