// SPDX-License-Identifier: Apache-2.0
#include "plan/lower.h"

#include <algorithm>
#include <stdexcept>

#include "edgert/checked.h"
#include "edgert/cpu/ops/loop.h"
#include "edgert/crc32c.h"
#include "edgert/plan_rules.h"
#include "ir/parts.h"
#include "ops/control_flow.h"
#include "ops/definitions.h"
#include "plan/proof.h"

namespace edgert::plan {
namespace {

using ir::kNone;
using ir::Node;
using ir::NodeId;
using ir::ValueId;

constexpr std::uint64_t kMaxParts = 16;

/// Steps are numbered in the order in which they would run if every body ran once: a step with bodies begins, its bodies
/// run, it ends. A buffer lives from one such time to another.
struct Lifetime {
  std::uint32_t first = UINT32_MAX;
  std::uint32_t last = 0;
};

/// What the lists of a profile have in common.
struct Profile {
  explicit Profile(WeightStore& store) : weights(store) {}
  WeightStore& weights;
  ProfileSpec spec;
  std::vector<Lifetime> lifetimes;  ///< of each storage; those that are not in the arena have none
  std::uint32_t played = 0;         ///< steps that have a number (Played::number)
};

/// A place that a list is given for one of its values by the step that owns it, and who fills it.
struct Place {
  std::uint32_t storage = 0;
  std::uint64_t offset = 0;
  std::vector<std::uint32_t> makers;
};

/// Whether the graph's node becomes a step.
bool is_step(const Node& node) { return node.op->view == nullptr && !ops::is_concat(*node.op); }

/// How many times (see Lifetime) the steps of a graph take.
std::uint32_t times_of(const ir::Graph& graph);
std::uint32_t times_of(const Node& node) {
  std::uint32_t times = node.bodies.empty() ? 1 : 2;
  for (const ir::Graph& body : node.bodies) times += times_of(body);
  return times;
}
std::uint32_t times_of(const ir::Graph& graph) {
  std::uint32_t times = 0;
  for (const NodeId id : graph.topological_order()) times += is_step(graph.node(id)) ? times_of(graph.node(id)) : 0;
  return times;
}

/// One list: the graph itself, or a body.
class ListLowering {
 public:
  /// `owner` is the step of list 0 that the list runs in; `begin` and `end` the times at which the list has not begun
  /// and has ended.
  ListLowering(const ir::Graph& graph, Profile& profile, std::uint32_t depth, std::uint32_t owner, std::uint32_t begin)
      : graph_(graph), profile_(profile), windows_(graph), depth_(depth), owner_(owner), begin_(begin) {}

  /// Where the value's root lies, before lower().
  void place(ValueId root, Place place) { places_[root] = std::move(place); }
  /// Where a value lies that this list makes for who reads it later, before lower(). Nothing else may be at its root: what
  /// comes from outside, constants and the root of another result would never be written there.
  void place_result(ValueId value, Place place) {
    const ValueId root = window_of(value).root;
    const bool made = graph_.value(root).producer != kNone && !graph_.value(root).is_constant();
    if (!made || !places_.emplace(root, std::move(place)).second) {
      throw std::logic_error("'" + graph_.value(value).name + "' is no result with a place of its own; the layout pass must run first");
    }
  }
  /// The value is read after the list has ended.
  void keep(ValueId id) { kept_.push_back(id); }

  std::vector<StepSpec> lower() {
    for (const NodeId id : graph_.topological_order()) {
      if (is_step(graph_.node(id)) && !writes_state(id)) nodes_.push_back(id);
    }
    // The new values of states come last, when nobody reads the old ones any more.
    for (const NodeId id : graph_.topological_order()) {
      if (is_step(graph_.node(id)) && writes_state(id)) nodes_.push_back(id);
    }
    std::uint32_t time = begin_;
    number_of_.assign(graph_.node_count(), kNone);
    for (const NodeId id : nodes_) {
      times_.push_back(time);
      time += times_of(graph_.node(id));
      number_of_[id] = profile_.played++;
    }
    end_ = time;
    find_lifetimes();
    reuse_in_place();
    std::vector<StepSpec> steps;
    for (std::uint32_t i = 0; i < nodes_.size(); ++i) steps.push_back(make_step(i));
    return steps;
  }

  std::vector<Played>& played() { return played_; }
  std::uint32_t end() const { return end_; }

  std::uint32_t tensor_of(ValueId id) {
    if (id == kNone) return kNone;
    const auto found = tensor_of_.find(id);
    if (found != tensor_of_.end()) return found->second;
    const ir::Value& value = graph_.value(id);
    TensorSpec tensor;
    tensor.type = value.type;
    tensor.format = value.format;
    tensor.name = value.name;
    if (value.format == WeightFormat::Strided) {
      const ir::Window window = window_of(id);
      const std::uint32_t bits = bits_of(value.type.dtype);
      if (bits % 8 != 0 && (window.view.offset != 0 || !ir::is_row_major(window.view))) {
        throw ir::BuildError("'" + value.name + "': windows into tensors of " + edgert::to_string(value.type.dtype) +
                             " elements are not supported");
      }
      const auto placed = places_.find(window.root);
      tensor.storage = placed != places_.end() ? placed->second.storage : storage_of(window.root);
      tensor.offset = (placed != places_.end() ? placed->second.offset : 0) +
                      static_cast<std::uint64_t>(window.view.offset) * (bits / 8);
      tensor.strides = window.view.strides;
      // An extent of 1 is never stepped over; the kernels' fast paths look for the dense stride.
      for (std::size_t i = 0; i < tensor.strides.size(); ++i) {
        if (tensor.type.dims[i] == 1 && tensor.strides[i] == 0) tensor.strides[i] = 1;
      }
    } else {
      tensor.storage = storage_of(id);
    }
    const auto index = static_cast<std::uint32_t>(profile_.spec.tensors.size());
    profile_.spec.tensors.push_back(std::move(tensor));
    tensor_of_[id] = index;
    for (const ir::Extent& extent : value.extents) {
      const std::uint32_t actual = tensor_of(extent.actual);
      profile_.spec.tensors[index].extents.emplace_back(extent.dim, actual);
    }
    return index;
  }

  PlayedRead read_of(ValueId id) {
    PlayedRead read;
    read.tensor = tensor_of(id);
    for (const NodeId producer : ir::producers_of(graph_, id)) read.makers.push_back(number_of_[producer]);
    for (const ValueId root : roots_of(id)) {
      const auto placed = places_.find(root);
      if (placed == places_.end()) continue;
      read.makers.insert(read.makers.end(), placed->second.makers.begin(), placed->second.makers.end());
    }
    return read;
  }

  /// The value and what says its extents.
  void append_reads(ValueId id, std::vector<PlayedRead>& reads) {
    if (id == kNone) return;
    reads.push_back(read_of(id));
    for (const ir::Extent& extent : graph_.value(id).extents) append_reads(extent.actual, reads);
  }

 private:
  bool writes_state(NodeId id) const {
    const ValueId output = graph_.node(id).outputs[0];
    return std::any_of(graph_.states().begin(), graph_.states().end(),
                       [output](const ir::Graph::State& state) { return state.output == output; });
  }

  ir::Window window_of(ValueId id) {
    const std::optional<ir::Window> window = windows_.find(id);
    if (!window) throw std::logic_error("'" + graph_.value(id).name + "' is no window; the layout pass must run first");
    return *window;
  }

  /// The graph inputs that a value is made of without a step in between.
  std::vector<ValueId> roots_of(ValueId id) const {
    const Node* producer = graph_.producer(id);
    if (producer == nullptr) return {id};
    std::vector<ValueId> roots;
    const std::size_t count = is_step(*producer) ? 0 : producer->op->view != nullptr ? 1 : producer->inputs.size();
    for (std::size_t i = 0; i < count; ++i) {
      for (const ValueId root : roots_of(producer->inputs[i])) roots.push_back(root);
    }
    return roots;
  }

  /// The storage of a root value, made when first asked for.
  std::uint32_t storage_of(ValueId root) {
    const auto found = storage_of_.find(root);
    if (found != storage_of_.end()) return found->second;
    const ir::Value& value = graph_.value(root);
    StorageSpec storage;
    Lifetime lifetime;
    if (value.is_constant()) {
      storage.region = Region::Weights;
      storage.offset = profile_.weights.add(value.constant);
      storage.size = value.constant.size();
    } else {
      storage.size = ir::dense_bytes(value.type);
      lifetime = lifetimes_.at(root);
    }
    storage_of_[root] = add_storage(storage, lifetime);
    return storage_of_[root];
  }

  std::uint32_t add_storage(StorageSpec storage, const Lifetime& lifetime) {
    if (storage.region == Region::Arena) {
      storage.first_step = depth_ == 0 ? step_at(lifetime.first) : owner_;
      storage.last_step = depth_ == 0 ? step_at(lifetime.last) : owner_;
    }
    profile_.spec.storages.push_back(storage);
    profile_.lifetimes.push_back(lifetime);
    return static_cast<std::uint32_t>(profile_.spec.storages.size() - 1);
  }

  /// The step of this list that runs at a time.
  std::uint32_t step_at(std::uint32_t time) const {
    const auto after = std::upper_bound(times_.begin(), times_.end(), time);
    return static_cast<std::uint32_t>(after - times_.begin() - 1);
  }

  std::uint32_t end_of(std::uint32_t step) const { return times_[step] + times_of(graph_.node(nodes_[step])) - 1; }

  void touch(ValueId id, std::uint32_t first, std::uint32_t last) {
    if (id == kNone) return;
    for (const ir::Extent& extent : graph_.value(id).extents) touch(extent.actual, first, last);
    if (graph_.value(id).format != WeightFormat::Strided) return;
    Lifetime& lifetime = lifetimes_[window_of(id).root];
    lifetime.first = std::min(lifetime.first, first);
    lifetime.last = std::max(lifetime.last, last);
  }

  void find_lifetimes() {
    for (std::uint32_t step = 0; step < nodes_.size(); ++step) {
      const Node& node = graph_.node(nodes_[step]);
      for (const ValueId input : node.inputs) touch(input, times_[step], end_of(step));
      for (const ValueId output : node.outputs) touch(output, times_[step], end_of(step));
    }
    for (const ValueId id : kept_) touch(id, end_, end_);
  }

  bool is_arena_root(ValueId root) {
    const ir::Value& value = graph_.value(root);
    return !value.is_constant() && value.producer != kNone && places_.find(root) == places_.end();
  }

  /// A result takes over the storage of an operand that nobody needs any more: the same window of both roots.
  void reuse_in_place() {
    for (std::uint32_t step = 0; step < nodes_.size(); ++step) {
      const Node& node = graph_.node(nodes_[step]);
      if (node.op->in_place == 0 || node.outputs.size() != 1) continue;
      const ir::Window out = window_of(node.outputs[0]);
      if (out.root != node.outputs[0] || !is_arena_root(out.root)) continue;
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        if (may_overwrite(node, i) && node.inputs[i] != kNone && merge(node, node.inputs[i], out, step)) break;
      }
    }
    for (const auto& [root, target] : merged_) storage_of_[root] = storage_of(final_root(target));
  }

  ValueId final_root(ValueId root) const {
    auto found = merged_.find(root);
    while (found != merged_.end()) {
      root = found->second;
      found = merged_.find(root);
    }
    return root;
  }

  static bool may_overwrite(const Node& node, std::size_t i) {
    return i < 32 && (node.op->in_place >> i & 1u) != 0;
  }

  bool merge(const Node& node, ValueId input, const ir::Window& out, std::uint32_t step) {
    const ir::Window in = window_of(input);
    const ValueId target = final_root(in.root);
    const ir::Value& root = graph_.value(in.root);
    if (!is_arena_root(in.root) || !is_arena_root(target) || lifetimes_[target].last != times_[step]) return false;
    if (!ir::same_window(in.view, out.view)) return false;
    if (ir::dense_bytes(root.type) != ir::dense_bytes(graph_.value(out.root).type)) return false;
    if (bits_of(root.type.dtype) != bits_of(graph_.value(out.root).type.dtype)) return false;
    // Another operand in the same storage would see half of the result, unless it may be overwritten just so itself.
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId other = node.inputs[i];
      if (other == kNone || graph_.value(other).format != WeightFormat::Strided) continue;
      const ir::Window read = window_of(other);
      if (final_root(read.root) == target && !(may_overwrite(node, i) && ir::same_window(read.view, out.view))) return false;
    }
    merged_[out.root] = target;
    lifetimes_[target].last = std::max(lifetimes_[target].last, lifetimes_[out.root].last);
    return true;
  }

  StepSpec make_step(std::uint32_t index) {
    const Node& node = graph_.node(nodes_[index]);
    if (node.op->kernel == nullptr) throw ir::BuildError(std::string(node.op->name) + " has no CPU kernel");
    StepSpec step;
    step.op = node.op;
    step.attributes = node.attributes.bytes();
    step.compute = graph_.value(node.outputs[0]).type.dtype;
    step.nodes = node.provenance;
    Played played;
    played.number = number_of_[nodes_[index]];
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const std::size_t first = played.reads.size();
      append_reads(node.inputs[i], played.reads);
      if (first < played.reads.size()) played.reads[first].until_end = !may_overwrite(node, i);
    }
    for (const ValueId output : node.outputs) {
      step.outputs.push_back(tensor_of(output));
      played.writes.push_back(step.outputs.back());
    }
    if (!node.bodies.empty()) {
      add_bodies(index, step, played);
    } else {
      for (const ValueId input : node.inputs) step.inputs.push_back(tensor_of(input));
      const std::uint64_t work = node.op->work != nullptr
                                     ? node.op->work({graph_, node.inputs, node.attributes}) / ir::kMultiplyAddsPerPart
                                     : static_cast<std::uint64_t>(ir::element_count(graph_.value(node.outputs[0]).type.dims)) /
                                           ir::kElementsPerPart;
      step.parts = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(work, 1, kMaxParts));
    }
    played_.push_back(std::move(played));
    return step;
  }

  void add_bodies(std::uint32_t index, StepSpec& step, Played& played) {
    const Node& node = graph_.node(nodes_[index]);
    if (depth_ == rules::kMaxBodyDepth) {
      throw ir::BuildError("If and Loop are nested more than " + std::to_string(rules::kMaxBodyDepth) + " deep");
    }
    std::uint32_t begin = times_[index] + 1;
    for (std::size_t b = 0; b < node.bodies.size(); ++b) {
      const ir::Graph& body = node.bodies[b];
      ListLowering list(body, profile_, depth_ + 1, depth_ == 0 ? index : owner_, begin);
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        const std::optional<ops::BodyInput> inside = ops::captured_by(node, i);
        if (inside && inside->body == b) list.place(body.inputs()[inside->input], place_of(node.inputs[i]));
      }
      profile_.spec.bodies.emplace_back();
      const std::size_t number = profile_.spec.bodies.size();
      if (number >= rules::kMaxLists) throw ir::BuildError("there are too many bodies of If and Loop");
      step.bodies.push_back(static_cast<std::uint16_t>(number));
      played.bodies.emplace_back();
      if (node.op == &ops::kLoop) {
        lower_loop(index, list, body, step, played);
      } else {
        lower_branch(index, list, body, step, played);
      }
      profile_.spec.bodies[number - 1] = std::move(steps_);
      played.bodies.back().steps = std::move(list.played());
      begin = list.end();
    }
  }

  /// Where a value lies that a body reads.
  Place place_of(ValueId id) {
    const PlayedRead read = read_of(id);
    const TensorSpec& tensor = profile_.spec.tensors[read.tensor];
    return {tensor.storage, tensor.offset, read.makers};
  }
  Place place_of_output(std::uint32_t index, std::size_t output) {
    const Node& node = graph_.node(nodes_[index]);
    const TensorSpec& tensor = profile_.spec.tensors[tensor_of(node.outputs[output])];
    return {tensor.storage, tensor.offset, {number_of_[nodes_[index]]}};
  }

  /// A branch writes the If's outputs itself.
  void lower_branch(std::uint32_t index, ListLowering& list, const ir::Graph& body, StepSpec& step, Played& played) {
    const Node& node = graph_.node(nodes_[index]);
    if (step.inputs.empty()) step.inputs.push_back(tensor_of(node.inputs[0]));
    for (std::size_t i = 0; i < body.outputs().size(); ++i) {
      Place place = place_of_output(index, i);
      place.makers.clear();
      list.place_result(body.outputs()[i].value, std::move(place));
    }
    steps_ = list.lower();
    for (const ir::Graph::Output& output : body.outputs()) {
      played.bodies.back().results.push_back(list.read_of(output.value));
    }
  }

  void lower_loop(std::uint32_t index, ListLowering& list, const ir::Graph& body, StepSpec& step, Played& played) {
    const Node& node = graph_.node(nodes_[index]);
    const auto& attributes = node.as<cpu::LoopAttributes>();
    // The turn's number, which the body reads: a tensor that no value of this graph stands for.
    StorageSpec storage;
    storage.size = sizeof(std::int64_t);
    const std::uint32_t turn_storage = add_storage(storage, {times_[index], end_of(index)});
    list.place(body.inputs()[0], {turn_storage, 0, {played.number}});
    for (std::size_t i = 0; i < attributes.carried; ++i) list.place(body.inputs()[1 + i], place_of_output(index, i));
    for (const ir::Graph::Output& output : body.outputs()) list.keep(output.value);
    steps_ = list.lower();

    for (std::size_t i = 0; i < 2 + attributes.carried; ++i) step.inputs.push_back(tensor_of(node.inputs[i]));
    if (attributes.tests_condition == 0) step.inputs.push_back(kNone);
    for (const ir::Graph::Output& output : body.outputs()) {
      step.inputs.push_back(list.tensor_of(output.value));
      played.bodies.back().results.push_back(list.read_of(output.value));
    }
    step.outputs.push_back(list.tensor_of(body.inputs()[0]));
    played.writes.push_back(step.outputs.back());
    // What has been carried and collected so far must have survived the turn.
    for (const std::uint32_t tensor : played.writes) played.bodies.back().results.push_back({tensor, {played.number}});
    played.repeats = true;
  }

  const ir::Graph& graph_;
  Profile& profile_;
  ir::Windows windows_;
  std::uint32_t depth_;
  std::uint32_t owner_;
  std::uint32_t begin_;
  std::uint32_t end_ = 0;
  std::vector<NodeId> nodes_;            ///< kernel nodes in the order of their steps
  std::vector<std::uint32_t> times_;     ///< when each of them begins
  std::vector<std::uint32_t> number_of_;  ///< Played::number of each node; kNone for views and Concat
  std::vector<ValueId> kept_;
  std::map<ValueId, Place> places_;
  std::map<ValueId, std::uint32_t> storage_of_;
  std::map<ValueId, std::uint32_t> tensor_of_;
  std::map<ValueId, Lifetime> lifetimes_;  ///< of each root
  std::map<ValueId, ValueId> merged_;      ///< root that lives in another root's storage
  std::vector<StepSpec> steps_;            ///< of the body being lowered
  std::vector<Played> played_;
};

/// The whole graph.
class Lowering {
 public:
  Lowering(const ir::Graph& graph, WeightStore& weights)
      : graph_(graph), windows_(graph), profile_(weights), list_(graph, profile_, 0, 0, 0) {}

  ProfileSpec run() {
    for (std::size_t i = 0; i < graph_.inputs().size(); ++i) list_.place(graph_.inputs()[i], bind(graph_.inputs()[i], Region::Input, i));
    for (std::size_t i = 0; i < graph_.outputs().size(); ++i) {
      const ValueId value = graph_.outputs()[i].value;
      list_.place_result(value, bind(windows_.find(value)->root, Region::Output, i));
      for (const ir::Extent& extent : graph_.value(value).extents) list_.keep(extent.actual);
    }
    for (const ir::Graph::State& state : graph_.states()) add_state(state);
    ProfileSpec& spec = profile_.spec;
    spec.steps = list_.lower();
    std::vector<PlayedRead> finally;
    for (const ValueId id : graph_.inputs()) spec.inputs.push_back(list_.tensor_of(id));
    for (const ir::Graph::Output& output : graph_.outputs()) {
      spec.outputs.push_back(list_.tensor_of(output.value));
      list_.append_reads(output.value, finally);
    }
    plan_arena();
    prove(spec, list_.played(), finally);
    return std::move(spec);
  }

 private:
  std::uint32_t add_storage(const StorageSpec& storage) {
    profile_.spec.storages.push_back(storage);
    profile_.lifetimes.emplace_back();
    return static_cast<std::uint32_t>(profile_.spec.storages.size() - 1);
  }

  Place bind(ValueId root, Region region, std::size_t index) {
    StorageSpec storage;
    storage.region = region;
    storage.binding = static_cast<std::uint16_t>(index);
    storage.size = ir::dense_bytes(graph_.value(root).type);
    return {add_storage(storage), 0, {}};
  }

  void add_state(const ir::Graph::State& state) {
    StateSpec spec;
    spec.name = state.name;
    spec.size = ir::dense_bytes(graph_.value(state.input).type);
    spec.offset = profile_.spec.state_bytes;
    spec.has_initial = static_cast<bool>(state.initial);
    if (spec.has_initial) spec.initial_offset = profile_.weights.add(state.initial);
    StorageSpec storage;
    storage.region = Region::State;
    storage.offset = spec.offset;
    storage.size = spec.size;
    profile_.spec.state_bytes = align_up(spec.offset + spec.size, 64);
    const std::uint32_t index = add_storage(storage);
    list_.place(state.input, {index, 0, {}});
    list_.place(state.output, {index, 0, {}});
    profile_.spec.states.push_back(std::move(spec));
  }

  void plan_arena() {
    memory::Problem problem;
    // One more time, at which the caller reads what the outputs' extents are.
    problem.schedule.steps = list_.end() + 1;
    std::vector<std::uint32_t> arena_storages;
    for (std::uint32_t i = 0; i < profile_.spec.storages.size(); ++i) {
      const StorageSpec& storage = profile_.spec.storages[i];
      if (storage.region != Region::Arena) continue;
      arena_storages.push_back(i);
      problem.buffers.push_back({storage.size, storage.alignment, profile_.lifetimes[i].first, profile_.lifetimes[i].last});
    }
    profile_.spec.arena = memory::plan(problem);
    for (std::size_t i = 0; i < arena_storages.size(); ++i) {
      profile_.spec.storages[arena_storages[i]].offset = profile_.spec.arena.offsets[i];
    }
  }

  const ir::Graph& graph_;
  ir::Windows windows_;
  Profile profile_;
  ListLowering list_;
};

}  // namespace

std::uint64_t WeightStore::add(const ir::Bytes& bytes) {
  const auto known = by_address_.find(bytes.data());
  if (known != by_address_.end() && pieces_[known->second].bytes.size() == bytes.size()) return pieces_[known->second].offset;
  const std::uint64_t hash = (std::uint64_t{crc32c(bytes.data(), bytes.size())} << 32) ^ bytes.size();
  const auto [begin, end] = by_hash_.equal_range(hash);
  const auto same = std::find_if(begin, end, [&](const auto& entry) {
    const ir::Bytes& other = pieces_[entry.second].bytes;
    const bool equal = other.size() == bytes.size() && std::memcmp(other.data(), bytes.data(), bytes.size()) == 0;
    other.drop_pages();
    return equal;
  });
  bytes.drop_pages();
  if (same != end) return pieces_[same->second].offset;
  const std::uint64_t offset = size_;
  by_hash_.emplace(hash, pieces_.size());
  by_address_.emplace(bytes.data(), pieces_.size());
  pieces_.push_back({offset, bytes});
  size_ = align_up(offset + bytes.size(), 64);
  return offset;
}

ProfileSpec lower(const ir::Graph& graph, WeightStore& weights) { return Lowering(graph, weights).run(); }

}  // namespace edgert::plan
