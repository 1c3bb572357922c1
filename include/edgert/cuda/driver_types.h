// SPDX-License-Identifier: Apache-2.0
// The driver's ABI as far as EdgeRT uses it, declared here so that firmware needs no CUDA toolkit. Sizes and values are
// compared with cuda.h by tests/unit/cuda_driver_abi.cpp wherever a toolkit is installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgert::cuda {

/// The driver's result codes; only those that EdgeRT tells apart have names here.
enum class DriverResult : int {
  Success = 0,
  InvalidValue = 1,
  OutOfMemory = 2,
  NotInitialized = 3,
  NoDevice = 100,
  InvalidDevice = 101,
  InvalidImage = 200,
  InvalidContext = 201,
  NoBinaryForGpu = 209,
  NotFound = 500,
  NotReady = 600,
  IllegalAddress = 700,
  LaunchOutOfResources = 701,
  LaunchTimeout = 702,
  LaunchFailed = 719,
  NotSupported = 801,
  StreamCaptureInvalidated = 901,
  InvalidClusterSize = 912,
  Unknown = 999,
};

using Device = int;
using DevicePointer = unsigned long long;
using Context = struct ContextHandle*;
using Module = struct ModuleHandle*;
using Function = struct FunctionHandle*;
using Stream = struct StreamHandle*;
using Event = struct EventHandle*;
using Graph = struct GraphHandle*;
using GraphExec = struct GraphExecHandle*;
using GraphNode = struct GraphNodeHandle*;
using GreenContext = struct GreenContextHandle*;
using ResourceDescriptor = struct ResourceDescriptorHandle*;

enum class DeviceAttribute : int {
  WarpSize = 10,
  ClockKilohertz = 13,
  MultiprocessorCount = 16,
  Integrated = 18,
  CanMapHostMemory = 19,
  MemoryClockKilohertz = 36,
  MemoryBusBits = 37,
  L2CacheBytes = 38,
  ComputeCapabilityMajor = 75,
  ComputeCapabilityMinor = 76,
  SharedBytesPerMultiprocessor = 81,
  SharedBytesPerBlockOptIn = 97,
};

enum class FunctionAttribute : int {
  MaxThreadsPerBlock = 0,
  SharedBytes = 1,
  LocalBytes = 3,
  Registers = 4,
  MaxDynamicSharedBytes = 8,
  PreferredSharedCarveout = 9,
  NonPortableClusterSize = 14,
};

enum class CaptureMode : int { Global = 0, ThreadLocal = 1, Relaxed = 2 };

inline constexpr unsigned int kStreamNonBlocking = 1;
inline constexpr unsigned int kEventDisableTiming = 2;
inline constexpr unsigned int kHostAllocPortable = 1;
inline constexpr unsigned int kHostAllocMapped = 2;
inline constexpr unsigned int kGreenContextDefaultStream = 1;

enum class LaunchAttributeId : int { ClusterDimension = 4, ProgrammaticSerialization = 6 };

struct LaunchAttribute {
  LaunchAttributeId id;
  char reserved[4];
  union Value {
    char bytes[64];
    struct {
      unsigned int x, y, z;
    } cluster;
    int programmatic;
  } value;
};

struct LaunchConfig {
  unsigned int grid[3];
  unsigned int block[3];
  unsigned int shared_bytes;
  Stream stream;
  LaunchAttribute* attributes;
  unsigned int attribute_count;
};

/// Opaque; the driver fills it in.
struct alignas(128) TensorMap {
  std::uint64_t opaque[16];
};
enum class TensorMapType : int { U8 = 0, U16 = 1, U32 = 2, I32 = 3, U64 = 4, I64 = 5, F16 = 6, F32 = 7, F64 = 8, BF16 = 9 };
enum class TensorMapInterleave : int { None = 0 };
enum class TensorMapSwizzle : int { None = 0, Bytes32 = 1, Bytes64 = 2, Bytes128 = 3 };
enum class TensorMapPromotion : int { None = 0, Bytes64 = 1, Bytes128 = 2, Bytes256 = 3 };
enum class TensorMapFill : int { Zeros = 0 };

enum class ResourceType : int { Invalid = 0, Multiprocessors = 1 };

/// The driver writes what it likes in the reserved bytes; only `multiprocessors` is for reading. cuda.h grows this
/// struct between versions, so it is declared larger than any version so far, and arrays of it must not be used.
struct DeviceResource {
  ResourceType type;
  unsigned char reserved[92];
  unsigned int multiprocessors;
  unsigned int minimum_partition;
  unsigned int alignment;
  unsigned char oversize[404];
};

}  // namespace edgert::cuda
