// SPDX-License-Identifier: Apache-2.0
// Builds and runs models with given inputs and compares with given outputs, each in a process of its own, so that a
// crash costs one case. node_tests.py writes the cases and judges the results.
//
//   node_runner [--target sm_90] FOLDER...      each with model.onnx and case.bin
//   node_runner --plans FOLDER...               leaves each plan in its folder as model.plan
//   node_runner --operators    what can be imported: "domain|operator|first version|last version" a line
//
// With a target, plans compute in f32 on the GPU of this machine, all in one process, since opening the GPU anew for
// every case would take most of the time: after a crash the caller goes on with the cases behind it.
//
// Output: one line a folder, "pass|unsupported|wrong|error", a tab, the folder, a tab, what
// happened.
#include <fstream>
#include <optional>
#include <set>

#include "codegen/target.h"
#include "edgert/cuda/session.h"
#include "io/file.h"
#include "onnx/import.h"
#include "ops/operator.h"
#include "plan/aligned_bytes.h"
#include "plan/build.h"
#include "test_case.h"

namespace {

using namespace edgert;
using namespace edgert::conformance;

/// The GPU to build and run for; nothing: the CPU.
std::optional<plan::CudaOptions> gpu;

/// Whether plans are left in the folders, for plan_runner.
bool keep_plans = false;

/// Fixes scalars and vectors that the importer says must be known when the plan is built: what a user does with
/// --value.
std::vector<std::byte> build_with_values(const onnx_import::Model& model, const Case& test,
                                         std::set<std::string>& fixed) {
  onnx_import::ImportOptions options;
  for (const NamedTensor& input : test.inputs) options.shapes[input.name] = input.dims;
  while (true) {
    plan::BuildOptions build;
    build.profiles = {options};
    build.cuda = gpu;
    try {
      return plan::build(model, build).bytes;
    } catch (const onnx_import::ImportError& error) {
      bool added = false;
      for (const NamedTensor& input : test.inputs) {
        const bool named = input.dims.size() <= 1 &&
                           std::string(error.what()).find("--value " + input.name + "=") != std::string::npos;
        if (!named || !fixed.insert(input.name).second) continue;
        options.values[input.name] = {{input.dtype, input.dims}, ir::Bytes::copy(input.bytes.data(), input.bytes.size())};
        options.shapes.erase(input.name);
        added = true;
      }
      if (!added) throw;
    }
  }
}

Outcome run_on_gpu(const PlanView& view, const Case& test, const std::set<std::string>& fixed, std::string& message) {
  LogSink log;
  log.user = &message;
  log.write = [](void* user, LogLevel, const char* text) { *static_cast<std::string*>(user) = text; };
  cuda::Driver driver;
  if (!driver.open(log).ok()) return {"error", message};
  plan::Bytes64 program_memory(std::vector<std::byte>(static_cast<std::size_t>(cuda::Program::host_bytes(view))));
  plan::Bytes64 session_memory(std::vector<std::byte>(static_cast<std::size_t>(cuda::Session::host_bytes(view))));
  cuda::Program program;
  cuda::Session session;
  cuda::SessionOptions options;
  options.log = log;
  if (!program.prepare(driver, view, program_memory.mutable_span(), {log, 0}).ok()) return {"error", "program: " + message};
  if (!session.prepare(program, session_memory.mutable_span(), options).ok()) return {"error", "prepare: " + message};
  for (const NamedTensor& input : test.inputs) {
    if (fixed.count(input.name) != 0) continue;
    std::uint32_t i = 0;
    while (i < view.input_count() && input.name != view.input_name(i)) ++i;
    if (!session.write_input(i, input.bytes.data(), input.bytes.size()).ok()) return {"error", "input '" + input.name + "': " + message};
  }
  if (!session.run().ok()) return {"error", "run: " + message};
  for (std::uint32_t i = 0; i < test.outputs.size(); ++i) {
    if (i >= view.output_count()) return {"error", "the plan has no output " + std::to_string(i)};
    TensorView actual = view.output(0, i);
    std::uint64_t bytes = 0;
    if (!span_bytes(actual, bytes)) return {"error", "output " + std::to_string(i) + " has no size"};
    plan::Bytes64 memory(std::vector<std::byte>(static_cast<std::size_t>(bytes)));
    actual.data = memory.mutable_span().data();
    if (!session.read_output(i, actual.data, static_cast<std::size_t>(bytes)).ok()) return {"error", "output: " + message};
    const Result<Shape> shape = session.output_shape(i);
    if (!shape.ok()) return {"error", "extents of output " + std::to_string(i) + ": " + message};
    std::copy(shape->dims, shape->dims + actual.rank, actual.dims);
    const std::vector<std::byte> dense = make_dense(actual);
    const std::string problem = difference(test, test.outputs[i], actual);
    if (!problem.empty()) return {"wrong", "output '" + test.outputs[i].name + "': " + problem};
  }
  return {"pass", ""};
}

Outcome run_plan(const std::vector<std::byte>& bytes, const Case& test, const std::set<std::string>& fixed) {
  const plan::Bytes64 aligned(bytes);
  if (!gpu) return run_on_cpu(aligned.span(), test, [&](const std::string& name) { return fixed.count(name) != 0; });
  std::string message;
  LoadOptions load;
  load.log.user = &message;
  load.log.write = [](void* user, LogLevel, const char* text) { *static_cast<std::string*>(user) = text; };
  const Result<PlanView> view = PlanView::load(aligned.span(), load);
  if (!view.ok()) return {"error", "load: " + message};
  return run_on_gpu(*view, test, fixed, message);
}

Outcome run_case(const std::string& folder) {
  try {
    const Case test = read_case(folder + "/case.bin");
    const onnx_import::Model model = onnx_import::parse_file(folder + "/model.onnx");
    std::set<std::string> fixed;
    const std::vector<std::byte> bytes = build_with_values(model, test, fixed);
    if (keep_plans) io::write_file(folder + "/model.plan", {bytes.data(), bytes.size()});
    return run_plan(bytes, test, fixed);
  } catch (const onnx_import::ImportError& error) {
    const onnx_import::Problem& problem = error.problems().front();
    return {"unsupported", problem.op_type + ": " + problem.reason};
  } catch (const ir::BuildError& error) {
    return {"unsupported", error.what()};
  } catch (const std::exception& error) {
    return {"error", error.what()};
  }
}

/// Holds the device's context, so that no case opens it anew.
struct OpenGpu {
  OpenGpu() {
    if (gpu && driver.open().ok() && driver.device_get(&device, 0) == cuda::DriverResult::Success) {
      held = driver.primary_context_retain(&context, device) == cuda::DriverResult::Success;
    }
  }
  OpenGpu(const OpenGpu&) = delete;
  OpenGpu& operator=(const OpenGpu&) = delete;
  ~OpenGpu() {
    if (held) (void)driver.primary_context_release(device);
  }
  cuda::Driver driver;
  cuda::Device device = 0;
  cuda::Context context = nullptr;
  bool held = false;
};

}  // namespace

int main(int argc, char** argv) {
  const edgert::ops::Registry& registry = edgert::ops::Registry::instance();
  if (argc == 2 && std::string(argv[1]) == "--operators") {
    for (const edgert::ops::Registry::OnnxEntry& entry : registry.onnx()) {
      std::cout << entry.domain << '|' << entry.op_type << '|' << entry.since << '|' << entry.until << '\n';
    }
    return 0;
  }
  int first = 1;
  if (argc > 2 && std::string(argv[1]) == "--target") {
    const auto device = edgert::codegen::target_named(argv[2]);
    if (!device) {
      std::cerr << argv[2] << " is no GPU that plans are built for\n";
      return 2;
    }
    gpu.emplace();
    gpu->device = *device;
    gpu->precision = edgert::DType::F32;
    first = 3;
  }
  if (argc > 1 && std::string(argv[1]) == "--plans") {
    keep_plans = true;
    first = 2;
  }
  const OpenGpu open;
  for (int i = first; i < argc; ++i) {
    print(gpu ? run_case(argv[i]) : run_isolated(argv[i], &run_case), argv[i]);
  }
  return 0;
}
