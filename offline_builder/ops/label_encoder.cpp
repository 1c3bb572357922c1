// SPDX-License-Identifier: Apache-2.0
// LabelEncoder of ai.onnx.ml between numbers: a table of keys and values.
#include "edgert/cpu/ops/reduce.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

constexpr const char* kDomain = "ai.onnx.ml";

/// The table's `keys` or `values`, or its default: attribute prefix_int64s, prefix_floats or prefix_tensor (one element:
/// without the s).
ValueId numbers(OnnxNode& node, const std::string& prefix, const char* plural) {
  const auto found = [&](const std::string& suffix) { return node.attributes.find(prefix + suffix); };
  const auto end = node.attributes.end();
  if (const auto at = found("_tensor"); at != end) {
    const std::int64_t count = ir::element_count(at->second.tensor_type.dims);
    return reshape(node, constant(node, at->second.tensor_type, at->second.tensor), {count});
  }
  const bool one = plural[0] == '\0';
  if (const auto at = found(std::string("_int64") + plural); at != end) {
    const std::vector<std::int64_t> values = one ? std::vector<std::int64_t>{at->second.i} : at->second.ints;
    return int64_constant(node, {static_cast<std::int64_t>(values.size())}, values);
  }
  if (const auto at = found(std::string("_float") + plural); at != end) {
    const std::vector<float> values = one ? std::vector<float>{at->second.f} : at->second.floats;
    return float_constant(node, {static_cast<std::int64_t>(values.size())}, values);
  }
  return ir::kNone;
}

bool is_float(DType dtype) { return dtype == DType::F32 || dtype == DType::F64; }

void import_label_encoder(OnnxNode& node) {
  const ValueId keys = numbers(node, "keys", "s");
  const ValueId values = numbers(node, "values", "s");
  if (keys == ir::kNone || values == ir::kNone) node.fail("strings have no place in a plan: keys and values must be numbers");
  const std::int64_t count = dims_of(node, keys)[0];
  if (count < 1 || dims_of(node, values)[0] != count) node.fail("there must be a value for each key");
  const DType key_type = dtype_of(node, keys);
  const DType type = dtype_of(node, values);
  require_type(node.type(0), key_type, "the input");
  ValueId otherwise = numbers(node, "default", "");
  if (otherwise == ir::kNone) otherwise = scalar_constant(node, type, is_float(type) ? -0.0 : -1.0);
  if (dtype_of(node, otherwise) != type || ir::element_count(dims_of(node, otherwise)) != 1) node.fail("the default must be one number of the values' type");

  const Dims dims = node.type(0).dims;
  Dims lifted = dims;
  lifted.push_back(1);
  require_rank(lifted);
  const ValueId x = reshape(node, node.input(0), lifted);
  ValueId hit = binary(node, PointwiseOp::Equal, x, keys);
  if (is_float(key_type) && node.opset >= 4) {
    // A key that is no number stands for all that are none; before, it stood for nothing.
    const ValueId both = binary(node, PointwiseOp::And, unary(node, PointwiseOp::IsNan, x), unary(node, PointwiseOp::IsNan, keys));
    hit = binary(node, PointwiseOp::Or, hit, both);
  }
  const std::size_t axis = lifted.size() - 1;
  const ValueId place = arg_reduce(node, cast(node, hit, DType::I32), axis, false, false);
  const ValueId hits = reduce(node, static_cast<unsigned>(cpu::ReduceKind::Max), cast(node, hit, DType::I32), {axis}, true);
  const ValueId is_there = cast(node, hits, DType::Bool);
  const ValueId found = gather(node, values, reshape(node, place, lifted), 0);
  node.set_output(0, reshape(node, select(node, is_there, found, reshape(node, otherwise, {1})), dims));
}

}  // namespace

void register_label_encoder(Registry& registry) { registry.add_onnx("LabelEncoder", &import_label_encoder, 2, 1 << 30, kDomain); }

}  // namespace edgert::ops
