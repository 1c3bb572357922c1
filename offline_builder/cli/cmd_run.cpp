// SPDX-License-Identifier: Apache-2.0
// edgert run: a plan on arrays, random inputs or a picture.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "cli/command.h"
#include "cli/loaded_plan.h"
#include "cli/picture.h"
#include "ir/types.h"

namespace edgert::cli {
namespace {

struct Options {
  std::string plan;
  std::string inputs;
  std::string outputs;
  std::string image;
  std::string labels;
  std::uint64_t seed = 0;
  std::uint64_t repeat = 1;
  std::uint32_t threads = 1;
  bool self_test = false;
};

/// How many batches of the plan's own size the arrays hold: 1 when they fit a profile as they are; k when every input's
/// first extent is k times that of profile 0 and the rest is equal; 0 otherwise.
std::int64_t batches_in(const PlanView& plan, const io::Arrays& arrays) {
  if (arrays.size() != plan.input_count()) return 0;
  std::int64_t batches = 0;
  for (std::uint32_t i = 0; i < plan.input_count(); ++i) {
    const auto found = arrays.find(plan.input_name(i));
    const TensorView view = plan.input(0, i);
    if (found == arrays.end() || found->second.dims.size() != view.rank || view.rank == 0 || view.dims[0] == 0) return 0;
    const ir::Dims& dims = found->second.dims;
    if (!std::equal(dims.begin() + 1, dims.end(), view.dims + 1) || dims[0] % view.dims[0] != 0) return 0;
    const std::int64_t count = dims[0] / view.dims[0];
    if (batches != 0 && count != batches) return 0;
    batches = count;
  }
  return batches;
}

bool fits_a_profile(const PlanView& plan, const io::Arrays& arrays) {
  for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
    bool fits = true;
    for (std::uint32_t i = 0; fits && i < plan.input_count(); ++i) {
      const auto found = arrays.find(plan.input_name(i));
      const TensorView view = plan.input(p, i);
      fits = found != arrays.end() && found->second.dims == ir::Dims(view.dims, view.dims + view.rank);
    }
    if (fits) return true;
  }
  return false;
}

io::Arrays slice_batch(const io::Arrays& arrays, std::int64_t batch, std::int64_t batches) {
  io::Arrays out;
  for (const auto& [name, array] : arrays) {
    io::Array part;
    part.dtype = array.dtype;
    part.dims = array.dims;
    part.dims[0] /= batches;
    const std::size_t bytes = array.bytes.size() / static_cast<std::size_t>(batches);
    const auto begin = array.bytes.begin() + static_cast<std::ptrdiff_t>(bytes * static_cast<std::size_t>(batch));
    part.bytes.assign(begin, begin + static_cast<std::ptrdiff_t>(bytes));
    out.emplace(name, std::move(part));
  }
  return out;
}

void append_outputs(io::Arrays& all, io::Arrays part) {
  for (auto& [name, array] : part) {
    const auto [it, added] = all.emplace(name, array);
    if (added || array.dims.empty()) continue;
    if (!std::equal(array.dims.begin() + 1, array.dims.end(), it->second.dims.begin() + 1)) {
      throw ir::BuildError("output '" + name + "' has other extents in another batch: " + ir::to_string(array.dims) + " and " +
                           ir::to_string(it->second.dims));
    }
    it->second.dims[0] += array.dims[0];
    it->second.bytes.insert(it->second.bytes.end(), array.bytes.begin(), array.bytes.end());
  }
}

void print_summary(const io::Arrays& outputs) {
  for (const auto& [name, array] : outputs) {
    std::printf("%s: %s", name.c_str(), ir::to_string(ir::TensorType{array.dtype, array.dims}).c_str());
    if (array.dtype == DType::F32 && !array.bytes.empty()) {
      const auto* values = reinterpret_cast<const float*>(array.bytes.data());
      const std::size_t count = array.bytes.size() / sizeof(float);
      double sum = 0;
      for (std::size_t i = 0; i < count; ++i) sum += static_cast<double>(values[i]);
      const auto [low, high] = std::minmax_element(values, values + count);
      std::printf(", min %.6g, max %.6g, mean %.6g", static_cast<double>(*low), static_cast<double>(*high), sum / static_cast<double>(count));
    }
    std::printf("\n");
  }
}

/// Share of rows of the first output whose largest element is at the label's place.
void print_accuracy(const PlanView& plan, const io::Arrays& outputs, const io::Array& labels, const std::string& labels_name) {
  const io::Array& scores = outputs.at(plan.output_name(0));
  if (scores.dtype != DType::F32 || scores.dims.size() != 2 || labels.dtype != DType::I64 || labels.dims.size() != 1 ||
      labels.dims[0] != scores.dims[0]) {
    throw ir::BuildError("--labels needs a float output [rows, classes] and an int64 array '" + labels_name + "' [rows]");
  }
  const auto* values = reinterpret_cast<const float*>(scores.bytes.data());
  const auto* expected = reinterpret_cast<const std::int64_t*>(labels.bytes.data());
  const std::int64_t classes = scores.dims[1];
  std::int64_t right = 0;
  for (std::int64_t row = 0; row < scores.dims[0]; ++row) {
    const float* begin = values + row * classes;
    right += std::max_element(begin, begin + classes) - begin == expected[row] ? 1 : 0;
  }
  std::printf("accuracy: %.4f (%lld of %lld)\n", static_cast<double>(right) / static_cast<double>(scores.dims[0]),
              static_cast<long long>(right), static_cast<long long>(scores.dims[0]));
}

void run_repeatedly(PlanSession& session, const Options& options) {
  for (std::uint64_t i = 0; i < options.repeat; ++i) session.require(session.run(), options.plan);
}

io::Arrays run_on_arrays(PlanSession& session, const Options& options, io::Arrays arrays) {
  const PlanView& plan = session.plan();
  if (fits_a_profile(plan, arrays)) {
    session.set_inputs(arrays);
    run_repeatedly(session, options);
    return session.outputs();
  }
  const std::int64_t batches = batches_in(plan, arrays);
  io::Arrays outputs;
  if (batches == 0) session.set_inputs(arrays);  // throws, and says what does not fit
  for (std::int64_t b = 0; b < batches; ++b) {
    session.set_inputs(slice_batch(arrays, b, batches));
    run_repeatedly(session, options);
    append_outputs(outputs, session.outputs());
  }
  return outputs;
}

int run_plan(const Options& options) {
  if (options.threads < 1 || options.threads > 64) throw UsageError("--threads must be between 1 and 64");
  if (!options.inputs.empty() && !options.image.empty()) throw UsageError("run: give --inputs or --image, not both");
  if (options.self_test && !(options.inputs.empty() && options.image.empty() && options.outputs.empty())) {
    throw UsageError("run: --self-test takes its inputs from the plan");
  }
  if (!options.labels.empty() && options.inputs.empty()) throw UsageError("run: --labels names an array of --inputs");
  const LoadedPlan plan(options.plan);
  const std::unique_ptr<PlanSession> opened = open_session(plan, options.threads);
  PlanSession& session = *opened;
  if (options.self_test) {
    session.self_test();
    std::printf("self-test: %u golden vector%s passed\n", rules::count(plan.view().table().golden()),
                rules::count(plan.view().table().golden()) == 1 ? "" : "s");
    return kOk;
  }
  io::Arrays outputs;
  if (!options.image.empty()) {
    const Picture picture(plan.view(), options.image);
    session.set_inputs(picture.inputs());
    run_repeatedly(session, options);
    outputs = session.outputs();
    picture.print(outputs);
  } else if (!options.inputs.empty()) {
    io::Arrays arrays = io::read_npz(options.inputs);
    io::Array labels;
    if (!options.labels.empty()) {
      const auto found = arrays.find(options.labels);
      if (found == arrays.end()) throw ir::BuildError(options.inputs + ": no array '" + options.labels + "' for --labels");
      labels = std::move(found->second);
      arrays.erase(found);
    }
    outputs = run_on_arrays(session, options, std::move(arrays));
    print_summary(outputs);
    if (!options.labels.empty()) print_accuracy(plan.view(), outputs, labels, options.labels);
  } else {
    session.set_random_inputs(options.seed);
    run_repeatedly(session, options);
    outputs = session.outputs();
    print_summary(outputs);
  }
  if (!options.outputs.empty()) io::write_npz(options.outputs, outputs);
  return kOk;
}

}  // namespace

void add_run(CLI::App& program, std::function<int()>& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("run", "Run a plan");
  command->footer(
      "Examples:\n"
      "  edgert run net.plan --inputs in.npz --outputs out.npz\n"
      "  edgert run net.plan --random 7\n"
      "  edgert run net.plan --self-test                (a plan built with --golden)\n"
      "  edgert run net.plan --image photo.png          (preprocessing and labels come from the plan's metadata)\n"
      "  edgert run net.plan --inputs test.npz --labels label     (accuracy over a test set)\n"
      "Arrays whose first extent is a multiple of the plan's batch are run batch by batch.");
  command->add_option("plan", options->plan, "Plan file")->required();
  command->add_option("--inputs", options->inputs, "Inputs by binding name, npz");
  command->add_option("--outputs", options->outputs, "Write the outputs here, npz");
  command->add_option("--random", options->seed, "Seed of random inputs, used without --inputs and --image")->capture_default_str();
  command->add_option("--repeat", options->repeat, "Run that often on the same inputs")
      ->capture_default_str()
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1000000000}));
  command->add_option("--image", options->image, "Picture to run on: PNG, JPEG, PGM or PPM");
  command->add_option("--labels", options->labels, "Array of --inputs with the right classes: prints the accuracy of the first output");
  command->add_flag("--self-test", options->self_test, "Run the plan's golden vectors and compare");
  command->add_option("--threads", options->threads, "Threads, the calling one included")->capture_default_str();
  command->callback([options, &run] { run = [options] { return run_plan(*options); }; });
}

}  // namespace edgert::cli
