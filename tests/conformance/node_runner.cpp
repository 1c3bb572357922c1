// SPDX-License-Identifier: Apache-2.0
// Builds and runs models with given inputs and compares with given outputs, each in a process of its own, so that a
// crash costs one case. node_tests.py writes the cases and judges the results.
//
//   node_runner [--target sm_90] FOLDER...      each with model.onnx and case.bin
//   node_runner --operators    what can be imported: "domain|operator|first version|last version" a line
//
// With a target, plans compute in f32 on the GPU of this machine, all in one process, since opening the GPU anew for
// every case would take most of the time: after a crash the caller goes on with the cases behind it.
//
// case.bin: a line "RTOL ATOL INPUTS OUTPUTS", then for each tensor, inputs first, a line "NAME TYPE RANK DIMS...
// BYTES" and its bytes. Output: one line a folder, "pass|unsupported|wrong|error", a tab, the folder, a tab, what
// happened.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <optional>
#include <set>
#include <sstream>

#include "codegen/target.h"
#include "edgert/cpu/small_strips.h"
#include "edgert/cuda/session.h"
#include "edgert/scalar/convert.h"
#include "edgert/session.h"
#include "onnx/import.h"
#include "ops/operator.h"
#include "plan/aligned_bytes.h"
#include "plan/build.h"

namespace {

using namespace edgert;

constexpr unsigned kSeconds = 60;
[[maybe_unused]] constexpr rlim_t kMemoryBytes = rlim_t{6} << 30;

/// The GPU to build and run for; nothing: the CPU.
std::optional<plan::CudaOptions> gpu;

struct NamedTensor {
  std::string name;
  onnx_import::ConstantTensor tensor;
};

struct Case {
  double rtol = 0;
  double atol = 0;
  std::vector<NamedTensor> inputs;
  std::vector<NamedTensor> outputs;
};

struct Outcome {
  const char* kind;
  std::string detail;
};

DType dtype_from(const std::string& name) {
  for (std::uint8_t i = 1; i < kDTypeCount; ++i) {
    if (name == to_string(static_cast<DType>(i))) return static_cast<DType>(i);
  }
  throw std::runtime_error("case.bin names the type " + name);
}

NamedTensor read_tensor(std::istream& file) {
  NamedTensor out;
  std::string line;
  std::getline(file, line);
  std::istringstream words(line);
  std::string type;
  std::size_t rank = 0;
  std::size_t bytes = 0;
  words >> out.name >> type >> rank;
  out.tensor.type.dtype = dtype_from(type);
  out.tensor.type.dims.resize(rank);
  for (std::int64_t& extent : out.tensor.type.dims) words >> extent;
  words >> bytes;
  std::vector<std::byte> data(bytes);
  file.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(bytes));
  if (!words || !file || bytes != ir::dense_bytes(out.tensor.type)) throw std::runtime_error("case.bin is broken");
  out.tensor.bytes = ir::Bytes::adopt(std::move(data));
  return out;
}

Case read_case(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Case test;
  std::size_t inputs = 0;
  std::size_t outputs = 0;
  std::string line;
  std::getline(file, line);
  std::istringstream words(line);
  words >> test.rtol >> test.atol >> inputs >> outputs;
  if (!words) throw std::runtime_error(path + " cannot be read");
  for (std::size_t i = 0; i < inputs; ++i) test.inputs.push_back(read_tensor(file));
  for (std::size_t i = 0; i < outputs; ++i) test.outputs.push_back(read_tensor(file));
  return test;
}

double element(DType dtype, const void* data, std::int64_t i) {
  switch (dtype) {
    case DType::F32: return static_cast<double>(static_cast<const float*>(data)[i]);
    case DType::F64: return static_cast<const double*>(data)[i];
    case DType::F16: return static_cast<double>(scalar::to_float(static_cast<const scalar::Half*>(data)[i]));
    case DType::BF16: return static_cast<double>(scalar::to_float(static_cast<const scalar::BFloat16*>(data)[i]));
    default: break;
  }
  alignas(8) unsigned char lane[8];  // of 8 or 4 bits: a strip of one
  cpu::load_small_strip(dtype, lane, data, i, 1, 1);
  float value = 0;
  std::memcpy(&value, lane, sizeof(value));
  return static_cast<double>(value);
}

bool is_float(DType dtype) {
  return dtype == DType::F32 || dtype == DType::F64 || dtype == DType::F16 || dtype == DType::BF16 ||
         cpu::small_arithmetic(dtype) == cpu::Arithmetic::F32;
}

/// The elements of `view` one after the other, where the view points from then on. An output with a bounded extent is
/// not row-major itself.
std::vector<std::byte> make_dense(TensorView& view) {
  if (bits_of(view.dtype) % 8 != 0 || is_dense(view) || view.elements() == 0) return {};
  const std::size_t element = bits_of(view.dtype) / 8;
  std::vector<std::byte> bytes(static_cast<std::size_t>(view.elements()) * element);
  for (std::int64_t i = 0; i < view.elements(); ++i) {
    std::int64_t offset = 0;
    std::int64_t rest = i;
    for (std::uint32_t d = view.rank; d-- > 0; rest /= view.dims[d]) offset += rest % view.dims[d] * view.strides[d];
    std::memcpy(bytes.data() + static_cast<std::size_t>(i) * element,
                static_cast<const std::byte*>(view.data) + static_cast<std::size_t>(offset) * element, element);
  }
  view.data = bytes.data();
  return bytes;
}

/// Empty, or the first difference. Floats as onnx's own runner has it, everything else to the bit.
std::string difference(const Case& test, const NamedTensor& expected, const TensorView& actual) {
  const ir::TensorType& type = expected.tensor.type;
  const ir::Dims dims(actual.dims, actual.dims + actual.rank);
  if (actual.dtype != type.dtype || dims != type.dims) {
    return ir::to_string(ir::TensorType{actual.dtype, dims}) + " instead of " + ir::to_string(type);
  }
  const std::byte* reference = expected.tensor.bytes.data();
  if (!is_float(type.dtype)) {
    const bool same =
        expected.tensor.bytes.size() == 0 || std::memcmp(actual.data, reference, expected.tensor.bytes.size()) == 0;
    return same ? "" : "integers differ";
  }
  const double rtol = type.dtype == DType::BF16 ? std::max(test.rtol, 1.0 / 64) : test.rtol;
  for (std::int64_t i = 0; i < ir::element_count(dims); ++i) {
    const double a = element(type.dtype, actual.data, i);
    const double b = element(type.dtype, reference, i);
    if (a == b || (std::isnan(a) && std::isnan(b)) || std::abs(a - b) <= test.atol + rtol * std::abs(b)) continue;
    std::ostringstream text;
    text << "element " << i << " is " << a << " instead of " << b;
    return text.str();
  }
  return "";
}

/// Fixes scalars and vectors that the importer says must be known when the plan is built: what a user does with
/// --value.
std::vector<std::byte> build_with_values(const onnx_import::Model& model, const Case& test,
                                         std::set<std::string>& fixed) {
  onnx_import::ImportOptions options;
  for (const NamedTensor& input : test.inputs) options.shapes[input.name] = input.tensor.type.dims;
  while (true) {
    plan::BuildOptions build;
    build.profiles = {options};
    build.cuda = gpu;
    try {
      return plan::build(model, build).bytes;
    } catch (const onnx_import::ImportError& error) {
      bool added = false;
      for (const NamedTensor& input : test.inputs) {
        const bool named = input.tensor.type.dims.size() <= 1 &&
                           std::string(error.what()).find("--value " + input.name + "=") != std::string::npos;
        if (!named || !fixed.insert(input.name).second) continue;
        options.values[input.name] = input.tensor;
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
    if (!session.write_input(i, input.tensor.bytes.data(), input.tensor.bytes.size()).ok()) return {"error", "input '" + input.name + "': " + message};
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
    const std::string problem = difference(test, test.outputs[i], actual);
    if (!problem.empty()) return {"wrong", "output '" + test.outputs[i].name + "': " + problem};
  }
  return {"pass", ""};
}

Outcome run_plan(const std::vector<std::byte>& bytes, const Case& test, const std::set<std::string>& fixed) {
  std::string message;
  LogSink log;
  log.user = &message;
  log.write = [](void* user, LogLevel, const char* text) { *static_cast<std::string*>(user) = text; };
  const plan::Bytes64 aligned(bytes);
  LoadOptions load;
  load.log = log;
  const Result<PlanView> view = PlanView::load(aligned.span(), load);
  if (!view.ok()) return {"error", "load: " + message};
  if (gpu) return run_on_gpu(*view, test, fixed, message);
  SessionOptions options;
  options.log = log;
  const Result<std::uint64_t> needed = Session<>::memory_bytes(*view, options);
  if (!needed.ok()) return {"error", "needs: " + message};
  plan::Bytes64 memory(std::vector<std::byte>(static_cast<std::size_t>(*needed)));
  Session<> session;
  if (!session.prepare(*view, memory.mutable_span(), options).ok()) return {"error", "prepare: " + message};
  for (const NamedTensor& input : test.inputs) {
    if (fixed.count(input.name) != 0) continue;
    const Result<TensorView> target = session.input(input.name.c_str());
    if (!target.ok()) return {"error", "the plan has no input '" + input.name + "'"};
    if (input.tensor.bytes.size() != 0) std::memcpy(target->data, input.tensor.bytes.data(), input.tensor.bytes.size());
  }
  const Status status = session.run();
  if (!status.ok()) return {"error", "run: " + message};
  for (std::size_t i = 0; i < test.outputs.size(); ++i) {
    const Result<TensorView> output = session.output(static_cast<std::uint32_t>(i));
    if (!output.ok()) return {"error", "the plan has no output " + std::to_string(i)};
    TensorView actual = *output;
    const std::vector<std::byte> dense = make_dense(actual);
    const std::string problem = difference(test, test.outputs[i], actual);
    if (!problem.empty()) return {"wrong", "output '" + test.outputs[i].name + "': " + problem};
  }
  return {"pass", ""};
}

Outcome run_case(const std::string& folder) {
  try {
    const Case test = read_case(folder + "/case.bin");
    const onnx_import::Model model = onnx_import::parse_file(folder + "/model.onnx");
    std::set<std::string> fixed;
    const std::vector<std::byte> bytes = build_with_values(model, test, fixed);
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

void limit_memory() {
#if !defined(__SANITIZE_ADDRESS__)  // which reserves more than any limit
  const rlimit memory{kMemoryBytes, kMemoryBytes};
  setrlimit(RLIMIT_AS, &memory);
#endif
}

/// The outcome as a child process reports it through a pipe, or how the child died.
Outcome run_isolated(const std::string& folder) {
  int channel[2];
  if (pipe(channel) != 0) return {"error", "no pipe"};
  std::cout.flush();
  const pid_t child = fork();
  if (child == 0) {
    close(channel[0]);
    limit_memory();
    alarm(kSeconds);
    const Outcome outcome = run_case(folder);
    const std::string text = outcome.kind + std::string(1, '\n') + outcome.detail;
    const ssize_t written = write(channel[1], text.data(), text.size());
    _exit(written == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(channel[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(channel[0], buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  close(channel[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) return {"error", std::string("killed: ") + strsignal(WTERMSIG(status))};
  const std::size_t end = text.find('\n');
  for (const char* kind : {"pass", "unsupported", "wrong", "error"}) {
    if (text.compare(0, end, kind) == 0) return {kind, text.substr(end + 1)};
  }
  return {"error", "it ended without a result"};
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

std::string one_line(std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\t' || c == '\r') c = ' ';
  }
  return text;
}

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
  const OpenGpu open;
  for (int i = first; i < argc; ++i) {
    const Outcome outcome = gpu ? run_case(argv[i]) : run_isolated(argv[i]);
    std::cout << outcome.kind << '\t' << argv[i] << '\t' << one_line(outcome.detail) << std::endl;
  }
  return 0;
}
