// SPDX-License-Identifier: Apache-2.0
// NonZero.
#include "edgert/cpu/ops/non_zero.h"

#include "ops/bounded.h"
#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::NonZero>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const Dims& dims = context.type(0).dims;
  const ir::TensorType indices{DType::I64, {static_cast<std::int64_t>(dims.size()), ir::element_count(dims)}};
  return runnable(kEntry, context, {indices, {DType::I64, {}}});
}

Extents extents(const InferContext&) { return {{{1, ir::kNone, 1}}}; }

std::uint64_t work(const InferContext&) { return 0; }  // one part: each column's place depends on all before it

void import_non_zero(OnnxNode& node) {
  node.set_output(0, emit_bounded(node, kNonZero, {node.input(0)}, ir::AttributeBlob::of(cpu::NoAttributes{}))[0]);
}

}  // namespace

extern const OperatorDef kNonZero = [] {
  OperatorDef op;
  op.name = "NonZero";
  op.attribute_bytes = sizeof(cpu::NoAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

void register_non_zero(Registry& registry) {
  registry.add(kNonZero);
  registry.add_onnx("NonZero", &import_non_zero, 9);
}

}  // namespace edgert::ops
