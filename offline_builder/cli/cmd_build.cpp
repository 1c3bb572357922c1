// SPDX-License-Identifier: Apache-2.0
// edgert build: ONNX to plan.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/command.h"
#include "cli/cuda_options.h"
#include "cli/fusions.h"
#include "cli/loaded_plan.h"
#include "cli/progress.h"
#include "cli/shape_options.h"
#include "cli/tuning_options.h"
#include "io/file.h"
#include "plan/aligned_bytes.h"
#include "plan/build.h"
#include "plan/emit.h"

namespace edgert::cli {
namespace {

struct Options {
  std::string model;
  std::string output;
  std::vector<std::string> shapes;
  std::vector<std::string> dims;
  std::vector<std::string> values;
  std::vector<std::string> metadata;
  CudaArguments cuda;
  TuningArguments tuning;
  std::vector<std::string> states;
  std::vector<std::string> golden;
  std::vector<std::uint64_t> golden_seeds;
  std::int64_t most_turns = -1;
  std::string dump_folder;
  std::string header;
  std::string object;
  std::string machine = "x86_64";
  std::string symbol;
  bool no_winograd = false;
  bool no_external_data = false;
  bool quiet = false;
  bool json = false;
};

std::vector<std::pair<std::string, std::string>> parse_metadata(const std::vector<std::string>& entries) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const std::string& entry : entries) {
    const std::size_t at = entry.find('=');
    if (at == std::string::npos || at == 0) throw UsageError("--meta '" + entry + "': expected key=value");
    if (at > 256 || entry.size() - at > (1u << 20)) throw UsageError("--meta '" + entry.substr(0, 64) + "...' is too long");
    out.emplace_back(entry.substr(0, at), entry.substr(at + 1));
  }
  return out;
}

std::vector<plan::BuildOptions::State> parse_states(const std::vector<std::string>& entries) {
  std::vector<plan::BuildOptions::State> states;
  for (const std::string& entry : entries) {
    const std::size_t at = entry.find('=');
    if (at == std::string::npos || at == 0 || at + 1 == entry.size()) {
      throw UsageError("--state '" + entry + "': expected input=output, as in --state past=present");
    }
    states.push_back({entry.substr(0, at), entry.substr(at + 1), {}});
  }
  return states;
}

/// The arrays of an npz file as inputs of the profile whose shapes they have.
plan::BuildOptions::GoldenInputs read_golden(const PlanView& plan, const std::string& path) {
  const io::Arrays arrays = io::read_npz(path);
  for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
    plan::BuildOptions::GoldenInputs golden;
    golden.profile = static_cast<std::uint16_t>(p);
    bool fits = true;
    for (std::uint32_t i = 0; fits && i < plan.input_count(); ++i) {
      const TensorView view = plan.input(p, i);
      const auto found = arrays.find(plan.input_name(i));
      fits = found != arrays.end() && found->second.dtype == view.dtype &&
             found->second.dims == ir::Dims(view.dims, view.dims + view.rank);
      if (fits) golden.inputs.push_back(ir::Bytes::copy(found->second.bytes.data(), found->second.bytes.size()));
    }
    if (fits) return golden;
  }
  std::string text = path + ": its arrays are not the inputs of any profile:";
  for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
    for (std::uint32_t i = 0; i < plan.input_count(); ++i) {
      text += std::string(" ") + plan.input_name(i) + " " + to_string(plan.input(p, i));
    }
  }
  throw ir::BuildError(text);
}

std::vector<plan::BuildOptions::GoldenInputs> golden_inputs(const PlanView& plan, const Options& options) {
  std::vector<plan::BuildOptions::GoldenInputs> all;
  for (const std::string& path : options.golden) all.push_back(read_golden(plan, path));
  for (const std::uint64_t seed : options.golden_seeds) {
    for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
      plan::BuildOptions::GoldenInputs golden;
      golden.profile = static_cast<std::uint16_t>(p);
      golden.inputs = random_inputs(plan, p, seed);
      all.push_back(std::move(golden));
    }
  }
  return all;
}

Span<const std::byte> text_bytes(const std::string& text) { return {reinterpret_cast<const std::byte*>(text.data()), text.size()}; }

void write_embedding(const Options& options, const std::vector<std::byte>& bytes) {
  const std::string name = options.symbol.empty() ? plan::identifier_from(options.output) : options.symbol;
  const plan::Bytes64 aligned(bytes);
  const Result<PlanView> view = PlanView::load(aligned.span());
  if (!view.ok()) throw std::logic_error("the plan just built does not load");
  if (!options.header.empty()) io::write_file(options.header, text_bytes(plan::emit_header(*view, name)));
  if (options.object.empty()) return;
  const bool assembly = options.object.size() > 2 && options.object.compare(options.object.size() - 2, 2, ".S") == 0;
  if (assembly) {
    io::write_file(options.object, text_bytes(plan::emit_assembly(aligned.span(), name)));
  } else {
    const auto machine = options.machine == "aarch64" ? plan::Machine::AArch64 : plan::Machine::X86_64;
    const std::vector<std::byte> object = plan::emit_object(aligned.span(), name, machine);
    io::write_file(options.object, {object.data(), object.size()});
  }
}

nlohmann::json to_json(const plan::TuningReport& r) {
  nlohmann::json json = {{"shapes", r.shapes}, {"from_records", r.from_records}, {"measured", r.measured}, {"estimated", r.missed},
                         {"kernels_run", r.kernels}, {"rejected", r.rejected}, {"network_trials", r.trials}, {"seconds", r.seconds},
                         {"records_ignored", {{"other_devices", r.other_devices}, {"other_nvrtc", r.other_compilers}, {"older_kernels", r.stale}}}};
  if (!r.device.empty()) json["device"] = r.device;
  if (r.tuned_us > 0) json["network_us"] = {{"estimated", r.untuned_us}, {"tuned", r.tuned_us}};
  return json;
}

void print_report(const Options& options, const std::string& target, const plan::BuildResult& result) {
  const bool tactics = !options.tuning.records.empty() || options.tuning.tune || options.cuda.target == "local";
  if (!options.quiet) {
    for (const std::string& note : result.notes) std::fprintf(stderr, "note: %s\n", note.c_str());
  }
  if (options.json) {
    nlohmann::json json;
    json["plan"] = options.output;
    json["plan_bytes"] = result.plan_bytes;
    json["target"] = target;
    json["notes"] = result.notes;
    for (const plan::ProfileReport& profile : result.profiles) {
      nlohmann::json passes = nlohmann::json::array();
      for (const passes::PassReport& pass : profile.passes) {
        if (pass.rewrites > 0) passes.push_back({{"pass", pass.name}, {"rewrites", pass.rewrites}});
      }
      json["profiles"].push_back({{"name", profile.name},
                                  {"imported_nodes", profile.imported_nodes},
                                  {"steps", profile.steps},
                                  {"arena_bytes", profile.arena.bytes},
                                  {"arena_lower_bound", profile.arena.lower_bound},
                                  {"passes", passes},
                                  {"refused_fusions", describe_refusals(profile.refusals)}});
      if (profile.cuda.kernels != 0) {
        json["profiles"].back()["kernels"] = profile.cuda.kernels;
        json["profiles"].back()["kernels_cached"] = profile.cuda.cached;
        if (tactics) json["profiles"].back()["tuning"] = to_json(profile.cuda.tuning);
      }
    }
    std::printf("%s\n", json.dump(2).c_str());
    return;
  }
  if (options.quiet) return;
  std::printf("%s: %llu bytes, target %s\n", options.output.c_str(), static_cast<unsigned long long>(result.plan_bytes), target.c_str());
  for (const plan::ProfileReport& profile : result.profiles) {
    std::printf("  profile %s: %zu nodes -> %zu steps, arena %llu bytes (lower bound %llu, %s)\n", profile.name.c_str(),
                profile.imported_nodes, profile.steps, static_cast<unsigned long long>(profile.arena.bytes),
                static_cast<unsigned long long>(profile.arena.lower_bound), profile.arena.heuristic.c_str());
    if (tactics) print_tuning(profile.cuda.tuning);
  }
}

int build(const Options& options) {
  plan::BuildOptions build_options;
  const std::shared_ptr<tune::Worker> worker = open_worker(options.tuning, options.cuda);
  build_options.cuda = cuda_options(options.cuda, worker == nullptr ? nullptr : &worker->device());
  if (build_options.cuda && (!options.header.empty() || !options.object.empty())) {
    throw UsageError("--emit-header and --emit-object are for plans that run on the CPU");
  }
  Progress progress("build", options.quiet || options.json);
  if (build_options.cuda) build_options.cuda->tuning = tuning_options(options.tuning, worker, progress);
  progress.update("read " + options.model, 0.0);
  onnx_import::ImportOptions parse;
  parse.external_data = !options.no_external_data;
  onnx_import::Model model = onnx_import::parse_file(options.model, parse);
  build_options.profiles = parse_profiles(model, options.shapes, options.dims, options.values);
  if (options.most_turns >= 0) {
    for (onnx_import::ImportOptions& profile : build_options.profiles) profile.most_turns = options.most_turns;
  }
  build_options.metadata = parse_metadata(options.metadata);
  build_options.winograd = !options.no_winograd;
  build_options.states = parse_states(options.states);
  if (!options.golden.empty() || !options.golden_seeds.empty()) {
    build_options.golden = [&options](const PlanView& plan) { return golden_inputs(plan, options); };
  }
  build_options.dump_folder = options.dump_folder;
  if (!options.dump_folder.empty()) {
    std::error_code error;
    std::filesystem::create_directories(options.dump_folder, error);
    if (error) throw io::IoError("--dump-passes " + options.dump_folder + ": " + error.message());
  }
  build_options.progress = [&progress](const std::string& what, double fraction) { progress.update(what, fraction); };
  std::optional<io::AtomicFile> file;
  const auto write = [&](const std::byte* data, std::uint64_t size) {
    if (!file) file.emplace(options.output);
    file->write({data, static_cast<std::size_t>(size)});
  };
  const bool embeds = !options.header.empty() || !options.object.empty();
  if (!embeds) build_options.sink = write;
  const plan::BuildResult result = plan::build(std::move(model), build_options);
  if (embeds) write(result.bytes.data(), result.bytes.size());
  file->commit();
  if (embeds) write_embedding(options, result.bytes);
  print_report(options, build_options.cuda ? "sm_" + std::to_string(std::max(build_options.cuda->device.arch, build_options.cuda->compiler.code_arch)) : "cpu", result);
  return kOk;
}

}  // namespace

void add_build(CLI::App& program, std::function<int()>& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("build", "Build an ONNX model into a plan");
  command->footer(
      "Examples:\n"
      "  edgert build net.onnx -o net.plan\n"
      "  edgert build net.onnx -o net.plan --shape image=1x3x224x224\n"
      "  edgert build net.onnx -o net.plan --shape image=1x3x224x224:4x3x224x224:8x3x224x224   (three profiles)\n"
      "  edgert build net.onnx -o net.plan --value k=5 --meta edgert.task=classify\n"
      "  edgert build net.onnx -o net.plan --target sm_87 --fp16\n"
      "  edgert build net.onnx -o net.plan --target local --tuning-records orin.jsonl --device-profile orin-15w   (on the device)\n"
      "  edgert build net.onnx -o net.plan --target sm_87 --tuning-records orin.jsonl --error-on-miss   (anywhere)\n"
      "  edgert build net.onnx -o net.plan --state past=present --golden-seed 1\n"
      "  edgert build net.onnx -o net.plan --emit-header net.h --emit-object net.o --object-machine aarch64");
  command->add_option("model", options->model, "ONNX file")->required();
  command->add_option("-o,--output", options->output, "Plan file to write")->required();
  command->add_option("--shape", options->shapes,
                      "Extents of an input: name=1x3x224x224. Several separated by ':' (or the option given again for the same "
                      "input) make one profile each, as in name=MIN:OPT:MAX");
  command->add_option("--dim", options->dims, "Extent of a symbolic dimension: N=1");
  command->add_option("--value", options->values, "Fix an input that decides shapes: name=1,2,3");
  command->add_option("--meta", options->metadata, "Metadata to store in the plan: key=value");
  add_cuda_options(*command, options->cuda);
  add_tuning_options(*command, options->tuning);
  command->add_flag("--no-winograd", options->no_winograd,
                    "Compute 3x3 convolutions by their definition, never by Winograd's algorithm: slower, smaller plan, smaller rounding errors");
  command->add_option("--state", options->states,
                      "Keep a tensor from run to run: input=output; the output of a run is the input of the next");
  command->add_option("--most-turns", options->most_turns,
                      "Room for so many turns of loops whose outputs grow with the turns, where the model does not say")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{INT32_MAX}));
  command->add_option("--golden", options->golden,
                      "Record the outputs for these inputs (npz) in the plan, for self-tests on the device");
  command->add_option("--golden-seed", options->golden_seeds, "The same for random inputs of each profile");
  command->add_option("--dump-passes", options->dump_folder, "Write the graph before and after each pass into this folder");
  command->add_option("--emit-header", options->header, "Also write a C++ header with the plan's constants");
  command->add_option("--emit-object", options->object, "Also write the plan as an object file, or as assembly for FILE.S");
  command->add_option("--object-machine", options->machine, "Machine of the object file")
      ->check(CLI::IsMember({"x86_64", "aarch64"}))
      ->capture_default_str();
  command->add_option("--symbol", options->symbol, "Name in the header and of the object's symbols; default: the plan file's name");
  command->add_flag("--no-external-data", options->no_external_data, "Refuse tensors stored in other files");
  command->add_flag("-q,--quiet", options->quiet, "Print errors only");
  command->add_flag("--json", options->json, "Print the report as JSON");
  for (const char* repeatable : {"--shape", "--dim", "--value", "--meta", "--state", "--golden", "--golden-seed"}) {
    command->get_option(repeatable)->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  command->callback([options, &run] { run = [options] { return build(*options); }; });
}

}  // namespace edgert::cli
