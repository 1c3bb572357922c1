// SPDX-License-Identifier: Apache-2.0
// The walk over the graph: names, order, and all problems of a model at once.
#include <doctest/doctest.h>

#include <chrono>
#include <set>

#include "onnx_models.h"

using namespace onnx_test;

TEST_CASE("names and provenance reach the graph") {
  onnx::ModelProto model = small_model();
  add_node(*model.mutable_graph(), "Work", {"y"}, {"unnamed_out"});
  add_node(*model.mutable_graph(), "Same", {"unnamed_out"}, {"shared"});
  add_output(*model.mutable_graph(), "shared");
  const ir::Graph graph = import(model);
  CHECK(graph.name == "g");
  CHECK(graph.node(0).provenance == std::vector<std::string>{"work (Work)"});
  CHECK(graph.node(1).provenance == std::vector<std::string>{"unnamed_out (Work)"});
  CHECK(graph.outputs().at(1).name == "shared");
  // The value belongs to the node that made it.
  CHECK(graph.value(graph.outputs().at(1).value).name == "unnamed_out");
}

TEST_CASE("hostile names are made printable") {
  onnx::ModelProto model = small_model();
  model.mutable_graph()->mutable_node(0)->set_name("a\nb\x1b[31m\xff");
  const ir::Graph graph = import(model);
  CHECK(graph.node(0).provenance == std::vector<std::string>{"a\\x0ab\\x1b[31m\\xff (Work)"});
  model.mutable_graph()->mutable_node(0)->set_name(std::string(100'000, 'n'));
  CHECK(import(model).node(0).provenance[0].size() < 600);
}

TEST_CASE("all problems of a model are told at once") {
  onnx::ModelProto model = model_with_opset();
  onnx::GraphProto& graph = *model.mutable_graph();
  add_input(graph, "x", {2});
  add_node(graph, "Missing", {"x"}, {"a"}, "n1");
  add_node(graph, "Fail", {"x"}, {"b"}, "n2");
  add_node(graph, "Old", {"x"}, {"c"}, "n3");
  add_node(graph, "Work", {"nowhere"}, {"d"}, "n4");
  add_node(graph, "Special", {"x"}, {"e"}, "n5").set_domain("com.vendor");
  add_node(graph, "Work", {"a"}, {"f"}, "behind a failure");
  add_node(graph, "Missing2", {"f"}, {"g"}, "n6");
  add_node(graph, "Work", {}, {"h"}, "n7");
  add_output(graph, "g");
  add_output(graph, "never");
  auto* opset = model.add_opset_import();
  opset->set_domain("com.vendor");
  opset->set_version(1);

  std::map<std::string, oi::Problem> by_node;
  for (const oi::Problem& problem : problems_of(model)) by_node[problem.node] = problem;
  CHECK(by_node.size() == 8);
  CHECK(by_node["n1"].reason == "the operator is not supported");
  CHECK(by_node["n1"].opset == 17);
  CHECK(by_node["n2"].reason == "made to fail");
  CHECK(contains(by_node["n3"].reason, "versions 9 to 12"));
  CHECK(contains(by_node["n4"].reason, "reads 'nowhere'"));
  CHECK(contains(by_node["n5"].reason, "no operator of domain 'com.vendor'"));
  CHECK(by_node["n5"].domain == "com.vendor");
  CHECK(by_node["n6"].op_type == "Missing2");
  CHECK(contains(by_node["n7"].reason, "input 0 is missing"));
  CHECK(contains(by_node["output 'never'"].reason, "nothing in the graph makes it"));

  const std::string text = error_of([&] { import(model); });
  CHECK(contains(text, "8 problems:"));
  CHECK(contains(text, "n1 (Missing, opset 17): the operator is not supported"));
  CHECK(contains(text, "n5 (com.vendor.Special, opset 1)"));
  CHECK_FALSE(contains(text, "behind a failure"));
}

TEST_CASE("a long list of problems is cut") {
  onnx::ModelProto model = small_model();
  for (int i = 0; i < 120; ++i) add_node(*model.mutable_graph(), "Missing", {"x"}, {"v" + std::to_string(i)});
  const std::string text = error_of([&] { import(model); });
  CHECK(contains(text, "120 problems:"));
  CHECK(contains(text, "and 70 more"));
  CHECK(problems_of(model).size() == 120);
  for (int i = 0; i < 30'000; ++i) add_node(*model.mutable_graph(), "Missing", {"x"}, {"w" + std::to_string(i)});
  CHECK(problems_of(model).size() == 10'000);
}

TEST_CASE("domains: two spellings of ONNX's own, and those not imported") {
  onnx::ModelProto model = small_model();
  model.mutable_graph()->mutable_node(0)->set_domain("ai.onnx");
  CHECK(problems_of(model).empty());
  model.mutable_opset_import(0)->set_domain("ai.onnx");
  CHECK(problems_of(model).empty());
  model.mutable_graph()->mutable_node(0)->set_domain("custom");
  CHECK(contains(problems_of(model).at(0).reason, "imports no version of domain 'custom'"));
  auto* opset = model.add_opset_import();
  opset->set_domain("custom");
  opset->set_version(3);
  CHECK(problems_of(model).empty());
}

TEST_CASE("nodes in another order are sorted, cycles are told") {
  onnx::ModelProto model = model_with_opset();
  onnx::GraphProto& graph = *model.mutable_graph();
  add_input(graph, "x", {2});
  add_node(graph, "Work", {"b"}, {"c"}, "third");
  add_node(graph, "Work", {"a"}, {"b"}, "second");
  add_node(graph, "Work", {"x"}, {"a"}, "first");
  add_output(graph, "c");
  const ir::Graph sorted = import(model);
  CHECK(sorted.node(0).provenance[0] == "first (Work)");
  CHECK(sorted.node(2).provenance[0] == "third (Work)");

  *graph.mutable_node(2)->mutable_input(0) = "c";
  const std::vector<oi::Problem> problems = problems_of(model);
  REQUIRE(problems.size() == 1);
  CHECK(contains(problems[0].reason, "nodes form a cycle: "));
  for (const char* name : {"first", "second", "third"}) CHECK(contains(problems[0].reason, name));

  onnx::ModelProto self = small_model();
  *self.mutable_graph()->mutable_node(0)->mutable_input(0) = "y";
  CHECK(contains(problems_of(self).at(0).reason, "cycle: work -> work"));
}

TEST_CASE("names are defined once") {
  onnx::ModelProto outputs = small_model();
  add_node(*outputs.mutable_graph(), "Work", {"x"}, {"y"}, "again");
  CHECK(contains(problems_of(outputs).at(0).reason, "'y' is defined twice"));
  onnx::ModelProto shadow = small_model();
  add_node(*shadow.mutable_graph(), "Work", {"x"}, {"x"}, "shadow");
  CHECK_FALSE(problems_of(shadow).empty());
  onnx::ModelProto inputs = small_model();
  add_input(*inputs.mutable_graph(), "x", {2, 3});
  CHECK(contains(problems_of(inputs).at(0).reason, "'x' is defined twice"));
  onnx::ModelProto initializers = small_model();
  for (int i = 0; i < 2; ++i) *initializers.mutable_graph()->add_initializer() = float_tensor("w", {1}, {1});
  CHECK(contains(problems_of(initializers).at(0).reason, "'w' is defined twice"));
  onnx::ModelProto declared = small_model();
  add_output(*declared.mutable_graph(), "y");
  CHECK(contains(problems_of(declared).at(0).reason, "declared twice"));
}

TEST_CASE("graphs without outputs, and inputs without a name") {
  onnx::ModelProto silent = small_model();
  silent.mutable_graph()->clear_output();
  CHECK(contains(problems_of(silent).at(0).reason, "no outputs"));
  onnx::ModelProto nameless = small_model();
  add_input(*nameless.mutable_graph(), "", {1});
  CHECK(contains(problems_of(nameless).at(0).reason, "empty"));
  onnx::ModelProto binary = small_model();
  add_input(*binary.mutable_graph(), "\xc3\x28", {1});
  CHECK(contains(problems_of(binary).at(0).reason, "UTF-8"));
}

TEST_CASE("inputs and constants may be outputs") {
  onnx::ModelProto model = small_model();
  add_output(*model.mutable_graph(), "x");
  *model.mutable_graph()->add_initializer() = float_tensor("w", {1}, {1});
  add_output(*model.mutable_graph(), "w");
  const ir::Graph graph = import(model);
  REQUIRE(graph.outputs().size() == 3);
  CHECK(graph.outputs()[1].value == graph.inputs()[0]);
  CHECK(graph.value(graph.outputs()[2].value).is_constant());
}

TEST_CASE("constants that nobody reads stay out of the graph") {
  onnx::ModelProto model = small_model();
  *model.mutable_graph()->add_initializer() = float_tensor("w", {1}, {1});
  CHECK(import(model).value_count() == 2);
}

TEST_CASE("attributes of every kind, and those that are wrong") {
  onnx::ModelProto model = model_with_opset();
  add_input(*model.mutable_graph(), "x", {2});
  onnx::NodeProto& node = add_node(*model.mutable_graph(), "Record", {"x"}, {"y"}, "record");
  add_output(*model.mutable_graph(), "y");
  const auto add = [&node](const std::string& name, onnx::AttributeProto::AttributeType type) -> onnx::AttributeProto& {
    onnx::AttributeProto& attribute = *node.add_attribute();
    attribute.set_name(name);
    attribute.set_type(type);
    return attribute;
  };
  add("i", onnx::AttributeProto::INT).set_i(-5);
  add("f", onnx::AttributeProto::FLOAT).set_f(0.5f);
  add("s", onnx::AttributeProto::STRING).set_s("text");
  add("is", onnx::AttributeProto::INTS).add_ints(7);
  add("fs", onnx::AttributeProto::FLOATS).add_floats(1.5f);
  add("ss", onnx::AttributeProto::STRINGS).add_strings("a");
  *add("t", onnx::AttributeProto::TENSOR).mutable_t() = float_tensor("", {2}, {3, 4});
  import(model);
  CHECK(recorded().at("i").i == -5);
  CHECK(recorded().at("f").f == 0.5f);
  CHECK(recorded().at("s").s == "text");
  CHECK(recorded().at("is").ints == std::vector<std::int64_t>{7});
  CHECK(recorded().at("fs").floats == std::vector<float>{1.5f});
  CHECK(recorded().at("ss").strings == std::vector<std::string>{"a"});
  CHECK(recorded().at("t").tensor.as<float>()[1] == 4);

  const auto reason_with = [&](const std::string& name, onnx::AttributeProto::AttributeType type) {
    add(name, type);
    const std::vector<oi::Problem> problems = problems_of(model);
    node.mutable_attribute()->RemoveLast();
    return problems.size() == 1 ? problems[0].reason : "";
  };
  CHECK(contains(reason_with("i", onnx::AttributeProto::INT), "'i' is given twice"));
  CHECK(contains(reason_with("u", onnx::AttributeProto::UNDEFINED), "no type"));
  CHECK(contains(reason_with("t2", onnx::AttributeProto::TENSOR), "holds no tensor"));
  CHECK(contains(reason_with("tp", onnx::AttributeProto::TYPE_PROTO), "not supported"));
}

TEST_CASE("a hundred thousand nodes, sorted or backwards, take time in proportion") {
  for (const bool backwards : {false, true}) {
    onnx::ModelProto model = model_with_opset();
    onnx::GraphProto& graph = *model.mutable_graph();
    constexpr int kNodes = 100'000;
    add_input(graph, "v0", {2});
    for (int i = 0; i < kNodes; ++i) {
      const int at = backwards ? kNodes - 1 - i : i;
      add_node(graph, "Work", {"v" + std::to_string(at)}, {"v" + std::to_string(at + 1)});
    }
    add_output(graph, "v" + std::to_string(kNodes));
    const auto start = std::chrono::steady_clock::now();
    CHECK(import(model).node_count() == kNodes);
    // A quadratic walk would take minutes.
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));
  }
}
