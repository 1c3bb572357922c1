// SPDX-License-Identifier: Apache-2.0
#include "plan/build.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>

#include "edgert/cuda/cubin.h"
#include "edgert/cuda/launch_rules.h"
#include "edgert/plan_format.h"
#include "passes/inline_bodies.h"
#include "plan/session_needs.h"
#include "plan/aligned_bytes.h"
#include "plan/lower.h"

namespace edgert::plan {
namespace {

std::size_t live_nodes(const ir::Graph& graph) {
  std::size_t count = 0;
  for (ir::NodeId id = 0; id < graph.node_count(); ++id) count += graph.node(id).alive ? 1 : 0;
  return count;
}

/// "1x3x224x224" of every input: what tells profiles apart.
std::string profile_name(const ir::Graph& graph) {
  std::string name;
  for (const ir::ValueId id : graph.inputs()) {
    if (!name.empty()) name += ",";
    const ir::Dims& dims = graph.value(id).type.dims;
    for (std::size_t i = 0; i < dims.size(); ++i) name += (i != 0 ? "x" : "") + std::to_string(dims[i]);
  }
  return name;
}

struct Declared {
  std::string name;
  ir::TensorType type;
};

std::vector<Declared> declared_inputs(const ir::Graph& graph) {
  std::vector<Declared> out;
  for (const ir::ValueId id : graph.inputs()) out.push_back({graph.value(id).name, graph.value(id).type});
  return out;
}

std::vector<Declared> declared_outputs(const ir::Graph& graph) {
  std::vector<Declared> out;
  for (const ir::Graph::Output& output : graph.outputs()) out.push_back({output.name, graph.value(output.value).type});
  return out;
}

/// What loading would refuse is the model's fault, not a defect.
void require_addressable(const std::vector<Declared>& tensors, const char* what) {
  for (const Declared& tensor : tensors) {
    if (ir::dense_bytes(tensor.type) <= rules::kMaxRegionBytes) continue;
    throw ir::BuildError(std::string(what) + " '" + tensor.name + "', " + ir::to_string(tensor.type) +
                         ", is larger than the 1 TiB that a plan can address");
  }
}

/// Bindings that fit every profile: an extent that differs between them becomes -1.
std::vector<BindingSpec> merge_bindings(const std::vector<std::vector<Declared>>& profiles, const char* what) {
  std::vector<BindingSpec> bindings;
  for (const Declared& first : profiles.at(0)) bindings.push_back({first.name, first.type.dtype, first.type.dims, {}});
  for (const std::vector<Declared>& profile : profiles) {
    if (profile.size() != bindings.size()) throw ir::BuildError(std::string("profiles have different numbers of ") + what + "s");
    for (std::size_t i = 0; i < bindings.size(); ++i) {
      const Declared& other = profile[i];
      if (other.name != bindings[i].name || other.type.dtype != bindings[i].dtype ||
          other.type.dims.size() != bindings[i].dims.size()) {
        throw ir::BuildError(std::string(what) + " '" + bindings[i].name + "' has another name, type or rank in another profile");
      }
      for (std::size_t d = 0; d < other.type.dims.size(); ++d) {
        if (other.type.dims[d] != bindings[i].dims[d]) bindings[i].dims[d] = -1;
      }
    }
  }
  return bindings;
}

void merge_metadata(PlanSpec& spec, const std::vector<std::pair<std::string, std::string>>& entries) {
  for (const auto& [key, value] : entries) {
    const auto same = [&key = key](const auto& entry) { return entry.first == key; };
    const auto found = std::find_if(spec.metadata.begin(), spec.metadata.end(), same);
    if (found != spec.metadata.end()) {
      found->second = value;
    } else {
      spec.metadata.emplace_back(key, value);
    }
  }
  std::sort(spec.metadata.begin(), spec.metadata.end());
}

/// What the CUDA runtime checks before it needs a device.
void check_cuda(const PlanView& view, const std::string& message, const LogSink& log) {
  bool good = cuda::check_launches(view, log).ok();
  for (std::uint32_t i = 0; good && i < rules::count(view.table().modules()); ++i) {
    const schema::Module& module = *view.table().modules()->Get(i);
    good = cuda::Cubin::check(view.section(module.section()), module.arch(), log).ok();
  }
  if (!good) throw std::logic_error("the plan just built does not run: " + message);
  if (!session_needs(view, log).ok()) throw ir::BuildError("a node has no GPU kernel, and the CPU's does not take its operands: " + message);
}

/// The place of a name among those of the graph's inputs or outputs.
template <class Items, class NameOf>
std::size_t find_name(const Items& items, const std::string& name, const char* what, NameOf name_of) {
  std::string known;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (name_of(items[i]) == name) return i;
    known += (known.empty() ? "" : ", ") + name_of(items[i]);
  }
  throw ir::BuildError(std::string("state: the model has no ") + what + " '" + name + "' that is left; there are: " + known);
}

void make_states(ir::Graph& graph, const std::vector<BuildOptions::State>& states) {
  for (const BuildOptions::State& state : states) {
    const std::size_t input = find_name(graph.inputs(), state.input, "input",
                                        [&](ir::ValueId id) { return graph.value(id).name; });
    const std::size_t output = find_name(graph.outputs(), state.output, "output",
                                         [](const ir::Graph::Output& each) { return each.name; });
    graph.make_state(input, output, state.initial);
  }
}

void note_once(std::vector<std::string>& notes, const std::string& note) {
  if (std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(note);
}

/// Profiles share the memory of the states, so each must have the same size in all.
void require_equal_states(const std::vector<ProfileSpec>& profiles) {
  for (const ProfileSpec& profile : profiles) {
    for (std::size_t i = 0; i < profile.states.size(); ++i) {
      if (profile.states[i].size == profiles[0].states[i].size) continue;
      throw ir::BuildError("state '" + profile.states[i].name + "' has another size in another profile");
    }
  }
}

template <class T>
double largest_magnitude(const ir::Bytes& bytes) {
  double largest = 0;
  for (std::size_t i = 0; i < bytes.size() / sizeof(T); ++i) {
    const double magnitude = std::abs(static_cast<double>(bytes.as<T>()[i]));
    if (std::isfinite(magnitude)) largest = std::max(largest, magnitude);
  }
  return largest;
}

/// How far results of a GPU may be from the CPU's, as a fraction of the largest: what `edgert compare` allows too.
float device_tolerance(const families::PrecisionRequest& request) {
  const bool wide = request.layers.empty() && std::all_of(request.allowed.begin(), request.allowed.end(), [](families::Precision p) {
    return p == families::Precision::Fp32 || p == families::Precision::Tf32;
  });
  return wide ? 1e-2f : 5e-2f;
}

/// Runs a plan for the CPU, the one being built or what it would be there, on what `options` gives, and records what comes out.
void record_golden(PlanSpec& spec, const std::vector<std::byte>& on_cpu, const BuildOptions& options) {
  const Bytes64 bytes(on_cpu);
  const Result<PlanView> view = PlanView::load(bytes.span());
  if (!view.ok()) throw std::logic_error("the plan just built does not load");
  for (const BuildOptions::GoldenInputs& each : options.golden(*view)) {
    GoldenSpec golden;
    golden.profile = each.profile;
    golden.inputs = each.inputs;
    golden.outputs = record_outputs(*view, each.profile, each.inputs);
    const float tolerance = std::max(each.tolerance, options.cuda ? device_tolerance(options.cuda->precision) : 0.0f);
    golden.rel_tolerance = tolerance;
    // One tolerance for all outputs: that of the smallest.
    double smallest = std::numeric_limits<double>::infinity();
    for (std::uint32_t i = 0; i < view->output_count(); ++i) {
      const DType dtype = view->output(each.profile, i).dtype;
      if (dtype == DType::F32) smallest = std::min(smallest, largest_magnitude<float>(golden.outputs[i]));
      if (dtype == DType::F64) smallest = std::min(smallest, largest_magnitude<double>(golden.outputs[i]));
    }
    golden.abs_tolerance = std::isfinite(smallest) ? static_cast<float>(smallest * static_cast<double>(tolerance)) : 0;
    spec.golden.push_back(std::move(golden));
  }
}

void load_as_the_runtime_does(Span<const std::byte> bytes) {
  std::string message;
  LoadOptions options;
  options.log.user = &message;
  options.log.write = [](void* user, LogLevel, const char* text) { *static_cast<std::string*>(user) = text; };
  const Result<PlanView> view = PlanView::load(bytes, options);
  if (!view.ok()) throw std::logic_error("the plan just built does not load: " + message);
  if (view->is_cuda()) return check_cuda(*view, message, options.log);
  const Result<SessionNeeds> needs = session_needs(*view, options.log);
  if (!needs.ok()) throw std::logic_error("the plan just built does not run: " + message);
}

/// Zeroed memory of which only what is written exists.
class ZeroPages {
 public:
  explicit ZeroPages(std::size_t size) : size_(size) {
    memory_ = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
  }
  ~ZeroPages() { munmap(memory_, size_); }
  ZeroPages(const ZeroPages&) = delete;
  ZeroPages& operator=(const ZeroPages&) = delete;
  std::byte* data() { return static_cast<std::byte*>(memory_); }

 private:
  void* memory_;
  std::size_t size_;
};

/// What a device would do with the plan: load it by every rule and let every operator check its operands. No rule looks at
/// weights, so zeros stand for them: the plan itself may be larger than what memory should hold.
void check_plan(PlanFile& file) {
  ZeroPages pages(static_cast<std::size_t>(file.size()));
  std::byte* to = pages.data();
  file.write_without_weights([&to](const std::byte* data, std::uint64_t size) {
    if (data != nullptr) std::memcpy(to, data, size);
    to += size;
  });
  load_as_the_runtime_does({pages.data(), static_cast<std::size_t>(file.size())});
}

}  // namespace

Bytes64::Bytes64(const std::vector<std::byte>& bytes) : lines_((bytes.size() + sizeof(Line) - 1) / sizeof(Line)), size_(bytes.size()) {
  if (!bytes.empty()) std::memcpy(lines_.data(), bytes.data(), bytes.size());
}

BuildResult build(std::vector<ir::Graph> graphs, const BuildOptions& options) {
  if (graphs.empty()) throw ir::BuildError("there is no graph to build");
  BuildResult result;
  PlanSpec spec;
  spec.model_name = graphs[0].name;
  merge_metadata(spec, graphs[0].metadata);
  merge_metadata(spec, options.metadata);
  std::vector<std::vector<Declared>> inputs;
  std::vector<std::vector<Declared>> outputs;
  std::unique_ptr<codegen::Compiler> compiler;
  codegen::ConvTarget device;
  ModuleStore modules;
  if (options.cuda && !options.states.empty()) throw ir::BuildError("states are for plans for the CPU only");
  std::vector<std::byte> on_cpu;
  if (options.cuda && options.golden) {
    BuildOptions reference = options;
    reference.cuda.reset();
    reference.golden = nullptr;
    reference.sink = nullptr;
    on_cpu = build(graphs, reference).bytes;
  }
  if (options.cuda) {
    compiler = std::make_unique<codegen::Compiler>(options.cuda->compiler);
    device = options.cuda->device;
    device.own_features = device.own_features && compiler->has_own_features(device.arch);
    spec.target = "sm_" + std::to_string(compiler->code_arch(device.arch));
  }
  const auto count = static_cast<double>(graphs.size());
  for (std::size_t p = 0; p < graphs.size(); ++p) {
    ir::Graph graph = std::move(graphs[p]);
    make_states(graph, options.states);
    ProfileReport report;
    report.name = profile_name(graph);
    report.imported_nodes = live_nodes(graph);
    inputs.push_back(declared_inputs(graph));
    outputs.push_back(declared_outputs(graph));
    require_addressable(inputs.back(), "input");
    require_addressable(outputs.back(), "output");
    passes::PipelineOptions pipeline;
    pipeline.dump_folder = options.dump_folder;
    pipeline.for_cpu = compiler == nullptr;
    pipeline.winograd = options.winograd;
    pipeline.optimize = options.optimize;
    pipeline.refusals = &report.refusals;
    if (!pipeline.dump_folder.empty() && graphs.size() > 1) pipeline.dump_folder += "/" + std::to_string(p);
    pipeline.progress = [&](const passes::Pass& pass, std::size_t index, std::size_t total) {
      const double within = 0.8 * static_cast<double>(index) / static_cast<double>(total);
      if (options.progress) options.progress(pass.name, (static_cast<double>(p) + within) / count);
    };
    if (compiler != nullptr) passes::inline_bodies(graph);
    report.passes = passes::run_pipeline(graph, pipeline);
    if (options.progress) options.progress(compiler == nullptr ? "memory plan" : "kernels", (static_cast<double>(p) + 0.8) / count);
    families::Alternatives alternatives = options.cuda ? options.cuda->alternatives : families::Alternatives{};
    alternatives.winograd = options.winograd;
    ProfileSpec profile = compiler == nullptr ? lower(graph, spec.weights)
                                              : lower_cuda(graph, device, options.cuda->precision, alternatives, *compiler, spec.weights,
                                                           modules, options.cuda->tuning, report.cuda);
    if (profile.arena.bytes > rules::kMaxRegionBytes) {
      throw ir::BuildError("a run needs " + std::to_string(profile.arena.bytes >> 30) + " GiB of memory, more than the 1 TiB that a plan can address");
    }
    report.refusals.insert(report.refusals.end(), report.cuda.refusals.begin(), report.cuda.refusals.end());
    profile.name = report.name;
    for (const std::string& node : report.cuda.on_host) note_once(result.notes, "runs on the CPU: " + node);
    report.steps = profile.steps.size();
    report.arena = profile.arena;
    spec.profiles.push_back(std::move(profile));
    result.profiles.push_back(std::move(report));
  }
  spec.inputs = merge_bindings(inputs, "input");
  spec.outputs = merge_bindings(outputs, "output");
  spec.modules = modules.take();
  require_equal_states(spec.profiles);
  if (options.golden) record_golden(spec, options.cuda ? on_cpu : write(spec), options);
  PlanFile file(std::move(spec));
  check_plan(file);
  result.plan_bytes = file.size();
  if (options.sink) {
    file.write(options.sink);
  } else {
    result.bytes = file.in_memory();
  }
  if (options.progress) options.progress("plan", 1.0);
  return result;
}

BuildResult build(onnx_import::Model given, const BuildOptions& options) {
  std::vector<onnx_import::ImportOptions> profiles = options.profiles;
  if (profiles.empty()) profiles.emplace_back();
  std::vector<ir::Graph> graphs;
  std::vector<std::string> notes;
  BuildOptions resolved = options;
  std::optional<onnx_import::Model> held(std::move(given));
  const onnx_import::Model& model = *held;
  for (BuildOptions::State& state : resolved.states) {
    for (onnx_import::ImportOptions& profile : profiles) profile.keep_inputs.insert(state.input);
    if (!state.initial) state.initial = onnx_import::default_of(model, state.input);
  }
  for (const onnx_import::ImportOptions& profile : profiles) {
    if (options.progress) options.progress("import", 0.0);
    std::vector<std::string> fresh;
    graphs.push_back(onnx_import::import(model, profile, &fresh));
    for (const std::string& note : fresh) note_once(notes, note);
  }
  held.reset();
  BuildResult result = build(std::move(graphs), resolved);
  for (const std::string& note : result.notes) note_once(notes, note);
  result.notes = std::move(notes);
  return result;
}

}  // namespace edgert::plan
