// SPDX-License-Identifier: Apache-2.0
#include "onnx/attributes.h"

#include "onnx/text.h"

namespace edgert::onnx_import {
namespace {

using Attribute = ops::OnnxNode::Attribute;

Attribute tensor_attribute(const void* key, const Model::Data& data) {
  const LoadedTensor& loaded = data.tensors.at(key);
  if (!loaded.error.empty()) throw ir::BuildError(loaded.error);
  Attribute out;
  out.kind = Attribute::Kind::Tensor;
  out.tensor_type = loaded.tensor.type;
  out.tensor = loaded.tensor.bytes;
  return out;
}

Attribute convert(const proto::AttributeProto& attribute, const Model::Data& data) {
  Attribute out;
  switch (attribute.type()) {
    case proto::AttributeProto::INT:
      out.kind = Attribute::Kind::Int;
      out.i = attribute.i();
      return out;
    case proto::AttributeProto::FLOAT:
      out.kind = Attribute::Kind::Float;
      out.f = attribute.f();
      return out;
    case proto::AttributeProto::STRING:
      out.kind = Attribute::Kind::String;
      out.s = attribute.s();
      return out;
    case proto::AttributeProto::INTS:
      out.kind = Attribute::Kind::Ints;
      out.ints.assign(attribute.ints().begin(), attribute.ints().end());
      return out;
    case proto::AttributeProto::FLOATS:
      out.kind = Attribute::Kind::Floats;
      out.floats.assign(attribute.floats().begin(), attribute.floats().end());
      return out;
    case proto::AttributeProto::STRINGS:
      out.kind = Attribute::Kind::Strings;
      out.strings.assign(attribute.strings().begin(), attribute.strings().end());
      return out;
    case proto::AttributeProto::TENSOR:
      if (!attribute.has_t()) throw ir::BuildError("it holds no tensor");
      return tensor_attribute(&attribute.t(), data);
    case proto::AttributeProto::SPARSE_TENSOR:
      if (!attribute.has_sparse_tensor()) throw ir::BuildError("it holds no tensor");
      return tensor_attribute(&attribute.sparse_tensor(), data);
    case proto::AttributeProto::GRAPH: out.kind = Attribute::Kind::Graph; return out;
    case proto::AttributeProto::UNDEFINED: throw ir::BuildError("it has no type");
    default: throw ir::BuildError("attributes of its type are not supported");
  }
}

}  // namespace

const proto::AttributeProto* resolve_attribute(const proto::AttributeProto& attribute,
                                               const AttributeEnvironment& environment) {
  if (attribute.ref_attr_name().empty()) return &attribute;
  const auto it = environment.find(attribute.ref_attr_name());
  if (it == environment.end()) return nullptr;
  if (attribute.has_type() && attribute.type() != proto::AttributeProto::UNDEFINED &&
      attribute.type() != it->second->type()) {
    throw ir::BuildError("attribute " + quoted(attribute.name()) + " refers to the function's attribute " +
                         quoted(attribute.ref_attr_name()) + ", which has another type");
  }
  return it->second;
}

std::map<std::string, Attribute> convert_attributes(const proto::NodeProto& node,
                                                    const AttributeEnvironment& environment, const Model::Data& data) {
  std::map<std::string, Attribute> attributes;
  for (const auto& attribute : node.attribute()) {
    const proto::AttributeProto* source = resolve_attribute(attribute, environment);
    if (source == nullptr) continue;
    std::string name = attribute.name();
    if (node.op_type() == "Constant" && name == "sparse_value") name = "value";
    Attribute converted;
    try {
      converted = convert(*source, data);
    } catch (const ir::BuildError& error) {
      throw ir::BuildError("attribute " + quoted(attribute.name()) + ": " + error.what());
    }
    if (!attributes.emplace(std::move(name), std::move(converted)).second) {
      throw ir::BuildError("attribute " + quoted(attribute.name()) + " is given twice");
    }
  }
  return attributes;
}

}  // namespace edgert::onnx_import
