// SPDX-License-Identifier: Apache-2.0
// What the GPU benchmarks share: one context and stream, memory, modules, launches with attributes, and timing of a
// captured graph. Any driver error ends the program with a message.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "codegen/kernel_spec.h"
#include "edgert/cuda/cubin.h"
#include "edgert/cuda/driver.h"
#include "tune/device_part.h"

namespace edgert::bench {

inline void print_line(void*, LogLevel, const char* line) { std::fprintf(stderr, "%s\n", line); }

struct Timing {
  double median_us = 0, low_us = 0, high_us = 0;  ///< 5th and 95th percentile
};

class Gpu {
 public:
  cuda::Driver driver;
  cuda::Device device = 0;
  cuda::Context context = nullptr;
  cuda::Stream stream = nullptr;
  std::string name;
  int arch = 0, multiprocessors = 0, shared_bytes = 0;

  /// The whole device, or a part of it with at least that many multiprocessors.
  explicit Gpu(int part = 0) {
    if (!driver.open(log_).ok()) std::exit(2);
    must(driver.device_get(&device, 0), "cuDeviceGet");
    char text[128] = {};
    must(driver.device_name(text, sizeof(text), device), "cuDeviceGetName");
    name = text;
    arch = attribute(cuda::DeviceAttribute::ComputeCapabilityMajor) * 10 + attribute(cuda::DeviceAttribute::ComputeCapabilityMinor);
    multiprocessors = attribute(cuda::DeviceAttribute::MultiprocessorCount);
    shared_bytes = attribute(cuda::DeviceAttribute::SharedBytesPerBlockOptIn);
    if (part > 0) {
      part_ = std::make_unique<tune::DevicePart>(driver, part);
      multiprocessors = part_->multiprocessors();
    } else {
      must(driver.primary_context_retain(&context, device), "cuDevicePrimaryCtxRetain");
      must(driver.context_push(context), "cuCtxPushCurrent");
    }
    must(driver.stream_create(&stream, cuda::kStreamNonBlocking, 0), "cuStreamCreate");
  }

  void must(cuda::DriverResult result, const char* call) const {
    if (!driver.check(result, call, log_).ok()) std::exit(3);
  }
  int attribute(cuda::DeviceAttribute which) const {
    int value = 0;
    must(driver.device_attribute(&value, which, device), "cuDeviceGetAttribute");
    return value;
  }

  cuda::DevicePointer allocate(std::size_t bytes, unsigned char fill = 0) {
    cuda::DevicePointer pointer = 0;
    bytes = std::max<std::size_t>(bytes, 256);
    must(driver.memory_alloc(&pointer, bytes), "cuMemAlloc");
    must(driver.fill_bytes_async(pointer, fill, bytes, stream), "cuMemsetD8Async");
    must(driver.stream_synchronize(stream), "cuStreamSynchronize");
    return pointer;
  }
  template <class T>
  cuda::DevicePointer upload(const std::vector<T>& data) {
    const cuda::DevicePointer pointer = allocate(data.size() * sizeof(T));
    must(driver.copy_to_device(pointer, data.data(), data.size() * sizeof(T)), "cuMemcpyHtoD");
    must(driver.stream_synchronize(nullptr), "cuStreamSynchronize");  // other streams do not wait for the copy's end
    return pointer;
  }
  template <class T>
  std::vector<T> download(cuda::DevicePointer from, std::size_t count) {
    std::vector<T> data(count);
    must(driver.copy_to_host(data.data(), from, count * sizeof(T)), "cuMemcpyDtoH");
    return data;
  }
  void free(cuda::DevicePointer pointer) { must(driver.memory_free(pointer), "cuMemFree"); }

  /// The kernel, its dynamic shared memory allowed. Modules stay loaded.
  cuda::Function load(const std::vector<std::byte>& cubin, const char* entry, std::uint32_t dynamic_shared) {
    if (!cuda::Cubin::check({cubin.data(), cubin.size()}, static_cast<std::uint32_t>(arch), log_).ok()) std::exit(4);
    cuda::Module module = nullptr;
    cuda::Function function = nullptr;
    must(driver.module_load(&module, cubin.data()), "cuModuleLoadData");
    must(driver.module_function(&function, module, entry), "cuModuleGetFunction");
    // The same division of cache and shared memory for all: a multiprocessor must be idle to change it.
    must(driver.function_set(function, cuda::FunctionAttribute::PreferredSharedCarveout, 100), "cuFuncSetAttribute");
    if (dynamic_shared > 48 * 1024) {
      must(driver.function_set(function, cuda::FunctionAttribute::MaxDynamicSharedBytes, static_cast<int>(dynamic_shared)), "cuFuncSetAttribute");
    }
    return function;
  }

  void launch(cuda::Stream on, cuda::Function function, const std::uint32_t (&grid)[3], const std::uint32_t (&block)[3],
              std::uint32_t shared, std::uint32_t cluster, bool programmatic, void** parameters) const {
    cuda::LaunchAttribute attributes[2] = {};
    unsigned count = 0;
    if (cluster > 1) {
      attributes[count].id = cuda::LaunchAttributeId::ClusterDimension;
      attributes[count].value.cluster.x = cluster;
      attributes[count].value.cluster.y = attributes[count].value.cluster.z = 1;
      ++count;
    }
    if (programmatic) {
      attributes[count].id = cuda::LaunchAttributeId::ProgrammaticSerialization;
      attributes[count].value.programmatic = 1;
      ++count;
    }
    const cuda::LaunchConfig config = {{grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared, on, attributes, count};
    must(driver.launch_ex(&config, function, parameters, nullptr), "cuLaunchKernelEx");
  }

  /// A graph of what `record` launches on the stream that it is given.
  cuda::GraphExec capture(cuda::Stream on, const std::function<void(cuda::Stream)>& record, std::size_t* nodes = nullptr) const {
    cuda::Graph graph = nullptr;
    cuda::GraphExec exec = nullptr;
    must(driver.stream_begin_capture(on, cuda::CaptureMode::ThreadLocal), "cuStreamBeginCapture");
    record(on);
    must(driver.stream_end_capture(on, &graph), "cuStreamEndCapture");
    if (nodes != nullptr) must(driver.graph_nodes(graph, nullptr, nodes), "cuGraphGetNodes");
    must(driver.graph_instantiate(&exec, graph, 0), "cuGraphInstantiate");
    must(driver.graph_destroy(graph), "cuGraphDestroy");
    must(driver.graph_upload(exec, on), "cuGraphUpload");
    must(driver.stream_synchronize(on), "cuStreamSynchronize");
    return exec;
  }

  /// GPU time of one launch of the graph: events around each of `samples` launches.
  Timing time(cuda::Stream on, cuda::GraphExec exec, int samples) const {
    cuda::Event begin = nullptr, end = nullptr;
    must(driver.event_create(&begin, 0), "cuEventCreate");
    must(driver.event_create(&end, 0), "cuEventCreate");
    for (int i = 0; i < 5; ++i) must(driver.graph_launch(exec, on), "cuGraphLaunch");
    std::vector<double> times;
    for (int i = 0; i < samples; ++i) {
      must(driver.event_record(begin, on), "cuEventRecord");
      must(driver.graph_launch(exec, on), "cuGraphLaunch");
      must(driver.event_record(end, on), "cuEventRecord");
      must(driver.event_synchronize(end), "cuEventSynchronize");
      float ms = 0;
      must(driver.event_elapsed(&ms, begin, end), "cuEventElapsedTime");
      times.push_back(1000.0 * static_cast<double>(ms));
    }
    must(driver.event_destroy(begin), "cuEventDestroy");
    must(driver.event_destroy(end), "cuEventDestroy");
    std::sort(times.begin(), times.end());
    return {times[times.size() / 2], times[times.size() / 20], times[times.size() * 19 / 20]};
  }

 private:
  LogSink log_ = {print_line, nullptr};
  std::unique_ptr<tune::DevicePart> part_;
};

}  // namespace edgert::bench
