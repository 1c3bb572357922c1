// SPDX-License-Identifier: Apache-2.0
#include "plan/tactics.h"

#include <algorithm>
#include <map>

#include "edgert/sha256.h"
#include "ir/operator_def.h"
#include "plan/tuning_trial.h"
#include "tune/measure.h"

namespace edgert::plan {
namespace {

using families::Candidate;
using families::Choice;
using families::Launch;
using Kernels = std::vector<codegen::CompiledKernel>;

bool spills(const Kernels& kernels) {
  for (const codegen::CompiledKernel& compiled : kernels) {
    for (const codegen::KernelResources& kernel : compiled.kernels) {
      if (kernel.spill_bytes > 0) return true;
    }
  }
  return false;
}

std::string hash_of(const std::string& text, std::size_t digits) {
  Sha256 hash;
  hash.update(text.data(), text.size());
  std::uint8_t digest[Sha256::kDigestBytes];
  hash.finish(digest);
  std::string out;
  for (std::size_t i = 0; i < digits; ++i) out.push_back("0123456789abcdef"[digest[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15]);
  return out;
}

/// All that a candidate's machine code and launches depend on.
std::string kernel_hash(const Candidate& candidate, const std::string& nvrtc) {
  std::string text;
  for (const Launch& launch : candidate.launches) {
    const codegen::KernelSpec& spec = launch.spec;
    text += codegen::compile_key(spec.job, nvrtc) + " " + spec.entry;
    for (int d = 0; d < 3; ++d) text += " " + std::to_string(spec.grid[d]) + "," + std::to_string(spec.block[d]);
    if (launch.call) text.append(launch.call->problem.begin(), launch.call->problem.end());
    text += " " + std::to_string(spec.cluster) + " " + std::to_string(spec.shared_bytes) + (launch.spread ? " spread;" : ";");
  }
  return hash_of(text, 32);
}

/// What a node and those that its kernels cover are, without names: equal for equal work.
class Signature {
 public:
  explicit Signature(const families::Context& context) : context_(context) {}

  std::string of(const Choice& choice) {
    full_ = choice.family->name;
    for (const ir::NodeId id : choice.candidates[0].covered) add(context_.graph().node(id));
    const ir::Node& node = context_.graph().node(choice.node);
    add(node);
    // For people the operator and its operands; for the rest a hash.
    std::string text = std::string(choice.family->name) + ": " + node.op->name;
    for (const ir::ValueId input : node.inputs) text += " " + brief(input);
    text += " -> " + brief(node.outputs[0]);
    return text.substr(0, 400) + " #" + hash_of(full_, 16);
  }

 private:
  std::string brief(ir::ValueId id) const {
    if (id == ir::kNone) return "-";
    const ir::Value& value = context_.graph().value(id);
    return ir::to_string(ir::TensorType{value.is_constant() ? value.type.dtype : context_.operand(id).dtype, value.type.dims});
  }
  void add(const ir::Node& node) {
    full_ += std::string(";") + node.op->name + " ";
    const std::vector<std::byte>& bytes = node.attributes.bytes();
    full_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (const ir::ValueId id : node.inputs) add(id);
    for (const ir::ValueId id : node.outputs) add(id);
  }
  void add(ir::ValueId id) {
    if (id == ir::kNone) return full_.append("|-"), void();
    const families::Operand operand = context_.operand(id);
    full_ += "|" + ir::to_string(ir::TensorType{operand.dtype, operand.dims}) + ir::to_string(operand.strides) + std::to_string(operand.alignment) +
             (operand.constant ? "c" : "");
  }

  const families::Context& context_;
  std::string full_;
};

/// All weights one behind the other.
tune::Blob blob_of(const WeightStore& weights) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(weights.size()));
  for (const WeightStore::Piece& piece : weights.pieces()) {
    if (piece.bytes.size() != 0) std::memcpy(bytes.data() + piece.offset, piece.bytes.data(), piece.bytes.size());
  }
  return tune::make_blob(ir::Bytes::adopt(std::move(bytes)));
}

/// The weights, if there are any, become one more input, so that plans that share them are small. They are gone from
/// `spec`.
void move_weights_to_input(PlanSpec& spec) {
  if (spec.weights.size() == 0) return;
  const auto size = static_cast<std::size_t>(spec.weights.size());
  ProfileSpec& profile = spec.profiles.at(0);
  StorageSpec storage;
  storage.region = Region::Input;
  storage.binding = static_cast<std::uint16_t>(spec.inputs.size());
  storage.size = size;
  const auto place = static_cast<std::uint32_t>(profile.storages.size());
  for (TensorSpec& tensor : profile.tensors) {
    if (profile.storages[tensor.storage].region != Region::Weights) continue;
    tensor.offset += profile.storages[tensor.storage].offset;
    tensor.storage = place;
  }
  for (StepSpec& step : profile.steps) {
    for (LaunchArgumentSpec& argument : step.launch->arguments) {
      const bool weight = argument.kind == LaunchArgumentSpec::Kind::Address && profile.storages[argument.storage].region == Region::Weights;
      if (!weight) continue;
      argument.value += profile.storages[argument.storage].offset;
      argument.storage = place;
    }
  }
  for (StorageSpec& each : profile.storages) {
    if (each.region == Region::Weights) each = storage;
  }
  profile.storages.push_back(storage);
  TensorSpec tensor;
  tensor.type = {DType::U8, {static_cast<std::int64_t>(size)}};
  tensor.storage = place;
  tensor.strides = {1};
  profile.inputs.push_back(static_cast<std::uint32_t>(profile.tensors.size()));
  profile.tensors.push_back(tensor);
  spec.inputs.push_back({"weights", DType::U8, {static_cast<std::int64_t>(size)}, {}});
  spec.weights = WeightStore();
}

/// See model_tactics(); nothing for choices that are `decided`.
std::vector<Selected> estimated_tactics(const std::vector<Choice>& choices, codegen::Compiler& compiler,
                                        const std::vector<std::optional<std::size_t>>& decided) {
  std::vector<Selected> out(choices.size());
  std::vector<std::size_t> open;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (!decided[i]) open.push_back(i);
  }
  for (std::size_t round = 0; !open.empty(); ++round) {
    std::vector<codegen::CompileJob> jobs;
    for (const std::size_t i : open) {
      for (const Launch& launch : choices[i].candidates[round].launches) jobs.push_back(launch.spec.job);
    }
    std::vector<codegen::CompiledKernel> results = compiler.compile(jobs);
    std::vector<std::size_t> again;
    std::size_t next = 0;
    for (const std::size_t i : open) {
      const Candidate& candidate = choices[i].candidates[round];
      Kernels kernels;
      for (std::size_t l = 0; l < candidate.launches.size(); ++l) kernels.push_back(std::move(results[next++]));
      const bool spilling = spills(kernels);
      if (out[i].candidate == nullptr || !spilling) out[i] = {choices[i].node, &candidate, std::make_shared<const Kernels>(std::move(kernels))};
      if (spilling && round + 1 < choices[i].candidates.size()) again.push_back(i);
    }
    open = std::move(again);
  }
  return out;
}

/// Work that occurs once or more often, and has more than one tactic.
struct Group {
  std::string signature;
  std::vector<std::size_t> choices;  ///< where it occurs
  std::vector<tune::Tactic> tactics;
  tune::Records::Known known;
};

class TacticChooser {
 public:
  TacticChooser(const ir::Graph& graph, const families::Target& target, const std::vector<Choice>& choices, codegen::Compiler& compiler,
                const TuningOptions& options, TuningReport& report)
      : graph_(graph), target_(target), choices_(choices), compiler_(compiler), options_(options), report_(report) {}

  std::vector<Selected> run() {
    open_records();
    find_groups();
    for (Group& group : groups_) {
      group.known = records_.find(group.signature, group.tactics, network_);
      report_.stale += group.known.stale;
      report_.from_records += group.known.best.has_value();
    }
    report_.shapes += groups_.size();
    if (options_.worker != nullptr) {
      measure_missing();
      // The worker runs graphs, no CPU steps.
      const bool one_graph = std::none_of(choices_.begin(), choices_.end(), [](const Choice& choice) { return choice.candidates[0].on_host; });
      if (one_graph) tune_network();
      report_.seconds += options_.worker->busy_seconds() - busy_before_;
    }
    check_misses();
    return select([](const Group& group) { return group.known.best; });
  }

 private:
  using Key = std::pair<std::size_t, std::size_t>;  ///< choice and candidate

  void open_records() {
    tune::Scope scope{compiler_.code_arch(target_.arch), static_cast<std::uint32_t>(target_.multiprocessors), compiler_.nvrtc_version(), options_.profile};
    if (options_.worker != nullptr) {
      busy_before_ = options_.worker->busy_seconds();
      const tune::Device& device = options_.worker->device();
      report_.device = device.name;
      if (device.arch != scope.sm || device.multiprocessors != scope.multiprocessors) {
        throw ir::BuildError("tuning: the plan is for sm_" + std::to_string(scope.sm) + " with " + std::to_string(scope.multiprocessors) +
                             " multiprocessors, but the device here, " + device.name + ", is sm_" + std::to_string(device.arch) + " with " +
                             std::to_string(device.multiprocessors));
      }
      if (scope.profile.empty()) scope.profile = device.name;
      stamp_ = tune::make_stamp(device, scope);
    }
    records_ = tune::Records(options_.records, scope);
    report_.other_devices = records_.from_other_devices();
    report_.other_compilers = records_.from_other_compilers();
  }

  void find_groups() {
    const families::Context context(graph_, target_);
    std::map<std::string, std::size_t> known;
    std::string all;
    for (std::size_t c = 0; c < choices_.size(); ++c) {
      const std::string signature = Signature(context).of(choices_[c]);
      std::string key = signature;
      std::vector<tune::Tactic> tactics;
      for (const Candidate& candidate : choices_[c].candidates) {
        tactics.push_back({candidate.tactic, kernel_hash(candidate, compiler_.nvrtc_version())});
        key += " " + tactics.back().kernel;
      }
      all += key + "\n";
      if (tactics.size() < 2) continue;
      const auto [found, added] = known.emplace(key, groups_.size());
      if (added) groups_.push_back({signature, {}, std::move(tactics), {}});
      groups_[found->second].choices.push_back(c);
    }
    network_ = hash_of(all, 32);
  }

  const Choice& choice_of(const Group& group) const { return choices_[group.choices[0]]; }

  /// Compiles what is not compiled yet of these candidates, all at once.
  void compile(const std::vector<Key>& wanted) {
    std::vector<codegen::CompileJob> jobs;
    std::vector<Key> fresh;
    for (const Key& key : wanted) {
      if (compiled_.count(key) != 0) continue;
      compiled_[key] = nullptr;
      fresh.push_back(key);
      for (const Launch& launch : choices_[key.first].candidates[key.second].launches) jobs.push_back(launch.spec.job);
    }
    std::vector<codegen::CompiledKernel> results = compiler_.compile(jobs);
    std::size_t next = 0;
    for (const Key& key : fresh) {
      auto kernels = std::make_shared<Kernels>();
      for (std::size_t l = 0; l < choices_[key.first].candidates[key.second].launches.size(); ++l) kernels->push_back(std::move(results[next++]));
      compiled_[key] = std::move(kernels);
    }
  }

  void progress(const std::string& what, double fraction) const {
    if (options_.progress) options_.progress(what, fraction);
  }

  void measure_missing() {
    std::vector<Group*> open;
    std::vector<Key> wanted;
    for (Group& group : groups_) {
      if (group.known.best) continue;
      open.push_back(&group);
      for (std::size_t i = 0; i < group.tactics.size(); ++i) wanted.emplace_back(group.choices[0], i);
    }
    if (open.empty()) return;
    progress("compile " + std::to_string(wanted.size()) + " kernels", 0);
    compile(wanted);
    for (std::size_t g = 0; g < open.size(); ++g) {
      progress("kernels: " + std::to_string(g + 1) + " of " + std::to_string(open.size()) + " shapes", static_cast<double>(g) / static_cast<double>(open.size()) / 2);
      measure(*open[g]);
    }
  }

  void measure(Group& group) {
    const Choice& choice = choice_of(group);
    TuningTrial trial;
    try {
      trial = make_tuning_trial(graph_, choice);
    } catch (const ir::BuildError& error) {
      report_.rejected.push_back(group.signature + ": not tuned, since the CPU has no result for it: " + error.what());
      return;
    }
    std::vector<std::size_t> usable;
    for (std::size_t i = 0; i < group.tactics.size(); ++i) {
      if (!spills(*compiled_.at({group.choices[0], i}))) usable.push_back(i);
    }
    if (usable.empty()) usable.push_back(0);
    tune::Problem problem;
    problem.signature = group.signature;
    for (const std::size_t i : usable) {
      problem.alternatives.push_back({group.tactics[i], [this, &group, &trial, i] { return job_of(group, trial, i); }});
    }
    std::size_t good = 0;
    std::string last;
    tune::measure(*options_.worker, problem, *stamp_, [&](const tune::Record& record) {
      records_.add(record);
      if (options_.on_record) options_.on_record(record);
      ++report_.kernels;
      good += record.ok();
      if (record.ok()) return;
      last = record.verdict + (record.detail.empty() ? "" : ": " + record.detail);
      report_.rejected.push_back(group.signature + ": " + record.tactic + ": " + last);
    });
    if (good == 0) {
      throw ir::BuildError("tuning: none of " + std::to_string(usable.size()) + " kernels for " + group.signature + " is right on this device; the last: " + last);
    }
    group.known = records_.find(group.signature, group.tactics, network_);
    ++report_.measured;
  }

  tune::Job job_of(const Group& group, const TuningTrial& trial, std::size_t tactic) const {
    PlanSpec spec = empty_plan();
    const auto bind = [this](std::vector<BindingSpec>& to, const std::vector<ir::ValueId>& roots) {
      for (const ir::ValueId root : roots) to.push_back({"b" + std::to_string(root), graph_.value(root).stored_type(), graph_.value(root).type.dims, {}});
    };
    bind(spec.inputs, trial.inputs);
    bind(spec.outputs, trial.outputs);
    const Selected selected = {choice_of(group).node, &choice_of(group).candidates[tactic], compiled_.at({group.choices[0], tactic})};
    ModuleStore modules;
    spec.profiles.push_back(lower_alone(graph_, target_, compiler_.code_arch(target_.arch), selected, std::max<std::size_t>(options_.effort.copies, 1), trial.inputs, trial.outputs, spec.weights, modules));
    spec.modules = modules.take();
    tune::Job job;
    job.request = options_.effort;
    job.checks = trial.checks;
    job.bindings = trial.contents;
    if (spec.weights.size() > 0) {
      job.bindings.insert(job.bindings.begin() + static_cast<std::ptrdiff_t>(trial.inputs.size()), blob_of(spec.weights));
      for (tune::Job::Expectation& each : job.checks) ++each.check.binding;  // checks are of outputs, which come behind
      move_weights_to_input(spec);
    }
    job.plan = write(spec);
    return job;
  }

  PlanSpec empty_plan() const {
    PlanSpec spec;
    spec.target = "sm_" + std::to_string(compiler_.code_arch(target_.arch));
    return spec;
  }

  void tune_network() {
    const bool decided = std::all_of(groups_.begin(), groups_.end(), [](const Group& group) { return group.known.in_network || !group.known.best; });
    if (decided) return;
    tune::Network network;
    std::vector<Group*> pieces;
    for (Group& group : groups_) {
      if (!group.known.best) continue;
      tune::Network::Piece piece;
      piece.fixed = group.known.pinned;
      for (std::size_t i = 0; i < group.tactics.size(); ++i) {
        const std::optional<tune::Record>& record = group.known.alone[i];
        if (record && record->ok()) piece.ways.push_back(i);
      }
      const auto time = [&group](std::size_t i) { return group.known.alone[i] ? group.known.alone[i]->median_us : 0; };
      std::stable_sort(piece.ways.begin(), piece.ways.end(), [&](std::size_t a, std::size_t b) { return time(a) < time(b); });
      if (piece.fixed || piece.ways.empty()) piece.ways = {*group.known.best};
      // The model's choice, if it is right.
      piece.estimated = piece.ways[0];
      for (const std::size_t i : piece.ways) piece.estimated = std::min(piece.estimated, i);
      piece.share_us = time(piece.ways[0]) * static_cast<double>(group.choices.size());
      network.pieces.push_back(std::move(piece));
      pieces.push_back(&group);
    }
    Whole whole = prepare_whole();
    network.time = [&](const std::vector<std::size_t>& alternatives) {
      for (std::size_t p = 0; p < pieces.size(); ++p) pieces[p]->known.best = alternatives[p];
      return options_.worker->run(whole_job(whole));
    };
    const double left = options_.seconds - (options_.worker->busy_seconds() - busy_before_);
    const tune::NetworkChoice chosen = tune::choose_in_network(network, left, [&](std::size_t, double best) {
      char text[64];
      std::snprintf(text, sizeof(text), "network: %.1f us", best);
      progress(text, 0.5 + 0.5 * std::min(1.0, (options_.worker->busy_seconds() - busy_before_) / std::max(options_.seconds, 1.0)));
    });
    report_.untuned_us += chosen.untuned_us, report_.tuned_us += chosen.tuned_us, report_.trials += chosen.trials;
    for (std::size_t p = 0; p < pieces.size(); ++p) keep_choice(*pieces[p], chosen.alternatives[p], chosen.tuned_us);
  }

  void keep_choice(Group& group, std::size_t tactic, double network_us) {
    group.known.best = tactic;
    if (group.known.pinned || network_us == 0) return;
    tune::Record record = stamp_->record;
    record.signature = group.signature, record.network = network_;
    record.tactic = group.tactics[tactic].name, record.kernel = group.tactics[tactic].kernel;
    record.verdict = "ok";
    record.median_us = record.low_us = record.high_us = network_us;
    records_.add(record);
    if (options_.on_record) options_.on_record(record);
  }

  /// What all runs of the whole network have in common.
  struct Whole {
    WeightStore weights;  ///< only grows
    std::uint64_t size = 0;  ///< of the weights that are in `blob`
    std::optional<tune::Blob> blob;
    std::vector<std::optional<tune::Blob>> inputs;
  };

  Whole prepare_whole() const {
    Whole whole;
    for (const ir::ValueId id : graph_.inputs()) whole.inputs.push_back(tuning_input(graph_, id));
    return whole;
  }

  tune::Job whole_job(Whole& whole) {
    const std::vector<Selected> selected = select([](const Group& group) { return group.known.best; });
    PlanSpec spec = empty_plan();
    ModuleStore modules;
    spec.profiles.push_back(lower_selected(graph_, target_, compiler_.code_arch(target_.arch), selected, whole.weights, modules));
    spec.modules = modules.take();
    for (const ir::ValueId id : graph_.inputs()) spec.inputs.push_back({graph_.value(id).name, graph_.value(id).stored_type(), graph_.value(id).type.dims, {}});
    for (const ir::Graph::Output& output : graph_.outputs()) {
      spec.outputs.push_back({output.name, graph_.value(output.value).stored_type(), graph_.value(output.value).type.dims, {}});
    }
    if (whole.weights.size() > whole.size) whole.blob = blob_of(whole.weights);
    whole.size = whole.weights.size();
    spec.weights = whole.weights;
    move_weights_to_input(spec);
    tune::Job job;
    job.bindings = whole.inputs;
    if (whole.blob) job.bindings.push_back(whole.blob);
    for (std::size_t i = 0; i < spec.outputs.size(); ++i) job.bindings.push_back(std::nullopt);
    job.request.repetitions = 1;
    job.request.samples = options_.network_samples;
    job.plan = write(spec);
    return job;
  }

  void check_misses() {
    std::string text;
    std::size_t missed = 0;
    for (const Group& group : groups_) {
      if (group.known.best) continue;
      ++missed;
      text += "\n  " + group.signature;
    }
    report_.missed += missed;
    if (missed > 0 && options_.error_on_miss) {
      std::string why;
      if (report_.stale > 0) why += ", " + std::to_string(report_.stale) + " records are of older kernels";
      if (report_.other_devices > 0) why += ", " + std::to_string(report_.other_devices) + " of other devices";
      if (report_.other_compilers > 0) why += ", " + std::to_string(report_.other_compilers) + " of other NVRTC versions than " + compiler_.nvrtc_version();
      throw ir::BuildError("no tuning record says how to compute " + std::to_string(missed) + " of " + std::to_string(groups_.size()) + " shapes" + why + ":" + text);
    }
  }

  /// All nodes with the tactics that `best` gives for groups, and the model's elsewhere.
  template <class Best>
  std::vector<Selected> select(Best best) {
    std::vector<std::optional<std::size_t>> chosen(choices_.size());
    std::vector<Key> wanted;
    for (const Group& group : groups_) {
      const std::optional<std::size_t> tactic = best(group);
      if (!tactic) continue;
      wanted.emplace_back(group.choices[0], *tactic);
      for (const std::size_t c : group.choices) chosen[c] = tactic;
    }
    compile(wanted);
    if (model_.empty()) model_ = estimated_tactics(choices_, compiler_, chosen);
    std::vector<Selected> out = model_;
    for (const Group& group : groups_) {
      for (const std::size_t c : group.choices) {
        if (chosen[c]) out[c] = {choices_[c].node, &choices_[c].candidates[*chosen[c]], compiled_.at({group.choices[0], *chosen[c]})};
      }
    }
    return out;
  }

  const ir::Graph& graph_;
  const families::Target& target_;
  const std::vector<Choice>& choices_;
  codegen::Compiler& compiler_;
  const TuningOptions& options_;
  TuningReport& report_;
  tune::Records records_;
  std::optional<tune::Stamp> stamp_;
  std::vector<Group> groups_;
  std::string network_;
  std::map<Key, std::shared_ptr<const Kernels>> compiled_;
  std::vector<Selected> model_;
  double busy_before_ = 0;
};

}  // namespace

std::vector<Selected> model_tactics(const std::vector<Choice>& choices, codegen::Compiler& compiler) {
  return estimated_tactics(choices, compiler, std::vector<std::optional<std::size_t>>(choices.size()));
}

std::vector<Selected> choose_tactics(const ir::Graph& graph, const families::Target& target, const std::vector<Choice>& choices,
                                     codegen::Compiler& compiler, const TuningOptions& options, TuningReport& report) {
  return TacticChooser(graph, target, choices, compiler, options, report).run();
}

}  // namespace edgert::plan
