// SPDX-License-Identifier: Apache-2.0
#include "plan/lower_cuda.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include "edgert/checked.h"
#include "edgert/crc32c.h"
#include "ir/windows.h"
#include "memory/checker.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"
#include "plan/tactics.h"

namespace edgert::plan {
namespace {

using families::Argument;
using families::Candidate;
using families::Launch;
using ir::kNone;
using ir::NodeId;
using ir::ValueId;

constexpr std::uint32_t kAlignment = 256;     ///< what the runtime gives every region; families count on it
constexpr std::size_t kCandidates = 3;        ///< a tile whose kernel does not fit the registers gives way to the next
constexpr std::size_t kPrefetchDistance = 2;  ///< launches between asking for weights and using them

class CudaLowering {
 public:
  CudaLowering(const ir::Graph& graph, const families::Target& target, std::uint32_t code_arch, WeightStore& weights, ModuleStore& modules)
      : graph_(graph), target_(target), code_arch_(code_arch), weights_(weights), modules_(modules), windows_(graph) {}

  ProfileSpec run(const std::vector<ValueId>& inputs, const std::vector<ValueId>& outputs, const std::vector<Selected>& selected) {
    for (std::size_t i = 0; i < inputs.size(); ++i) add_binding(inputs[i], Region::Input, i);
    for (std::size_t i = 0; i < outputs.size(); ++i) add_binding(window_of(outputs[i]).root, Region::Output, i);
    order_launches(selected);
    find_lifetimes();
    for (std::size_t s = 0; s < steps_.size(); ++s) add_step(s);
    for (const ValueId id : inputs) profile_.inputs.push_back(tensor_of(id));
    for (const ValueId id : outputs) profile_.outputs.push_back(tensor_of(id));
    plan_arena();
    prove();
    return std::move(profile_);
  }

 private:
  struct Lifetime {
    std::uint32_t first = UINT32_MAX;
    std::uint32_t last = 0;
    std::vector<std::uint32_t> accesses;
  };
  /// One launch; those of one candidate follow each other.
  struct Step {
    NodeId node;
    const Candidate* candidate;
    const Launch* launch;
    const codegen::CompiledKernel* kernel;
    std::uint32_t first, last;  ///< steps of the candidate
  };

  ir::Window window_of(ValueId id) {
    const std::optional<ir::Window> window = windows_.find(id);
    if (!window) throw std::logic_error("'" + graph_.value(id).name + "' is no window; the layout pass must run first");
    return *window;
  }

  ir::TensorType stored_type(ValueId id) const { return {graph_.value(id).stored_type(), graph_.value(id).type.dims}; }

  std::uint32_t add_storage(StorageSpec storage) {
    profile_.storages.push_back(storage);
    return static_cast<std::uint32_t>(profile_.storages.size() - 1);
  }

  void add_binding(ValueId root, Region region, std::size_t index) {
    StorageSpec storage;
    storage.region = region;
    storage.binding = static_cast<std::uint16_t>(index);
    storage.size = ir::dense_bytes(stored_type(root));
    storage.alignment = kAlignment;
    storage_of_[root] = add_storage(storage);
  }

  std::uint32_t add_weights(const ir::Bytes& bytes) {
    StorageSpec storage;
    storage.region = Region::Weights;
    storage.offset = weights_.add(bytes);
    storage.size = bytes.size();
    const auto [found, added] = weight_storage_.emplace(std::make_pair(storage.offset, storage.size), 0u);
    if (added) found->second = add_storage(storage);
    return found->second;
  }

  std::uint32_t storage_of(ValueId root) {
    const auto found = storage_of_.find(root);
    if (found != storage_of_.end()) return found->second;
    const ir::Value& value = graph_.value(root);
    if (value.is_constant()) return storage_of_[root] = add_weights(value.constant);
    StorageSpec storage;
    storage.size = ir::dense_bytes(stored_type(root));
    storage.alignment = kAlignment;
    return storage_of_[root] = add_storage(storage);
  }

  std::uint32_t tensor_of(ValueId id) {
    const auto found = tensor_of_.find(id);
    if (found != tensor_of_.end()) return found->second;
    const ir::Window window = window_of(id);
    TensorSpec tensor;
    tensor.type = {graph_.value(window.root).stored_type(), graph_.value(id).type.dims};
    tensor.name = graph_.value(id).name;
    tensor.storage = storage_of(window.root);
    tensor.offset = static_cast<std::uint64_t>(window.view.offset) * (bits_of(tensor.type.dtype) / 8);
    tensor.strides = window.view.strides;
    for (std::size_t i = 0; i < tensor.strides.size(); ++i) {
      if (tensor.type.dims[i] == 1) tensor.strides[i] = 1;
    }
    profile_.tensors.push_back(std::move(tensor));
    const std::uint32_t index = tensor_of_[id] = static_cast<std::uint32_t>(profile_.tensors.size() - 1);
    for (const ir::Extent& extent : graph_.value(id).extents) {
      const std::uint32_t actual = tensor_of(extent.actual);
      profile_.tensors[index].extents.emplace_back(extent.dim, actual);
    }
    return index;
  }

  void order_launches(const std::vector<Selected>& selected) {
    steps_of_.assign(graph_.node_count(), {});
    for (const Selected& each : selected) {
      const Candidate& candidate = *each.candidate;
      const auto first = static_cast<std::uint32_t>(steps_.size());
      const auto count = static_cast<std::uint32_t>(candidate.launches.size());
      for (std::uint32_t l = 0; l < count; ++l) {
        steps_.push_back({each.node, &candidate, &candidate.launches[l], &each.kernels->at(l), first, first + count - 1});
        steps_of_[each.node].push_back(first + l);
        for (const NodeId covered : candidate.covered) steps_of_[covered].push_back(first + l);
      }
    }
  }

  /// The value, and what says its extents, are there at step `s`.
  void touch(ValueId id, std::uint32_t s) {
    for (const ir::Extent& extent : graph_.value(id).extents) touch(extent.actual, s);
    Lifetime& lifetime = lifetimes_[window_of(id).root];
    lifetime.first = std::min(lifetime.first, s);
    lifetime.last = std::max(lifetime.last, s);
    if (lifetime.accesses.empty() || lifetime.accesses.back() != s) lifetime.accesses.push_back(s);
  }

  void find_lifetimes() {
    for (std::uint32_t s = 0; s < steps_.size(); ++s) {
      for (const Argument& argument : steps_[s].launch->arguments) {
        if (argument.kind == Argument::Kind::Read || argument.kind == Argument::Kind::Write) touch(argument.value, s);
      }
    }
    // After the last step the caller reads what the outputs' extents are.
    for (const ValueId actual : output_extents()) touch(actual, static_cast<std::uint32_t>(steps_.size()));
  }

  /// What says the extents of this profile's outputs, where its steps make that.
  std::vector<ValueId> output_extents() {
    std::vector<ValueId> actual;
    for (const ir::Graph::Output& output : graph_.outputs()) {
      for (const ir::Extent& extent : graph_.value(output.value).extents) {
        const std::vector<NodeId> makers = ir::producers_of(graph_, extent.actual);
        if (std::none_of(makers.begin(), makers.end(), [&](NodeId node) { return steps_of_[node].empty(); })) actual.push_back(extent.actual);
      }
    }
    return actual;
  }

  /// The weights that the launch two ahead reads first.
  const ir::Bytes* later_weights(std::size_t s) const {
    if (s + kPrefetchDistance >= steps_.size()) return nullptr;
    const Step& later = steps_[s + kPrefetchDistance];
    for (const Argument& argument : later.launch->arguments) {
      if (argument.kind == Argument::Kind::Weights && argument.number == 0) return &later.candidate->weights.at(0);
    }
    return nullptr;
  }

  std::uint32_t workspace_of(const Step& step) {
    const auto found = workspaces_.find(step.first);
    if (found != workspaces_.end()) return found->second;
    StorageSpec storage;
    for (const Launch& launch : step.candidate->launches) storage.size = std::max(storage.size, launch.spec.workspace_bytes);
    storage.alignment = kAlignment;
    storage.first_step = step.first;
    storage.last_step = step.last;
    return workspaces_[step.first] = add_storage(storage);
  }

  std::uint32_t add_counters(std::uint32_t count) {
    StorageSpec storage;
    storage.region = Region::State;
    storage.offset = profile_.state_bytes;
    storage.size = std::uint64_t{count} * 4;
    storage.alignment = kAlignment;
    profile_.state_bytes = align_up(storage.offset + storage.size, kAlignment);
    return add_storage(storage);
  }

  LaunchArgumentSpec resolve(const Argument& argument, std::size_t s) {
    using Kind = LaunchArgumentSpec::Kind;
    const Step& step = steps_[s];
    const auto at_start = [](std::uint32_t storage, std::uint64_t offset = 0) { return LaunchArgumentSpec{Kind::Address, 8, offset, storage}; };
    const ir::Bytes* later = nullptr;
    switch (argument.kind) {
      case Argument::Kind::Read:
      case Argument::Kind::Write: {
        const TensorSpec& tensor = profile_.tensors[tensor_of(argument.value)];
        return at_start(tensor.storage, tensor.offset);
      }
      case Argument::Kind::Weights: return at_start(add_weights(step.candidate->weights.at(argument.number)));
      case Argument::Kind::Workspace: return at_start(workspace_of(step), argument.number);
      case Argument::Kind::Counters: return at_start(add_counters(step.launch->spec.counters));
      case Argument::Kind::Immediate: return {Kind::Immediate, argument.bytes, argument.number, 0};
      case Argument::Kind::LaterWeights:
        later = later_weights(s);
        return later == nullptr ? LaunchArgumentSpec{Kind::Immediate, 8, 0, 0} : at_start(add_weights(*later));
      case Argument::Kind::LaterWeightBytes:
        later = later_weights(s);
        return {Kind::Immediate, argument.bytes, later == nullptr ? 0 : later->size(), 0};
    }
    throw std::logic_error("an argument of no kind");
  }

  void add_step(std::size_t s) {
    const Step& step = steps_[s];
    if (step.candidate->on_host) return add_host_step(graph_.node(step.node));
    const codegen::KernelSpec& kernel = step.launch->spec;
    StepSpec out;
    LaunchSpec& launch = out.launch.emplace();
    launch.call = step.launch->call;
    if (!launch.call) launch.module = modules_.add(code_arch_, kernel.entry, step.kernel->cubin);
    std::copy(std::begin(kernel.grid), std::end(kernel.grid), launch.grid);
    std::copy(std::begin(kernel.block), std::end(kernel.block), launch.block);
    launch.cluster = kernel.cluster;
    launch.shared_bytes = kernel.shared_bytes;
    // Kernels made with an earlier SM's instructions do not wait for the grid before them; what a library queues may end with
    // something else than a kernel.
    launch.programmatic = s > 0 && !steps_[s - 1].candidate->on_host && !steps_[s - 1].launch->call && target_.arch == code_arch_;
    if (step.launch->spread) {
      // Wide and narrow footprints alternate; clusters are always wide.
      narrow_ = narrow_ && kernel.cluster == 1;
      // What needs more than a narrow footprint took up to twice as long in its place (f32 and TF32 convolutions).
      if (step.candidate->compute == DType::F32 && kernel.shared_bytes > codegen::launch_shared_bytes({}, codegen::Footprint::Narrow, target_)) narrow_ = false;
      launch.shared_bytes = codegen::launch_shared_bytes(kernel, narrow_ ? codegen::Footprint::Narrow : codegen::Footprint::Wide, target_);
      narrow_ = !narrow_;
    }
    for (const Argument& argument : step.launch->arguments) {
      if (argument.kind == Argument::Kind::Read) out.inputs.push_back(tensor_of(argument.value));
      if (argument.kind == Argument::Kind::Write) out.outputs.push_back(tensor_of(argument.value));
      launch.arguments.push_back(resolve(argument, s));
    }
    count_work(s, out);
    out.compute = step.candidate->compute;
    out.nodes = graph_.node(step.node).provenance;
    for (const NodeId covered : step.candidate->covered) {
      for (const std::string& name : graph_.node(covered).provenance) {
        if (std::find(out.nodes.begin(), out.nodes.end(), name) == out.nodes.end()) out.nodes.push_back(name);
      }
    }
    profile_.steps.push_back(std::move(out));
  }

  void add_host_step(const ir::Node& node) {
    StepSpec out;
    out.op = node.op;
    out.attributes = node.attributes.bytes();
    out.compute = graph_.value(node.outputs[0]).type.dtype;
    out.nodes = node.provenance;
    for (const ValueId input : node.inputs) out.inputs.push_back(input == kNone ? kNone : tensor_of(input));
    for (const ValueId output : node.outputs) out.outputs.push_back(tensor_of(output));
    profile_.steps.push_back(std::move(out));
  }

  /// Elements of a value that differ in their address.
  std::uint64_t stored_bytes(ValueId id) {
    const TensorSpec& tensor = profile_.tensors[tensor_of(id)];
    std::uint64_t elements = 1;
    for (std::size_t d = 0; d < tensor.type.dims.size(); ++d) {
      if (tensor.strides[d] != 0) elements *= static_cast<std::uint64_t>(tensor.type.dims[d]);
    }
    return (elements * bits_of(tensor.type.dtype) + 7) / 8;
  }

  /// What no way to compute the step can do without: each operand once. Multiply-adds go to a candidate's first launch.
  void count_work(std::size_t s, StepSpec& out) {
    const Step& step = steps_[s];
    std::set<ValueId> seen;
    for (const Argument& argument : step.launch->arguments) {
      const bool operand = argument.kind == Argument::Kind::Read || argument.kind == Argument::Kind::Write;
      if (operand && seen.insert(argument.value).second) out.work.bytes += stored_bytes(argument.value);
      if (argument.kind == Argument::Kind::Weights) out.work.bytes += step.candidate->weights.at(argument.number).size();
    }
    if (s != step.first) return;
    const auto add = [&](NodeId id) {
      const ir::Node& node = graph_.node(id);
      if (node.op->work != nullptr) out.work.multiply_adds += node.op->work({graph_, node.inputs, node.attributes});
    };
    add(step.node);
    for (const NodeId covered : step.candidate->covered) add(covered);
  }

  void plan_arena() {
    memory::Problem problem;
    problem.schedule.steps = static_cast<std::uint32_t>(steps_.size()) + 1;  // the last: the caller reads extents
    std::vector<std::uint32_t> arena;
    const auto add = [&](std::uint32_t index) {
      const StorageSpec& storage = profile_.storages[index];
      arena.push_back(index);
      problem.buffers.push_back({storage.size, storage.alignment, storage.first_step, storage.last_step});
    };
    for (const auto& [root, index] : storage_of_) {
      StorageSpec& storage = profile_.storages[index];
      if (storage.region != Region::Arena) continue;
      storage.first_step = lifetimes_.at(root).first;
      storage.last_step = lifetimes_.at(root).last;
      add(index);
    }
    for (const auto& [step, index] : workspaces_) add(index);
    profile_.arena = memory::plan(problem);
    const std::uint32_t last = steps_.empty() ? 0 : static_cast<std::uint32_t>(steps_.size()) - 1;
    for (std::size_t i = 0; i < arena.size(); ++i) {
      StorageSpec& storage = profile_.storages[arena[i]];
      storage.offset = profile_.arena.offsets[i];
      storage.last_step = std::min(storage.last_step, last);
    }
  }

  /// A tensor's place in the arena in bytes; false when it lies elsewhere.
  bool arena_window(ValueId id, memory::Window& window) {
    const TensorSpec& tensor = profile_.tensors[tensor_of(id)];
    const StorageSpec& storage = profile_.storages[tensor.storage];
    if (storage.region != Region::Arena) return false;
    window.element_bytes = std::max<std::uint64_t>(bits_of(tensor.type.dtype) / 8, 1);
    window.offset = storage.offset + tensor.offset;
    window.dims = tensor.type.dims;
    for (const std::int64_t stride : tensor.strides) window.strides.push_back(stride * static_cast<std::int64_t>(window.element_bytes));
    return true;
  }

  /// Launches of a candidate before step `s` count as producers of what they write: the last may read it again.
  std::vector<std::uint32_t> producers(ValueId id, std::uint32_t s) const {
    std::vector<std::uint32_t> out;
    for (const NodeId node : ir::producers_of(graph_, id)) {
      // Nothing computes a value without elements, also where it is a part of one that has some.
      const bool empty = ir::element_count(graph_.value(graph_.node(node).outputs[0]).type.dims) == 0;
      if (steps_of_[node].empty() && !empty) {
        throw std::logic_error("'" + graph_.value(id).name + "' is read, but its node was taken by another");
      }
      for (const std::uint32_t step : steps_of_[node]) {
        if (step < s || step > steps_[s].last) out.push_back(step);
      }
    }
    return out;
  }

  void prove() {
    const auto end = static_cast<std::uint32_t>(steps_.size());
    std::vector<memory::StepAccess> accesses(end + 1);
    for (const ValueId actual : output_extents()) {
      memory::Window window;
      if (arena_window(actual, window)) accesses[end].reads.push_back({std::move(window), producers(actual, end)});
    }
    for (std::uint32_t s = 0; s < steps_.size(); ++s) {
      bool works = false;
      for (const Argument& argument : steps_[s].launch->arguments) {
        memory::Window window;
        works = works || argument.kind == Argument::Kind::Workspace;
        if (argument.kind == Argument::Kind::Read && arena_window(argument.value, window)) {
          accesses[s].reads.push_back({std::move(window), producers(argument.value, s)});
        } else if (argument.kind == Argument::Kind::Write && arena_window(argument.value, window)) {
          accesses[s].writes.push_back(std::move(window));
        }
      }
      if (!works) continue;
      const StorageSpec& storage = profile_.storages[workspaces_.at(steps_[s].first)];
      accesses[s].writes.push_back({storage.offset, 1, {static_cast<std::int64_t>(storage.size)}, {1}});
    }
    std::vector<memory::StorageUse> uses;
    for (const auto& [root, index] : storage_of_) {
      const StorageSpec& storage = profile_.storages[index];
      if (storage.region == Region::Arena) uses.push_back({storage.offset, storage.size, lifetimes_.at(root).accesses});
    }
    for (const auto& [step, index] : workspaces_) {
      const StorageSpec& storage = profile_.storages[index];
      std::vector<std::uint32_t> all;
      for (std::uint32_t s = storage.first_step; s <= storage.last_step; ++s) all.push_back(s);
      uses.push_back({storage.offset, storage.size, std::move(all)});
    }
    memory::Schedule schedule;
    schedule.steps = end + 1;
    const std::vector<std::string> faults = memory::check(profile_.arena.bytes, schedule, accesses, uses);
    if (!faults.empty()) throw std::logic_error("the memory plan is wrong: " + faults.front());
  }

  const ir::Graph& graph_;
  const families::Target& target_;
  std::uint32_t code_arch_;
  WeightStore& weights_;
  ModuleStore& modules_;
  ir::Windows windows_;
  ProfileSpec profile_;
  std::vector<Step> steps_;
  std::vector<std::vector<std::uint32_t>> steps_of_;  ///< of each node, those that cover it; none for views and Concat
  std::map<ValueId, std::uint32_t> storage_of_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint32_t> weight_storage_;  ///< by offset and size
  std::map<ValueId, std::uint32_t> tensor_of_;
  std::map<ValueId, Lifetime> lifetimes_;                ///< of each root
  std::map<std::uint32_t, std::uint32_t> workspaces_;    ///< storage, by a candidate's first step
  bool narrow_ = false;                                  ///< footprint of the next launch that is spread
};

}  // namespace

std::uint16_t ModuleStore::add(std::uint32_t arch, const std::string& entry, const std::vector<std::byte>& cubin) {
  const std::uint32_t crc = crc32c(cubin.data(), cubin.size());
  const auto [begin, end] = by_crc_.equal_range(crc);
  for (auto it = begin; it != end; ++it) {
    const ModuleSpec& module = modules_[it->second];
    if (module.arch == arch && module.entry == entry && module.cubin == cubin) return static_cast<std::uint16_t>(it->second);
  }
  by_crc_.emplace(crc, modules_.size());
  modules_.push_back({arch, entry, cubin});
  if (modules_.size() > UINT16_MAX) throw ir::BuildError("the plan has more different kernels than it can carry");
  return static_cast<std::uint16_t>(modules_.size() - 1);
}

ProfileSpec lower_selected(const ir::Graph& graph, const families::Target& target, std::uint32_t code_arch, const std::vector<Selected>& selected,
                           WeightStore& weights, ModuleStore& modules) {
  std::vector<ValueId> outputs;
  for (const ir::Graph::Output& output : graph.outputs()) outputs.push_back(output.value);
  return CudaLowering(graph, target, code_arch, weights, modules).run(graph.inputs(), outputs, selected);
}

ProfileSpec lower_alone(const ir::Graph& graph, const families::Target& target, std::uint32_t code_arch, const Selected& selected, std::size_t copies,
                        const std::vector<ValueId>& inputs, const std::vector<ValueId>& outputs, WeightStore& weights, ModuleStore& modules) {
  return CudaLowering(graph, target, code_arch, weights, modules).run(inputs, outputs, std::vector<Selected>(copies, selected));
}

ProfileSpec lower_cuda(ir::Graph& graph, const families::Target& target, const families::PrecisionRequest& precision,
                       const families::Alternatives& alternatives, codegen::Compiler& compiler, WeightStore& weights,
                       ModuleStore& modules, const std::optional<TuningOptions>& tuning, CudaReport& report) {
  families::Precisions precisions(graph, precision);
  if (alternatives.cpu_steps) {
    for (const families::Choice& choice : families::choose_kernels(graph, target, 1, nullptr, alternatives)) {
      if (!choice.candidates[0].on_host) continue;
      precisions.keep_wide(graph, choice.node);
      report.on_host.push_back(families::name_of(graph.node(choice.node)));
    }
  }
  precisions.apply(graph);
  families::insert_conversions(graph, target, precisions);
  ir::verify(graph);
  const std::vector<families::Choice> choices =
      families::choose_kernels(graph, target, tuning ? tuning->candidates : kCandidates, &precisions, alternatives);
  for (const families::Choice& choice : choices) {
    for (const families::Choice::Refused& refused : choice.refused) {
      report.refusals.push_back({refused.family, passes::names_of(graph.node(choice.node)), "", refused.reason});
    }
  }
  std::vector<Selected> selected;
  if (tuning) selected = choose_tactics(graph, target, choices, compiler, *tuning, report.tuning);
  else selected = model_tactics(choices, compiler);
  report.cached = compiler.cache_hits();
  for (const Selected& each : selected) {
    for (const Launch& launch : each.candidate->launches) report.kernels += !launch.spec.job.source.empty();
  }
  return lower_selected(graph, target, compiler.code_arch(target.arch), selected, weights, modules);
}

}  // namespace edgert::plan
