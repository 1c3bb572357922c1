// SPDX-License-Identifier: Apache-2.0
// Copy: what the lowering makes of a view that cannot be placed. No ONNX operator is imported as one; those that only
// pass a tensor on become nothing.
#include "edgert/cpu/ops/copy.h"

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

/// At inference Dropout passes its input on; the mask, where someone asks for it, is all true.
void import_dropout(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  if (node.has_input(2)) {
    require_constant(node, 2, "training_mode");
    const ir::Value& training = node.graph.value(node.inputs[2]);
    if (training.type.dtype != DType::Bool || ir::element_count(training.type.dims) != 1) {
      node.fail("training_mode must be a bool");
    }
    if (*training.constant.as<std::uint8_t>() != 0) node.fail("training_mode is set; export the model for inference");
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
  op.kernel = &kEntry;
  return op;
}();

void register_copy(Registry& registry) {
  registry.add(kCopy);
  registry.add_onnx("Identity", &import_identity);
  registry.add_onnx("Dropout", &import_dropout, 7);
}

}  // namespace edgert::ops
