// SPDX-License-Identifier: Apache-2.0
// Operators whose results have an extent that only a run knows, and those that take such results: ONNX graphs built for a
// GPU and executed in the host emulation give, element for element, what plans for the CPU give.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "../fake_cuda/plan_emulation.h"
#include "codegen/target.h"
#include "edgert/cuda/session.h"
#include "onnx_models.h"
#include "plan/aligned_bytes.h"
#include "plan/build.h"
#include "support/test_session.h"

namespace {

using namespace edgert;
using fake_cuda::FakeDriver;
using fake_cuda::PlanEmulation;
using onnx_test::add_input;
using onnx_test::add_node;
using onnx_test::add_output;

struct Output {
  std::vector<std::int64_t> dims;
  std::vector<double> elements;
};

double element(const TensorView& view, std::int64_t offset) {
  switch (view.dtype) {
    case DType::F32: return static_cast<double>(view.as<float>()[offset]);
    case DType::I64: return static_cast<double>(view.as<std::int64_t>()[offset]);
    case DType::Bool: return static_cast<double>(view.as<std::uint8_t>()[offset]);
    default: FAIL("a type that the test does not read");
  }
  return 0;
}

Output read(const TensorView& view) {
  Output out;
  out.dims.assign(view.dims, view.dims + view.rank);
  for (std::int64_t i = 0; !is_empty(view) && i < view.elements(); ++i) {
    std::int64_t offset = 0, rest = i;
    for (std::uint32_t d = view.rank; d-- > 0; rest /= view.dims[d]) offset += rest % view.dims[d] * view.strides[d];
    out.elements.push_back(element(view, offset));
  }
  return out;
}

Span<std::byte> room(std::vector<std::max_align_t>& memory, std::uint64_t size) {
  memory.resize((size + 128) / sizeof(std::max_align_t) + 1);
  return {reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uintptr_t>(memory.data()), 64)), static_cast<std::size_t>(size)};
}

/// The bytes of the inputs, in their order.
using Inputs = std::vector<std::vector<std::byte>>;
template <class T>
std::vector<std::byte> bytes_of_values(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<Output> run_on_cpu(const std::vector<std::byte>& bytes, const Inputs& inputs) {
  const plan::Bytes64 aligned(bytes);
  const auto view = PlanView::load(aligned.span());
  REQUIRE(view.ok());
  const auto needed = test::TestSession::memory_bytes(*view, {});
  REQUIRE(needed.ok());
  std::vector<std::max_align_t> memory;
  test::TestSession session;
  REQUIRE(session.prepare(*view, room(memory, *needed), {}).ok());
  for (std::uint32_t i = 0; i < inputs.size(); ++i) std::memcpy(session.input(i).value().data, inputs[i].data(), inputs[i].size());
  REQUIRE(session.run().ok());
  std::vector<Output> out;
  for (std::uint32_t i = 0; i < view->output_count(); ++i) out.push_back(read(*session.output(i)));
  return out;
}

void keep_lines(void* user, LogLevel, const char* line) { *static_cast<std::string*>(user) += std::string(line) + "\n"; }

std::vector<Output> run_on_fake_gpu(const std::vector<std::byte>& bytes, const Inputs& inputs) {
  const FakeDriver& fake = FakeDriver::get();
  fake.reset();
  fake.set(90, 13000);
  std::string log;
  const LogSink sink{keep_lines, &log};
  const plan::Bytes64 aligned(bytes);
  const auto view = PlanView::load(aligned.span(), {sink, {}});
  REQUIRE_MESSAGE(view.ok(), log);
  cuda::Driver driver;
  REQUIRE(driver.open(sink, fake.path()).ok());
  std::vector<std::max_align_t> for_program, for_session;
  std::vector<Output> out;
  {
    cuda::Program program;
    REQUIRE_MESSAGE(program.prepare(driver, *view, room(for_program, cuda::Program::host_bytes(*view)), {sink, 0}).ok(), log);
    cuda::Session session;
    cuda::SessionOptions options;
    options.log = sink;
    REQUIRE_MESSAGE(session.prepare(program, room(for_session, cuda::Session::host_bytes(*view)), options).ok(), log);
    for (std::uint32_t i = 0; i < inputs.size(); ++i) REQUIRE(session.write_input(i, inputs[i].data(), inputs[i].size()).ok());
    for (int run = 0; run < 2; ++run) REQUIRE(session.run().ok());  // the second finds what the first left
    for (std::uint32_t i = 0; i < view->output_count(); ++i) {
      TensorView y = view->output(0, i);
      std::uint64_t size = 0;
      REQUIRE(span_bytes(y, size));
      std::vector<std::max_align_t> memory;
      y.data = room(memory, size).data();
      REQUIRE(session.read_output(i, y.data, static_cast<std::size_t>(size)).ok());
      const Result<Shape> shape = session.output_shape(i);
      REQUIRE(shape.ok());
      std::copy(shape->dims, shape->dims + shape->rank, y.dims);
      out.push_back(read(y));
    }
  }
  CHECK(std::string(fake.misuse()).empty());
  CHECK(fake.alive() == 0);
  return out;
}

plan::BuildOptions for_gpu(DType precision) {
  plan::CudaOptions cuda;
  cuda.device = codegen::target_named("sm_90").value();
  cuda.device.multiprocessors = 4;
  cuda.precision = precision;
  cuda.compiler.substitute = [](const codegen::CompileJob& job) { return PlanEmulation::get().compile(job); };
  plan::BuildOptions options;
  options.cuda = cuda;
  return options;
}

/// Runs on both; the relative error of floats is at most `tolerance`, everything else is equal.
std::vector<Output> check_both(const onnx::ModelProto& proto, const Inputs& inputs, double tolerance = 1e-6, DType precision = DType::F32) {
  const std::string bytes = proto.SerializeAsString();
  const onnx_import::Model model = onnx_import::parse_bytes({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, "", {});
  std::vector<Output> expected = run_on_cpu(plan::build(model).bytes, inputs);
  const std::vector<Output> actual = run_on_fake_gpu(plan::build(model, for_gpu(precision)).bytes, inputs);
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(proto.graph().output(static_cast<int>(i)).name());
    CHECK(actual[i].dims == expected[i].dims);
    REQUIRE(actual[i].elements.size() == expected[i].elements.size());
    int wrong = 0;
    for (std::size_t k = 0; k < expected[i].elements.size(); ++k) {
      const double a = actual[i].elements[k], b = expected[i].elements[k];
      const bool same = a == b || (std::isnan(a) && std::isnan(b)) || std::abs(a - b) <= tolerance * std::max(1.0, std::abs(b));
      if (!same && ++wrong <= 3) MESSAGE("element " << k << " is " << a << " instead of " << b);
    }
    CHECK(wrong == 0);
  }
  return expected;
}

std::vector<float> random_floats(std::size_t count, std::uint32_t seed) {
  std::vector<float> x(count);
  for (float& value : x) value = static_cast<float>((seed = seed * 1664525u + 1013904223u) >> 8) * 0x1p-24f;
  return x;
}

void int_attribute(onnx::NodeProto& node, const char* name, std::int64_t value) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::INT);
  attribute.set_i(value);
}
void int64_constant(onnx::GraphProto& graph, const std::string& name, const std::vector<std::int64_t>& values, bool scalar = false) {
  auto& tensor = *graph.add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(onnx::TensorProto::INT64);
  if (!scalar) tensor.add_dims(static_cast<std::int64_t>(values.size()));
  for (const std::int64_t value : values) tensor.add_int64_data(value);
}
void float_constant(onnx::GraphProto& graph, const std::string& name, float value) { *graph.add_initializer() = onnx_test::float_tensor(name, {1}, {value}); }

/// Boxes of overlapping neighbours, some equal, some without area, corners in any order.
std::vector<float> some_boxes(std::size_t count) {
  const std::vector<float> random = random_floats(count * 4, 3);
  std::vector<float> boxes(count * 4);
  for (std::size_t i = 0; i < count; ++i) {
    const float x = std::floor(random[4 * i] * 6), y = std::floor(random[4 * i + 1] * 6);
    const float width = std::floor(random[4 * i + 2] * 4), height = std::floor(random[4 * i + 3] * 4);
    const bool flipped = i % 5 == 0;
    const float box[] = {flipped ? y + height : y, x, flipped ? y : y + height, x + width};
    std::copy(box, box + 4, boxes.begin() + static_cast<std::ptrdiff_t>(4 * i));
  }
  return boxes;
}

TEST_CASE("a detector with suppression inside, and what comes behind it") {
  for (const bool limited : {true, false}) {
    onnx::ModelProto model = onnx_test::model_with_opset();
    onnx::GraphProto& graph = *model.mutable_graph();
    constexpr int kBoxes = 83;
    add_input(graph, "boxes", {2, kBoxes, 4});
    add_input(graph, "scores", {2, 3, kBoxes});
    add_input(graph, "most", {1}, onnx::TensorProto::INT64);
    add_input(graph, "ends", {2}, onnx::TensorProto::INT64);
    int64_constant(graph, "seven", {7});
    float_constant(graph, "iou", 0.4f);
    float_constant(graph, "threshold", 0.35f);
    int64_constant(graph, "two", {2}, true);
    int64_constant(graph, "zero", {0}, true);
    add_node(graph, "NonMaxSuppression", {"boxes", "scores", limited ? "seven" : "most", "iou", "threshold"}, {"selected"});
    add_node(graph, "Gather", {"selected", "two"}, {"places"});
    int_attribute(*graph.mutable_node(graph.node_size() - 1), "axis", 1);
    add_node(graph, "Gather", {"boxes", "zero"}, {"first"});
    add_node(graph, "Gather", {"first", "places"}, {"chosen"});  // [n, 4]
    add_node(graph, "Gather", {"chosen", "ends"}, {"best"});     // along the bounded axis
    add_node(graph, "ReduceMax", {"chosen"}, {"extreme"});
    add_node(graph, "Softmax", {"chosen"}, {"soft"});
    int_attribute(*graph.mutable_node(graph.node_size() - 1), "axis", 0);
    add_node(graph, "ArgMax", {"chosen"}, {"which"});
    add_node(graph, "ReduceMean", {"soft"}, {"mean"});
    add_node(graph, "ReduceLogSumExp", {"chosen"}, {"sums"});
    auto& axes = *graph.mutable_node(graph.node_size() - 1)->add_attribute();
    axes.set_name("axes");
    axes.set_type(onnx::AttributeProto::INTS);
    axes.add_ints(0);
    for (const char* name : {"selected", "chosen", "best", "extreme", "soft", "which", "mean", "sums"}) add_output(graph, name);
    std::vector<float> scores = random_floats(2 * 3 * kBoxes, 9);
    for (float& score : scores) score = std::round(score * 8) / 8;  // many equal ones
    const Inputs inputs{bytes_of_values(some_boxes(2 * kBoxes)), bytes_of_values(scores), bytes_of_values(std::vector<std::int64_t>{limited ? 0 : 5}),
                        bytes_of_values(std::vector<std::int64_t>{0, -1})};
    const std::vector<Output> out = check_both(model, inputs, 1e-5);
    CHECK(out[0].dims[0] > 10);
    CHECK(out[0].dims[0] <= 2 * 3 * (limited ? 7 : 5));
    if (!limited) continue;
    // Boxes and scores stay as wide as they come also where the network is narrow.
    check_both(model, inputs, 1e-2, DType::F16);
  }
}

TEST_CASE("a detector whose boxes are centres, with more boxes than fit shared memory") {
  onnx::ModelProto model = onnx_test::model_with_opset();
  onnx::GraphProto& graph = *model.mutable_graph();
  constexpr int kBoxes = 12000;
  add_input(graph, "boxes", {1, kBoxes, 4});
  add_input(graph, "scores", {1, 1, kBoxes});
  int64_constant(graph, "most", {4});
  float_constant(graph, "iou", 0.5f);
  float_constant(graph, "threshold", 0.2f);
  add_node(graph, "NonMaxSuppression", {"boxes", "scores", "most", "iou", "threshold"}, {"selected"});
  int_attribute(*graph.mutable_node(0), "center_point_box", 1);
  add_output(graph, "selected");
  std::vector<float> scores = random_floats(kBoxes, 4);
  scores[77] = std::numeric_limits<float>::quiet_NaN();
  CHECK(check_both(model, {bytes_of_values(some_boxes(kBoxes)), bytes_of_values(scores)})[0].dims[0] == 4);
}

TEST_CASE("coordinates of what is not zero, and what a condition selects") {
  onnx::ModelProto model = onnx_test::model_with_opset();
  onnx::GraphProto& graph = *model.mutable_graph();
  add_input(graph, "x", {7, 13, 31});  // three blocks
  float_constant(graph, "limit", 0.8f);
  add_node(graph, "Greater", {"x", "limit"}, {"large"});
  add_node(graph, "NonZero", {"large"}, {"places"});
  add_node(graph, "Transpose", {"places"}, {"rows"});
  add_input(graph, "keep", {31}, onnx::TensorProto::BOOL);
  add_node(graph, "Compress", {"x", "keep"}, {"kept"});
  int_attribute(*graph.mutable_node(graph.node_size() - 1), "axis", 2);
  add_node(graph, "NonZero", {"kept"}, {"bounded_places"});  // of a bounded tensor
  add_node(graph, "Neg", {"kept"}, {"negative"});
  add_node(graph, "ReduceSum", {"kept"}, {"total"});
  add_node(graph, "Concat", {"kept", "x"}, {"joined"});  // along the bounded axis
  int_attribute(*graph.mutable_node(graph.node_size() - 1), "axis", 2);
  for (const char* name : {"places", "rows", "kept", "bounded_places", "negative", "total", "joined"}) add_output(graph, name);
  std::vector<float> x = random_floats(7 * 13 * 31, 5);
  for (std::size_t i = 0; i < x.size(); i += 3) x[i] = i % 2 == 0 ? 0.0f : -0.0f;
  std::vector<std::uint8_t> keep(31);
  for (std::size_t i = 0; i < keep.size(); ++i) keep[i] = i % 3 != 1;
  check_both(model, {bytes_of_values(x), bytes_of_values(keep)}, 1e-5);
  check_both(model, {bytes_of_values(std::vector<float>(x.size())), bytes_of_values(std::vector<std::uint8_t>(31))}, 1e-5);
}

TEST_CASE("slices that differ") {
  for (const bool sorted : {true, false}) {
    onnx::ModelProto model = onnx_test::model_with_opset();
    onnx::GraphProto& graph = *model.mutable_graph();
    add_input(graph, "x", {3, 150, 2});
    add_node(graph, "Unique", {"x"}, {"y", "first", "inverse", "counts"});
    int_attribute(*graph.mutable_node(0), "axis", 1);
    int_attribute(*graph.mutable_node(0), "sorted", sorted ? 1 : 0);
    add_node(graph, "Compress", {"first", "keep"}, {"of_counts"});
    add_input(graph, "keep", {150}, onnx::TensorProto::BOOL);
    add_node(graph, "Unique", {"first"}, {"again"});  // of a bounded vector
    for (const char* name : {"y", "first", "inverse", "counts", "again"}) add_output(graph, name);
    std::vector<float> x = random_floats(3 * 150 * 2, 6);
    for (float& value : x) value = std::round(value);
    x[11] = std::numeric_limits<float>::quiet_NaN();
    check_both(model, {bytes_of_values(x), bytes_of_values(std::vector<std::uint8_t>(150, 1))});
  }
}

onnx::GraphProto& body_of(onnx::NodeProto& node, const char* name) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::GRAPH);
  attribute.mutable_g()->set_name(name);
  return *attribute.mutable_g();
}

TEST_CASE("branches of different extents, one of them known only at run time") {
  onnx::ModelProto model = onnx_test::model_with_opset(13);
  onnx::GraphProto& graph = *model.mutable_graph();
  add_input(graph, "x", {5, 3});
  add_input(graph, "keep", {5}, onnx::TensorProto::BOOL);
  add_input(graph, "condition", {}, onnx::TensorProto::BOOL);
  int64_constant(graph, "begin", {1});
  int64_constant(graph, "end", {3});
  onnx::NodeProto& node = add_node(graph, "If", {"condition"}, {"y"});
  onnx::GraphProto& taken = body_of(node, "then_branch");
  add_node(taken, "Compress", {"x", "keep"}, {"kept"});
  int_attribute(*taken.mutable_node(0), "axis", 0);
  add_output(taken, "kept");
  onnx::GraphProto& otherwise = body_of(node, "else_branch");
  add_node(otherwise, "Slice", {"x", "begin", "end"}, {"part"});
  add_node(otherwise, "Neg", {"part"}, {"negative"});
  add_output(otherwise, "negative");
  add_node(graph, "Exp", {"y"}, {"z"});
  add_output(graph, "y");
  add_output(graph, "z");
  for (const std::uint8_t condition : {0, 1}) {
    const Inputs inputs{bytes_of_values(random_floats(15, 8)), bytes_of_values(std::vector<std::uint8_t>{1, 0, 1, 1, 1}),
                        bytes_of_values(std::vector<std::uint8_t>{condition})};
    CHECK(check_both(model, inputs, 1e-6)[0].dims[0] == (condition != 0 ? 4 : 2));
  }
}

TEST_CASE("a loop that ends by its trip count or by its condition") {
  onnx::ModelProto model = onnx_test::model_with_opset(13);
  onnx::GraphProto& graph = *model.mutable_graph();
  add_input(graph, "x", {1, 3});
  add_input(graph, "trips", {}, onnx::TensorProto::INT64);
  add_input(graph, "go", {}, onnx::TensorProto::BOOL);
  float_constant(graph, "factor", 1.5f);
  float_constant(graph, "limit", 6.0f);
  onnx::NodeProto& node = add_node(graph, "Loop", {"trips", "go", "x"}, {"last", "all"});
  onnx::GraphProto& body = body_of(node, "body");
  add_input(body, "turn", {}, onnx::TensorProto::INT64);
  add_input(body, "going", {}, onnx::TensorProto::BOOL);
  add_input(body, "value", {1, 3});
  add_node(body, "Mul", {"value", "factor"}, {"next"});
  add_node(body, "ReduceSum", {"next"}, {"sum"});
  add_node(body, "Less", {"sum", "limit"}, {"small"});
  add_node(body, "Squeeze", {"small"}, {"more"});
  for (const char* name : {"more", "next", "sum"}) add_output(body, name);
  add_output(graph, "last");
  onnx_test::set_type(*graph.add_output(), "all", {6, 1, 1});
  struct Case {
    std::int64_t trips;
    bool go;
    std::int64_t turns;
  };
  for (const Case& each : {Case{4, true, 4}, Case{6, true, 4}, Case{3, false, 0}}) {
    const float start = each.trips == 6 ? 0.4f : 0.1f;
    const Inputs inputs{bytes_of_values(std::vector<float>(3, start)), bytes_of_values(std::vector<std::int64_t>{each.trips}),
                        bytes_of_values(std::vector<std::uint8_t>{each.go ? std::uint8_t{1} : std::uint8_t{0}})};
    CHECK(check_both(model, inputs, 1e-5)[1].dims[0] == each.turns);
  }
}

}  // namespace
