// SPDX-License-Identifier: Apache-2.0
// Small graphs for the tests of passes, and the test that every pass must stand: the outputs keep their values, the
// graph keeps its invariants, and a second run changes nothing.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "graph_interpreter.h"
#include "passes/pipeline.h"

namespace edgert::test {

using ir::Dims;
using ir::kNone;
using ir::ValueId;
using scalar::PointwiseOp;

/// Numbers between -2 and 2, the same in every run.
class Numbers {
 public:
  double next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state_ >> 33) / 2147483648.0 * 4 - 2;
  }
  std::vector<float> floats(std::int64_t count) {
    std::vector<float> values;
    for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(next()));
    return values;
  }

 private:
  std::uint64_t state_ = 1;
};

/// Builds a graph node by node; each node has its number as provenance ("n0", "n1", ...).
struct Net {
  ir::Graph graph;
  Numbers numbers;

  template <class Attributes>
  ValueId node(const ops::OperatorDef& op, const std::vector<ValueId>& inputs, const Attributes& attributes) {
    const std::string name = "n" + std::to_string(graph.node_count());
    return graph.node(graph.add_node(op, inputs, ir::AttributeBlob::of(attributes), {name})).outputs[0];
  }
  const Dims& dims(ValueId id) const { return graph.value(id).type.dims; }

  ValueId input(const Dims& dims, DType dtype = DType::F32) { return graph.add_input("x", {dtype, dims}); }
  ValueId constant(const Dims& dims, const std::vector<float>& values) {
    return graph.add_constant("c", {DType::F32, dims}, ir::Bytes::copy(values.data(), values.size() * sizeof(float)));
  }
  ValueId constant(float value) { return constant({}, {value}); }
  ValueId random(const Dims& dims) { return constant(dims, numbers.floats(ir::element_count(dims))); }
  void output(ValueId id) { graph.add_output("y" + std::to_string(graph.outputs().size()), id); }

  ValueId reshape(ValueId x, const Dims& to) {
    ops::ReshapeAttributes a{};
    std::copy(to.begin(), to.end(), a.dims);
    a.rank = static_cast<std::uint32_t>(to.size());
    return node(ops::kReshape, {x}, a);
  }
  ValueId expand(ValueId x, const Dims& to) {
    ops::ExpandAttributes a{};
    std::copy(to.begin(), to.end(), a.dims);
    a.rank = static_cast<std::uint32_t>(to.size());
    return node(ops::kExpand, {x}, a);
  }
  ValueId transpose(ValueId x, const std::vector<std::uint8_t>& perm) {
    ops::TransposeAttributes a{};
    std::copy(perm.begin(), perm.end(), a.perm);
    a.rank = static_cast<std::uint32_t>(perm.size());
    return node(ops::kTranspose, {x}, a);
  }
  ValueId slice(ValueId x, const Dims& start, const Dims& step, const Dims& size) {
    ops::SliceAttributes a{};
    std::copy(start.begin(), start.end(), a.start);
    std::copy(step.begin(), step.end(), a.step);
    std::copy(size.begin(), size.end(), a.size);
    a.rank = static_cast<std::uint32_t>(size.size());
    return node(ops::kSlice, {x}, a);
  }
  ValueId unary(PointwiseOp op, ValueId x, float alpha = 0, float beta = 0) { return pointwise(op, {x}, alpha, beta); }
  /// Broadcasts by Expand, as importers do.
  ValueId binary(PointwiseOp op, ValueId a, ValueId b) {
    const Dims to = ir::broadcast(dims(a), dims(b));
    return pointwise(op, {dims(a) == to ? a : expand(a, to), dims(b) == to ? b : expand(b, to)}, 0, 0);
  }
  ValueId binary(PointwiseOp op, ValueId a, float b) { return binary(op, a, constant(b)); }
  ValueId pointwise(PointwiseOp op, const std::vector<ValueId>& operands, float alpha, float beta) {
    scalar::PointwiseProgram program{};
    program.inputs = static_cast<unsigned>(operands.size());
    program.steps = 1;
    program.step[0].op = op;
    program.step[0].type = static_cast<unsigned char>(graph.value(operands.back()).type.dtype);
    program.step[0].b = operands.size() > 1 ? 1 : 0;
    program.step[0].c = operands.size() > 2 ? 2 : 0;
    program.step[0].alpha = alpha;
    program.step[0].beta = beta;
    return node(ops::kPointwise, operands, program);
  }
  /// A vector along dimension `axis` of a tensor of rank `rank`.
  ValueId channels(std::int64_t count, std::size_t axis, std::size_t rank) {
    Dims extents(rank, 1);
    extents[axis] = count;
    return random(extents);
  }
  ValueId conv(ValueId x, std::int64_t filters, int kernel = 1, int pad = 0, bool bias = false) {
    cpu::ConvAttributes a{};
    for (std::size_t i = 0; i < 2; ++i) {
      a.kernel[i] = kernel;
      a.stride[i] = a.dilation[i] = 1;
      a.pad_begin[i] = a.pad_end[i] = pad;
    }
    a.groups = 1;
    const ValueId w = random({filters, dims(x)[1], kernel, kernel});
    return node(ops::kConv, {x, w, bias ? random({filters}) : kNone, kNone}, a);
  }
  ValueId depthwise(ValueId x, int kernel) {
    cpu::DepthwiseConvAttributes a{};
    for (std::size_t i = 0; i < 2; ++i) {
      a.kernel[i] = kernel;
      a.stride[i] = a.dilation[i] = 1;
    }
    return node(ops::kDepthwiseConv, {x, random({dims(x)[1], 1, kernel, kernel}), kNone, kNone}, a);
  }
  ValueId matmul(ValueId a, ValueId b, ValueId bias = kNone) {
    return node(ops::kMatMul, {a, b, bias, kNone}, cpu::MatMulAttributes{});
  }
  ValueId mean(ValueId x, std::uint32_t axes) {
    cpu::ReduceAttributes a{};
    a.axes = axes;
    a.kind = cpu::ReduceKind::Mean;
    return node(ops::kReduce, {x}, a);
  }
  ValueId pad(ValueId x, const Dims& before, const Dims& after, float value = 0) {
    cpu::PadAttributes a{};
    std::copy(before.begin(), before.end(), a.before);
    std::copy(after.begin(), after.end(), a.after);
    std::memcpy(a.value, &value, sizeof(value));
    return node(ops::kPad, {x}, a);
  }
  ValueId cast(ValueId x, DType to) {
    cpu::CastAttributes a{};
    a.to = to;
    return node(ops::kCast, {x}, a);
  }
  ValueId concat(const std::vector<ValueId>& parts, int axis) {
    ops::ConcatAttributes a{};
    a.axis = axis;
    return node(ops::kConcat, parts, a);
  }

  int count(const ops::OperatorDef& op) const {
    int found = 0;
    for (ir::NodeId id = 0; id < graph.node_count(); ++id) found += graph.node(id).alive && graph.node(id).op == &op;
    return found;
  }
  int nodes() const {
    int alive = 0;
    for (ir::NodeId id = 0; id < graph.node_count(); ++id) alive += graph.node(id).alive;
    return alive;
  }
  const ir::Node& maker_of_output(std::size_t i = 0) const { return *graph.producer(graph.outputs().at(i).value); }
  /// The operation of an output's node when that is one instruction.
  PointwiseOp operation(std::size_t i = 0) const {
    const ir::Node& maker = maker_of_output(i);
    REQUIRE(maker.op == &ops::kPointwise);
    REQUIRE(maker.as<scalar::PointwiseProgram>().steps == 1);
    return maker.as<scalar::PointwiseProgram>().step[0].op;
  }

  std::vector<Tensor> run(const ir::Graph& which) {
    Numbers values;
    std::vector<Tensor> inputs;
    for (const ValueId id : which.inputs()) {
      const bool truth = which.value(id).type.dtype == DType::Bool;
      inputs.push_back(
          tabulate(which.value(id).type.dims, [&](const Dims&) { return truth ? values.next() > 0 : values.next(); }));
    }
    return GraphInterpreter(which).run(inputs);
  }

  /// Runs the pass and returns how much it rewrote.
  int check(int (*pass)(ir::Graph&)) {
    const std::vector<Tensor> before = run(graph);
    const int rewrites = pass(graph);
    ir::verify(graph);
    const std::vector<Tensor> after = run(graph);
    REQUIRE(after.size() == before.size());
    for (std::size_t i = 0; i < after.size(); ++i) {
      REQUIRE(after[i].dims == before[i].dims);
      int wrong = 0;
      for (std::size_t k = 0; k < after[i].data.size(); ++k) {
        const double expected = before[i].data[k];
        const bool same =
            after[i].data[k] == expected || std::fabs(after[i].data[k] - expected) < 2e-5 * (1 + std::fabs(expected));
        wrong += !same;
      }
      CHECK(wrong == 0);
    }
    const std::string once = ir::to_text(graph);
    CHECK(pass(graph) == 0);
    CHECK(ir::to_text(graph) == once);
    return rewrites;
  }
};

}  // namespace edgert::test
