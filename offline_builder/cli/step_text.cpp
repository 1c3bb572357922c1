// SPDX-License-Identifier: Apache-2.0
#include "cli/step_text.h"

#include <cstring>
#include <optional>

#include "cli/loaded_plan.h"
#include "edgert/cuda/library_call.h"
#include "ops/operator.h"

namespace edgert::cli {

namespace {

template <class Problem>
std::optional<Problem> problem_of(const schema::LibraryCall& call, schema::Library library) {
  Problem problem;
  if (call.library() != library || rules::count(call.problem()) != sizeof(problem)) return std::nullopt;
  std::memcpy(&problem, call.problem()->Data(), sizeof(problem));
  return problem;
}

std::string common_text(const cuda::LibraryCommon& common) {
  return " algorithm " + std::to_string(common.algorithm) + " workspace " + std::to_string(common.workspace_bytes);
}

/// "128x768 by 768x2304 algorithm 0 workspace 4194304"
std::string call_text(const schema::LibraryCall& call) {
  const auto text = [](std::uint32_t value) { return std::to_string(value); };
  if (const auto m = problem_of<cuda::LibraryMatMul>(call, schema::Library::CublasLt)) {
    return text(m->rows) + "x" + text(m->depth) + " by " + text(m->depth) + "x" + text(m->columns) + common_text(m->common);
  }
  if (const auto c = problem_of<cuda::LibraryConv>(call, schema::Library::Cudnn)) {
    return text(c->kernel[0]) + "x" + text(c->kernel[1]) + " stride " + text(c->stride[0]) + "x" + text(c->stride[1]) + " groups " + text(c->groups) + common_text(c->common);
  }
  return "";
}

/// "grid 128 block 256 shared 65536 cluster 4" of a launch, extents of 1 left out.
std::string launch_text(const schema::Launch& launch) {
  if (launch.call() != nullptr) return call_text(*launch.call());
  const auto extents = [](const char* name, const edgert_flatbuffers::Vector<std::uint32_t>* v) {
    std::string out = name;
    for (std::uint32_t d = 0; d < rules::count(v); ++d) {
      if (d == 0 || v->Get(d) != 1) out += (d == 0 ? " " : "x") + std::to_string(v->Get(d));
    }
    return out;
  };
  std::string out = extents("grid", launch.grid()) + " " + extents("block", launch.block()) + " shared " + std::to_string(launch.dynamic_shared_bytes());
  return rules::count(launch.cluster()) != 0 ? out + " " + extents("cluster", launch.cluster()) : out;
}

}  // namespace

namespace {

/// The rules of a plan do not look into launches; those of the CUDA runtime do.
std::string entry_of(const PlanView& plan, const schema::Launch& launch) {
  if (launch.call() != nullptr) return cuda::to_string(launch.call()->library());
  const schema::Module* module = rules::at(plan.table().modules(), launch.module_());
  const bool named = module != nullptr && launch.entry() < rules::count(module->entries());
  return named ? module->entries()->Get(launch.entry())->str() : "kernel";
}

}  // namespace

std::string compute_text(const PlanView& plan, const schema::Step& step) {
  constexpr std::string_view kRounding = "_tf32";
  const std::string entry = step.launch() != nullptr ? entry_of(plan, *step.launch()) : "";
  const schema::LibraryCall* call = step.launch() != nullptr ? step.launch()->call() : nullptr;
  if (call != nullptr) {
    const auto m = problem_of<cuda::LibraryMatMul>(*call, schema::Library::CublasLt);
    const auto c = problem_of<cuda::LibraryConv>(*call, schema::Library::Cudnn);
    if ((m && m->common.rounds != 0) || (c && c->common.rounds != 0)) return "tf32";
  }
  const bool rounds = entry.size() > kRounding.size() && entry.compare(entry.size() - kRounding.size(), kRounding.size(), kRounding) == 0;
  return rounds ? "tf32" : edgert::to_string(static_cast<DType>(step.compute()));
}

StepText describe_step(const PlanView& plan, const schema::Step& step) {
  StepText text;
  text.name = "operator " + std::to_string(step.op());
  if (const schema::Launch* launch = step.launch(); launch != nullptr) {
    text.name = entry_of(plan, *launch);
    text.attributes = compute_text(plan, step) + " " + launch_text(*launch);
  }
  for (const ops::OperatorDef* op : ops::Registry::instance().operators()) {
    if (op->kernel == nullptr || op->kernel->id != step.op()) continue;
    text.name = op->name;
    const bool known = op->describe != nullptr && rules::count(step.attributes()) == op->attribute_bytes;
    if (known) text.attributes = op->describe(ir::AttributeBlob::from_bytes(step.attributes()->Data(), op->attribute_bytes));
    break;
  }
  if (plan.is_cuda() && step.launch() == nullptr) text.name += " (CPU)";
  for (std::uint32_t n = 0; n < rules::count(step.nodes()); ++n) {
    text.nodes.push_back(plan.table().strings()->Get(step.nodes()->Get(n))->str());
  }
  return text;
}

std::string output_text(const PlanView& plan, std::uint32_t profile, const schema::Step& step) {
  return rules::count(step.outputs()) == 0 ? std::string() : to_string(plan.tensor(profile, step.outputs()->Get(0)));
}

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out;
}

}  // namespace edgert::cli
