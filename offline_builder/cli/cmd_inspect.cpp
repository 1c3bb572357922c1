// SPDX-License-Identifier: Apache-2.0
// edgert inspect: what is in a plan, or what a model asks for and whether it would build.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/fusions.h"
#include "cli/loaded_plan.h"
#include "cli/shape_options.h"
#include "cli/step_text.h"
#include "edgert/cuda/session.h"
#include "onnx/import.h"
#include "ops/operator.h"
#include "plan/session_needs.h"

namespace edgert::cli {
namespace {

using nlohmann::json;

struct Options {
  std::string path;
  std::vector<std::string> shapes;
  std::vector<std::string> dims;
  std::vector<std::string> values;
  bool fusions = false;
  bool json = false;
};

json describe_bindings(const PlanView& plan, std::uint32_t profile, bool input) {
  json out = json::array();
  for (std::uint32_t i = 0; i < (input ? plan.input_count() : plan.output_count()); ++i) {
    const TensorView view = input ? plan.input(profile, i) : plan.output(profile, i);
    out.push_back({{"name", input ? plan.input_name(i) : plan.output_name(i)},
                   {"type", edgert::to_string(view.dtype)},
                   {"shape", std::vector<std::int64_t>(view.dims, view.dims + view.rank)}});
  }
  return out;
}

/// The steps of a list, those of bodies inside of the steps that own them; the plan's rules bound the depth.
json describe_steps(const PlanView& plan, std::uint32_t index, std::uint32_t list = 0) {
  const schema::Profile& profile = plan.profile(index);
  json steps = json::array();
  for (std::uint32_t i = 0; i < rules::count(profile.lists()->Get(list)->steps()); ++i) {
    const schema::Step& step = *profile.lists()->Get(list)->steps()->Get(i);
    const StepText text = describe_step(plan, step);
    json entry{{"step", i}, {"operator", text.name}, {"attributes", text.attributes}, {"parts", step.parts()}};
    entry["compute"] = compute_text(plan, step);
    entry["output"] = output_text(plan, index, step);
    if (!text.nodes.empty()) entry["nodes"] = text.nodes;
    for (std::uint32_t b = 0; b < rules::count(step.bodies()); ++b) {
      entry["bodies"].push_back(describe_steps(plan, index, step.bodies()->Get(b)));
    }
    steps.push_back(entry);
  }
  return steps;
}

json describe_plan(const LoadedPlan& loaded) {
  const PlanView& plan = loaded.view();
  json out;
  const auto text = [](const edgert_flatbuffers::String* value) { return value != nullptr ? value->str() : std::string(); };
  out["kind"] = "plan";
  out["plan_bytes"] = plan.bytes().size();
  out["weights_bytes"] = plan.weights().size();
  out["producer"] = text(plan.table().producer());
  out["target"] = text(plan.table().target());
  out["model"] = text(plan.table().model_name());
  if (plan.is_cuda()) {
    out["device_bytes"] = cuda::Session::device_bytes(plan);
    out["state_bytes"] = plan.table().state_bytes();
    out["kernels"] = rules::count(plan.table().modules());
  } else if (const Result<SessionNeeds> needs = plan::session_needs(plan); needs.ok()) {
    out["session_bytes"] = session_bytes(*needs, 1);
    out["scratch_bytes_per_thread"] = needs->scratch_bytes;
  }
  for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
    const schema::Profile& profile = plan.profile(p);
    const double gap = profile.arena_lower_bound() == 0
                           ? 0.0
                           : 100.0 * (static_cast<double>(profile.arena_bytes()) / static_cast<double>(profile.arena_lower_bound()) - 1);
    out["profiles"].push_back({{"name", text(profile.name())},
                               {"inputs", describe_bindings(plan, p, true)},
                               {"outputs", describe_bindings(plan, p, false)},
                               {"arena_bytes", profile.arena_bytes()},
                               {"arena_lower_bound", profile.arena_lower_bound()},
                               {"arena_gap_percent", gap},
                               {"arena_optimal", profile.arena_optimal()},
                               {"planner", text(profile.planner())},
                               {"steps", describe_steps(plan, p)}});
  }
  for (std::uint32_t i = 0; i < rules::count(plan.table().states()); ++i) {
    const schema::State& state = *plan.table().states()->Get(i);
    out["states"].push_back({{"name", text(state.name())}, {"bytes", state.size()}, {"initial", state.has_initial()}});
  }
  out["golden_vectors"] = rules::count(plan.table().golden());
  for (std::uint32_t i = 0; i < rules::count(plan.table().metadata()); ++i) {
    const schema::KeyValue& entry = *plan.table().metadata()->Get(i);
    out["metadata"][entry.key()->str()] = text(entry.value());
  }
  static const char* const kKinds[] = {"", "table", "weights", "module", "golden", "signature"};
  for (const SectionEntry& section : plan.sections()) {
    out["sections"].push_back({{"kind", kKinds[static_cast<std::uint32_t>(section.kind)]}, {"offset", section.offset}, {"bytes", section.size}});
  }
  return out;
}

std::string shape_text(const json& binding) {
  std::string out = binding["type"].get<std::string>() + "[";
  bool first = true;
  for (const json& extent : binding["shape"]) {
    out += (first ? "" : ",") + extent.dump();
    first = false;
  }
  return out + "]";
}

void print_steps(const json& steps, const std::string& indent) {
  for (const json& step : steps) {
    std::string nodes;
    if (step.contains("nodes")) {
      for (const json& node : step["nodes"]) nodes += (nodes.empty() ? "" : ", ") + node.get<std::string>();
    }
    std::printf("%s%4llu %-14s %-24s %-48s %s\n", indent.c_str(), step["step"].get<unsigned long long>(),
                step["operator"].get<std::string>().c_str(), step["output"].get<std::string>().c_str(),
                step["attributes"].get<std::string>().c_str(), nodes.c_str());
    const json bodies = step.value("bodies", json::array());
    for (std::size_t b = 0; b < bodies.size(); ++b) {
      std::printf("%s     body %zu\n", indent.c_str(), b);
      print_steps(bodies[b], indent + "     | ");
    }
  }
}

void print_plan(const std::string& path, const json& plan) {
  std::printf("%s: plan by %s for %s, %llu bytes (weights %llu)\n", path.c_str(), plan["producer"].get<std::string>().c_str(),
              plan["target"].get<std::string>().c_str(), plan["plan_bytes"].get<unsigned long long>(),
              plan["weights_bytes"].get<unsigned long long>());
  if (plan.contains("session_bytes")) {
    std::printf("session memory: %llu bytes on one thread, %llu more for each further one\n",
                plan["session_bytes"].get<unsigned long long>(), plan["scratch_bytes_per_thread"].get<unsigned long long>());
  }
  if (plan.contains("device_bytes")) {
    std::printf("device memory: %llu bytes beside the weights; %llu different kernels\n", plan["device_bytes"].get<unsigned long long>(),
                plan["kernels"].get<unsigned long long>());
  }
  const json metadata = plan.value("metadata", json::object());
  for (const auto& [key, value] : metadata.items()) {
    std::string line = value.get<std::string>();
    for (char& c : line) c = c == '\n' ? ' ' : c;
    std::printf("metadata: %s = %.80s\n", key.c_str(), line.c_str());
  }
  for (const json& state : plan.value("states", json::array())) {
    std::printf("state: %s, %llu bytes, starts %s\n", state["name"].get<std::string>().c_str(), state["bytes"].get<unsigned long long>(),
                state["initial"].get<bool>() ? "as the model says" : "from zeros");
  }
  if (plan["golden_vectors"].get<unsigned>() != 0) std::printf("golden vectors: %u\n", plan["golden_vectors"].get<unsigned>());
  for (const json& profile : plan["profiles"]) {
    std::printf("profile %s\n", profile["name"].get<std::string>().c_str());
    for (const json& input : profile["inputs"]) std::printf("  input  %-24s %s\n", input["name"].get<std::string>().c_str(), shape_text(input).c_str());
    for (const json& output : profile["outputs"]) std::printf("  output %-24s %s\n", output["name"].get<std::string>().c_str(), shape_text(output).c_str());
    std::printf("  arena  %llu bytes, lower bound %llu, gap %.2f %%%s, by %s\n", profile["arena_bytes"].get<unsigned long long>(),
                profile["arena_lower_bound"].get<unsigned long long>(), profile["arena_gap_percent"].get<double>(),
                profile["arena_optimal"].get<bool>() ? " (proved optimal)" : "", profile["planner"].get<std::string>().c_str());
    print_steps(profile["steps"], "  ");
  }
}

json describe_model(const onnx_import::Model& model, const onnx_import::ImportOptions& profile) {
  json out;
  out["kind"] = "model";
  out["producer"] = model.producer();
  for (const auto& [domain, version] : model.opsets()) out["opsets"][domain.empty() ? "ai.onnx" : domain] = version;
  for (const auto& input : model.inputs()) out["inputs"].push_back({{"name", input.name}, {"type", onnx_import::to_string(input)}});
  for (const auto& output : model.outputs()) out["outputs"].push_back({{"name", output.name}, {"type", onnx_import::to_string(output)}});
  for (const auto& [key, value] : model.metadata()) out["metadata"][key] = value;
  out["problems"] = json::array();
  try {
    std::vector<std::string> notes;
    const ir::Graph graph = onnx_import::import(model, profile, &notes);
    std::map<std::string, int> counts;
    for (const ir::NodeId id : graph.topological_order()) ++counts[graph.node(id).op->name];
    out["operators"] = counts;
    out["notes"] = notes;
  } catch (const onnx_import::ImportError& error) {
    for (const onnx_import::Problem& problem : error.problems()) {
      out["problems"].push_back(
          {{"node", problem.node}, {"operator", problem.op_type}, {"opset", problem.opset}, {"reason", problem.reason}});
    }
  }
  return out;
}

void print_model(const std::string& path, const json& model) {
  std::printf("%s: ONNX model by %s\n", path.c_str(), model["producer"].get<std::string>().c_str());
  for (const char* what : {"inputs", "outputs"}) {
    if (!model.contains(what)) continue;
    for (const json& entry : model[what]) {
      std::printf("  %-7s %-24s %s\n", what[0] == 'i' ? "input" : "output", entry["name"].get<std::string>().c_str(),
                  entry["type"].get<std::string>().c_str());
    }
  }
  if (model["problems"].empty()) {
    std::printf("it builds; operators after import:\n");
    for (const auto& [name, count] : model["operators"].items()) std::printf("  %5d %s\n", count.get<int>(), name.c_str());
    return;
  }
  std::printf("it does not build:\n");
  for (const json& problem : model["problems"]) {
    std::printf("  %s (%s, opset %d): %s\n", problem["node"].get<std::string>().c_str(), problem["operator"].get<std::string>().c_str(),
                problem["opset"].get<int>(), problem["reason"].get<std::string>().c_str());
  }
}

bool is_plan(const std::string& path) {
  const io::MappedFile file(path);
  return file.bytes().size() >= sizeof(kPlanMagic) && std::memcmp(file.bytes().data(), kPlanMagic, sizeof(kPlanMagic)) == 0;
}

json describe_model_file(const Options& options) {
  const onnx_import::Model model = onnx_import::parse_file(options.path);
  const std::vector<onnx_import::ImportOptions> profiles = parse_profiles(model, options.shapes, options.dims, options.values);
  const onnx_import::ImportOptions profile = profiles.empty() ? onnx_import::ImportOptions{} : profiles[0];
  json description = describe_model(model, profile);
  if (options.fusions && description["problems"].empty()) description["fusions"] = describe_fusions(model, profile);
  return description;
}

int inspect(const Options& options) {
  const bool plan = is_plan(options.path);
  json description = plan ? describe_plan(LoadedPlan(options.path)) : describe_model_file(options);
  if (plan && options.fusions) description["fusions"] = fused_steps(description);
  if (options.json) {
    std::printf("%s\n", description.dump(2).c_str());
  } else if (description.contains("fusions")) {
    print_fusions(description["fusions"]);
  } else if (plan) {
    print_plan(options.path, description);
  } else {
    print_model(options.path, description);
  }
  return plan || description["problems"].empty() ? kOk : kBadInput;
}

}  // namespace

void add_inspect(CLI::App& program, std::function<int()>& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("inspect", "Show what is in a plan, or whether a model builds and why not");
  command->footer("Examples:\n  edgert inspect net.plan\n  edgert inspect net.onnx\n  edgert inspect net.plan --json\n"
                  "  edgert inspect net.onnx --fusions");
  command->add_option("file", options->path, "Plan or ONNX file")->required();
  command->add_flag("--fusions", options->fusions, "What became one step; of a model also what did not, and why");
  command->add_option("--shape", options->shapes, "Of a model: extents of an input, name=1x3x224x224");
  command->add_option("--dim", options->dims, "Of a model: extent of a symbolic dimension, N=1");
  command->add_option("--value", options->values, "Of a model: fix an input that decides shapes, name=1,2,3");
  for (const char* repeatable : {"--shape", "--dim", "--value"}) {
    command->get_option(repeatable)->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  command->add_flag("--json", options->json, "Print as JSON");
  command->callback([options, &run] { run = [options] { return inspect(*options); }; });
}

}  // namespace edgert::cli
