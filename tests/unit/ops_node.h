// SPDX-License-Identifier: Apache-2.0
// One ONNX node without a model: constants in, and constants out where everything folds.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "ops/operator.h"

namespace edgert::test {

class TestNode {
 public:
  explicit TestNode(const std::string& op_type, int opset = 22)
      : graph_(std::make_shared<ir::Graph>()), node_(*graph_, "node", op_type, "", opset) {
    node_.output_names = {"y"};
  }

  TestNode& ints(const std::string& name, std::vector<std::int64_t> values) {
    ops::OnnxNode::Attribute& attribute = node_.attributes[name];
    attribute.kind = ops::OnnxNode::Attribute::Kind::Ints;
    attribute.ints = std::move(values);
    return *this;
  }
  TestNode& integer(const std::string& name, std::int64_t value) {
    node_.attributes[name].i = value;
    return *this;
  }
  TestNode& number(const std::string& name, float value) {
    ops::OnnxNode::Attribute& attribute = node_.attributes[name];
    attribute.kind = ops::OnnxNode::Attribute::Kind::Float;
    attribute.f = value;
    return *this;
  }
  TestNode& text(const std::string& name, std::string value) {
    ops::OnnxNode::Attribute& attribute = node_.attributes[name];
    attribute.kind = ops::OnnxNode::Attribute::Kind::String;
    attribute.s = std::move(value);
    return *this;
  }
  /// A constant operand.
  TestNode& int64(const ir::Dims& dims, const std::vector<std::int64_t>& values) {
    return constant({DType::I64, dims}, values.data(), values.size() * 8);
  }
  TestNode& float32(const ir::Dims& dims, const std::vector<float>& values) {
    return constant({DType::F32, dims}, values.data(), values.size() * 4);
  }
  TestNode& constant(const ir::TensorType& type, const void* data, std::size_t bytes) {
    node_.inputs.push_back(graph_->add_constant("c", type, ir::Bytes::copy(data, bytes)));
    return *this;
  }
  /// An operand that only a run knows.
  TestNode& input(DType dtype, const ir::Dims& dims) {
    node_.inputs.push_back(graph_->add_input("x" + std::to_string(node_.inputs.size()), {dtype, dims}));
    return *this;
  }
  TestNode& absent() {
    node_.inputs.push_back(ir::kNone);
    return *this;
  }
  TestNode& outputs(std::size_t count) {
    for (std::size_t i = node_.output_names.size(); i < count; ++i)
      node_.output_names.push_back("y" + std::to_string(i));
    return *this;
  }

  TestNode& import() {
    const ops::OnnxImporter importer = ops::Registry::instance().find_onnx("", node_.op_type, node_.opset);
    REQUIRE(static_cast<bool>(importer));
    importer(node_);
    verify(*graph_);
    return *this;
  }
  bool refused() { return !refusal().empty(); }
  /// Why the node cannot be imported; empty when it can.
  std::string refusal() {
    const ops::OnnxImporter importer = ops::Registry::instance().find_onnx("", node_.op_type, node_.opset);
    if (importer == nullptr) return "";
    try {
      importer(node_);
    } catch (const ir::BuildError& error) {
      return error.what();
    }
    return "";
  }

  ir::Graph& graph() { return *graph_; }
  const ir::Value& output(std::size_t i = 0) const { return graph_->value(node_.outputs.at(i)); }
  const ir::Dims& dims(std::size_t i = 0) const { return output(i).type.dims; }
  template <class T>
  std::vector<T> values(std::size_t i = 0) const {
    REQUIRE(output(i).is_constant());
    const T* data = output(i).constant.as<T>();
    return std::vector<T>(data, data + output(i).constant.size() / sizeof(T));
  }

 private:
  std::shared_ptr<ir::Graph> graph_;  // shared, because the node refers to it and copies must too
  ops::OnnxNode node_;
};

}  // namespace edgert::test
