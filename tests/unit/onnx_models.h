// SPDX-License-Identifier: Apache-2.0
// Small ONNX models made with the generated classes, and operators that exist for these tests only, so that the tests
// of the importer do not depend on any real operator.
#pragma once

#include <onnx-ml.pb.h>

#include <cstring>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "onnx/import.h"
#include "ops/operator.h"

namespace onnx_test {

namespace oi = edgert::onnx_import;
namespace ir = edgert::ir;
namespace ops = edgert::ops;
using edgert::DType;

inline onnx::ModelProto model_with_opset(std::int64_t version = 17) {
  onnx::ModelProto model;
  model.set_ir_version(8);
  model.mutable_graph()->set_name("g");
  auto* opset = model.add_opset_import();
  opset->set_domain("");
  opset->set_version(version);
  return model;
}

using Names = std::vector<std::string>;

template <class Owner>
onnx::NodeProto& add_node(Owner& owner, const std::string& op, const Names& inputs, const Names& outputs,
                          const std::string& name = "") {
  onnx::NodeProto& node = *owner.add_node();
  node.set_op_type(op);
  node.set_name(name);
  for (const std::string& input : inputs) node.add_input(input);
  for (const std::string& output : outputs) node.add_output(output);
  return node;
}

/// A declared dimension: a number, or a symbol, "" for none.
struct Dim {
  Dim(int number) : value(number) {}                                  // NOLINT: implicit
  Dim(std::int64_t number) : value(number) {}                         // NOLINT: implicit
  Dim(const char* name) : value(0), symbol(name), is_symbol(true) {}  // NOLINT: implicit
  std::int64_t value;
  std::string symbol;
  bool is_symbol = false;
};

inline void set_type(onnx::ValueInfoProto& info, const std::string& name, const std::vector<Dim>& dims,
                     int type = onnx::TensorProto::FLOAT) {
  info.set_name(name);
  auto* tensor = info.mutable_type()->mutable_tensor_type();
  tensor->set_elem_type(type);
  tensor->mutable_shape();
  for (const Dim& dim : dims) {
    auto* out = tensor->mutable_shape()->add_dim();
    if (!dim.is_symbol) out->set_dim_value(dim.value);
    if (dim.is_symbol && !dim.symbol.empty()) out->set_dim_param(dim.symbol);
  }
}

inline void add_input(onnx::GraphProto& graph, const std::string& name, const std::vector<Dim>& dims,
                      int type = onnx::TensorProto::FLOAT) {
  set_type(*graph.add_input(), name, dims, type);
}
inline void add_output(onnx::GraphProto& graph, const std::string& name) { graph.add_output()->set_name(name); }

inline onnx::TensorProto float_tensor(const std::string& name, const std::vector<std::int64_t>& dims,
                                      const std::vector<float>& values) {
  onnx::TensorProto tensor;
  tensor.set_name(name);
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  for (const std::int64_t dim : dims) tensor.add_dims(dim);
  for (const float value : values) tensor.add_float_data(value);
  return tensor;
}

/// The attributes that the last "Record" node had.
inline std::map<std::string, ops::OnnxNode::Attribute>& recorded() {
  static std::map<std::string, ops::OnnxNode::Attribute> attributes;
  return attributes;
}

inline std::vector<ir::TensorType> infer_like_first(const ops::InferContext& context) { return {context.type(0)}; }

struct NoAttributes {
  std::uint32_t unused = 0;
};

inline const ops::OperatorDef& test_operator() {
  static const ops::OperatorDef op = [] {
    ops::OperatorDef def;
    def.name = "TestOperator";
    def.attribute_bytes = sizeof(NoAttributes);
    def.infer = &infer_like_first;
    return def;
  }();
  return op;
}

/// "Work" makes one node; "Same" makes none; "Record" notes its attributes; "Fail" fails; "Constant" takes a tensor.
inline const ops::Registry& registry() {
  static const ops::Registry filled = [] {
    ops::Registry made;
    made.add(test_operator());
    const auto work = [](ops::OnnxNode& node) {
      std::vector<ir::ValueId> inputs = node.inputs;
      node.input(0);
      const ir::NodeId id =
          node.graph.add_node(test_operator(), inputs, ir::AttributeBlob::of(NoAttributes{}), {node.provenance()});
      node.set_output(0, node.graph.node(id).outputs[0]);
    };
    made.add_onnx("Work", work);
    made.add_onnx("Work", work, 1, 1 << 30, "custom");
    made.add_onnx("Old", work, 9, 12);
    made.add_onnx("Record", [](ops::OnnxNode& node) {
      recorded() = node.attributes;
      node.set_output(0, node.input(0));
    });
    made.add_onnx("Same", [](ops::OnnxNode& node) { node.set_output(0, node.input(0)); });
    made.add_onnx("Fail", [](ops::OnnxNode& node) { node.fail("made to fail"); });
    made.add_onnx("Constant", [](ops::OnnxNode& node) {
      const auto& value = node.attributes.at("value");
      node.set_output(0, node.graph.add_constant(node.name, value.tensor_type, value.tensor));
    });
    return made;
  }();
  return filled;
}

inline oi::ImportOptions test_options() {
  oi::ImportOptions options;
  options.registry = &registry();
  return options;
}

inline oi::Model parse_text(const std::string& bytes, const std::string& folder = "",
                            const oi::ImportOptions& options = test_options()) {
  return oi::parse_bytes({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, folder, options);
}
inline oi::Model parse(const onnx::ModelProto& model, const std::string& folder = "",
                       const oi::ImportOptions& options = test_options()) {
  return parse_text(model.SerializeAsString(), folder, options);
}
inline ir::Graph import(const onnx::ModelProto& model, const oi::ImportOptions& options = test_options(),
                        std::vector<std::string>* notes = nullptr) {
  return oi::import(parse(model, "", options), options, notes);
}

/// What import finds wrong; empty when it succeeds.
inline std::vector<oi::Problem> problems_of(const onnx::ModelProto& model,
                                            const oi::ImportOptions& options = test_options()) {
  try {
    import(model, options);
  } catch (const oi::ImportError& error) {
    return error.problems();
  }
  return {};
}

/// The text of the error that `action` throws; empty when it throws none.
template <class Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const ir::BuildError& error) {
    return error.what();
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// x → Work → y, for tests that change one thing.
inline onnx::ModelProto small_model() {
  onnx::ModelProto model = model_with_opset();
  add_input(*model.mutable_graph(), "x", {2, 3});
  add_node(*model.mutable_graph(), "Work", {"x"}, {"y"}, "work");
  add_output(*model.mutable_graph(), "y");
  return model;
}

/// The constant that output "y" of a model with this initializer, passed through, is.
inline const ir::Value& only_output(const ir::Graph& graph) { return graph.value(graph.outputs().at(0).value); }

}  // namespace onnx_test
