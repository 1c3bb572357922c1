// SPDX-License-Identifier: Apache-2.0
// One launch record of a plan onto a stream, captured or not: where addresses become addresses of this session.
#pragma once

#include "edgert/cuda/program.h"

namespace edgert::cuda {

/// Where the regions of a plan lie on the device for one set of bindings.
struct Regions {
  DevicePointer weights = 0;
  DevicePointer arena = 0;
  DevicePointer state = 0;
  const DevicePointer* bindings = nullptr;  ///< inputs, then outputs
  std::uint32_t inputs = 0;

  DevicePointer address(const schema::Storage& storage) const noexcept {
    switch (storage.region()) {
      case schema::Region::Arena: return arena + storage.offset();
      case schema::Region::Weights: return weights + storage.offset();
      case schema::Region::State: return state + storage.offset();
      case schema::Region::Input: return bindings[storage.binding()];
      case schema::Region::Output: return bindings[inputs + storage.binding()];
    }
    return 0;
  }
};

namespace detail {

/// The plan's element types as a tensor map's. Types that it lacks become bytes of the same width.
inline TensorMapType tensor_map_type(schema::DType dtype) noexcept {
  switch (dtype) {
    case schema::DType::F32: return TensorMapType::F32;
    case schema::DType::F16: return TensorMapType::F16;
    case schema::DType::BF16: return TensorMapType::BF16;
    case schema::DType::F64: return TensorMapType::F64;
    case schema::DType::I16: case schema::DType::U16: return TensorMapType::U16;
    case schema::DType::I32: return TensorMapType::I32;
    case schema::DType::U32: return TensorMapType::U32;
    case schema::DType::I64: return TensorMapType::I64;
    case schema::DType::U64: return TensorMapType::U64;
    default: return TensorMapType::U8;
  }
}

inline Status encode_tensor_map(const Program& program, const schema::LaunchArgument& argument, DevicePointer address, TensorMap& map) noexcept {
  const Driver& driver = program.driver();
  if (!driver.has(Feature::TensorMaps)) {
    Message message;
    message << "the plan uses tensor maps, which came with CUDA 12.0; this driver is " << driver.version();
    message.to(program.log());
    return Error::DeviceUnavailable;
  }
  static constexpr unsigned int kOnes[5] = {1, 1, 1, 1, 1};
  const DriverResult result = driver.tensor_map_encode(
      &map, tensor_map_type(argument.dtype()), rules::count(argument.dims()), reinterpret_cast<void*>(address), argument.dims()->data(),
      rules::count(argument.strides()) == 0 ? nullptr : argument.strides()->data(), argument.box()->data(), kOnes, TensorMapInterleave::None,
      static_cast<TensorMapSwizzle>(argument.swizzle()), TensorMapPromotion::Bytes256, TensorMapFill::Zeros);
  return driver.check(result, "cuTensorMapEncodeTiled", program.log());
}

}  // namespace detail

/// Puts a checked launch record on `stream`. The program's context must be current.
inline Status launch_step(const Program& program, const schema::Profile& profile, const schema::Launch& launch, const Regions& regions,
                          Stream stream) noexcept {
  const Driver& driver = program.driver();
  DevicePointer values[kMaxLaunchArguments];
  TensorMap maps[kMaxTensorMaps];
  void* parameters[kMaxLaunchArguments];
  std::uint32_t map = 0;
  for (std::uint32_t i = 0; i < rules::count(launch.arguments()); ++i) {
    const schema::LaunchArgument& argument = *launch.arguments()->Get(i);
    values[i] = argument.value();
    parameters[i] = &values[i];
    if (argument.kind() == schema::ArgumentKind::Immediate) continue;
    values[i] += regions.address(*profile.storages()->Get(argument.storage()));
    if (argument.kind() == schema::ArgumentKind::TensorMap) {
      EDGERT_RETURN_IF_ERROR(detail::encode_tensor_map(program, argument, values[i], maps[map]));
      parameters[i] = &maps[map++];
    }
  }
  if (launch.call() != nullptr) {
    const LibraryRunner& runner = program.libraries().of(launch.call()->library());
    return runner.enqueue(runner.user, *launch.call(), values, stream, program.log());
  }
  LaunchAttribute attributes[2] = {};
  unsigned int count = 0;
  if (rules::count(launch.cluster()) == 3) {
    attributes[count].id = LaunchAttributeId::ClusterDimension;
    attributes[count].value.cluster.x = launch.cluster()->Get(0);
    attributes[count].value.cluster.y = launch.cluster()->Get(1);
    attributes[count].value.cluster.z = launch.cluster()->Get(2);
    ++count;
  }
  // Where the device has no such edges the launch is an ordinary one, which orders more strictly.
  if (launch.programmatic() && program.arch() >= 90 && driver.has(Feature::LaunchAttributes)) {
    attributes[count].id = LaunchAttributeId::ProgrammaticSerialization;
    attributes[count].value.programmatic = 1;
    ++count;
  }
  const auto* grid = launch.grid();
  const auto* block = launch.block();
  const Function kernel = program.function(launch.module_(), launch.entry());
  if (count == 0) {
    return driver.check(driver.launch(kernel, grid->Get(0), grid->Get(1), grid->Get(2), block->Get(0), block->Get(1), block->Get(2),
                                      launch.dynamic_shared_bytes(), stream, parameters, nullptr),
                        "cuLaunchKernel", program.log());
  }
  if (!driver.has(Feature::LaunchAttributes)) return driver.check(DriverResult::NotSupported, "cuLaunchKernelEx", program.log());
  const LaunchConfig config = {{grid->Get(0), grid->Get(1), grid->Get(2)},
                               {block->Get(0), block->Get(1), block->Get(2)},
                               launch.dynamic_shared_bytes(), stream, attributes, count};
  return driver.check(driver.launch_ex(&config, kernel, parameters, nullptr), "cuLaunchKernelEx", program.log());
}

}  // namespace edgert::cuda
