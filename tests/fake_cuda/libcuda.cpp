// SPDX-License-Identifier: Apache-2.0
// A CUDA driver without a device, with the functions of driver_symbols.def: device memory is host memory, streams are
// in order and done at once, graphs replay what was recorded. It knows a few kernels by name and runs them; others it
// gives to an executor, if the test has set one (plan_emulation.h), or takes from the folder of libraries that
// EDGERT_FAKE_CUDA_KERNELS names, for processes that no test runs in (worker_emulation.h). Its clock counts threads,
// in a green context the more slowly the fewer multiprocessors that has. It counts what is alive, notices misuse, and fails any call that a test asks
// it to. Built into a library by fake_driver.h.
#include <dlfcn.h>

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "edgert/cuda/driver_types.h"

using namespace edgert::cuda;

#define EDGERT_CUDA_FUNCTION(feature, version, member, symbol, parameters) extern "C" DriverResult symbol parameters;
#include "edgert/cuda/driver_symbols.def"
#undef EDGERT_CUDA_FUNCTION

namespace {

/// Who runs kernels that this file does not know; see plan_emulation.h.
struct Executor {
  int (*parameters)(const void* image, const char* entry) = nullptr;
  void (*run)(const void* image, const char* entry, const unsigned* grid, const unsigned* block, unsigned cluster, unsigned shared, void** parameters) = nullptr;
};
struct Foreign {
  const void* image;
  std::string entry;
};

struct State {
  int arch = 90;
  int version = 13000;
  int fail_at = 0;  // number of the call that fails; 0: none
  int calls = 0;
  int busy = 0;  // queries that still answer NotReady
  int launches = 0;
  int programmatic = 0;
  std::string misuse;
  std::map<DevicePointer, std::size_t> memory;
  std::set<void*> objects;  // modules, streams, events, graphs
  std::set<void*> host_memory;  // page-locked; what is mapped is in `memory` too
  int retained = 0;
  std::vector<Context> contexts;
  std::vector<std::function<void()>>* capture = nullptr;
  std::map<void*, const void*> images;  // of each module
  std::vector<Foreign> foreign;         // functions are numbered from kForeign on
  double clock_ms = 0;                  // a thread of a launch takes a nanosecond
  std::map<void*, double> events;       // when each was recorded
  std::map<void*, unsigned> parts;      // multiprocessors of green contexts and of the streams in them
};
State state;
Executor executor;
constexpr std::uintptr_t kForeign = 1000;
constexpr unsigned kMultiprocessors = 4, kPartUnit = 2;  // of the device; what green contexts have multiples of

/// Kernels in a folder: NAME.so is the emulated source of the image that has a symbol NAME, a SHA-256 in hexadecimal.
struct Library {
  using Run = void (*)(const unsigned*, const unsigned*, unsigned, unsigned, void**, const void*, std::size_t, unsigned);
  Run run = nullptr;
  int parameters = -1;
};
const Library& library_of(const void* image) {
  static std::map<const void*, Library> libraries;
  const auto [found, added] = libraries.emplace(image, Library());
  if (!added) return found->second;
  const auto* bytes = static_cast<const char*>(image);
  std::uint64_t sections = 0;  // an ELF image ends with its section headers
  std::uint16_t count = 0;
  std::memcpy(&sections, bytes + 40, 8);
  std::memcpy(&count, bytes + 60, 2);
  std::string name;
  for (std::uint64_t i = 0; i < sections + count * 64u && name.size() < 64; ++i) {
    if (std::isxdigit(static_cast<unsigned char>(bytes[i])) != 0) name += bytes[i];
    else name.clear();
  }
  const std::string path = std::string(std::getenv("EDGERT_FAKE_CUDA_KERNELS")) + "/" + name + ".so";
  if (void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); handle != nullptr) {
    found->second.run = reinterpret_cast<Library::Run>(::dlsym(handle, "edgert_emulate"));
    found->second.parameters = *reinterpret_cast<const int*>(::dlsym(handle, "edgert_parameters"));
  }
  return found->second;
}
void use_folder() {
  if (executor.run != nullptr || std::getenv("EDGERT_FAKE_CUDA_KERNELS") == nullptr) return;
  executor.parameters = [](const void* image, const char*) { return library_of(image).parameters; };
  executor.run = [](const void* image, const char*, const unsigned* grid, const unsigned* block, unsigned cluster, unsigned shared, void** parameters) {
    static unsigned seed = 0;
    library_of(image).run(grid, block, cluster, shared, parameters, nullptr, 0, ++seed);
  };
}

const char* const kKernels[] = {"affine", "accumulate", "fault"};

DriverResult count() { return ++state.calls == state.fail_at ? DriverResult::LaunchFailed : DriverResult::Success; }
#define COUNT_CALL() \
  if (const DriverResult counted = count(); counted != DriverResult::Success) return counted

void misuse(const char* what) {
  if (state.misuse.empty()) state.misuse = what;
}
bool need_context() {
  if (state.contexts.empty()) misuse("no current context");
  return !state.contexts.empty();
}
/// Whether [address, address + bytes) lies in one live allocation.
bool is_device(DevicePointer address, std::size_t bytes) {
  auto found = state.memory.upper_bound(address);
  if (found == state.memory.begin()) return false;
  --found;
  return address - found->first <= found->second && bytes <= found->second - (address - found->first);
}
template <class T>
T make_object() {
  void* object = std::malloc(1);
  state.objects.insert(object);
  return static_cast<T>(object);
}
template <class T>
DriverResult drop(T object) {
  if (state.objects.erase(object) == 0) {
    misuse("an object that is not alive");
    return DriverResult::InvalidValue;
  }
  std::free(object);
  return DriverResult::Success;
}
/// The null stream always is.
void alive(void* object) {
  if (object != nullptr && state.objects.count(object) == 0) misuse("an object that is not alive");
}

void submit(std::function<void()> work) {
  if (state.capture != nullptr) state.capture->push_back(std::move(work));
  else work();
}

std::map<void*, std::vector<std::function<void()>>> graphs;

float* floats(std::uint64_t address, std::size_t count) {
  if (!is_device(address, count * sizeof(float))) misuse("a kernel argument outside device memory");
  return reinterpret_cast<float*>(address);
}

/// Parameters are copied: the caller's are gone when a graph replays the launch. The runtime gives 8 bytes for each.
DriverResult run_foreign(Function function, const LaunchConfig& config, void** parameters) {
  const Foreign foreign = state.foreign.at(reinterpret_cast<std::uintptr_t>(function) - kForeign);
  ++state.launches;
  use_folder();
  if (executor.run == nullptr) return DriverResult::Success;
  const int count = executor.parameters(foreign.image, foreign.entry.c_str());
  if (count < 0) {
    misuse("a kernel that the executor does not know");
    return DriverResult::InvalidValue;
  }
  unsigned cluster = 1;
  for (unsigned int i = 0; i < config.attribute_count; ++i) {
    if (config.attributes[i].id == LaunchAttributeId::ClusterDimension) cluster = config.attributes[i].value.cluster.x;
  }
  const auto part = state.parts.find(config.stream);
  const double slowness = part == state.parts.end() ? 1.0 : static_cast<double>(kMultiprocessors) / part->second;
  std::vector<std::uint64_t> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) std::memcpy(&values[i], parameters[i], 8);
  submit([foreign, config, cluster, slowness, values]() mutable {
    std::vector<void*> pointers;
    for (std::uint64_t& value : values) pointers.push_back(&value);
    state.clock_ms += 1e-6 * slowness * config.grid[0] * config.grid[1] * config.grid[2] * config.block[0] * config.block[1] * config.block[2];
    executor.run(foreign.image, foreign.entry.c_str(), config.grid, config.block, cluster, config.shared_bytes, pointers.data());
  });
  return DriverResult::Success;
}

/// affine(x, w, y, n): y = x * w + 1.  accumulate(x, s, y, n): s += 1, y = x + s.
DriverResult run_kernel(Function function, const LaunchConfig& config, void** parameters) {
  if (reinterpret_cast<std::uintptr_t>(function) >= kForeign) return run_foreign(function, config, parameters);
  const auto index = reinterpret_cast<std::uintptr_t>(function) - 1;
  ++state.launches;
  if (index == 2) return DriverResult::Success;
  std::uint64_t address[3];
  for (int i = 0; i < 3; ++i) std::memcpy(&address[i], parameters[i], 8);
  std::uint32_t n = 0;
  std::memcpy(&n, parameters[3], 4);
  const std::uint64_t x = address[0], second = address[1], y = address[2];
  submit([=] {
    if (index == 0) {
      const float *in = floats(x, n), *w = floats(second, n);
      float* out = floats(y, n);
      for (std::uint32_t i = 0; i < n; ++i) out[i] = in[i] * w[i] + 1.0f;
    } else {
      float* s = floats(second, 1);
      const float* in = floats(x, n);
      float* out = floats(y, n);
      s[0] += 1.0f;
      for (std::uint32_t i = 0; i < n; ++i) out[i] = in[i] + s[0];
    }
  });
  return DriverResult::Success;
}

}  // namespace

// What tests ask of it.
extern "C" void fake_execute(int (*parameters)(const void*, const char*),
                             void (*run)(const void*, const char*, const unsigned*, const unsigned*, unsigned, unsigned, void**)) {
  executor = {parameters, run};
}
extern "C" void fake_reset() { state = State{}; }
extern "C" void fake_set(int arch, int version) { state.arch = arch, state.version = version; }
extern "C" void fake_fail_at(int call) { state.fail_at = call, state.calls = 0; }
extern "C" void fake_busy(int queries) { state.busy = queries; }
/// For fakes of libraries on top of the driver: work for a stream, which keeps a copy of `bytes` and gives it to `work`.
extern "C" void fake_submit(void* stream, void (*work)(const void*), const void* bytes, std::size_t size) {
  alive(stream);
  (void)need_context();
  ++state.launches;
  const auto* begin = static_cast<const char*>(bytes);
  submit([work, copy = std::vector<char>(begin, begin + size)] { work(copy.data()); });
}
extern "C" bool fake_captures() { return state.capture != nullptr; }
extern "C" void fake_access(unsigned long long address, std::size_t bytes) {
  if (!is_device(address, bytes)) misuse("a library accesses what is no device memory");
}
extern "C" int fake_calls() { return state.calls; }
extern "C" int fake_launches() { return state.launches; }
extern "C" int fake_programmatic() { return state.programmatic; }
extern "C" int fake_alive() { return static_cast<int>(state.memory.size() + state.host_memory.size() + state.objects.size() + state.contexts.size()) + state.retained; }
extern "C" const char* fake_misuse() { return state.misuse.c_str(); }

extern "C" {

DriverResult cuInit(unsigned int) { COUNT_CALL(); return DriverResult::Success; }
DriverResult cuDriverGetVersion(int* version) { *version = state.version; return DriverResult::Success; }
DriverResult cuGetErrorName(DriverResult result, const char** name) {
  *name = result == DriverResult::LaunchFailed ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR";
  return DriverResult::Success;
}
DriverResult cuGetErrorString(DriverResult, const char** text) { *text = "an error of the fake driver"; return DriverResult::Success; }
DriverResult cuDeviceGetCount(int* count_out) { COUNT_CALL(); *count_out = 1; return DriverResult::Success; }
DriverResult cuDeviceGet(Device* device, int ordinal) {
  COUNT_CALL();
  *device = ordinal;
  return ordinal == 0 ? DriverResult::Success : DriverResult::InvalidDevice;
}
DriverResult cuDeviceGetName(char* name, int bytes, Device) { COUNT_CALL(); std::strncpy(name, "fake", static_cast<std::size_t>(bytes)); return DriverResult::Success; }
DriverResult cuDeviceGetAttribute(int* value, DeviceAttribute attribute, Device) {
  COUNT_CALL();
  *value = attribute == DeviceAttribute::ComputeCapabilityMajor ? state.arch / 10 : attribute == DeviceAttribute::ComputeCapabilityMinor ? state.arch % 10
           : attribute == DeviceAttribute::MultiprocessorCount ? static_cast<int>(kMultiprocessors)
           : attribute == DeviceAttribute::SharedBytesPerBlockOptIn ? 227 * 1024 : 0;
  return DriverResult::Success;
}
DriverResult cuDevicePrimaryCtxRetain(Context* context, Device) {
  COUNT_CALL();
  ++state.retained;
  *context = reinterpret_cast<Context>(&state);
  return DriverResult::Success;
}
DriverResult cuDevicePrimaryCtxRelease_v2(Device) { --state.retained; return count(); }
DriverResult cuCtxGetCurrent(Context* context) { COUNT_CALL(); *context = state.contexts.empty() ? nullptr : state.contexts.back(); return DriverResult::Success; }
DriverResult cuCtxPushCurrent_v2(Context context) { COUNT_CALL(); state.contexts.push_back(context); return DriverResult::Success; }
DriverResult cuCtxPopCurrent_v2(Context* context) {
  *context = state.contexts.back();
  state.contexts.pop_back();
  return DriverResult::Success;
}
DriverResult cuCtxGetDevice(Device* device) { COUNT_CALL(); *device = 0; return DriverResult::Success; }
DriverResult cuMemGetInfo_v2(std::size_t* free_bytes, std::size_t* total) { COUNT_CALL(); *free_bytes = *total = 1u << 30; return DriverResult::Success; }
DriverResult cuMemAlloc_v2(DevicePointer* pointer, std::size_t bytes) {
  COUNT_CALL();
  if (!need_context()) return DriverResult::InvalidContext;
  if (bytes > 1u << 30) return DriverResult::OutOfMemory;
  void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(memory, 0xff, bytes);
  *pointer = reinterpret_cast<DevicePointer>(memory);
  state.memory[*pointer] = bytes;
  return DriverResult::Success;
}
DriverResult cuMemFree_v2(DevicePointer pointer) {
  if (state.memory.erase(pointer) == 0) misuse("freed memory that was not allocated");
  else std::free(reinterpret_cast<void*>(pointer));
  return count();
}
DriverResult cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned int flags) {
  COUNT_CALL();
  if (!need_context()) return DriverResult::InvalidContext;
  *pointer = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(*pointer, 0xff, bytes);
  state.host_memory.insert(*pointer);
  if ((flags & edgert::cuda::kHostAllocMapped) != 0) state.memory[reinterpret_cast<DevicePointer>(*pointer)] = bytes;
  return DriverResult::Success;
}
DriverResult cuMemFreeHost(void* pointer) {
  state.memory.erase(reinterpret_cast<DevicePointer>(pointer));
  if (state.host_memory.erase(pointer) == 0) misuse("freed host memory that was not allocated");
  else std::free(pointer);
  return count();
}
DriverResult cuMemHostGetDevicePointer_v2(DevicePointer* pointer, void* host, unsigned int) {
  COUNT_CALL();
  *pointer = reinterpret_cast<DevicePointer>(host);
  if (state.memory.count(*pointer) == 0) misuse("host memory that is not mapped");
  return DriverResult::Success;
}

static DriverResult copy(void* to, const void* from, std::size_t bytes, bool to_device, bool from_device) {
  COUNT_CALL();
  if (!need_context()) return DriverResult::InvalidContext;
  if ((to_device && !is_device(reinterpret_cast<DevicePointer>(to), bytes)) || (from_device && !is_device(reinterpret_cast<DevicePointer>(from), bytes))) {
    misuse("a copy outside device memory");
    return DriverResult::InvalidValue;
  }
  std::memcpy(to, from, bytes);
  return DriverResult::Success;
}
DriverResult cuMemcpyHtoD_v2(DevicePointer to, const void* from, std::size_t bytes) { return copy(reinterpret_cast<void*>(to), from, bytes, true, false); }
DriverResult cuMemcpyDtoH_v2(void* to, DevicePointer from, std::size_t bytes) { return copy(to, reinterpret_cast<void*>(from), bytes, false, true); }
DriverResult cuMemcpyHtoDAsync_v2(DevicePointer to, const void* from, std::size_t bytes, Stream stream) { alive(stream); return cuMemcpyHtoD_v2(to, from, bytes); }
DriverResult cuMemcpyDtoHAsync_v2(void* to, DevicePointer from, std::size_t bytes, Stream stream) { alive(stream); return cuMemcpyDtoH_v2(to, from, bytes); }
DriverResult cuMemcpyDtoDAsync_v2(DevicePointer to, DevicePointer from, std::size_t bytes, Stream stream) {
  alive(stream);
  return copy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes, true, true);
}
DriverResult cuMemsetD8Async(DevicePointer to, unsigned char value, std::size_t bytes, Stream stream) {
  COUNT_CALL();
  alive(stream);
  if (!is_device(to, bytes)) misuse("a fill outside device memory");
  else std::memset(reinterpret_cast<void*>(to), value, bytes);
  return DriverResult::Success;
}
DriverResult cuModuleLoadData(Module* module, const void* image) {
  COUNT_CALL();
  if (!need_context()) return DriverResult::InvalidContext;
  *module = make_object<Module>();
  state.images[*module] = image;
  return DriverResult::Success;
}
DriverResult cuModuleUnload(Module module) { return drop(module); }
DriverResult cuModuleGetFunction(Function* function, Module module, const char* name) {
  COUNT_CALL();
  alive(module);
  for (std::size_t i = 0; i < 3; ++i) {
    if (std::strcmp(kKernels[i], name) != 0) continue;
    *function = reinterpret_cast<Function>(i + 1);
    return DriverResult::Success;
  }
  *function = reinterpret_cast<Function>(kForeign + state.foreign.size());
  state.foreign.push_back({state.images[module], name});
  return DriverResult::Success;
}
DriverResult cuFuncGetAttribute(int* value, FunctionAttribute, Function) { COUNT_CALL(); *value = 0; return DriverResult::Success; }
DriverResult cuFuncSetAttribute(Function, FunctionAttribute, int) { COUNT_CALL(); return DriverResult::Success; }
DriverResult cuLaunchKernel(Function function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz,
                            unsigned int shared, Stream stream, void** parameters, void**) {
  COUNT_CALL();
  alive(stream);
  return run_kernel(function, {{gx, gy, gz}, {bx, by, bz}, shared, stream, nullptr, 0}, parameters);
}
DriverResult cuLaunchKernelEx(const LaunchConfig* config, Function function, void** parameters, void**) {
  COUNT_CALL();
  alive(config->stream);
  for (unsigned int i = 0; i < config->attribute_count; ++i) {
    state.programmatic += config->attributes[i].id == LaunchAttributeId::ProgrammaticSerialization;
  }
  return run_kernel(function, *config, parameters);
}
DriverResult cuStreamCreateWithPriority(Stream* stream, unsigned int, int) {
  COUNT_CALL();
  if (!need_context()) return DriverResult::InvalidContext;
  *stream = make_object<Stream>();
  if (const auto part = state.parts.find(state.contexts.back()); part != state.parts.end()) state.parts[*stream] = part->second;
  return DriverResult::Success;
}
DriverResult cuStreamDestroy_v2(Stream stream) {
  state.parts.erase(stream);
  return drop(stream);
}
DriverResult cuStreamSynchronize(Stream stream) { COUNT_CALL(); alive(stream); return DriverResult::Success; }
DriverResult cuStreamQuery(Stream stream) { COUNT_CALL(); alive(stream); return state.busy-- > 0 ? DriverResult::NotReady : DriverResult::Success; }
DriverResult cuStreamWaitEvent(Stream, Event, unsigned int) { COUNT_CALL(); return DriverResult::Success; }
DriverResult cuStreamBeginCapture_v2(Stream stream, CaptureMode) {
  COUNT_CALL();
  alive(stream);
  if (state.capture != nullptr) misuse("a capture within a capture");
  state.capture = new std::vector<std::function<void()>>;
  return DriverResult::Success;
}
DriverResult cuStreamEndCapture(Stream stream, Graph* graph) {
  alive(stream);
  std::vector<std::function<void()>>* recorded = state.capture;
  state.capture = nullptr;
  const DriverResult result = count();
  if (result == DriverResult::Success) {
    *graph = make_object<Graph>();
    graphs[*graph] = *recorded;
  }
  delete recorded;
  return result;
}
DriverResult cuEventCreate(Event* event, unsigned int) { COUNT_CALL(); *event = make_object<Event>(); return DriverResult::Success; }
DriverResult cuEventDestroy_v2(Event event) { return drop(event); }
DriverResult cuEventRecord(Event event, Stream) { COUNT_CALL(); state.events[event] = state.clock_ms; return DriverResult::Success; }
DriverResult cuEventQuery(Event) { COUNT_CALL(); return DriverResult::Success; }
DriverResult cuEventSynchronize(Event) { COUNT_CALL(); return DriverResult::Success; }
DriverResult cuEventElapsedTime(float* milliseconds, Event begin, Event end) {
  COUNT_CALL();
  *milliseconds = static_cast<float>(state.events[end] - state.events[begin]);
  return DriverResult::Success;
}
DriverResult cuGraphInstantiateWithFlags(GraphExec* exec, Graph graph, unsigned long long) {
  COUNT_CALL();
  alive(graph);
  *exec = make_object<GraphExec>();
  graphs[*exec] = graphs[graph];
  return DriverResult::Success;
}
DriverResult cuGraphGetNodes(Graph graph, GraphNode*, std::size_t* count_out) { COUNT_CALL(); *count_out = graphs[graph].size(); return DriverResult::Success; }
DriverResult cuGraphDestroy(Graph graph) { return drop(graph); }
DriverResult cuGraphExecDestroy(GraphExec exec) { return drop(exec); }
DriverResult cuGraphUpload(GraphExec exec, Stream) { COUNT_CALL(); alive(exec); return DriverResult::Success; }
DriverResult cuGraphLaunch(GraphExec exec, Stream stream) {
  COUNT_CALL();
  alive(exec);
  alive(stream);
  if (!need_context()) return DriverResult::InvalidContext;
  for (const std::function<void()>& work : graphs[exec]) work();
  return DriverResult::Success;
}
DriverResult cuTensorMapEncodeTiled(TensorMap*, TensorMapType, unsigned int, void*, const std::uint64_t*, const std::uint64_t*, const unsigned int*,
                                    const unsigned int*, TensorMapInterleave, TensorMapSwizzle, TensorMapPromotion, TensorMapFill) {
  COUNT_CALL();
  return DriverResult::Success;
}
DriverResult cuDeviceGetDevResource(Device, DeviceResource* resource, ResourceType type) {
  COUNT_CALL();
  resource->type = type;
  resource->multiprocessors = kMultiprocessors;
  return DriverResult::Success;
}
DriverResult cuDevSmResourceSplitByCount(DeviceResource* result, unsigned int* groups, const DeviceResource* input, DeviceResource* remaining, unsigned int, unsigned int minimum) {
  COUNT_CALL();
  const unsigned int part = (minimum + kPartUnit - 1) / kPartUnit * kPartUnit;
  if (part > input->multiprocessors || *groups != 1) return DriverResult::InvalidValue;
  *result = *remaining = *input;
  result->multiprocessors = part;
  remaining->multiprocessors -= part;
  return DriverResult::Success;
}
DriverResult cuDevResourceGenerateDesc(ResourceDescriptor* descriptor, DeviceResource* resources, unsigned int count_in) {
  COUNT_CALL();
  if (count_in != 1) return DriverResult::InvalidValue;
  *descriptor = reinterpret_cast<ResourceDescriptor>(static_cast<std::uintptr_t>(resources->multiprocessors));
  return DriverResult::Success;
}
DriverResult cuGreenCtxCreate(GreenContext* context, ResourceDescriptor descriptor, Device, unsigned int) {
  COUNT_CALL();
  *context = make_object<GreenContext>();
  state.parts[*context] = static_cast<unsigned int>(reinterpret_cast<std::uintptr_t>(descriptor));
  return DriverResult::Success;
}
DriverResult cuGreenCtxDestroy(GreenContext context) {
  state.parts.erase(context);
  return drop(context);
}
DriverResult cuGreenCtxStreamCreate(Stream* stream, GreenContext context, unsigned int, int) {
  COUNT_CALL();
  alive(context);
  *stream = make_object<Stream>();
  return DriverResult::Success;
}
DriverResult cuCtxFromGreenCtx(Context* context, GreenContext green) {
  COUNT_CALL();
  alive(green);
  *context = reinterpret_cast<Context>(green);
  return DriverResult::Success;
}

}  // extern "C"
