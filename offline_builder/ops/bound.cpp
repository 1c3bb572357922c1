// SPDX-License-Identifier: Apache-2.0
#include "ops/bound.h"

#include "ops/bounded.h"

namespace edgert::ops {
namespace {

std::vector<ir::TensorType> infer(const InferContext& context) {
  const std::uint32_t dims = context.attributes.as<BoundAttributes>().dims;
  const std::size_t rank = context.type(0).dims.size();
  std::size_t count = 0;
  for (std::size_t d = 0; d < kMaxRank; ++d) count += dims >> d & 1u;
  require(dims >> rank == 0, "a bounded dimension is outside of the tensor");
  require_inputs(context, 1 + count, 1 + count);
  for (std::size_t i = 1; i < context.inputs.size(); ++i) {
    require(context.type(i).dtype == DType::I64 && ir::element_count(context.type(i).dims) == 1, "an extent is one int64");
  }
  return {context.type(0)};
}

Extents extents(const InferContext& context) {
  const std::uint32_t dims = context.attributes.as<BoundAttributes>().dims;
  std::vector<ir::OutputExtent> out;
  for (std::uint32_t d = 0; d < kMaxRank; ++d) {
    if ((dims >> d & 1u) != 0) out.push_back({d, context.inputs[1 + out.size()]});
  }
  return {out};
}

std::optional<ir::StridedView> view(const ir::AttributeBlob&, const ir::StridedView& input, const ir::Dims&) { return input; }

}  // namespace

extern const OperatorDef kBound = [] {
  OperatorDef op;
  op.name = "Bound";
  op.attribute_bytes = sizeof(BoundAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.view = &view;
  return op;
}();

void register_bound(Registry& registry) { registry.add(kBound); }

}  // namespace edgert::ops
