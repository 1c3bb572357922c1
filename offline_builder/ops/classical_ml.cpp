// SPDX-License-Identifier: Apache-2.0
// The operators of ai.onnx.ml that are arithmetic on tensors.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

constexpr const char* kDomain = "ai.onnx.ml";

/// The columns of the last dimension that the indices name. Of a vector it makes one row.
void import_array_feature_extractor(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  if (dims.empty()) node.fail("the input must have rank 1 or more");
  const std::int64_t count = ir::element_count(node.type(1).dims);
  const ValueId indices = reshape(node, node.input(1), {count});
  Dims out = dims;
  out.back() = count;
  if (out.size() == 1) out.insert(out.begin(), 1);
  node.set_output(0, reshape(node, gather(node, node.input(0), indices, dims.size() - 1), out));
}

void import_binarizer(OnnxNode& node) {
  const DType dtype = node.type(0).dtype;
  const ValueId threshold = scalar_constant(node, dtype, static_cast<double>(node.float_or("threshold", 0.0f)));
  node.set_output(0, cast(node, binary(node, PointwiseOp::Greater, node.input(0), threshold), dtype));
}

/// ZipMap turns rows of scores into dictionaries, which a plan does not have: the rows stay what they are, their columns
/// in the order of the labels.
void import_zip_map(OnnxNode& node) { node.set_output(0, node.input(0)); }

}  // namespace

void register_classical_ml(Registry& registry) {
  registry.add_onnx("ArrayFeatureExtractor", &import_array_feature_extractor, 1, 1 << 30, kDomain);
  registry.add_onnx("ZipMap", &import_zip_map, 1, 1 << 30, kDomain);
  registry.add_onnx("Binarizer", &import_binarizer, 1, 1 << 30, kDomain);
}

}  // namespace edgert::ops
