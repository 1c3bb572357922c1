// SPDX-License-Identifier: Apache-2.0
// Copy: what the lowering makes of a view that cannot be placed. No ONNX operator is imported as one; those that only
// pass a tensor on become nothing.
#include "edgert/cpu/ops/copy.h"

#include "ops/bounded.h"
#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Copy>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  return runnable(kEntry, context, {context.type(0)});
}

void import_identity(OnnxNode& node) { node.set_output(0, node.input(0)); }

/// The only element of a constant operand.
double known_number(OnnxNode& node, std::size_t i, const char* what) {
  require_constant(node, i, what);
  const ir::Value& value = node.graph.value(cast(node, node.inputs[i], DType::F64));
  if (!value.is_constant() || ir::element_count(value.type.dims) != 1) node.fail(std::string(what) + " must have one element");
  return *value.constant.as<double>();
}

/// At inference, or where nothing is dropped, Dropout passes its input on; the mask, where someone asks for it, is all
/// true.
void import_dropout(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  if (node.has_input(2)) {
    const bool training = known_number(node, 2, "training_mode") != 0;
    if (training && (!node.has_input(1) || known_number(node, 1, "ratio") != 0))
      node.fail("training_mode is set, and random results are not supported; export the model for inference");
  }
  node.set_output(0, node.input(0));
  if (node.wants_output(1)) {
    node.set_output(1, expand(node, scalar_constant(node, node.opset < 10 ? dtype : DType::Bool, 1), dims));
  }
}

}  // namespace

extern const OperatorDef kCopy = [] {
  OperatorDef op;
  op.name = "Copy";
  op.attribute_bytes = sizeof(cpu::NoAttributes);
  op.infer = &infer;
  op.extents = &elementwise_extents;
  op.kernel = &kEntry;
  return op;
}();

void register_copy(Registry& registry) {
  registry.add(kCopy);
  registry.add_onnx("Identity", &import_identity);
  registry.add_onnx("Dropout", &import_dropout, 7);
}

}  // namespace edgert::ops
