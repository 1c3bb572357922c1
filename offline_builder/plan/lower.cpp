// SPDX-License-Identifier: Apache-2.0
#include "plan/lower.h"

#include <algorithm>
#include <stdexcept>

#include "edgert/checked.h"
#include "edgert/crc32c.h"
#include "memory/checker.h"
#include "ops/operator.h"

namespace edgert::plan {
namespace {

using ir::kNone;
using ir::Node;
using ir::NodeId;
using ir::ValueId;

/// Multiply-adds, or element visits, that are worth a thread's attention: some ten microseconds.
constexpr std::uint64_t kMultiplyAddsPerPart = 1u << 20;
constexpr std::uint64_t kElementsPerPart = 1u << 15;
constexpr std::uint64_t kMaxParts = 16;

class Lowering {
 public:
  Lowering(const ir::Graph& graph, WeightStore& weights) : graph_(graph), weights_(weights), windows_(graph) {}

  ProfileSpec run() {
    for (std::size_t i = 0; i < graph_.inputs().size(); ++i) add_binding(graph_.inputs()[i], Region::Input, i);
    for (std::size_t i = 0; i < graph_.outputs().size(); ++i) {
      const ir::Window window = window_of(graph_.outputs()[i].value);
      add_binding(window.root, Region::Output, i);
    }
    for (const NodeId id : graph_.topological_order()) {
      const Node& node = graph_.node(id);
      if (node.op->view == nullptr && !ops::is_concat(*node.op)) nodes_.push_back(id);
    }
    step_of_.assign(graph_.node_count(), kNone);
    for (std::uint32_t step = 0; step < nodes_.size(); ++step) step_of_[nodes_[step]] = step;
    find_lifetimes();
    reuse_in_place();
    for (const NodeId id : nodes_) add_step(id);
    for (const ValueId id : graph_.inputs()) profile_.inputs.push_back(tensor_of(id));
    for (const ir::Graph::Output& output : graph_.outputs()) profile_.outputs.push_back(tensor_of(output.value));
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

  ir::Window window_of(ValueId id) {
    const std::optional<ir::Window> window = windows_.find(id);
    if (!window) throw std::logic_error("'" + graph_.value(id).name + "' is no window; the layout pass must run first");
    return *window;
  }

  void add_binding(ValueId root, Region region, std::size_t index) {
    StorageSpec storage;
    storage.region = region;
    storage.binding = static_cast<std::uint16_t>(index);
    storage.size = ir::dense_bytes(graph_.value(root).type);
    storage_of_[root] = static_cast<std::uint32_t>(profile_.storages.size());
    profile_.storages.push_back(storage);
  }

  /// The storage of a root value, made when first asked for.
  std::uint32_t storage_of(ValueId root) {
    const auto found = storage_of_.find(root);
    if (found != storage_of_.end()) return found->second;
    const ir::Value& value = graph_.value(root);
    StorageSpec storage;
    if (value.is_constant()) {
      storage.region = Region::Weights;
      storage.offset = weights_.add(value.constant);
      storage.size = value.constant.size();
    } else {
      storage.size = ir::dense_bytes(value.type);
    }
    const auto index = static_cast<std::uint32_t>(profile_.storages.size());
    profile_.storages.push_back(storage);
    storage_of_[root] = index;
    return index;
  }

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
      tensor.storage = storage_of(window.root);
      tensor.offset = static_cast<std::uint64_t>(window.view.offset) * (bits / 8);
      tensor.strides = window.view.strides;
      // An extent of 1 is never stepped over; the kernels' fast paths look for the dense stride.
      for (std::size_t i = 0; i < tensor.strides.size(); ++i) {
        if (tensor.type.dims[i] == 1 && tensor.strides[i] == 0) tensor.strides[i] = 1;
      }
    } else {
      tensor.storage = storage_of(id);
    }
    const auto index = static_cast<std::uint32_t>(profile_.tensors.size());
    profile_.tensors.push_back(std::move(tensor));
    tensor_of_[id] = index;
    return index;
  }

  void touch(ValueId id, std::uint32_t step) {
    if (id == kNone || graph_.value(id).format != WeightFormat::Strided) return;
    Lifetime& lifetime = lifetimes_[window_of(id).root];
    lifetime.first = std::min(lifetime.first, step);
    lifetime.last = std::max(lifetime.last, step);
    if (lifetime.accesses.empty() || lifetime.accesses.back() != step) lifetime.accesses.push_back(step);
  }

  void find_lifetimes() {
    for (std::uint32_t step = 0; step < nodes_.size(); ++step) {
      const Node& node = graph_.node(nodes_[step]);
      for (const ValueId input : node.inputs) touch(input, step);
      for (const ValueId output : node.outputs) touch(output, step);
    }
  }

  bool is_arena_root(ValueId root) {
    const ir::Value& value = graph_.value(root);
    const auto found = storage_of_.find(root);
    return !value.is_constant() && value.producer != kNone && found == storage_of_.end();
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
    if (!is_arena_root(in.root) || !is_arena_root(target) || lifetimes_[target].last != step) return false;
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
    Lifetime& kept = lifetimes_[target];
    const Lifetime& added = lifetimes_[out.root];
    kept.last = std::max(kept.last, added.last);
    for (const std::uint32_t access : added.accesses) {
      if (access != kept.accesses.back()) kept.accesses.push_back(access);
    }
    return true;
  }

  void add_step(NodeId id) {
    const Node& node = graph_.node(id);
    if (node.op->kernel == nullptr) throw ir::BuildError(std::string(node.op->name) + " has no CPU kernel");
    StepSpec step;
    step.op = node.op;
    step.attributes = node.attributes.bytes();
    for (const ValueId input : node.inputs) step.inputs.push_back(tensor_of(input));
    for (const ValueId output : node.outputs) step.outputs.push_back(tensor_of(output));
    step.compute = graph_.value(node.outputs[0]).type.dtype;
    step.nodes = node.provenance;
    const std::uint64_t work = node.op->work != nullptr
                                   ? node.op->work({graph_, node.inputs, node.attributes}) / kMultiplyAddsPerPart
                                   : static_cast<std::uint64_t>(ir::element_count(graph_.value(node.outputs[0]).type.dims)) /
                                         kElementsPerPart;
    step.parts = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(work, 1, kMaxParts));
    profile_.steps.push_back(std::move(step));
  }

  void plan_arena() {
    memory::Problem problem;
    problem.schedule.steps = static_cast<std::uint32_t>(nodes_.size());
    std::vector<std::uint32_t> arena_storages;
    for (const auto& [root, storage] : storage_of_) {
      StorageSpec& spec = profile_.storages[storage];
      if (spec.region != Region::Arena || merged_.count(root) != 0) continue;
      const Lifetime& lifetime = lifetimes_.at(root);
      spec.first_step = lifetime.first;
      spec.last_step = lifetime.last;
      arena_storages.push_back(storage);
      problem.buffers.push_back({spec.size, spec.alignment, lifetime.first, lifetime.last});
    }
    profile_.arena = memory::plan(problem);
    for (std::size_t i = 0; i < arena_storages.size(); ++i) {
      profile_.storages[arena_storages[i]].offset = profile_.arena.offsets[i];
    }
  }

  /// A tensor's place in the arena in bytes; false when it lies elsewhere.
  bool arena_window(ValueId id, memory::Window& window) {
    if (id == kNone) return false;
    const TensorSpec& tensor = profile_.tensors[tensor_of(id)];
    const StorageSpec& storage = profile_.storages[tensor.storage];
    if (storage.region != Region::Arena) return false;
    window.offset = storage.offset + tensor.offset;
    if (bits_of(tensor.type.dtype) % 8 != 0) {  // packed, and so a run of whole bytes
      window.element_bytes = 1;
      window.dims = {static_cast<std::int64_t>(ir::dense_bytes(tensor.type))};
      window.strides = {1};
      return true;
    }
    window.element_bytes = bits_of(tensor.type.dtype) / 8;
    window.dims = tensor.type.dims;
    for (const std::int64_t stride : tensor.strides) {
      window.strides.push_back(stride * static_cast<std::int64_t>(window.element_bytes));
    }
    return true;
  }

  void prove() {
    std::vector<memory::StepAccess> accesses(nodes_.size());
    for (std::uint32_t step = 0; step < nodes_.size(); ++step) {
      const Node& node = graph_.node(nodes_[step]);
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        const ValueId input = node.inputs[i];
        memory::Read read;
        if (!arena_window(input, read.window)) continue;
        read.until_end = !may_overwrite(node, i);
        for (const NodeId producer : ir::producers_of(graph_, input)) read.producers.push_back(step_of_[producer]);
        accesses[step].reads.push_back(std::move(read));
      }
      for (const ValueId output : node.outputs) {
        memory::Window window;
        if (arena_window(output, window)) accesses[step].writes.push_back(std::move(window));
      }
    }
    std::vector<memory::StorageUse> uses;
    for (const auto& [root, storage] : storage_of_) {
      const StorageSpec& spec = profile_.storages[storage];
      if (spec.region == Region::Arena && merged_.count(root) == 0) {
        uses.push_back({spec.offset, spec.size, lifetimes_.at(root).accesses});
      }
    }
    memory::Schedule schedule;
    schedule.steps = static_cast<std::uint32_t>(nodes_.size());
    const std::vector<std::string> faults = memory::check(profile_.arena.bytes, schedule, accesses, uses);
    if (!faults.empty()) throw std::logic_error("the memory plan is wrong: " + faults.front());
  }

  const ir::Graph& graph_;
  WeightStore& weights_;
  ir::Windows windows_;
  ProfileSpec profile_;
  std::vector<NodeId> nodes_;           ///< kernel nodes in the order of their steps
  std::vector<std::uint32_t> step_of_;  ///< of each node; kNone for views and Concat
  std::map<ValueId, std::uint32_t> storage_of_;
  std::map<ValueId, std::uint32_t> tensor_of_;
  std::map<ValueId, Lifetime> lifetimes_;  ///< of each root
  std::map<ValueId, ValueId> merged_;      ///< root that lives in another root's storage
};

}  // namespace

std::uint64_t WeightStore::add(const ir::Bytes& bytes) {
  const std::uint64_t hash = (std::uint64_t{crc32c(bytes.data(), bytes.size())} << 32) ^ bytes.size();
  const auto [begin, end] = by_hash_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    const Piece& piece = pieces_[it->second];
    if (piece.bytes.size() == bytes.size() && std::memcmp(piece.bytes.data(), bytes.data(), bytes.size()) == 0) {
      return piece.offset;
    }
  }
  const std::uint64_t offset = size_;
  by_hash_.emplace(hash, pieces_.size());
  pieces_.push_back({offset, bytes});
  size_ = align_up(offset + bytes.size(), 64);
  return offset;
}

ProfileSpec lower(const ir::Graph& graph, WeightStore& weights) { return Lowering(graph, weights).run(); }

}  // namespace edgert::plan
