// SPDX-License-Identifier: Apache-2.0
#include "cli/device_rates.h"

#include <algorithm>
#include <vector>

#include "cli/cuda_options.h"
#include "codegen/compiler.h"
#include "codegen/kernel_spec.h"
#include "edgert/cuda/cubin.h"
#include "ir/types.h"

namespace edgert::cli {
namespace {

using cuda::DeviceAttribute;

void must(const cuda::Driver& driver, cuda::DriverResult result, const char* call) {
  if (result != cuda::DriverResult::Success) throw ir::BuildError(std::string("CUDA: ") + call + ": " + driver.name_of(result));
}

class RateProbe {
 public:
  RateProbe(const cuda::Driver& driver, cuda::Device device, cuda::Stream stream, int multiprocessors)
      : driver_(driver), device_(device), stream_(stream), multiprocessors_(multiprocessors) {}
  RateProbe(const RateProbe&) = delete;
  RateProbe& operator=(const RateProbe&) = delete;
  ~RateProbe() {
    if (begin_ != nullptr) (void)driver_.event_destroy(begin_);
    if (end_ != nullptr) (void)driver_.event_destroy(end_);
    if (graph_ != nullptr) (void)driver_.graph_exec_destroy(graph_);
    if (data_ != 0) (void)driver_.memory_free(data_);
    if (module_ != nullptr) (void)driver_.module_unload(module_);
  }

  int attribute(DeviceAttribute which) const {
    int value = 0;
    must(driver_, driver_.device_attribute(&value, which, device_), "cuDeviceGetAttribute");
    return value;
  }
  std::uint32_t arch() const {
    return static_cast<std::uint32_t>(attribute(DeviceAttribute::ComputeCapabilityMajor) * 10 + attribute(DeviceAttribute::ComputeCapabilityMinor));
  }

  /// Multiprocessors times clock times what the programming guide gives per multiprocessor and cycle.
  DeviceRates from_attributes() const {
    DeviceRates rates;
    const double cycles = static_cast<double>(attribute(DeviceAttribute::ClockKilohertz)) * 1e-3 * multiprocessors_;
    rates.tensor = cycles * (arch() >= 90 ? 1024 : 512);
    rates.scalar = cycles * (arch() == 80 ? 64 : 128);
    rates.cache = cycles * 64;
    rates.memory = static_cast<double>(attribute(DeviceAttribute::MemoryClockKilohertz)) * 1e-3 * 2 * attribute(DeviceAttribute::MemoryBusBits) / 8;
    rates.memory = std::min(rates.memory, rates.cache);
    rates.cache_bytes = static_cast<std::uint64_t>(attribute(DeviceAttribute::L2CacheBytes));
    rates.source = "clocks and widths that the driver tells";
    return rates;
  }

  DeviceRates measure(const std::vector<std::byte>& cubin) {
    must(driver_, driver_.module_load(&module_, cubin.data()), "cuModuleLoadData");
    must(driver_, driver_.event_create(&begin_, 0), "cuEventCreate");
    must(driver_, driver_.event_create(&end_, 0), "cuEventCreate");
    DeviceRates rates;
    rates.cache_bytes = static_cast<std::uint64_t>(attribute(DeviceAttribute::L2CacheBytes));
    const std::uint64_t cached = std::clamp<std::uint64_t>(rates.cache_bytes / 4, 1u << 18, 1u << 23);
    const std::uint64_t uncached = std::clamp<std::uint64_t>(rates.cache_bytes * 8, 1u << 26, 1u << 29);
    must(driver_, driver_.memory_alloc(&data_, uncached), "cuMemAlloc");
    must(driver_, driver_.fill_bytes_async(data_, 1, uncached, stream_), "cuMemsetD8Async");
    rates.cache = read_rate(cached, 40);
    rates.memory = std::min(read_rate(uncached, 2), rates.cache);
    constexpr double kTensorThreads = 256 / 32 * 8 * 16 * 8 * 16;
    constexpr double kScalarThreads = 256 * 64;
    rates.tensor = multiply_rate("tensor_rate", kTensorThreads, {});
    rates.scalar = multiply_rate("float_rate", kScalarThreads, 1.0f);
    rates.step = step_us(false);
    rates.early_step = arch() >= 90 ? step_us(true) : rates.step;
    rates.source = "measured by kernels/device_rates.cu";
    return rates;
  }

 private:
  static constexpr int kRounds = 400;

  cuda::Function function(const char* name) {
    cuda::Function found = nullptr;
    must(driver_, driver_.module_function(&found, module_, name), "cuModuleGetFunction");
    return found;
  }

  /// Microseconds of one launch, the least of five.
  double time(cuda::Function kernel, unsigned blocks, unsigned threads, void** parameters) {
    return time([&] { must(driver_, driver_.launch(kernel, blocks, 1, 1, threads, 1, 1, 0, stream_, parameters, nullptr), "cuLaunchKernel"); });
  }
  template <class Launch>
  double time(const Launch& launch) {
    double least = 0;
    for (int i = 0; i < 6; ++i) {
      must(driver_, driver_.event_record(begin_, stream_), "cuEventRecord");
      launch();
      must(driver_, driver_.event_record(end_, stream_), "cuEventRecord");
      must(driver_, driver_.event_synchronize(end_), "cuEventSynchronize");
      float ms = 0;
      must(driver_, driver_.event_elapsed(&ms, begin_, end_), "cuEventElapsedTime");
      const double us = 1000.0 * static_cast<double>(ms);
      if (i == 1 || (i > 1 && us < least)) least = us;  // the first one warms up
    }
    return least;
  }

  /// Of `rounds` rounds, less what one round takes: without the launch, and with what the first round brings in.
  double read_rate(std::uint64_t bytes, int rounds) {
    const cuda::Function kernel = function("read_rate");
    int vectors = static_cast<int>(bytes / 16);
    double us[2];
    for (int which = 0; which < 2; ++which) {
      int count = which == 0 ? 1 : 1 + rounds;
      void* parameters[] = {&data_, &vectors, &count, &data_};
      us[which] = time(kernel, static_cast<unsigned>(multiprocessors_) * 4, 512, parameters);
    }
    return static_cast<double>(bytes) * rounds / std::max(us[1] - us[0], 1e-3);
  }

  double multiply_rate(const char* name, double per_block_and_round, float factor) {
    const cuda::Function kernel = function(name);
    const unsigned blocks = static_cast<unsigned>(multiprocessors_) * 4;
    const bool has_factor = factor != 0;
    double us[2];
    for (int which = 0; which < 2; ++which) {
      int count = which == 0 ? kRounds : 2 * kRounds;
      void* with[] = {&count, &factor, &data_};
      void* without[] = {&count, &data_};
      us[which] = time(kernel, blocks, 256, has_factor ? with : without);
    }
    return per_block_and_round * blocks * kRounds / std::max(us[1] - us[0], 1e-3);
  }

  /// What a node adds to a graph of empty ones.
  double step_us(bool early) {
    constexpr int kFew = 8, kMany = 72;
    const cuda::Function kernel = function("empty_step");
    cuda::LaunchAttribute attribute = {};
    attribute.id = cuda::LaunchAttributeId::ProgrammaticSerialization;
    attribute.value.programmatic = 1;
    double us[2];
    for (const int nodes : {kFew, kMany}) {
      cuda::Graph graph = nullptr;
      must(driver_, driver_.stream_begin_capture(stream_, cuda::CaptureMode::ThreadLocal), "cuStreamBeginCapture");
      for (int i = 0; i < nodes; ++i) {
        const cuda::LaunchConfig config = {{1, 1, 1}, {32, 1, 1}, 0, stream_, &attribute, early && i > 0 ? 1u : 0u};
        must(driver_, driver_.launch_ex(&config, kernel, nullptr, nullptr), "cuLaunchKernelEx");
      }
      must(driver_, driver_.stream_end_capture(stream_, &graph), "cuStreamEndCapture");
      const cuda::DriverResult made = driver_.graph_instantiate(&graph_, graph, 0);
      must(driver_, driver_.graph_destroy(graph), "cuGraphDestroy");
      must(driver_, made, "cuGraphInstantiate");
      us[nodes == kMany] = time([&] { must(driver_, driver_.graph_launch(graph_, stream_), "cuGraphLaunch"); });
      must(driver_, driver_.graph_exec_destroy(graph_), "cuGraphExecDestroy");
      graph_ = nullptr;
    }
    return std::max(0.0, us[1] - us[0]) / (kMany - kFew);
  }

  const cuda::Driver& driver_;
  cuda::Device device_;
  cuda::Stream stream_;
  int multiprocessors_;
  cuda::Module module_ = nullptr;
  cuda::Event begin_ = nullptr, end_ = nullptr;
  cuda::GraphExec graph_ = nullptr;
  cuda::DevicePointer data_ = 0;
};

}  // namespace

double DeviceRates::floor_us(std::uint64_t bytes, std::uint64_t multiply_adds, DType compute, bool cold) const {
  const bool narrow = compute == DType::F16 || compute == DType::BF16;
  const auto time = [](std::uint64_t work, double rate) { return rate > 0 ? static_cast<double>(work) / rate : 0.0; };
  return std::max(time(bytes, cold ? memory : cache), time(multiply_adds, narrow ? tensor : scalar));
}

DeviceRates device_rates(const cuda::Driver& driver, cuda::Device device, cuda::Stream stream, int multiprocessors) {
  RateProbe probe(driver, device, stream, multiprocessors);
  std::vector<std::byte> cubin;
  try {
    codegen::CompilerOptions options;
    options.cache_directory = default_kernel_cache();
    codegen::Compiler compiler(options);
    cubin = compiler.compile({codegen::make_job("device_rates", "kernels/device_rates.cu", "", probe.arch())})[0].cubin;
  } catch (const codegen::CompileError&) {
    return probe.from_attributes();
  }
  if (!cuda::Cubin::check({cubin.data(), cubin.size()}, probe.arch()).ok()) return probe.from_attributes();
  return probe.measure(cubin);
}

}  // namespace edgert::cli
