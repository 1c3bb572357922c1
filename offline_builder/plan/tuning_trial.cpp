// SPDX-License-Identifier: Apache-2.0
#include "plan/tuning_trial.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "edgert/scalar/convert.h"
#include "edgert/scalar/pointwise.h"
#include "ir/windows.h"
#include "ops/definitions.h"
#include "plan/aligned_bytes.h"
#include "plan/build.h"
#include "plan/session_needs.h"

namespace edgert::plan {
namespace {

using families::Argument;
using ir::kNone;
using ir::NodeId;
using ir::ValueId;

constexpr int kEvaluations = 3;     ///< beside the exact one
constexpr double kDeviations = 8;   ///< of what the evaluations differ by
constexpr float kForeign = 384.0f;  ///< in elements of an operand's storage that are none of its own

bool is_float(DType dtype) { return dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F64; }

/// Half a unit in the last place, relative.
double rounding_of(DType dtype) { return dtype == DType::F16 ? 0x1p-11 : dtype == DType::BF16 ? 0x1p-8 : dtype == DType::F64 ? 0x1p-53 : 0x1p-24; }

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  std::uint32_t next() {  // Knuth's multiplier; the upper bits are the good ones
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state_ >> 33);
  }
  /// In [-1, 1].
  double symmetric() { return static_cast<double>(next()) * 0x1p-30 - 1; }

 private:
  std::uint64_t state_;
};

template <class T>
void put(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof(value));
}
template <class T>
T get(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

/// Types without fractions get 0 or 1.
void store(std::byte* to, DType dtype, double value) {
  switch (dtype) {
    case DType::F32: return put(to, static_cast<float>(value));
    case DType::F64: return put(to, value);
    case DType::F16: return put(to, scalar::to_half(static_cast<float>(value)));
    case DType::BF16: return put(to, scalar::to_bfloat16(static_cast<float>(value)));
    default: std::memset(to, 0, bits_of(dtype) / 8); *to = value > 0 ? std::byte{1} : std::byte{0};
  }
}

double load(const std::byte* from, DType dtype) {
  switch (dtype) {
    case DType::F64: return get<double>(from);
    case DType::F16: return static_cast<double>(scalar::to_float(get<scalar::Half>(from)));
    case DType::BF16: return static_cast<double>(scalar::to_float(get<scalar::BFloat16>(from)));
    default: return static_cast<double>(get<float>(from));
  }
}

/// Calls visit(index in the storage) for the window's elements, row-major.
template <class Visit>
void each_element(const ir::StridedView& view, Visit visit) {
  const std::int64_t elements = ir::element_count(view.dims);
  ir::Dims index(view.dims.size(), 0);
  std::int64_t at = view.offset;
  for (std::int64_t i = 0; i < elements; ++i) {
    visit(at);
    for (std::size_t d = view.dims.size(); d-- > 0;) {
      at += view.strides[d];
      if (++index[d] < view.dims[d]) break;
      at -= view.strides[d] * view.dims[d];
      index[d] = 0;
    }
  }
}

/// The node and those that its launches cover, as a graph of their own.
class Excerpt {
 public:
  Excerpt(const ir::Graph& graph, const families::Choice& choice, std::vector<ValueId> results)
      : graph_(graph), results_(std::move(results)), nodes_(choice.candidates[0].covered.begin(), choice.candidates[0].covered.end()) {
    nodes_.insert(choice.node);
    for (const ValueId result : results_) find_operands(result);
    for (const NodeId id : nodes_) depth_ = std::max(depth_, depth_of(id));
    if (is_float(choice.candidates[0].compute)) narrow_ = rounding_of(choice.candidates[0].compute);
    for (const families::Launch& launch : choice.candidates[0].launches) {
      if (codegen::rounds_to_tf32(launch.spec)) narrow_ = std::max(narrow_, 0x1p-11);
    }
    for (const NodeId id : nodes_) {
      for (const ValueId output : graph.node(id).outputs) narrow_ = std::max(narrow_, storage_rounding(output));
    }
  }

  /// What it reads of the graph.
  const std::vector<ValueId>& operands() const { return operands_; }

  /// The results for these operands, dense and of the values' types. A seed other than 0 changes everything a little.
  std::vector<ir::Bytes> evaluate(const std::map<ValueId, ir::Bytes>& operands, std::uint64_t seed) const {
    Random random(seed);
    Copy copy{ir::Graph(), {}, seed == 0 ? nullptr : &random};
    std::vector<ir::Bytes> inputs;
    for (const ValueId id : operands_) {
      const ir::Value& value = graph_.value(id);
      copy.values[id] = copy.graph.add_input("x" + std::to_string(inputs.size()), value.type);
      inputs.push_back(changed(operands.at(id), value.type.dtype, std::sqrt(depth_) * 0x1p-23, 0, copy.random));
    }
    for (std::size_t i = 0; i < results_.size(); ++i) copy.graph.add_output("y" + std::to_string(i), import(results_[i], copy));
    std::vector<ir::Graph> graphs;
    graphs.push_back(std::move(copy.graph));
    BuildOptions options;
    options.winograd = false;
    const Bytes64 plan(build(std::move(graphs), options).bytes);
    const Result<PlanView> view = PlanView::load(plan.span());
    if (!view.ok()) throw std::logic_error("the reference of a tuned node does not load");
    return record_outputs(*view, 0, inputs, cpu::Isa::Avx512);
  }

 private:
  struct Copy {
    ir::Graph graph;
    std::map<ValueId, ValueId> values;
    Random* random;  ///< null: nothing is changed
  };

  /// Whether the value is made by the nodes, or is a constant, whatever views lie between.
  bool is_inside(ValueId id) const {
    for (;;) {
      const ir::Value& value = graph_.value(id);
      if (value.is_constant()) return true;
      if (value.producer == kNone) return false;
      if (nodes_.count(value.producer) != 0) return true;
      const ir::Node& node = graph_.node(value.producer);
      if (node.op->view == nullptr) return false;
      id = node.inputs[0];
    }
  }

  void find_operands(ValueId id) {
    if (id == kNone || !seen_.insert(id).second) return;
    if (!is_inside(id)) {
      operands_.push_back(id);
      return;
    }
    const ir::Node* node = graph_.producer(id);
    if (node == nullptr) return;
    for (const ValueId input : node->inputs) find_operands(input);
  }

  /// Terms of a sum that makes an element, at most.
  double depth_of(NodeId id) const {
    const ir::Node& node = graph_.node(id);
    const auto elements = static_cast<double>(std::max<std::int64_t>(ir::element_count(graph_.value(node.outputs[0]).type.dims), 1));
    double terms = 1;
    if (node.op->work != nullptr) terms = static_cast<double>(node.op->work({graph_, node.inputs, node.attributes})) / elements;
    if (!node.inputs.empty() && node.inputs[0] != kNone) {
      terms = std::max(terms, static_cast<double>(ir::element_count(graph_.value(node.inputs[0]).type.dims)) / elements);
    }
    return terms;
  }
  double storage_rounding(ValueId id) const {
    const DType stored = graph_.value(id).stored_type();
    return is_float(stored) ? rounding_of(stored) : 0;
  }

  /// Each element changed by up to `relative` of itself, and at least by up to `absolute`.
  static ir::Bytes changed(const ir::Bytes& bytes, DType dtype, double relative, double absolute, Random* random) {
    if (random == nullptr || !is_float(dtype)) return bytes;
    std::vector<std::byte> out(bytes.data(), bytes.data() + bytes.size());
    const std::size_t size = bits_of(dtype) / 8;
    for (std::size_t at = 0; at + size <= out.size(); at += size) {
      const double x = load(out.data() + at, dtype);
      if (std::isfinite(x) && x != 0) store(out.data() + at, dtype, x + random->symmetric() * std::max(relative * std::fabs(x), absolute));
    }
    return ir::Bytes::adopt(std::move(out));
  }

  ValueId import(ValueId id, Copy& copy) const {
    if (id == kNone) return kNone;
    const auto found = copy.values.find(id);
    if (found != copy.values.end()) return found->second;
    const ir::Value& value = graph_.value(id);
    if (value.is_constant()) {
      // As they are packed for the kernels: at worst rounded to what is stored between steps; halves have subnormal ones.
      const double relative = std::max(narrow_, std::sqrt(depth_) * 0x1p-23);
      const ir::Bytes bytes = changed(value.constant, value.type.dtype, relative, narrow_ >= 0x1p-11 ? 0x1p-25 : 0, copy.random);
      return copy.values[id] = copy.graph.add_constant(value.name, value.type, bytes, value.format);
    }
    const ir::Node& node = graph_.node(value.producer);
    std::vector<ValueId> inputs;
    for (const ValueId input : node.inputs) inputs.push_back(import(input, copy));
    const NodeId made = copy.graph.add_node(*node.op, inputs, node.attributes, node.provenance);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      copy.values[node.outputs[i]] = noisy(copy.graph.node(made).outputs[i], node.op->view == nullptr, copy);
    }
    return copy.values.at(id);
  }

  /// A result as if a kernel had rounded it before it went on; the last results are rounded once more in any case.
  ValueId noisy(ValueId id, bool computed, Copy& copy) const {
    const ir::TensorType type = copy.graph.value(id).type;
    if (copy.random == nullptr || !computed || type.dtype != DType::F32) return id;
    std::vector<float> factors(static_cast<std::size_t>(ir::element_count(type.dims)));
    for (float& factor : factors) factor = static_cast<float>(1 + narrow_ * copy.random->symmetric());
    const ValueId noise = copy.graph.add_constant("noise", type, ir::Bytes::copy(factors.data(), factors.size() * sizeof(float)));
    scalar::PointwiseProgram program{};
    program.inputs = 2, program.steps = 1;
    program.step[0].op = scalar::PointwiseOp::Mul;
    program.step[0].type = static_cast<unsigned char>(DType::F32);
    program.step[0].b = 1;
    return copy.graph.node(copy.graph.add_node(ops::kPointwise, {id, noise}, ir::AttributeBlob::of(program), {})).outputs[0];
  }

  const ir::Graph& graph_;
  std::vector<ValueId> results_;
  std::set<NodeId> nodes_;
  std::set<ValueId> seen_;
  std::vector<ValueId> operands_;
  double depth_ = 1;
  double narrow_ = 0;  ///< relative rounding of what is stored, or multiplied
};

/// The storages of a trial.
class Storages {
 public:
  explicit Storages(const ir::Graph& graph) : graph_(graph), windows_(graph) {}

  ir::Window window_of(ValueId id) {
    const std::optional<ir::Window> window = windows_.find(id);
    if (!window) throw std::logic_error("'" + graph_.value(id).name + "' has no place in memory");
    return *window;
  }
  DType type_of(ValueId root) const { return graph_.value(root).stored_type(); }

  /// Numbers that every type holds exactly, in every element of the value.
  void fill(ValueId id) {
    const ir::Window window = window_of(id);
    if (graph_.value(window.root).is_constant()) return;
    const DType dtype = type_of(window.root);
    const std::size_t size = bits_of(dtype) / 8;
    if (size == 0) throw ir::BuildError("operands of packed types are not tuned");
    Storage& storage = storages_[window.root];
    if (storage.bytes.empty()) {
      storage.bytes.resize(ir::dense_bytes({dtype, graph_.value(window.root).type.dims}));
      storage.filled.resize(storage.bytes.size() / size);
      for (std::size_t i = 0; i < storage.filled.size(); ++i) store(storage.bytes.data() + i * size, dtype, is_float(dtype) ? double{kForeign} : 0);
    }
    each_element(window.view, [&](std::int64_t at) {
      const auto index = static_cast<std::size_t>(at);
      if (storage.filled[index]) return;
      storage.filled[index] = true;
      store(storage.bytes.data() + index * size, dtype, (static_cast<double>(random_.next() % 257) - 128) / 128);
    });
  }

  /// Nothing may be left of what is written: NaN in it from the start, unless it is read as well.
  void poison(ValueId id) {
    const ir::Window window = window_of(id);
    const auto found = storages_.find(window.root);
    if (found == storages_.end()) return;
    const std::size_t size = bits_of(type_of(window.root)) / 8;
    each_element(window.view, [&](std::int64_t at) {
      const auto index = static_cast<std::size_t>(at);
      if (!found->second.filled[index]) std::memset(found->second.bytes.data() + index * size, 0xff, size);
    });
  }

  /// The value's elements, dense, in the type that it means.
  ir::Bytes dense(ValueId id) {
    const ir::Window window = window_of(id);
    const Storage& storage = storages_.at(window.root);
    const DType stored = type_of(window.root), meant = graph_.value(id).type.dtype;
    const std::size_t from = bits_of(stored) / 8, to = bits_of(meant) / 8;
    std::vector<std::byte> out(ir::dense_bytes(graph_.value(id).type));
    std::size_t next = 0;
    each_element(window.view, [&](std::int64_t at) {
      const std::byte* element = storage.bytes.data() + static_cast<std::size_t>(at) * from;
      if (stored == meant) std::memcpy(out.data() + next, element, to);
      else store(out.data() + next, meant, load(element, stored));
      next += to;
    });
    return ir::Bytes::adopt(std::move(out));
  }

  std::optional<tune::Blob> content(ValueId root) const {
    const auto found = storages_.find(root);
    if (found == storages_.end()) return std::nullopt;
    return tune::make_blob(ir::Bytes::copy(found->second.bytes.data(), found->second.bytes.size()));
  }

 private:
  struct Storage {
    std::vector<std::byte> bytes;
    std::vector<bool> filled;
  };
  const ir::Graph& graph_;
  ir::Windows windows_;
  std::map<ValueId, Storage> storages_;
  Random random_{1};
};

/// Largest allowed distance of each element, as the header says.
std::vector<float> bounds_of(const std::vector<float>& expected, const std::vector<std::vector<float>>& others, DType stored) {
  double noise = 0, size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(expected[i])) continue;
    size += double(expected[i]) * double(expected[i]);
    for (const std::vector<float>& other : others) {
      const double difference = double(other[i]) - double(expected[i]);
      if (std::isfinite(difference)) noise += difference * difference / static_cast<double>(others.size());
    }
  }
  const auto count = static_cast<double>(std::max<std::size_t>(expected.size(), 1));
  noise = std::sqrt(noise / count), size = std::sqrt(size / count);
  // Twice: functions of the epilogue are rounded before and after.
  const double unit = 2 * std::max(rounding_of(stored), 0x1p-20);
  std::vector<float> bounds(expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    double here = noise;
    for (const std::vector<float>& other : others) {
      const double difference = std::fabs(double(other[i]) - double(expected[i]));
      if (std::isfinite(difference)) here = std::max(here, difference);
    }
    const double magnitude = std::isfinite(expected[i]) ? std::fabs(double(expected[i])) : 0;
    bounds[i] = static_cast<float>(unit * (magnitude + size) + kDeviations * here + 0x1p-24);
  }
  return bounds;
}

std::vector<float> floats_of(const ir::Bytes& bytes, DType dtype) {
  const std::size_t size = bits_of(dtype) / 8;
  std::vector<float> out(bytes.size() / size);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(load(bytes.data() + i * size, dtype));
  return out;
}

tune::Blob blob_of(const std::vector<float>& floats) { return tune::make_blob(ir::Bytes::copy(floats.data(), floats.size() * sizeof(float))); }

/// Values of the launches' arguments of one kind, each once.
std::vector<ValueId> arguments_of(const families::Choice& choice, Argument::Kind kind) {
  std::vector<ValueId> out;
  for (const families::Candidate& candidate : choice.candidates) {
    for (const families::Launch& launch : candidate.launches) {
      for (const Argument& argument : launch.arguments) {
        if (argument.kind == kind && std::find(out.begin(), out.end(), argument.value) == out.end()) out.push_back(argument.value);
      }
    }
  }
  return out;
}

}  // namespace

TuningTrial make_tuning_trial(const ir::Graph& graph, const families::Choice& choice) {
  const std::vector<ValueId> reads = arguments_of(choice, Argument::Kind::Read), writes = arguments_of(choice, Argument::Kind::Write);
  const Excerpt excerpt(graph, choice, writes);
  for (const std::vector<ValueId>& values : {excerpt.operands(), writes}) {
    for (const ValueId id : values) {
      if (graph.is_bounded(id)) throw ir::BuildError("'" + graph.value(id).name + "' has extents that only a run knows");
    }
  }
  Storages storages(graph);
  for (const ValueId id : excerpt.operands()) storages.fill(id);
  for (const ValueId id : reads) {
    // What one launch leaves for the next of the node is no operand.
    if (std::find(writes.begin(), writes.end(), id) == writes.end()) storages.fill(id);
  }
  for (const ValueId id : writes) storages.poison(id);

  TuningTrial trial;
  std::set<ValueId> written, read;
  for (const ValueId id : writes) written.insert(storages.window_of(id).root);
  for (const ValueId id : reads) {
    const ValueId root = storages.window_of(id).root;
    if (written.count(root) == 0 && !graph.value(root).is_constant()) read.insert(root);
  }
  trial.inputs.assign(read.begin(), read.end());
  trial.outputs.assign(written.begin(), written.end());
  for (const ValueId root : trial.inputs) trial.contents.push_back(storages.content(root));
  for (const ValueId root : trial.outputs) trial.contents.push_back(storages.content(root));

  std::map<ValueId, ir::Bytes> operands;
  for (const ValueId id : excerpt.operands()) operands[id] = storages.dense(id);
  const std::vector<ir::Bytes> exact = excerpt.evaluate(operands, 0);
  std::vector<std::vector<ir::Bytes>> others;
  for (int e = 1; e <= kEvaluations; ++e) others.push_back(excerpt.evaluate(operands, static_cast<std::uint64_t>(e)));
  for (std::size_t i = 0; i < writes.size(); ++i) {
    const ir::Window window = storages.window_of(writes[i]);
    const DType stored = storages.type_of(window.root), meant = graph.value(writes[i]).type.dtype;
    tune::Job::Expectation expectation;
    const auto place = std::find(trial.outputs.begin(), trial.outputs.end(), window.root) - trial.outputs.begin();
    expectation.check.binding = static_cast<std::uint32_t>(trial.inputs.size() + static_cast<std::size_t>(place));
    expectation.check.dtype = stored;
    expectation.check.offset = static_cast<std::uint64_t>(window.view.offset);
    expectation.check.dims = window.view.dims;
    expectation.check.strides = window.view.strides;
    if (is_float(stored)) {
      const std::vector<float> expected = floats_of(exact[i], meant);
      std::vector<std::vector<float>> changed;
      for (const std::vector<ir::Bytes>& other : others) changed.push_back(floats_of(other[i], meant));
      expectation.expected = blob_of(expected);
      expectation.bound = blob_of(bounds_of(expected, changed, stored));
    } else {
      expectation.expected = tune::make_blob(exact[i]);
    }
    trial.checks.push_back(std::move(expectation));
  }
  return trial;
}

tune::Blob tuning_input(const ir::Graph& graph, ir::ValueId input) {
  Storages storages(graph);
  storages.fill(input);
  return storages.content(input).value();
}

}  // namespace edgert::plan
