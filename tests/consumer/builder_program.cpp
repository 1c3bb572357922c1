// SPDX-License-Identifier: Apache-2.0
// A user's program that builds a plan from a graph of its own and runs it.
#include <edgert/edgert.h>

#include <cstdio>
#include <utility>
#include <vector>

#include "ops/definitions.h"
#include "plan/aligned_bytes.h"
#include "plan/build.h"

int main() {
  edgert::ir::Graph graph;
  graph.name = "copy";
  const edgert::ir::ValueId x = graph.add_input("x", {edgert::DType::F32, {3}});
  graph.add_output("y", graph.emit(edgert::ops::kCopy, {x}, edgert::ir::AttributeBlob::of(edgert::cpu::NoAttributes{}), {}));
  std::vector<edgert::ir::Graph> graphs;
  graphs.push_back(std::move(graph));
  const edgert::plan::Bytes64 bytes(edgert::plan::build(std::move(graphs)).bytes);
  const edgert::Result<edgert::PlanView> plan = edgert::PlanView::load(bytes.span());
  if (!plan.ok()) return 1;
  alignas(64) static std::byte memory[4096];
  edgert::Session<> session;
  if (!session.prepare(*plan, memory).ok()) return 2;
  session.input(0u)->as<float>()[2] = 42.0f;
  if (!session.run().ok()) return 3;
  const float y = session.output(0u)->as<float>()[2];
  std::printf("built and ran: %g\n", static_cast<double>(y));
  return y == 42.0f ? 0 : 4;
}
