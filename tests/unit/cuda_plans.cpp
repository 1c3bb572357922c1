// SPDX-License-Identifier: Apache-2.0
// Plans for GPUs from the builder: small trained networks are built, loaded by the runtime on the fake driver, executed in
// the host emulation, and give what plans for the CPU give.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <limits>

#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/copy.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/matmul.h"
#include "edgert/cpu/ops/softmax.h"
#include "ops/compose.h"
#include "ops/definitions.h"
#include "plan_runs.h"

namespace {

using namespace edgert;
using namespace edgert::test;

onnx_import::Model model_of(const std::string& name) {
  return onnx_import::parse_file((std::filesystem::path(__FILE__).parent_path() / "../../examples/models" / name).string());
}

TEST_CASE("a residual network gives on a GPU what it gives on the CPU, within the rounding of f16") {
  const onnx_import::Model model = model_of("digits_resnet.onnx");
  const std::vector<float> x = input_of(64);
  const std::vector<float> expected = run_on_cpu(plan::build(model).bytes, x);
  plan::BuildOptions options = options_for(90);
  options.golden = [&](const PlanView&) { return std::vector<plan::BuildOptions::GoldenInputs>{{0, one_input(x)}}; };
  const plan::BuildResult built = plan::build(model, options);
  CHECK(built.profiles[0].cuda.kernels == built.profiles[0].steps);
  REQUIRE(rules::count(PlanView::load(plan::Bytes64(built.bytes).span())->table().golden()) == 1);
  const std::vector<float> once = run_on_fake_gpu(built.bytes, 90, x);
  CHECK(sqnr_db(once, expected) > 50);
  CHECK(once == run_on_fake_gpu(built.bytes, 90, x, 3));  // counters and workspaces are left as they were found
}

TEST_CASE("a network of depthwise convolutions, for a GPU without clusters") {
  const onnx_import::Model model = model_of("digits_mobilenet.onnx");
  const std::vector<float> x = input_of(64);
  const std::vector<float> expected = run_on_cpu(plan::build(model).bytes, x);
  CHECK(sqnr_db(run_on_fake_gpu(plan::build(model, options_for(87)).bytes, 87, x), expected) > 40);
}

TEST_CASE("equal builds give equal plans, and every step says what it computes in") {
  const onnx_import::Model model = model_of("digits_resnet.onnx");
  const std::vector<std::byte> bytes = plan::build(model, options_for(90)).bytes;
  CHECK(bytes == plan::build(model, options_for(90)).bytes);
  const plan::Bytes64 aligned(bytes);
  const auto view = PlanView::load(aligned.span());
  REQUIRE(view.ok());
  CHECK(view->table().target()->str() == "sm_90");
  const auto* steps = view->profile(0).lists()->Get(0)->steps();
  bool first = true;
  for (const schema::Step* step : *steps) {
    REQUIRE(step->launch() != nullptr);
    CHECK(step->launch()->programmatic() == !first);  // the first has nothing to overlap with
    const auto compute = static_cast<DType>(step->compute());
    CHECK((compute == DType::F16 || compute == DType::F32));
    CHECK(rules::count(step->outputs()) == 1);
    first = false;
  }
  // Inputs and outputs stay as the model declares them.
  CHECK(view->input(0, 0).dtype == DType::F32);
  CHECK(view->output(0, 0).dtype == DType::F32);
}

/// x [8, 64] times a constant matrix [64, 48].
ir::Graph product_graph() {
  ir::Graph graph;
  const ir::ValueId x = graph.add_input("x", {DType::F32, {8, 64}});
  std::vector<float> weights = input_of(64 * 48);
  for (float& w : weights) w -= 0.5f;
  const ir::ValueId w = graph.add_constant("w", {DType::F32, {64, 48}}, ir::Bytes::copy(weights.data(), weights.size() * sizeof(float)));
  const ir::NodeId node = graph.add_node(ops::kMatMul, {x, w, ir::kNone, ir::kNone}, ir::AttributeBlob::of(cpu::MatMulAttributes{}), {"product"});
  graph.add_output("y", graph.node(node).outputs[0]);
  return graph;
}

TEST_CASE("inputs and outputs are converted where only their type keeps a fast kernel away") {
  const auto build = [](const plan::BuildOptions& options) {
    std::vector<ir::Graph> graphs;
    graphs.push_back(product_graph());
    return plan::build(std::move(graphs), options);
  };
  const std::vector<float> x = input_of(8 * 64);
  const std::vector<float> expected = run_on_cpu(build({}).bytes, x);
  const plan::BuildResult narrow = build(options_for(90));
  CHECK(narrow.profiles[0].steps == 3);  // to f16, the product, back
  CHECK(sqnr_db(run_on_fake_gpu(narrow.bytes, 90, x), expected) > 60);
  const plan::BuildResult exact = build(options_for(90, DType::F32));
  CHECK(exact.profiles[0].steps == 1);
  CHECK(sqnr_db(run_on_fake_gpu(exact.bytes, 90, x), expected) > 120);
}

/// What a graph gives on the CPU and, in f16, on the fake GPU.
void check_same_bits(const std::function<ir::Graph()>& make, const std::vector<float>& x) {
  const auto build = [&](const plan::BuildOptions& options) {
    std::vector<ir::Graph> graphs;
    graphs.push_back(make());
    return plan::build(std::move(graphs), options).bytes;
  };
  const std::vector<float> expected = run_on_cpu(build({}), x);
  const std::vector<float> actual = run_on_fake_gpu(build(options_for(90)), 90, x);
  REQUIRE(actual.size() == expected.size());
  CHECK(std::memcmp(actual.data(), expected.data(), expected.size() * sizeof(float)) == 0);
}

std::vector<ir::TensorType> as_i32(const ir::InferContext& context) { return {{DType::I32, context.type(0).dims}}; }
std::vector<ir::TensorType> as_f32(const ir::InferContext& context) { return {{DType::F32, context.type(0).dims}}; }

TEST_CASE("a bit cast moves bits, and what it reads is not narrowed") {
  // In a plan it is a Copy between types.
  ir::OperatorDef cast[2] = {ops::kCopy, ops::kCopy};
  cast[0].infer = &as_i32;
  cast[1].infer = &as_f32;
  const auto make = [&] {
    ir::Graph graph;
    ir::ValueId value = graph.add_input("x", {DType::F32, {5}});
  // There and back, with a copy before, between and behind, so that no operand is an input or output of the graph.
    const ir::AttributeBlob none = ir::AttributeBlob::of(cpu::NoAttributes{});
    for (const ir::OperatorDef& to : cast) {
      value = graph.node(graph.add_node(ops::kCopy, {value}, none, {"copy"})).outputs[0];
      value = graph.node(graph.add_node(to, {value}, none, {"cast"})).outputs[0];
    }
    graph.add_output("y", value);
    return graph;
  };
  check_same_bits(make, {0.1f, -3.75f, 1e20f, 0.0f, 7.0f});
}

TEST_CASE("a softmax of hidden elements only is zero") {
  const auto make = [] {
    ir::Graph graph;
    const ir::ValueId x = graph.add_input("x", {DType::F32, {2, 4}});
    cpu::SoftmaxAttributes attributes{};
    attributes.axis = 1;
    attributes.zero_hidden = 1;
    const ir::NodeId node = graph.add_node(ops::kSoftmax, {x}, ir::AttributeBlob::of(attributes), {"softmax"});
    graph.add_output("y", graph.node(node).outputs[0]);
    return graph;
  };
  const float hidden = -std::numeric_limits<float>::infinity();
  check_same_bits(make, {hidden, hidden, hidden, hidden, hidden, 2.0f, hidden, hidden});
}

std::vector<ir::TensorType> same_type(const ir::InferContext& context) { return {context.type(0)}; }

TEST_CASE("all nodes without a kernel are named at once") {
  ir::OperatorDef unknown;
  unknown.name = "Unheard";
  unknown.attribute_bytes = sizeof(cpu::NoAttributes);
  unknown.infer = &same_type;
  cpu::OperatorEntry kernel = *ops::kCopy.kernel;
  kernel.id = 60000;
  unknown.kernel = &kernel;
  ir::Graph graph;
  ir::ValueId value = graph.add_input("x", {DType::F32, {4}});
  for (const char* name : {"first", "second"}) {
    const ir::NodeId node = graph.add_node(unknown, {value}, ir::AttributeBlob::of(cpu::NoAttributes{}), {name});
    value = graph.node(node).outputs[0];
  }
  graph.add_output("y", value);
  std::string message;
  try {
    families::choose_kernels(graph, codegen::target_named("sm_87").value(), 1);
  } catch (const ir::BuildError& error) {
    message = error.what();
  }
  CAPTURE(message);
  CHECK(message.find("2 nodes have no GPU kernel") == 0);
  CHECK(message.find("Unheard of first") != std::string::npos);
  CHECK(message.find("Unheard of second") != std::string::npos);
}

TEST_CASE("a fused kernel that does not take the nodes it is for says why") {
  ir::Graph graph;
  ops::OnnxNode node(graph, "test", "Test", "", 17);
  const ir::ValueId x = graph.add_input("x", {DType::F32, {1, 16, 8, 8}});
  const auto weights = [&](const ir::Dims& dims) {
    return ops::float_constant(node, dims, std::vector<float>(static_cast<std::size_t>(ir::element_count(dims)), 0.5f));
  };
  cpu::ConvAttributes widening{};
  cpu::DepthwiseConvAttributes depthwise{};
  for (int i = 0; i < 2; ++i) {
    widening.kernel[i] = widening.stride[i] = widening.dilation[i] = depthwise.stride[i] = depthwise.dilation[i] = 1;
    depthwise.kernel[i] = 3;
    depthwise.pad_begin[i] = depthwise.pad_end[i] = 1;
  }
  widening.groups = 1;
  const ir::ValueId wide = graph.emit(ops::kConv, {x, weights({32, 16, 1, 1})}, ir::AttributeBlob::of(widening), {"widen"});
  graph.add_output("y", graph.emit(ops::kDepthwiseConv, {wide, weights({32, 1, 3, 3})}, ir::AttributeBlob::of(depthwise), {"window"}));
  for (const ir::ValueId id : {x, wide, graph.outputs()[0].value}) graph.value(id).order = {0, 2, 3, 1};
  std::string reasons;
  for (const families::Choice& choice : families::choose_kernels(graph, codegen::target_named("sm_87").value(), 1)) {
    for (const families::Choice::Refused& refused : choice.refused) reasons += std::string(refused.family) + ": " + refused.reason;
  }
  CHECK(reasons == "inverted residual: its tensors are not pixels of f16 in multiples of eight channels");
}

TEST_CASE("small networks compile for every target") {
  try {
    (void)codegen::Nvrtc::open();
  } catch (const codegen::CompileError& error) {
    const char* required = std::getenv("EDGERT_REQUIRE_NVRTC");
    if (required != nullptr && std::string(required) == "1") FAIL(error.what());
    MESSAGE("SKIPPED: " << error.what());
    return;
  }
  for (const std::uint32_t arch : {87u, 90u, 110u}) {
    const auto& known = codegen::Nvrtc::open().architectures();
    if (std::find(known.begin(), known.end(), arch) == known.end()) continue;
    for (const char* name : {"digits_resnet.onnx", "digits_mobilenet.onnx"}) {
      plan::BuildOptions options = options_for(arch);
      options.cuda->device = codegen::target_named("sm_" + std::to_string(arch)).value();
      options.cuda->compiler.substitute = nullptr;
      options.cuda->compiler.threads = 2;
      const plan::Bytes64 bytes(plan::build(model_of(name), options).bytes);  // which checks every record and cubin
      const auto view = PlanView::load(bytes.span());
      REQUIRE(view.ok());
      CHECK(view->table().modules()->Get(0)->arch() == arch);
    }
  }
}

TEST_CASE("targets are found by name") {
  CHECK(codegen::target_named("sm_87")->multiprocessors == 16);
  CHECK(codegen::target_named("sm_110")->multiprocessors == 20);
  CHECK_FALSE(codegen::target_named("sm_72").has_value());
  CHECK_FALSE(codegen::target_named("cuda").has_value());
}

}  // namespace
