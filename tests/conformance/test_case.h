// SPDX-License-Identifier: Apache-2.0
// A conformance case: inputs, the outputs expected of them, how to run a plan on them on the CPU and in a process of its
// own, and how to compare. Needs the runtime only, so that programs for devices can use it.
//
// case.bin: a line "RTOL ATOL INPUTS OUTPUTS", then for each tensor, inputs first, a line "NAME TYPE RANK DIMS...
// BYTES" and its bytes.
#pragma once

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "edgert/cpu/small_strips.h"
#include "edgert/scalar/convert.h"
#include "support/test_session.h"

namespace edgert::conformance {

inline constexpr unsigned kSeconds = 60;
inline constexpr rlim_t kMemoryBytes = rlim_t{6} << 30;

struct NamedTensor {
  std::string name;
  DType dtype = DType::Undefined;
  std::vector<std::int64_t> dims;
  std::vector<std::byte> bytes;  ///< dense, row-major
};

struct Case {
  double rtol = 0;
  double atol = 0;
  std::vector<NamedTensor> inputs;
  std::vector<NamedTensor> outputs;
};

struct Outcome {
  std::string kind;  ///< pass, unsupported, wrong or error
  std::string detail;
};

inline std::string to_text(DType dtype, const std::vector<std::int64_t>& dims) {
  std::string text = std::string(to_string(dtype)) + "[";
  for (const std::int64_t extent : dims) text += (text.back() == '[' ? "" : ",") + std::to_string(extent);
  return text + "]";
}

inline DType dtype_from(const std::string& name) {
  for (std::uint8_t i = 1; i < kDTypeCount; ++i) {
    if (name == to_string(static_cast<DType>(i))) return static_cast<DType>(i);
  }
  throw std::runtime_error("case.bin names the type " + name);
}

inline NamedTensor read_tensor(std::istream& file) {
  NamedTensor out;
  std::string line;
  std::getline(file, line);
  std::istringstream words(line);
  std::string type;
  std::size_t rank = 0;
  std::size_t bytes = 0;
  words >> out.name >> type >> rank;
  out.dtype = dtype_from(type);
  out.dims.resize(rank);
  std::uint64_t elements = 1;
  for (std::int64_t& extent : out.dims) {
    words >> extent;
    elements *= static_cast<std::uint64_t>(extent);
  }
  words >> bytes;
  if (!words || bytes != (elements * bits_of(out.dtype) + 7) / 8) throw std::runtime_error("case.bin is broken");
  out.bytes.resize(bytes);
  file.read(reinterpret_cast<char*>(out.bytes.data()), static_cast<std::streamsize>(bytes));
  if (!file) throw std::runtime_error("case.bin is cut off");
  return out;
}

inline Case read_case(const std::string& path) {
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

inline double element(DType dtype, const void* data, std::int64_t i) {
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

inline bool is_float(DType dtype) {
  return dtype == DType::F32 || dtype == DType::F64 || dtype == DType::F16 || dtype == DType::BF16 ||
         cpu::small_arithmetic(dtype) == cpu::Arithmetic::F32;
}

/// The elements of `view` one after the other, where the view points from then on. An output with a bounded extent is
/// not row-major itself.
inline std::vector<std::byte> make_dense(TensorView& view) {
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
inline std::string difference(const Case& test, const NamedTensor& expected, const TensorView& actual) {
  const std::vector<std::int64_t> dims(actual.dims, actual.dims + actual.rank);
  if (actual.dtype != expected.dtype || dims != expected.dims) {
    return to_text(actual.dtype, dims) + " instead of " + to_text(expected.dtype, expected.dims);
  }
  const std::byte* reference = expected.bytes.data();
  if (!is_float(expected.dtype)) {
    const bool same = expected.bytes.empty() || std::memcmp(actual.data, reference, expected.bytes.size()) == 0;
    return same ? "" : "integers differ";
  }
  const double rtol = expected.dtype == DType::BF16 ? std::max(test.rtol, 1.0 / 64) : test.rtol;
  for (std::int64_t i = 0; i < actual.elements(); ++i) {
    const double a = element(expected.dtype, actual.data, i);
    const double b = element(expected.dtype, reference, i);
    if (a == b || (std::isnan(a) && std::isnan(b)) || std::abs(a - b) <= test.atol + rtol * std::abs(b)) continue;
    std::ostringstream text;
    text << "element " << i << " is " << a << " instead of " << b;
    return text.str();
  }
  return "";
}

/// Memory aligned to 64, as plans and sessions want it.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::uint64_t size)
      : data_(static_cast<std::byte*>(std::aligned_alloc(64, static_cast<std::size_t>(align_up(size + 1, 64))))), size_(size) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  Span<std::byte> span() { return {data_.get(), static_cast<std::size_t>(size_)}; }

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::uint64_t size_;
};

/// Runs a plan, whose bytes are aligned to 64, on the CPU and compares. Inputs that `is_fixed(name)` says became constants
/// when the plan was built are left out.
template <class IsFixed>
Outcome run_on_cpu(Span<const std::byte> plan, const Case& test, IsFixed is_fixed) {
  std::string message;
  LogSink log;
  log.user = &message;
  log.write = [](void* user, LogLevel, const char* text) { *static_cast<std::string*>(user) = text; };
  LoadOptions load;
  load.log = log;
  const Result<PlanView> view = PlanView::load(plan, load);
  if (!view.ok()) return {"error", "load: " + message};
  SessionOptions options;
  options.log = log;
  const Result<std::uint64_t> needed = test::TestSession::memory_bytes(*view, options);
  if (!needed.ok()) return {"error", "needs: " + message};
  AlignedBytes memory(*needed);
  test::TestSession session;
  if (!session.prepare(*view, memory.span(), options).ok()) return {"error", "prepare: " + message};
  for (const NamedTensor& input : test.inputs) {
    const Result<TensorView> target = session.input(input.name.c_str());
    if (!target.ok() && is_fixed(input.name)) continue;
    if (!target.ok()) return {"error", "the plan has no input '" + input.name + "'"};
    if (!input.bytes.empty()) std::memcpy(target->data, input.bytes.data(), input.bytes.size());
  }
  if (!session.run().ok()) return {"error", "run: " + message};
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

inline void limit_memory() {
#if !defined(__SANITIZE_ADDRESS__)  // which reserves more than any limit
  const rlimit memory{kMemoryBytes, kMemoryBytes};
  setrlimit(RLIMIT_AS, &memory);
#endif
}

/// The outcome of run_case(folder) as a child process reports it through a pipe, or how the child died.
inline Outcome run_isolated(const std::string& folder, Outcome (*run_case)(const std::string& folder)) {
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
  if (end == std::string::npos) return {"error", "it ended without a result"};
  return {text.substr(0, end), text.substr(end + 1)};
}

/// "KIND<tab>FOLDER<tab>DETAIL", the line that node_tests.py reads.
inline void print(const Outcome& outcome, const std::string& folder) {
  std::string detail = outcome.detail;
  for (char& c : detail) {
    if (c == '\n' || c == '\t' || c == '\r') c = ' ';
  }
  std::cout << outcome.kind << '\t' << folder << '\t' << detail << std::endl;
}

}  // namespace edgert::conformance
