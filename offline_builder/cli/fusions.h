// SPDX-License-Identifier: Apache-2.0
// What the passes joined, and what they looked at and left alone, for people who wonder why a plan has so many steps.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "onnx/import.h"
#include "passes/pipeline.h"

namespace edgert::cli {

/// [{pass, node, into, reason}]
nlohmann::json describe_refusals(const std::vector<passes::Refusal>& refusals);

/// Imports a profile of a model and runs the passes for a CPU on it: {"fused": [{operator, nodes}], "refused": as above}.
nlohmann::json describe_fusions(const onnx_import::Model& model, const onnx_import::ImportOptions& profile);

/// The steps of a plan, as `inspect` describes them, that compute several ONNX nodes: {"fused": [{operator, nodes}]}.
nlohmann::json fused_steps(const nlohmann::json& plan);

/// Prints either.
void print_fusions(const nlohmann::json& fusions);

}  // namespace edgert::cli
