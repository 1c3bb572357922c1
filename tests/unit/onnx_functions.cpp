// SPDX-License-Identifier: Apache-2.0
// Bodies imported in place: model-local functions and the branches of If.
#include <doctest/doctest.h>

#include "onnx_models.h"

using namespace onnx_test;

namespace {

onnx::FunctionProto& add_function(onnx::ModelProto& model, const std::string& name, const Names& inputs,
                                  const Names& outputs) {
  onnx::FunctionProto& function = *model.add_functions();
  function.set_name(name);
  function.set_domain("local");
  for (const std::string& input : inputs) function.add_input(input);
  for (const std::string& output : outputs) function.add_output(output);
  auto* opset = function.add_opset_import();
  opset->set_domain("");
  opset->set_version(17);
  opset = function.add_opset_import();
  opset->set_domain("local");
  opset->set_version(1);
  return function;
}

template <class Owner>
onnx::NodeProto& add_call(Owner& owner, const std::string& name, const Names& inputs, const Names& outputs,
                          const std::string& node_name = "") {
  onnx::NodeProto& node = add_node(owner, name, inputs, outputs, node_name);
  node.set_domain("local");
  return node;
}

onnx::AttributeProto& add_int(onnx::NodeProto& node, const std::string& name, std::int64_t value) {
  onnx::AttributeProto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::INT);
  attribute.set_i(value);
  return attribute;
}

void add_reference(onnx::NodeProto& node, const std::string& name, const std::string& to) {
  onnx::AttributeProto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::INT);
  attribute.set_ref_attr_name(to);
}

/// x → F → y, F yet to be defined.
onnx::ModelProto calling_model() {
  onnx::ModelProto model = model_with_opset();
  auto* opset = model.add_opset_import();
  opset->set_domain("local");
  opset->set_version(1);
  add_input(*model.mutable_graph(), "x", {2});
  add_call(*model.mutable_graph(), "F", {"x"}, {"y"}, "call");
  add_output(*model.mutable_graph(), "y");
  return model;
}

std::string only_reason(const onnx::ModelProto& model, const oi::ImportOptions& options = test_options()) {
  const std::vector<oi::Problem> problems = problems_of(model, options);
  return problems.size() == 1 ? problems[0].reason : std::to_string(problems.size()) + " problems";
}

onnx::GraphProto& add_branch(onnx::NodeProto& node, const std::string& name) {
  onnx::AttributeProto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::GRAPH);
  return *attribute.mutable_g();
}

/// If with a constant condition; the branches make "t" and "e" from the outer "x".
onnx::ModelProto if_model(bool condition, const std::string& then_op = "Work", const std::string& else_op = "Same") {
  onnx::ModelProto model = model_with_opset();
  onnx::GraphProto& graph = *model.mutable_graph();
  add_input(graph, "x", {2});
  onnx::TensorProto& tensor = *graph.add_initializer();
  tensor.set_name("c");
  tensor.set_data_type(onnx::TensorProto::BOOL);
  tensor.add_int32_data(condition ? 1 : 0);
  onnx::NodeProto& node = add_node(graph, "If", {"c"}, {"y"}, "if");
  onnx::GraphProto& then_branch = add_branch(node, "then_branch");
  add_node(then_branch, then_op, {"x"}, {"t"}, "then");
  add_output(then_branch, "t");
  onnx::GraphProto& else_branch = add_branch(node, "else_branch");
  add_node(else_branch, else_op, {"x"}, {"e"}, "else");
  add_output(else_branch, "e");
  add_output(graph, "y");
  return model;
}

}  // namespace

TEST_CASE("a function is inlined, with names that tell the call") {
  onnx::ModelProto model = calling_model();
  onnx::FunctionProto& function = add_function(model, "F", {"a"}, {"b"});
  add_node(function, "Work", {"a"}, {"inner"}, "first");
  add_node(function, "Work", {"inner"}, {"b"});
  const ir::Graph graph = import(model);
  REQUIRE(graph.node_count() == 2);
  CHECK(graph.node(0).provenance == std::vector<std::string>{"call/first (Work)"});
  CHECK(graph.node(1).provenance == std::vector<std::string>{"call/b (Work)"});
  CHECK(graph.value(graph.node(0).outputs[0]).name == "call/inner");
  CHECK(only_output(graph).name == "y");
}

TEST_CASE("attributes: given, default, absent, and through two calls") {
  onnx::ModelProto model = calling_model();
  onnx::FunctionProto& outer = add_function(model, "F", {"a"}, {"b"});
  outer.add_attribute("given");
  outer.add_attribute("absent");
  onnx::AttributeProto& fallback = *outer.add_attribute_proto();
  fallback.set_name("defaulted");
  fallback.set_type(onnx::AttributeProto::INT);
  fallback.set_i(22);
  onnx::NodeProto& call = add_call(outer, "Inner", {"a"}, {"b"});
  add_reference(call, "p", "given");
  add_reference(call, "q", "defaulted");
  add_reference(call, "r", "absent");
  onnx::FunctionProto& inner = add_function(model, "Inner", {"a"}, {"b"});
  onnx::NodeProto& record = add_node(inner, "Record", {"a"}, {"b"});
  add_reference(record, "x", "p");
  add_reference(record, "y", "q");
  add_reference(record, "z", "r");
  add_int(record, "own", 33);
  add_int(*model.mutable_graph()->mutable_node(0), "given", 11);
  import(model);
  CHECK(recorded().size() == 3);
  CHECK(recorded().at("x").i == 11);
  CHECK(recorded().at("y").i == 22);
  CHECK(recorded().at("own").i == 33);

  add_int(*model.mutable_graph()->mutable_node(0), "defaulted", 44);
  import(model);
  CHECK(recorded().at("y").i == 44);
}

TEST_CASE("a reference of another type is refused") {
  onnx::ModelProto model = calling_model();
  onnx::FunctionProto& function = add_function(model, "F", {"a"}, {"b"});
  add_reference(add_node(function, "Record", {"a"}, {"b"}), "x", "given");
  onnx::AttributeProto& attribute = *model.mutable_graph()->mutable_node(0)->add_attribute();
  attribute.set_name("given");
  attribute.set_type(onnx::AttributeProto::FLOAT);
  attribute.set_f(1);
  CHECK(contains(only_reason(model), "another type"));
}

TEST_CASE("optional inputs and unused outputs") {
  onnx::ModelProto model = calling_model();
  onnx::FunctionProto& function = add_function(model, "F", {"a", "optional"}, {"b", "extra"});
  add_node(function, "Work", {"a", "optional"}, {"b"});
  add_node(function, "Work", {"b"}, {"extra"});
  const ir::Graph graph = import(model);
  REQUIRE(graph.node_count() == 2);
  CHECK(graph.node(0).inputs.at(1) == ir::kNone);
}

TEST_CASE("overloads are told apart, and definitions must be unique") {
  onnx::ModelProto model = calling_model();
  onnx::FunctionProto& one = add_function(model, "F", {"a"}, {"b"});
  add_node(one, "Same", {"a"}, {"b"});
  onnx::FunctionProto& two = add_function(model, "F", {"a"}, {"b"});
  two.set_overload("second");
  add_node(two, "Work", {"a"}, {"b"});
  CHECK(import(model).node_count() == 0);
  model.mutable_graph()->mutable_node(0)->set_overload("second");
  CHECK(import(model).node_count() == 1);
  two.clear_overload();
  CHECK(contains(error_of([&] { parse(model); }), "defined twice"));
}

TEST_CASE("a function comes before an operator of its name, with its own operator set") {
  onnx::ModelProto model = small_model();
  onnx::FunctionProto& function = add_function(model, "Work", {"a"}, {"b"});
  function.set_domain("ai.onnx");
  function.mutable_opset_import(0)->set_version(12);
  add_node(function, "Old", {"a"}, {"c"});
  add_node(function, "Old", {"c"}, {"b"});
  CHECK(import(model).node_count() == 2);
  function.mutable_opset_import(0)->set_version(13);
  CHECK(contains(problems_of(model).at(0).reason, "versions 9 to 12"));
  function.mutable_opset_import(0)->set_version(99);
  CHECK(contains(only_reason(model), "version 99"));
}

TEST_CASE("functions that call themselves are refused") {
  onnx::ModelProto direct = calling_model();
  add_call(add_function(direct, "F", {"a"}, {"b"}), "F", {"a"}, {"b"});
  CHECK(contains(only_reason(direct), "calls itself"));
  onnx::ModelProto mutual = calling_model();
  add_call(add_function(mutual, "F", {"a"}, {"b"}), "G", {"a"}, {"b"});
  add_call(add_function(mutual, "G", {"a"}, {"b"}), "F", {"a"}, {"b"});
  CHECK(contains(only_reason(mutual), "calls itself"));
}

namespace {

/// F0 calls F1 `fan_out` times, F1 calls F2, and so on.
onnx::ModelProto nested_calls(int depth, int fan_out) {
  onnx::ModelProto model = calling_model();
  model.mutable_graph()->mutable_node(0)->set_op_type("F0");
  for (int level = 0; level < depth; ++level) {
    onnx::FunctionProto& function =
        add_function(model, "F" + std::to_string(level), {"v0"}, {"v" + std::to_string(fan_out)});
    for (int i = 0; i < fan_out; ++i) {
      const Names in{"v" + std::to_string(i)};
      const Names out{"v" + std::to_string(i + 1)};
      if (level + 1 == depth) {
        add_node(function, "Same", in, out);
      } else {
        add_call(function, "F" + std::to_string(level + 1), in, out);
      }
    }
  }
  return model;
}

}  // namespace

TEST_CASE("depth and number of inlined nodes are limited") {
  CHECK(import(nested_calls(60, 1)).node_count() == 0);
  CHECK(contains(only_reason(nested_calls(200, 1)), "nested more than 64 deep"));
  oi::ImportOptions options = test_options();
  options.max_nodes = 10'000;
  CHECK(contains(only_reason(nested_calls(40, 2), options), "more than 10000 nodes"));
}

TEST_CASE("a small file cannot multiply work through functions") {
  onnx::ModelProto model = nested_calls(20, 2);
  onnx::NodeProto& last = *model.mutable_functions(19)->mutable_node(0);
  onnx::AttributeProto& attribute = *last.add_attribute();
  attribute.set_name("list");
  attribute.set_type(onnx::AttributeProto::INTS);
  for (int i = 0; i < 10'000; ++i) attribute.add_ints(i);
  CHECK(contains(only_reason(model), "too large when its functions are inlined"));
}

TEST_CASE("problems inside a function are told once, with their path") {
  onnx::ModelProto model = calling_model();
  onnx::FunctionProto& function = add_function(model, "F", {"a"}, {"b"});
  add_node(function, "Missing", {"a"}, {"b"}, "bad");
  add_call(*model.mutable_graph(), "F", {"x"}, {"z"}, "again");
  const std::vector<oi::Problem> problems = problems_of(model);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].node == "call/bad");
  CHECK(problems[0].opset == 17);
}

TEST_CASE("a function whose operands failed is still searched") {
  onnx::ModelProto model = model_with_opset();
  add_input(*model.mutable_graph(), "x", {2});
  add_node(*model.mutable_graph(), "Missing", {"x"}, {"m"});
  add_call(*model.mutable_graph(), "F", {"m"}, {"y"});
  add_output(*model.mutable_graph(), "y");
  add_node(add_function(model, "F", {"a"}, {"b"}), "AlsoMissing", {"a"}, {"b"});
  const std::vector<oi::Problem> problems = problems_of(model);
  REQUIRE(problems.size() == 2);
  CHECK(problems[1].op_type == "AlsoMissing");
}

TEST_CASE("calls that do not fit the function") {
  onnx::ModelProto model = calling_model();
  add_node(add_function(model, "F", {}, {"b"}), "Work", {"a"}, {"b"});
  CHECK(contains(only_reason(model), "has 0 inputs and 1 outputs, but is called with 1 and 1"));
  onnx::ModelProto no_output = calling_model();
  add_node(add_function(no_output, "F", {"a"}, {"b"}), "Work", {"a"}, {"c"});
  CHECK(contains(only_reason(no_output), "does not make its output 'b'"));
  onnx::ModelProto captures = calling_model();
  add_node(add_function(captures, "F", {"a"}, {"b"}), "Work", {"x"}, {"b"});
  CHECK(contains(only_reason(captures), "reads 'x', which nothing makes"));
}

TEST_CASE("If takes the branch that its constant condition names") {
  const ir::Graph taken = import(if_model(true));
  CHECK(taken.node_count() == 1);
  CHECK(only_output(taken).name == "y");
  CHECK(taken.node(0).provenance == std::vector<std::string>{"then (Work)"});
  const ir::Graph other = import(if_model(false));
  CHECK(other.node_count() == 0);
  CHECK(only_output(other).name == "x");
}

TEST_CASE("the branch not taken may hold anything") { CHECK(problems_of(if_model(true, "Work", "Missing")).empty()); }

TEST_CASE("an If whose condition is not known needs both of its branches") {
  onnx::ModelProto model = if_model(true, "Missing", "Same");
  model.mutable_graph()->clear_initializer();
  add_input(*model.mutable_graph(), "c", {}, onnx::TensorProto::BOOL);
  const std::vector<oi::Problem> problems = problems_of(model);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].op_type == "Missing");
  oi::ImportOptions options = test_options();
  options.values["c"] = {{DType::Bool, {}}, ir::Bytes::copy("\0", 1)};
  CHECK(problems_of(model, options).empty());
}

TEST_CASE("If: conditions and branches that do not fit") {
  onnx::ModelProto two = if_model(true);
  two.mutable_graph()->mutable_initializer(0)->add_dims(2);
  two.mutable_graph()->mutable_initializer(0)->add_int32_data(1);
  CHECK(contains(only_reason(two), "bool[2], not one bool"));
  onnx::ModelProto one_branch = if_model(true);
  one_branch.mutable_graph()->mutable_node(0)->mutable_attribute()->RemoveLast();
  CHECK(contains(only_reason(one_branch), "two branches"));
  onnx::ModelProto outputs = if_model(true);
  outputs.mutable_graph()->mutable_node(0)->add_output("more");
  CHECK(contains(only_reason(outputs), "as many outputs"));
  onnx::ModelProto unmade = if_model(true);
  unmade.mutable_graph()->mutable_node(0)->mutable_attribute(0)->mutable_g()->mutable_output(0)->set_name("nobody");
  CHECK(contains(only_reason(unmade), "does not make its output 'nobody'"));
}

TEST_CASE("a branch has its own constants, and sees what is sorted behind the If") {
  onnx::ModelProto model = if_model(true);
  onnx::GraphProto& branch = *model.mutable_graph()->mutable_node(0)->mutable_attribute(0)->mutable_g();
  *branch.add_initializer() = float_tensor("w", {2}, {1, 2});
  *branch.mutable_node(0)->mutable_input(0) = "late";
  branch.mutable_node(0)->add_input("w");
  add_node(*model.mutable_graph(), "Work", {"x"}, {"late"});
  const ir::Graph graph = import(model);
  REQUIRE(graph.node_count() == 2);
  CHECK(graph.value(graph.node(1).inputs[1]).name == "w");
}

TEST_CASE("a loop's body is told what it lacks, and a loop that it never ends") {
  onnx::ModelProto model = model_with_opset();
  onnx::GraphProto& graph = *model.mutable_graph();
  add_input(graph, "x", {2});
  onnx::NodeProto& node = add_node(graph, "Loop", {"", "", "x"}, {"y"}, "loop");
  onnx::GraphProto& body = add_branch(node, "body");
  for (const char* name : {"i", "c", "v"}) body.add_input()->set_name(name);
  add_node(body, "Missing", {"v"}, {"w"});
  add_output(body, "c");
  add_output(body, "w");
  add_output(graph, "y");
  const std::vector<oi::Problem> problems = problems_of(model);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].op_type == "Missing");
  body.mutable_node(0)->set_op_type("Work");
  CHECK(contains(only_reason(model), "always true"));
}
