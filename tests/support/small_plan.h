// SPDX-License-Identifier: Apache-2.0
// A plan small enough to flip each of its bits: y = softmax(relu(x @ w + b)), and its reference.
#pragma once

#include <vector>

#include "ops/definitions.h"
#include "edgert/cpu/ops/matmul.h"
#include "edgert/cpu/ops/softmax.h"
#include "plan/build.h"

namespace edgert::test {

inline ir::Graph small_graph(std::int64_t batch = 2) {
  using scalar::PointwiseOp;
  ir::Graph graph;
  graph.name = "small";
  graph.metadata = {{"edgert.task", "classify"}};
  const ir::ValueId x = graph.add_input("x", {DType::F32, {batch, 3}});
  std::vector<float> w{0.5f, -1.f, 2.f, 1.f, 0.25f, -0.5f, -2.f, 1.5f, 0.75f, 1.f, 0.125f, -1.f};
  std::vector<float> b{0.1f, -0.2f, 0.3f, 0.f};
  const ir::ValueId weights = graph.add_constant("w", {DType::F32, {3, 4}}, ir::Bytes::copy(w.data(), w.size() * 4));
  const ir::ValueId bias = graph.add_constant("b", {DType::F32, {4}}, ir::Bytes::copy(b.data(), b.size() * 4));
  cpu::MatMulAttributes matmul{};
  matmul.epilogue.activation = PointwiseOp::Relu;
  const ir::ValueId hidden =
      graph.emit(ops::kMatMul, {x, weights, bias, ir::kNone}, ir::AttributeBlob::of(matmul), {"gemm (Gemm)"});
  cpu::SoftmaxAttributes softmax{};
  softmax.axis = 1;
  const ir::ValueId y = graph.emit(ops::kSoftmax, {hidden}, ir::AttributeBlob::of(softmax), {"probabilities (Softmax)"});
  graph.add_output("y", y);
  return graph;
}

inline std::vector<std::byte> small_plan() {
  std::vector<ir::Graph> graphs;
  graphs.push_back(small_graph());
  return plan::build(std::move(graphs)).bytes;
}

}  // namespace edgert::test
