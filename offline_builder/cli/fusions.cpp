// SPDX-License-Identifier: Apache-2.0
#include "cli/fusions.h"

#include <cstdio>

#include "ops/operator.h"

namespace edgert::cli {
namespace {

using nlohmann::json;

void add_fused_steps(const json& steps, json& fused) {
  for (const json& step : steps) {
    if (step.contains("nodes") && step["nodes"].size() > 1) fused.push_back({{"operator", step["operator"]}, {"nodes", step["nodes"]}});
    for (const json& body : step.value("bodies", json::array())) add_fused_steps(body, fused);
  }
}

}  // namespace

json describe_refusals(const std::vector<passes::Refusal>& refusals) {
  json out = json::array();
  for (const passes::Refusal& refusal : refusals) {
    out.push_back({{"pass", refusal.pass}, {"node", refusal.node}, {"into", refusal.into}, {"reason", refusal.reason}});
  }
  return out;
}

json describe_fusions(const onnx_import::Model& model, const onnx_import::ImportOptions& profile) {
  ir::Graph graph = onnx_import::import(model, profile);
  std::vector<passes::Refusal> refusals;
  passes::PipelineOptions options;
  options.refusals = &refusals;
  passes::run_pipeline(graph, options);
  json fused = json::array();
  for (const ir::NodeId id : graph.topological_order()) {
    const ir::Node& node = graph.node(id);
    if (node.op->kernel != nullptr && node.provenance.size() > 1) fused.push_back({{"operator", node.op->name}, {"nodes", node.provenance}});
  }
  return {{"fused", fused}, {"refused", describe_refusals(refusals)}};
}

json fused_steps(const json& plan) {
  json fused = json::array();
  for (const json& profile : plan["profiles"]) add_fused_steps(profile["steps"], fused);
  return {{"fused", fused}};
}

void print_fusions(const json& fusions) {
  std::printf("joined into one step:\n");
  for (const json& entry : fusions["fused"]) {
    std::string nodes;
    for (const json& node : entry["nodes"]) nodes += (nodes.empty() ? "" : ", ") + node.get<std::string>();
    std::printf("  %-14s %s\n", entry["operator"].get<std::string>().c_str(), nodes.c_str());
  }
  if (!fusions.contains("refused")) {
    std::printf("what was not joined, and why, is in the model: edgert inspect MODEL.onnx --fusions\n");
    return;
  }
  std::printf("left as they are:\n");
  for (const json& entry : fusions["refused"]) {
    const std::string into = entry["into"].get<std::string>();
    std::printf("  %s%s: %s (%s)\n", entry["node"].get<std::string>().c_str(), into.empty() ? "" : (" behind or before " + into).c_str(),
                entry["reason"].get<std::string>().c_str(), entry["pass"].get<std::string>().c_str());
  }
}

}  // namespace edgert::cli
