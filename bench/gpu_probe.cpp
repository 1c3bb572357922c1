// SPDX-License-Identifier: Apache-2.0
// What a GPU charges before any work is done: a dependent node in a captured graph with 1, 16 and all multiprocessors'
// blocks, with ordinary and with programmatic edges; a grid-wide barrier; a graph launch on the host; L2 reads; and
// whether graphs can be captured on a green context. These numbers are the floor of docs/cuda.md.
//
// gpu_probe --kernels DIR     kernels compiled before by gpu_probe --compile DIR ARCH (needs NVRTC, no GPU)
#include <chrono>
#include <fstream>

#include "bench/gpu_host.h"
#include "codegen/compiler.h"

namespace {

using namespace edgert;
using bench::Gpu;
using bench::Timing;

// The chain kernel reads what the one before it wrote, so that an edge that did not order them would show in the result.
constexpr char kSource[] = R"(
extern "C" __global__ void chain(unsigned* counter) {
  if (threadIdx.x == 0 && blockIdx.x == 0) *counter = *counter + 1;
}
extern "C" __global__ void chain_programmatic(unsigned* counter) {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  if (threadIdx.x == 0 && blockIdx.x == 0) *counter = *counter + 1;
}
extern "C" __global__ void chain_late(unsigned* counter) {
  asm volatile("griddepcontrol.wait;" ::: "memory");
  if (threadIdx.x == 0 && blockIdx.x == 0) *counter = *counter + 1;
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
extern "C" __global__ void barriers(unsigned* state, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    __syncthreads();
    if (threadIdx.x == 0) {
      unsigned old;
      asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(old) : "l"(state) : "memory");
      const unsigned target = (old / gridDim.x + 1) * gridDim.x;
      unsigned now;
      do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(state) : "memory");
      while (now < target);
    }
    __syncthreads();
  }
}
extern "C" __global__ void cluster_barriers(unsigned* out, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  }
  if (threadIdx.x == 0 && blockIdx.x == 0) *out = rounds;
}
extern "C" __global__ void read(const uint4* data, long vectors, uint4* out, int rounds) {
  uint4 sum = {0, 0, 0, 0};
  for (int r = 0; r < rounds; ++r) {
#pragma unroll 8
    for (long i = blockIdx.x * (long)blockDim.x + threadIdx.x; i < vectors; i += (long)gridDim.x * blockDim.x) {
      uint4 v;
      asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(data + i));
      sum.x ^= v.x; sum.y ^= v.y; sum.z ^= v.z; sum.w ^= v.w;
    }
  }
  if (sum.x == 0x12345678) *out = sum;
}
extern "C" __global__ void pointer_chase(const unsigned* data, int steps, unsigned* out) {
  unsigned at = 0;
  const long long begin = clock64();
  for (int i = 0; i < steps; ++i) asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(at) : "l"(data + at) : "memory");
  out[0] = at;
  out[1] = (unsigned)((clock64() - begin) / steps);
}
)";

codegen::CompileJob probe_job(std::uint32_t arch) {
  codegen::CompileJob job;
  job.name = "probe";
  job.source = kSource;
  job.arch = arch;
  return job;
}

struct Probe {
  Gpu gpu;
  std::vector<std::byte> cubin;
  cuda::DevicePointer counter = 0;

  cuda::Function function(const char* entry) { return gpu.load(cubin, entry, 0); }

  /// Microseconds per node of a chain of `nodes` dependent launches, and whether all of them counted.
  void chain(const char* label, const char* entry, bool programmatic, unsigned blocks, unsigned threads) {
    const cuda::Function kernel = function(entry);
    constexpr int kLong = 220, kShort = 20;
    double time[2];
    for (int which = 0; which < 2; ++which) {
      const int nodes = which == 0 ? kShort : kLong;
      const cuda::GraphExec exec = gpu.capture(gpu.stream, [&](cuda::Stream stream) {
        for (int i = 0; i < nodes; ++i) {
          void* parameters[] = {&counter};
          gpu.launch(stream, kernel, {blocks, 1, 1}, {threads, 1, 1}, 0, 1, programmatic && i > 0, parameters);
        }
      });
      gpu.must(gpu.driver.fill_bytes_async(counter, 0, 4, gpu.stream), "memset");
      gpu.must(gpu.driver.graph_launch(exec, gpu.stream), "cuGraphLaunch");
      gpu.must(gpu.driver.stream_synchronize(gpu.stream), "sync");
      const unsigned counted = gpu.download<unsigned>(counter, 1)[0];
      if (counted != static_cast<unsigned>(nodes)) std::printf("WRONG: %s counted %u of %d\n", label, counted, nodes);
      time[which] = gpu.time(gpu.stream, exec, 200).median_us;
      gpu.must(gpu.driver.graph_exec_destroy(exec), "destroy");
    }
    std::printf("| %s | %u x %u | %.3f | %.2f |\n", label, blocks, threads, (time[1] - time[0]) / (kLong - kShort), time[0]);
  }

  void barrier(unsigned blocks) {
    const cuda::Function kernel = function("barriers");
    double time[2];
    for (int which = 0; which < 2; ++which) {
      int rounds = which == 0 ? 10 : 210;
      gpu.must(gpu.driver.fill_bytes_async(counter, 0, 4, gpu.stream), "memset");
      const cuda::GraphExec exec = gpu.capture(gpu.stream, [&](cuda::Stream stream) {
        void* parameters[] = {&counter, &rounds};
        gpu.must(gpu.driver.fill_bytes_async(counter, 0, 4, stream), "memset");
        gpu.launch(stream, kernel, {blocks, 1, 1}, {256, 1, 1}, 0, 1, false, parameters);
      });
      time[which] = gpu.time(gpu.stream, exec, 100).median_us;
    }
    std::printf("| grid barrier | %u x 256 | %.3f | |\n", blocks, (time[1] - time[0]) / 200);
  }

  void cluster_barrier(unsigned size) {
    const cuda::Function kernel = function("cluster_barriers");
    double time[2];
    for (int which = 0; which < 2; ++which) {
      int rounds = which == 0 ? 10 : 210;
      const cuda::GraphExec exec = gpu.capture(gpu.stream, [&](cuda::Stream stream) {
        void* parameters[] = {&counter, &rounds};
        gpu.launch(stream, kernel, {128, 1, 1}, {256, 1, 1}, 0, size, false, parameters);
      });
      time[which] = gpu.time(gpu.stream, exec, 100).median_us;
    }
    std::printf("| cluster barrier, %u blocks | 128 x 256 | %.3f | |\n", size, (time[1] - time[0]) / 200);
  }

  void read_rate(long megabytes, unsigned blocks) {
    const cuda::Function kernel = function("read");
    cuda::DevicePointer data = gpu.allocate(static_cast<std::size_t>(megabytes) << 20, 1);
    long vectors = (megabytes << 20) / 16;
    double time[2];
    for (int which = 0; which < 2; ++which) {
      int rounds = which == 0 ? 2 : 22;
      const cuda::GraphExec exec = gpu.capture(gpu.stream, [&](cuda::Stream stream) {
        void* parameters[] = {&data, &vectors, &counter, &rounds};
        gpu.launch(stream, kernel, {blocks, 1, 1}, {512, 1, 1}, 0, 1, false, parameters);
      });
      time[which] = gpu.time(gpu.stream, exec, 30).median_us;
    }
    std::printf("| read %ld MB, %u blocks | %.2f TB/s |\n", megabytes, blocks, 20.0 * static_cast<double>(megabytes << 20) / (time[1] - time[0]) * 1e-6);
    gpu.free(data);
  }

  void latency(long kilobytes) {
    const cuda::Function kernel = function("pointer_chase");
    const std::size_t count = static_cast<std::size_t>(kilobytes) << 8;
    std::vector<unsigned> next(count);
    for (std::size_t i = 0; i < count; ++i) next[i] = static_cast<unsigned>((i + 64 * 7) % count);
    cuda::DevicePointer data = gpu.upload(next);
    cuda::DevicePointer out = gpu.allocate(256);
    int steps = 4000;
    for (int i = 0; i < 2; ++i) {
      void* parameters[] = {&data, &steps, &out};
      gpu.launch(gpu.stream, kernel, {1, 1, 1}, {1, 1, 1}, 0, 1, false, parameters);
    }
    gpu.must(gpu.driver.stream_synchronize(gpu.stream), "sync");
    std::printf("| load latency, %ld kB | %u cycles |\n", kilobytes, gpu.download<unsigned>(out, 2)[1]);
    gpu.free(data);
  }

  void host_cost() {
    const cuda::Function kernel = function("chain");
    for (const int nodes : {1, 20, 60}) {
      const cuda::GraphExec exec = gpu.capture(gpu.stream, [&](cuda::Stream stream) {
        void* parameters[] = {&counter};
        for (int i = 0; i < nodes; ++i) gpu.launch(stream, kernel, {1, 1, 1}, {32, 1, 1}, 0, 1, false, parameters);
      });
      std::vector<double> times;
      for (int i = 0; i < 300; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        gpu.must(gpu.driver.graph_launch(exec, gpu.stream), "cuGraphLaunch");
        times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
        gpu.must(gpu.driver.stream_synchronize(gpu.stream), "sync");
      }
      std::sort(times.begin(), times.end());
      std::printf("| cuGraphLaunch on the host, %d nodes | %.2f us |\n", nodes, times[times.size() / 2]);
    }
  }

  void green_context(unsigned wanted) {
    const cuda::Driver& d = gpu.driver;
    if (!d.has(cuda::Feature::GreenContexts)) {
      std::printf("| green context | not in this driver |\n");
      return;
    }
    cuda::DeviceResource all = {}, part = {}, rest = {};
    unsigned groups = 1;
    gpu.must(d.device_resource(gpu.device, &all, cuda::ResourceType::Multiprocessors), "cuDeviceGetDevResource");
    gpu.must(d.split_multiprocessors(&part, &groups, &all, &rest, 0, wanted), "cuDevSmResourceSplitByCount");
    cuda::ResourceDescriptor descriptor = nullptr;
    cuda::GreenContext green = nullptr;
    cuda::Stream stream = nullptr;
    cuda::Context context = nullptr;
    gpu.must(d.resource_descriptor(&descriptor, &part, 1), "cuDevResourceGenerateDesc");
    gpu.must(d.green_create(&green, descriptor, gpu.device, cuda::kGreenContextDefaultStream), "cuGreenCtxCreate");
    gpu.must(d.green_stream_create(&stream, green, cuda::kStreamNonBlocking, 0), "cuGreenCtxStreamCreate");
    gpu.must(d.green_as_context(&context, green), "cuCtxFromGreenCtx");
    const cuda::Function kernel = function("read");
    cuda::DevicePointer data = gpu.allocate(8u << 20, 1);
    long vectors = (8l << 20) / 16;
    int rounds = 20;
    const auto record = [&](cuda::Stream s) {
      void* parameters[] = {&data, &vectors, &counter, &rounds};
      gpu.launch(s, kernel, {264, 1, 1}, {512, 1, 1}, 0, 1, false, parameters);
    };
    const double whole = gpu.time(gpu.stream, gpu.capture(gpu.stream, record), 30).median_us;
    const double direct = [&] {
      // The same kernel without a graph, as the yardstick for confinement.
      gpu.must(d.context_push(context), "cuCtxPushCurrent");
      cuda::Event begin = nullptr, end = nullptr;
      gpu.must(d.event_create(&begin, 0), "event");
      gpu.must(d.event_create(&end, 0), "event");
      float ms = 0;
      for (int i = 0; i < 3; ++i) {
        gpu.must(d.event_record(begin, stream), "record");
        record(stream);
        gpu.must(d.event_record(end, stream), "record");
        gpu.must(d.event_synchronize(end), "event sync");
        gpu.must(d.event_elapsed(&ms, begin, end), "elapsed");
      }
      return 1000.0 * static_cast<double>(ms);
    }();
    const cuda::GraphExec exec = gpu.capture(stream, record);
    const double captured = gpu.time(stream, exec, 30).median_us;
    cuda::Context popped = nullptr;
    gpu.must(d.context_pop(&popped), "cuCtxPopCurrent");
    std::printf("| green context of %u of %u multiprocessors (asked %u): the same read, whole device / confined stream / confined captured graph | %.0f / %.0f / %.0f us |\n",
                part.multiprocessors, all.multiprocessors, wanted, whole, direct, captured);
  }
};

int run(const char* folder) {
  codegen::CompilerOptions options;
  options.cache_directory = folder;
  options.cached_version = [&] {
    std::ifstream file(std::string(folder) + "/nvrtc_version");
    std::string text;
    file >> text;
    return text;
  }();
  Probe probe;
  codegen::Compiler compiler(options);
  probe.cubin = compiler.compile({probe_job(static_cast<std::uint32_t>(probe.gpu.arch))})[0].cubin;
  probe.counter = probe.gpu.allocate(4096);
  std::printf("%s, sm_%d, %d multiprocessors, %d kB shared, L2 %d MB, driver API %d, clock limit %d MHz, NVRTC %s\n\n", probe.gpu.name.c_str(),
              probe.gpu.arch, probe.gpu.multiprocessors, probe.gpu.shared_bytes / 1024,
              probe.gpu.attribute(cuda::DeviceAttribute::L2CacheBytes) >> 20, probe.gpu.driver.version(),
              probe.gpu.attribute(cuda::DeviceAttribute::ClockKilohertz) / 1000, options.cached_version.c_str());
  std::printf("| what | blocks x threads | us each | us of a graph of 20 |\n| --- | --- | --- | --- |\n");
  const unsigned all = static_cast<unsigned>(probe.gpu.multiprocessors);
  for (const unsigned blocks : {1u, 16u, all}) {
    probe.chain("dependent node", "chain", false, blocks, 256);
    probe.chain("programmatic edge, next grid allowed at the start", "chain_programmatic", true, blocks, 256);
    probe.chain("programmatic edge, next grid allowed at the end", "chain_late", true, blocks, 256);
  }
  for (const unsigned blocks : {16u, all}) probe.barrier(blocks);
  for (const unsigned size : {2u, 4u, 8u}) probe.cluster_barrier(size);
  std::printf("\n| what | value |\n| --- | --- |\n");
  for (const long megabytes : {4l, 16l, 32l, 48l}) probe.read_rate(megabytes, 2 * all);
  probe.read_rate(4096, 4 * all);
  for (const unsigned blocks : {16u, 64u}) probe.read_rate(4, blocks);
  for (const long kilobytes : {64l, 4096l, 24576l}) probe.latency(kilobytes);
  probe.host_cost();
  probe.green_context(16);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "--compile") == 0) {
    codegen::CompilerOptions options;
    options.cache_directory = argv[2];
    codegen::Compiler compiler(options);
    compiler.compile({probe_job(static_cast<std::uint32_t>(std::atoi(argv[3])))});
    std::ofstream(std::string(argv[2]) + "/nvrtc_version") << compiler.nvrtc_version() << "\n";
    return 0;
  }
  if (argc == 3 && std::strcmp(argv[1], "--kernels") == 0) return run(argv[2]);
  std::fprintf(stderr, "usage: gpu_probe --compile DIR ARCH | gpu_probe --kernels DIR\n");
  return 1;
}
