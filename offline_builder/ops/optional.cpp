// SPDX-License-Identifier: Apache-2.0
// OptionalHasElement and OptionalGetElement of tensors: a tensor is an optional that has an element, an input that is
// left out one that has none.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

void import_has_element(OnnxNode& node) {
  node.set_output(0, scalar_constant(node, DType::Bool, node.has_input(0) ? 1 : 0));
}

void import_get_element(OnnxNode& node) { node.set_output(0, node.input(0)); }

}  // namespace

void register_optional(Registry& registry) {
  registry.add_onnx("OptionalHasElement", &import_has_element, 15);
  registry.add_onnx("OptionalGetElement", &import_get_element, 15);
}

}  // namespace edgert::ops
