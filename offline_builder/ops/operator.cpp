// SPDX-License-Identifier: Apache-2.0
#include "ops/compose.h"

namespace edgert::ops {

void OnnxNode::fail(const std::string& reason) const { throw ir::BuildError(reason); }

ir::ValueId OnnxNode::input(std::size_t i) const {
  if (!has_input(i)) fail("input " + std::to_string(i) + " is missing");
  return inputs[i];
}

namespace {

const OnnxNode::Attribute* find(const OnnxNode& node, const std::string& name, OnnxNode::Attribute::Kind kind) {
  const auto it = node.attributes.find(name);
  if (it == node.attributes.end()) return nullptr;
  if (it->second.kind != kind) node.fail("attribute '" + name + "' has the wrong type");
  return &it->second;
}

using Kind = OnnxNode::Attribute::Kind;

}  // namespace

std::int64_t OnnxNode::int_or(const std::string& attribute, std::int64_t fallback) const {
  const Attribute* found = find(*this, attribute, Kind::Int);
  return found != nullptr ? found->i : fallback;
}

std::int64_t OnnxNode::required_int(const std::string& attribute) const {
  const Attribute* found = find(*this, attribute, Kind::Int);
  if (found == nullptr) fail("attribute '" + attribute + "' is missing");
  return found->i;
}

float OnnxNode::float_or(const std::string& attribute, float fallback) const {
  const Attribute* found = find(*this, attribute, Kind::Float);
  return found != nullptr ? found->f : fallback;
}

std::string OnnxNode::string_or(const std::string& attribute, const std::string& fallback) const {
  const Attribute* found = find(*this, attribute, Kind::String);
  return found != nullptr ? found->s : fallback;
}

std::vector<std::int64_t> OnnxNode::ints_or(const std::string& attribute, const std::vector<std::int64_t>& fallback) const {
  const Attribute* found = find(*this, attribute, Kind::Ints);
  return found != nullptr ? found->ints : fallback;
}

std::vector<float> OnnxNode::floats_or(const std::string& attribute, const std::vector<float>& fallback) const {
  const Attribute* found = find(*this, attribute, Kind::Floats);
  return found != nullptr ? found->floats : fallback;
}

std::vector<std::int64_t> OnnxNode::constant_ints(std::size_t i) const {
  const ir::Value& value = graph.value(input(i));
  if (!value.is_constant()) {
    fail("input " + std::to_string(i) + " ('" + value.name +
         "') decides a shape and must be known when the plan is built; if it is a model input, fix it with --value " +
         value.name + "=...");
  }
  const auto count = static_cast<std::size_t>(ir::element_count(value.type.dims));
  std::vector<std::int64_t> out(count);
  for (std::size_t k = 0; k < count; ++k) {
    if (value.type.dtype == DType::I64) {
      out[k] = value.constant.as<std::int64_t>()[k];
    } else if (value.type.dtype == DType::I32) {
      out[k] = value.constant.as<std::int32_t>()[k];
    } else {
      fail("input " + std::to_string(i) + " must be int32 or int64, not " + edgert::to_string(value.type.dtype));
    }
  }
  return out;
}

std::vector<float> OnnxNode::constant_floats(std::size_t i) const {
  const ir::Value& value = graph.value(input(i));
  if (!value.is_constant()) fail("input " + std::to_string(i) + " ('" + value.name + "') must be a constant");
  const auto count = static_cast<std::size_t>(ir::element_count(value.type.dims));
  std::vector<float> out(count);
  for (std::size_t k = 0; k < count; ++k) {
    if (value.type.dtype == DType::F32) {
      out[k] = value.constant.as<float>()[k];
    } else if (value.type.dtype == DType::F64) {
      out[k] = static_cast<float>(value.constant.as<double>()[k]);
    } else {
      fail("input " + std::to_string(i) + " must be float or double, not " + edgert::to_string(value.type.dtype));
    }
  }
  return out;
}

void OnnxNode::set_output(std::size_t i, ir::ValueId value) {
  if (outputs.size() <= i) outputs.resize(i + 1, ir::kNone);
  outputs[i] = value;
}

std::vector<ValueId> onnx_operator(OnnxNode& node, const char* op_type, int opset, std::vector<ValueId> operands,
                                   OnnxAttributes attributes, std::size_t outputs) {
  OnnxNode inner(node.graph, node.name, op_type, "", opset);
  inner.attributes = std::move(attributes);
  inner.inputs = std::move(operands);
  for (std::size_t i = 0; i < outputs; ++i) inner.output_names.push_back(node.name + "/" + std::to_string(i));
  inner.outputs.assign(outputs, ir::kNone);
  Registry::instance().find_onnx("", op_type, opset)(inner);
  return inner.outputs;
}

OnnxNode::Attribute int_attribute(std::int64_t value) {
  OnnxNode::Attribute attribute;
  attribute.i = value;
  return attribute;
}

OnnxNode::Attribute float_attribute(float value) {
  OnnxNode::Attribute attribute;
  attribute.kind = OnnxNode::Attribute::Kind::Float;
  attribute.f = value;
  return attribute;
}

const Registry& Registry::instance() {
  static const Registry registry = [] {
    Registry filled;
    register_all(filled);
    return filled;
  }();
  return registry;
}

void Registry::add(const OperatorDef& op) { operators_.push_back(&op); }

const cpu::OperatorEntry* Registry::find_kernel(std::uint16_t id) const noexcept {
  for (const OperatorDef* op : operators_) {
    if (op->kernel != nullptr && op->kernel->id == id) return op->kernel;
  }
  return nullptr;
}

void Registry::add_onnx(const std::string& op_type, OnnxImporter importer, int since, int until, const std::string& domain) {
  onnx_.push_back({domain, op_type, since, until, importer});
}

OnnxImporter Registry::find_onnx(const std::string& domain, const std::string& op_type, int opset) const {
  for (const OnnxEntry& entry : onnx_) {
    if (entry.op_type == op_type && entry.domain == domain && entry.since <= opset && opset <= entry.until) {
      return entry.importer;
    }
  }
  return nullptr;
}

}  // namespace edgert::ops
