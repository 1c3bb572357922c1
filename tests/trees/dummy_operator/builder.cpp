// SPDX-License-Identifier: Apache-2.0
#include "edgert/cpu/ops/dummy.h"

#include "ops/operator.h"

namespace edgert::ops {
namespace {

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Dummy>();

const OperatorDef kDummy = [] {
  OperatorDef op;
  op.name = "Dummy";
  op.attribute_bytes = sizeof(cpu::DummyAttributes);
  op.infer = [](const InferContext& context) { return std::vector<ir::TensorType>{context.type(0)}; };
  op.kernel = &kEntry;
  return op;
}();

void import_dummy(OnnxNode& node) {
  node.set_output(0, node.emit(kDummy, {node.input(0)}, cpu::DummyAttributes{node.float_or("addend", 1.0f)}));
}

}  // namespace

void register_dummy(Registry& registry) {
  registry.add(kDummy);
  registry.add_onnx("Dummy", &import_dummy, 1, 1 << 30, "test.edgert");
}

}  // namespace edgert::ops
