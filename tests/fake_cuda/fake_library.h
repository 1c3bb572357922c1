// SPDX-License-Identifier: Apache-2.0
// What the fakes of cuBLASLt and cuDNN share: objects that are counted, calls that fail when a test asks for it, work that
// goes to the fake driver, and 16-bit operands. Each library has functions of its own for tests, by the same names.
#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "edgert/scalar/convert.h"

namespace edgert::fake_cuda {

struct LibraryState {
  int alive = 0;
  int calls = 0;
  int fail_at = 0;  ///< number of the call that fails; 0: none
  std::string misuse;

  bool fails() { return ++calls == fail_at; }
  void note(const char* what) {
    if (misuse.empty()) misuse = what;
  }
};
inline LibraryState library_state;

/// The driver that the process has opened: EDGERT_FAKE_DRIVER, or the one of the name that everybody opens.
inline void* driver() {
  const char* path = std::getenv("EDGERT_FAKE_DRIVER");
  return ::dlopen(path != nullptr ? path : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
}
template <class Function>
Function of_driver(const char* name) {
  return reinterpret_cast<Function>(::dlsym(driver(), name));
}
template <class Work>
void submit(void* stream, const Work& work) {
  const auto run = [](const void* bytes) {
    Work copy;
    std::memcpy(static_cast<void*>(&copy), bytes, sizeof(copy));
    copy.run();
  };
  of_driver<void (*)(void*, void (*)(const void*), const void*, std::size_t)>("fake_submit")(stream, run, &work, sizeof(work));
}
inline void access(std::uint64_t address, std::size_t bytes) {
  static const auto function = of_driver<void (*)(unsigned long long, std::size_t)>("fake_access");
  function(address, bytes);
}
inline bool captures() { return of_driver<bool (*)()>("fake_captures")(); }

/// Operands in device memory, which is host memory. Bytes of an element: 4, or 2 for f16 and bf16.
enum class Element { F32, F16, BF16 };
inline std::size_t bytes_of(Element type) { return type == Element::F32 ? 4 : 2; }
inline float load(std::uint64_t address, std::int64_t index, Element type) {
  const std::uint64_t at = address + static_cast<std::uint64_t>(index) * bytes_of(type);
  access(at, bytes_of(type));
  if (type == Element::F32) return *reinterpret_cast<const float*>(at);
  if (type == Element::F16) return scalar::to_float(*reinterpret_cast<const scalar::Half*>(at));
  return scalar::to_float(*reinterpret_cast<const scalar::BFloat16*>(at));
}
inline void store(std::uint64_t address, std::int64_t index, Element type, float value) {
  const std::uint64_t at = address + static_cast<std::uint64_t>(index) * bytes_of(type);
  access(at, bytes_of(type));
  if (type == Element::F32) *reinterpret_cast<float*>(at) = value;
  else if (type == Element::F16) *reinterpret_cast<scalar::Half*>(at) = scalar::to_half(value);
  else *reinterpret_cast<scalar::BFloat16*>(at) = scalar::to_bfloat16(value);
}

}  // namespace edgert::fake_cuda

/// What tests ask of a library; once in each.
#define EDGERT_FAKE_LIBRARY_CONTROLS()                                                                             \
  extern "C" int fake_library_alive() { return edgert::fake_cuda::library_state.alive; }                           \
  extern "C" int fake_library_calls() { return edgert::fake_cuda::library_state.calls; }                           \
  extern "C" void fake_library_reset(int fail_at) {                                                                \
    edgert::fake_cuda::library_state.calls = 0, edgert::fake_cuda::library_state.fail_at = fail_at;                \
  }                                                                                                                \
  extern "C" const char* fake_library_misuse() { return edgert::fake_cuda::library_state.misuse.c_str(); }
