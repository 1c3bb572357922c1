// SPDX-License-Identifier: Apache-2.0
// The driver's ABI is declared by hand in cuda/driver_types.h: wherever a CUDA toolkit is installed, this file compares
// types, values and signatures with cuda.h at compile time, and everywhere it checks what open() says without a driver.
#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <type_traits>

#include "edgert/cuda/driver.h"

#if __has_include(<cuda.h>)
#include <cuda.h>
#elif __has_include("/usr/local/cuda/include/cuda.h")
#include "/usr/local/cuda/include/cuda.h"
#endif

namespace cu = edgert::cuda;

#if defined(CUDA_VERSION)
#define EDGERT_SAME(ours, theirs) static_assert(static_cast<long long>(ours) == static_cast<long long>(theirs), #theirs)
EDGERT_SAME(cu::DriverResult::Success, CUDA_SUCCESS);
EDGERT_SAME(cu::DriverResult::InvalidValue, CUDA_ERROR_INVALID_VALUE);
EDGERT_SAME(cu::DriverResult::OutOfMemory, CUDA_ERROR_OUT_OF_MEMORY);
EDGERT_SAME(cu::DriverResult::NotInitialized, CUDA_ERROR_NOT_INITIALIZED);
EDGERT_SAME(cu::DriverResult::NoDevice, CUDA_ERROR_NO_DEVICE);
EDGERT_SAME(cu::DriverResult::InvalidDevice, CUDA_ERROR_INVALID_DEVICE);
EDGERT_SAME(cu::DriverResult::InvalidImage, CUDA_ERROR_INVALID_IMAGE);
EDGERT_SAME(cu::DriverResult::InvalidContext, CUDA_ERROR_INVALID_CONTEXT);
EDGERT_SAME(cu::DriverResult::NoBinaryForGpu, CUDA_ERROR_NO_BINARY_FOR_GPU);
EDGERT_SAME(cu::DriverResult::NotFound, CUDA_ERROR_NOT_FOUND);
EDGERT_SAME(cu::DriverResult::NotReady, CUDA_ERROR_NOT_READY);
EDGERT_SAME(cu::DriverResult::IllegalAddress, CUDA_ERROR_ILLEGAL_ADDRESS);
EDGERT_SAME(cu::DriverResult::LaunchOutOfResources, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
EDGERT_SAME(cu::DriverResult::LaunchTimeout, CUDA_ERROR_LAUNCH_TIMEOUT);
EDGERT_SAME(cu::DriverResult::LaunchFailed, CUDA_ERROR_LAUNCH_FAILED);
EDGERT_SAME(cu::DriverResult::NotSupported, CUDA_ERROR_NOT_SUPPORTED);
EDGERT_SAME(cu::DriverResult::StreamCaptureInvalidated, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
EDGERT_SAME(cu::DriverResult::InvalidClusterSize, CUDA_ERROR_INVALID_CLUSTER_SIZE);
EDGERT_SAME(cu::DriverResult::Unknown, CUDA_ERROR_UNKNOWN);
EDGERT_SAME(cu::DeviceAttribute::WarpSize, CU_DEVICE_ATTRIBUTE_WARP_SIZE);
EDGERT_SAME(cu::DeviceAttribute::ClockKilohertz, CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
EDGERT_SAME(cu::DeviceAttribute::MultiprocessorCount, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
EDGERT_SAME(cu::DeviceAttribute::Integrated, CU_DEVICE_ATTRIBUTE_INTEGRATED);
EDGERT_SAME(cu::DeviceAttribute::CanMapHostMemory, CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY);
EDGERT_SAME(cu::DeviceAttribute::MemoryClockKilohertz, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
EDGERT_SAME(cu::DeviceAttribute::MemoryBusBits, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
EDGERT_SAME(cu::DeviceAttribute::L2CacheBytes, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
EDGERT_SAME(cu::DeviceAttribute::ComputeCapabilityMajor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
EDGERT_SAME(cu::DeviceAttribute::ComputeCapabilityMinor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
EDGERT_SAME(cu::DeviceAttribute::SharedBytesPerMultiprocessor, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
EDGERT_SAME(cu::DeviceAttribute::SharedBytesPerBlockOptIn, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
EDGERT_SAME(cu::FunctionAttribute::MaxThreadsPerBlock, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
EDGERT_SAME(cu::FunctionAttribute::SharedBytes, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
EDGERT_SAME(cu::FunctionAttribute::LocalBytes, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES);
EDGERT_SAME(cu::FunctionAttribute::Registers, CU_FUNC_ATTRIBUTE_NUM_REGS);
EDGERT_SAME(cu::FunctionAttribute::MaxDynamicSharedBytes, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
EDGERT_SAME(cu::FunctionAttribute::PreferredSharedCarveout, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT);
EDGERT_SAME(cu::CaptureMode::Global, CU_STREAM_CAPTURE_MODE_GLOBAL);
EDGERT_SAME(cu::CaptureMode::ThreadLocal, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
EDGERT_SAME(cu::CaptureMode::Relaxed, CU_STREAM_CAPTURE_MODE_RELAXED);
EDGERT_SAME(cu::kStreamNonBlocking, CU_STREAM_NON_BLOCKING);
EDGERT_SAME(cu::kEventDisableTiming, CU_EVENT_DISABLE_TIMING);
EDGERT_SAME(cu::kHostAllocPortable, CU_MEMHOSTALLOC_PORTABLE);
EDGERT_SAME(cu::kHostAllocMapped, CU_MEMHOSTALLOC_DEVICEMAP);
static_assert(sizeof(cu::Device) == sizeof(CUdevice) && sizeof(cu::DevicePointer) == sizeof(CUdeviceptr));
static_assert(sizeof(cu::DriverResult) == sizeof(CUresult) && sizeof(cu::DeviceAttribute) == sizeof(CUdevice_attribute));

// A parameter list matches when each pair of types has the same size and is of the same kind: handles and enumerations
// have names of their own on either side.
template <class Ours, class Theirs>
constexpr bool same_parameter() {
  if (std::is_pointer_v<Ours> != std::is_pointer_v<Theirs>) return false;
  return sizeof(Ours) == sizeof(Theirs) && alignof(Ours) == alignof(Theirs);
}
template <class Ours, class Theirs>
struct SameSignature : std::false_type {};
template <class R, class... A, class S, class... B>
struct SameSignature<R (*)(A...), S (*)(B...)> {
  static constexpr bool check() {
    if constexpr (sizeof...(A) != sizeof...(B)) return false;
    else return (same_parameter<A, B>() && ...) && sizeof(R) == sizeof(S);
  }
  static constexpr bool value = check();
};
// Versioned names are macros in cuda.h (cuMemAlloc is cuMemAlloc_v2), so the declarations carry the exported names.
// Of functions whose newest version is another one, only the newest is declared.
#undef cuEventElapsedTime
#define EDGERT_CUDA_FUNCTION(feature, version, member, symbol, parameters) \
  static_assert(CUDA_VERSION < (version) || SameSignature<decltype(cu::Driver::member), decltype(&symbol)>::value, #symbol);
#if CUDA_VERSION >= 13000
#define cuEventElapsedTime cuEventElapsedTime_v2
#endif
#if CUDA_VERSION >= 12050
#include "edgert/cuda/driver_symbols.def"
#endif
#undef EDGERT_CUDA_FUNCTION

#if CUDA_VERSION >= 12000
EDGERT_SAME(cu::LaunchAttributeId::ClusterDimension, CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
EDGERT_SAME(cu::LaunchAttributeId::ProgrammaticSerialization, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
EDGERT_SAME(cu::FunctionAttribute::NonPortableClusterSize, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED);
static_assert(sizeof(cu::LaunchAttribute) == sizeof(CUlaunchAttribute));
static_assert(offsetof(cu::LaunchAttribute, value) == offsetof(CUlaunchAttribute, value));
static_assert(offsetof(cu::LaunchAttribute::Value, cluster) == offsetof(CUlaunchAttributeValue, clusterDim));
static_assert(offsetof(cu::LaunchAttribute::Value, programmatic) ==
              offsetof(CUlaunchAttributeValue, programmaticStreamSerializationAllowed));
static_assert(sizeof(cu::LaunchConfig) == sizeof(CUlaunchConfig));
static_assert(offsetof(cu::LaunchConfig, block) == offsetof(CUlaunchConfig, blockDimX));
static_assert(offsetof(cu::LaunchConfig, shared_bytes) == offsetof(CUlaunchConfig, sharedMemBytes));
static_assert(offsetof(cu::LaunchConfig, stream) == offsetof(CUlaunchConfig, hStream));
static_assert(offsetof(cu::LaunchConfig, attributes) == offsetof(CUlaunchConfig, attrs));
static_assert(offsetof(cu::LaunchConfig, attribute_count) == offsetof(CUlaunchConfig, numAttrs));
static_assert(sizeof(cu::TensorMap) == sizeof(CUtensorMap) && alignof(cu::TensorMap) == alignof(CUtensorMap));
EDGERT_SAME(cu::TensorMapType::F16, CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
EDGERT_SAME(cu::TensorMapType::BF16, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
EDGERT_SAME(cu::TensorMapSwizzle::Bytes128, CU_TENSOR_MAP_SWIZZLE_128B);
EDGERT_SAME(cu::TensorMapPromotion::Bytes256, CU_TENSOR_MAP_L2_PROMOTION_L2_256B);
EDGERT_SAME(cu::TensorMapInterleave::None, CU_TENSOR_MAP_INTERLEAVE_NONE);
EDGERT_SAME(cu::TensorMapFill::Zeros, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
#endif
#if CUDA_VERSION >= 12050
EDGERT_SAME(cu::ResourceType::Multiprocessors, CU_DEV_RESOURCE_TYPE_SM);
EDGERT_SAME(cu::kGreenContextDefaultStream, CU_GREEN_CTX_DEFAULT_STREAM);
static_assert(sizeof(cu::DeviceResource) >= sizeof(CUdevResource));
static_assert(offsetof(cu::DeviceResource, multiprocessors) == offsetof(CUdevResource, sm));
#endif
#endif  // CUDA_VERSION

namespace {

void keep_line(void* user, edgert::LogLevel, const char* line) { *static_cast<std::string*>(user) += std::string(line) + "\n"; }

TEST_CASE("a missing driver is an error that says so") {
  std::string log;
  cu::Driver driver;
  const edgert::Status status = driver.open({keep_line, &log}, "libedgert-no-such-driver.so.1");
  CHECK(status.error() == edgert::Error::DeviceUnavailable);
  CHECK(log.find("no CUDA driver") != std::string::npos);
  CHECK(log.find("libedgert-no-such-driver") != std::string::npos);
  CHECK_FALSE(driver.has(cu::Feature::Base));
}

TEST_CASE("a library that is no driver is refused") {
  std::string log;
  cu::Driver driver;
  CHECK(driver.open({keep_line, &log}, "libc.so.6").error() == edgert::Error::DeviceUnavailable);
  CHECK(log.find("not a CUDA driver") != std::string::npos);
}

}  // namespace
