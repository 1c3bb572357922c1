// SPDX-License-Identifier: Apache-2.0
// Shapes and values of graph inputs: symbols, defaults, and what the user gives.
#include <doctest/doctest.h>

#include "onnx_models.h"

using namespace onnx_test;

namespace {

/// Each named input goes through one node to an output of its own.
onnx::ModelProto model_with_inputs(const std::vector<std::pair<std::string, std::vector<Dim>>>& inputs) {
  onnx::ModelProto model = model_with_opset();
  for (const auto& [name, dims] : inputs) {
    add_input(*model.mutable_graph(), name, dims);
    add_node(*model.mutable_graph(), "Work", {name}, {name + "_out"});
    add_output(*model.mutable_graph(), name + "_out");
  }
  return model;
}

ir::Dims input_dims(const ir::Graph& graph, std::size_t i) { return graph.value(graph.inputs().at(i)).type.dims; }

oi::ConstantTensor int64_value(const ir::Dims& dims, const std::vector<std::int64_t>& values) {
  return {{DType::I64, dims}, ir::Bytes::copy(values.data(), values.size() * sizeof(std::int64_t))};
}

}  // namespace

TEST_CASE("declared extents need nothing") {
  std::vector<std::string> notes;
  const ir::Graph graph = import(model_with_inputs({{"x", {1, 3, 8, 8}}, {"scalar", {}}}), test_options(), &notes);
  CHECK(input_dims(graph, 0) == ir::Dims{1, 3, 8, 8});
  CHECK(input_dims(graph, 1).empty());
  CHECK(notes.empty());
}

TEST_CASE("--shape gives extents, and binds the symbol everywhere") {
  oi::ImportOptions options = test_options();
  options.shapes["x"] = {4, 3, 32};
  const ir::Graph graph = import(model_with_inputs({{"x", {"N", 3, "T"}}, {"mask", {"N", "T"}}}), options);
  CHECK(input_dims(graph, 0) == ir::Dims{4, 3, 32});
  CHECK(input_dims(graph, 1) == ir::Dims{4, 32});
}

TEST_CASE("--dim gives a symbol its extent") {
  oi::ImportOptions options = test_options();
  options.dims["T"] = 16;
  const ir::Graph graph = import(model_with_inputs({{"x", {2, "T"}}, {"y", {"T", 5}}}), options);
  CHECK(input_dims(graph, 0) == ir::Dims{2, 16});
  CHECK(input_dims(graph, 1) == ir::Dims{16, 5});
}

TEST_CASE("an unknown first dimension is a batch of 1, and says so") {
  std::vector<std::string> notes;
  const ir::Graph graph =
      import(model_with_inputs({{"x", {"batch", 3}}, {"y", {"", 4}}, {"z", {7, "batch"}}}), test_options(), &notes);
  CHECK(input_dims(graph, 0) == ir::Dims{1, 3});
  CHECK(input_dims(graph, 1) == ir::Dims{1, 4});
  CHECK(input_dims(graph, 2) == ir::Dims{7, 1});
  REQUIRE(notes.size() == 2);
  CHECK(contains(notes[0], "'x' f32[batch,3]"));
}

TEST_CASE("other unknown dimensions are told with the option to add, all at once") {
  const std::vector<oi::Problem> problems =
      problems_of(model_with_inputs({{"x", {"N", 3, "height", "width"}}, {"y", {"N", ""}}, {"z", {2}}}));
  REQUIRE(problems.size() == 2);
  CHECK(problems[0].node == "input 'x'");
  CHECK(contains(problems[0].reason, "f32[N,3,height,width]"));
  CHECK(contains(problems[0].reason, "--shape x=1x3x<height>x<width>"));
  CHECK(contains(problems[1].reason, "--shape y=1x<?>"));
}

TEST_CASE("unknown shapes do not hide operators that are missing") {
  onnx::ModelProto model = model_with_inputs({{"x", {"N", "T"}}});
  add_node(*model.mutable_graph(), "Missing", {"x_out"}, {"m"});
  const std::vector<oi::Problem> problems = problems_of(model);
  REQUIRE(problems.size() == 2);
  CHECK(problems[1].op_type == "Missing");
}

TEST_CASE("an input of unknown rank needs --shape") {
  onnx::ModelProto model = model_with_inputs({{"x", {}}});
  model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->clear_shape();
  REQUIRE(problems_of(model).size() == 1);
  oi::ImportOptions options = test_options();
  options.shapes["x"] = {2, 2};
  const ir::Graph graph = import(model, options);
  CHECK(input_dims(graph, 0) == ir::Dims{2, 2});
}

TEST_CASE("shapes that do not fit are refused") {
  const onnx::ModelProto model = model_with_inputs({{"x", {"N", 3}}, {"y", {"N", 4}}});
  const auto reason_for = [&model](const std::map<std::string, ir::Dims>& shapes) {
    oi::ImportOptions options = test_options();
    options.shapes = shapes;
    const std::vector<oi::Problem> problems = problems_of(model, options);
    return problems.size() == 1 ? problems[0].node + ": " + problems[0].reason : "";
  };
  CHECK(contains(reason_for({{"z", {1}}}), "no such input; its inputs are: x, y"));
  CHECK(contains(reason_for({{"x", {1}}}), "--shape x: [1] does not fit the input's type f32[N,3]"));
  CHECK(contains(reason_for({{"x", {1, 4}}}), "does not fit"));
  CHECK(contains(reason_for({{"x", {-1, 3}}}), "does not fit"));
  CHECK(contains(reason_for({{"x", {2, 3}}, {"y", {5, 4}}}), "dimension 'N' would be 5, but is 2 by --shape x"));
  oi::ImportOptions options = test_options();
  options.dims["M"] = 3;
  REQUIRE(problems_of(model, options).size() == 1);
  CHECK(contains(problems_of(model, options)[0].reason, "the symbolic dimensions are: N"));
  options.dims = {{"N", -2}};
  CHECK(problems_of(model, options).size() == 1);
  options.dims = {{"N", std::int64_t{1} << 60}};
  REQUIRE(problems_of(model, options).size() == 2);
  CHECK(contains(problems_of(model, options)[0].reason, "too many elements"));
}

TEST_CASE("more than eight dimensions are refused") {
  CHECK(contains(problems_of(model_with_inputs({{"x", std::vector<Dim>(9, Dim(1))}})).at(0).reason, "more than 8"));
  CHECK(contains(problems_of(model_with_inputs({{"x", std::vector<Dim>(100'000, Dim("N"))}})).at(0).reason,
                 "more than 8"));
}

TEST_CASE("negative declared extents are unknown ones") {
  CHECK(contains(problems_of(model_with_inputs({{"x", {1, -5}}})).at(0).reason, "not known"));
}

TEST_CASE("--value turns an input into a constant") {
  onnx::ModelProto model = model_with_inputs({{"x", {2}}});
  add_input(*model.mutable_graph(), "shape", {"R"}, onnx::TensorProto::INT64);
  add_node(*model.mutable_graph(), "Same", {"shape"}, {"s"});
  add_output(*model.mutable_graph(), "s");
  oi::ImportOptions options = test_options();
  options.values["shape"] = int64_value({2}, {5, 6});
  const ir::Graph graph = import(model, options);
  REQUIRE(graph.inputs().size() == 1);
  const ir::Value& value = graph.value(graph.outputs().at(1).value);
  REQUIRE(value.is_constant());
  CHECK(value.constant.as<std::int64_t>()[1] == 6);

  options.values["shape"] = int64_value({2, 1}, {5, 6});
  CHECK(problems_of(model, options).size() == 1);
  options.values["shape"] = {{DType::I32, {2}}, ir::Bytes::copy("12345678", 8)};
  CHECK(contains(problems_of(model, options).at(0).reason, "the value is i32 but the input is i64[R]"));
  options.values["shape"] = int64_value({3}, {5, 6});
  CHECK(contains(problems_of(model, options).at(0).reason, "16 bytes where i64[3] needs 24"));
}

TEST_CASE("inputs with an initializer are constants unless a shape is given") {
  onnx::ModelProto model = model_with_inputs({{"x", {2}}, {"w", {"K"}}});
  *model.mutable_graph()->add_initializer() = float_tensor("w", {3}, {1, 2, 3});
  CHECK(import(model).inputs().size() == 1);
  oi::ImportOptions options = test_options();
  options.shapes["w"] = {7};
  const ir::Graph graph = import(model, options);
  REQUIRE(graph.inputs().size() == 2);
  CHECK(input_dims(graph, 1) == ir::Dims{7});
}

TEST_CASE("inputs that are no tensors are refused") {
  onnx::ModelProto model = model_with_inputs({{"x", {2}}});
  model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_sequence_type();
  CHECK(contains(problems_of(model).at(0).reason, "sequence"));
  onnx::ModelProto text = model_with_inputs({{"x", {2}}});
  text.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(
      onnx::TensorProto::STRING);
  CHECK(contains(problems_of(text).at(0).reason, "STRING"));
}

TEST_CASE("declared types that are not met are notes") {
  onnx::ModelProto model = small_model();
  set_type(*model.mutable_graph()->mutable_output(0), "y", {2, 4});
  set_type(*model.mutable_graph()->add_value_info(), "y", {2, 3, 1});
  std::vector<std::string> notes;
  import(model, test_options(), &notes);
  REQUIRE(notes.size() == 2);
  CHECK(contains(notes[0], "output 'y' is f32[2,3], but the model declares f32[2,4]"));
  onnx::ModelProto symbolic = small_model();
  set_type(*symbolic.mutable_graph()->mutable_output(0), "y", {"N", 3});
  notes.clear();
  import(symbolic, test_options(), &notes);
  CHECK(notes.empty());
}
