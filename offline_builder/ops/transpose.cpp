// SPDX-License-Identifier: Apache-2.0
// Transpose: always a view.
#include <numeric>

#include "ops/bounded.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const auto& attributes = context.attributes.as<TransposeAttributes>();
  const ir::TensorType& x = context.type(0);
  require(
      attributes.rank == x.dims.size() && attributes.rank <= kMaxRank,
      "perm has " + std::to_string(attributes.rank) + " entries for an input of rank " + std::to_string(x.dims.size()));
  ir::TensorType y{x.dtype, {}};
  std::uint32_t seen = 0;
  for (std::uint32_t i = 0; i < attributes.rank; ++i) {
    require(attributes.perm[i] < attributes.rank && (seen >> attributes.perm[i] & 1) == 0, "perm is no permutation");
    seen |= 1u << attributes.perm[i];
    y.dims.push_back(x.dims[attributes.perm[i]]);
  }
  return {y};
}

Extents extents(const InferContext& context) {
  const auto& attributes = context.attributes.as<TransposeAttributes>();
  return mapped_extents(context, std::vector<int>(attributes.perm, attributes.perm + attributes.rank));
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& attributes = blob.as<TransposeAttributes>();
  return "perm=" + ir::to_string(Dims(attributes.perm, attributes.perm + attributes.rank));
}

std::optional<StridedView> view(const ir::AttributeBlob& blob, const StridedView& input, const Dims& out) {
  const auto& attributes = blob.as<TransposeAttributes>();
  StridedView result{input.offset, out, {}};
  for (std::size_t i = 0; i < out.size(); ++i) result.strides.push_back(input.strides[attributes.perm[i]]);
  return result;
}

void import_transpose(OnnxNode& node) {
  std::vector<std::int64_t> perm = node.ints_or("perm", {});
  if (!node.has("perm")) {
    perm.resize(node.type(0).dims.size());
    std::iota(perm.rbegin(), perm.rend(), 0);
  }
  node.set_output(0, transpose(node, node.input(0), perm));
}

}  // namespace

extern const OperatorDef kTranspose = [] {
  OperatorDef op;
  op.name = "Transpose";
  op.attribute_bytes = sizeof(TransposeAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.view = &view;
  return op;
}();

ValueId transpose(OnnxNode& node, ValueId x, const std::vector<std::int64_t>& perm) {
  if (perm.size() != dims_of(node, x).size()) {
    node.fail("perm " + ir::to_string(perm) + " does not fit shape " + ir::to_string(dims_of(node, x)));
  }
  require_rank(perm);
  TransposeAttributes attributes{};
  attributes.rank = static_cast<std::uint32_t>(perm.size());
  bool identity = true;
  for (std::size_t i = 0; i < perm.size(); ++i) {
    attributes.perm[i] = static_cast<std::uint8_t>(axis_of(node, perm[i], perm.size()));
    identity = identity && attributes.perm[i] == i;
  }
  return identity ? x : node.emit(kTranspose, {x}, attributes);
}

void register_transpose(Registry& registry) {
  registry.add(kTranspose);
  registry.add_onnx("Transpose", &import_transpose);
}

}  // namespace edgert::ops
