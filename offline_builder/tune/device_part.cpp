// SPDX-License-Identifier: Apache-2.0
#include "tune/device_part.h"

#include <string>

namespace edgert::tune {

DevicePart::DevicePart(const cuda::Driver& driver, int multiprocessors) : driver_(driver) {
  if (!driver_.has(cuda::Feature::GreenContexts)) {
    throw DeviceFault("a part of a GPU needs a driver for CUDA 12.5 or later; this one is for " + std::to_string(driver_.version() / 1000) + "." +
                         std::to_string(driver_.version() % 1000 / 10));
  }
  try {
    enter(multiprocessors);
  } catch (...) {
    leave();
    throw;
  }
}

DevicePart::~DevicePart() { leave(); }

void DevicePart::must(cuda::DriverResult result, const char* call) const {
  if (result != cuda::DriverResult::Success) throw DeviceFault(std::string("CUDA: ") + call + ": " + driver_.name_of(result));
}

void DevicePart::enter(int multiprocessors) {
  cuda::Context primary = nullptr, context = nullptr;
  cuda::DeviceResource all = {}, part = {}, rest = {};
  cuda::ResourceDescriptor descriptor = nullptr;
  unsigned groups = 1;
  must(driver_.device_get(&device_, 0), "cuDeviceGet");
  must(driver_.primary_context_retain(&primary, device_), "cuDevicePrimaryCtxRetain");
  retained_ = true;
  must(driver_.device_resource(device_, &all, cuda::ResourceType::Multiprocessors), "cuDeviceGetDevResource");
  if (static_cast<unsigned>(multiprocessors) > all.multiprocessors) {
    throw DeviceFault("the device has " + std::to_string(all.multiprocessors) + " multiprocessors, not the " + std::to_string(multiprocessors) + " asked for");
  }
  must(driver_.split_multiprocessors(&part, &groups, &all, &rest, 0, static_cast<unsigned>(multiprocessors)), "cuDevSmResourceSplitByCount");
  must(driver_.resource_descriptor(&descriptor, &part, 1), "cuDevResourceGenerateDesc");
  must(driver_.green_create(&green_, descriptor, device_, cuda::kGreenContextDefaultStream), "cuGreenCtxCreate");
  must(driver_.green_as_context(&context, green_), "cuCtxFromGreenCtx");
  must(driver_.context_push(context), "cuCtxPushCurrent");
  pushed_ = true;
  multiprocessors_ = static_cast<int>(part.multiprocessors);
}

void DevicePart::leave() {
  cuda::Context popped = nullptr;
  if (pushed_) (void)driver_.context_pop(&popped);
  if (green_ != nullptr) (void)driver_.green_destroy(green_);
  if (retained_) (void)driver_.primary_context_release(device_);
}

}  // namespace edgert::tune
