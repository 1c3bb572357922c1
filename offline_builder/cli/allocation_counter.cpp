// SPDX-License-Identifier: Apache-2.0
#include "cli/allocation_counter.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define EDGERT_COUNTS_ALLOCATIONS 1
#else
#define EDGERT_COUNTS_ALLOCATIONS 0
#endif

#if EDGERT_COUNTS_ALLOCATIONS
#include <dlfcn.h>
#include <unwind.h>

namespace {

std::atomic<bool> g_counting{false};
std::atomic<std::uint64_t> g_own{0};
std::atomic<std::uint64_t> g_libraries{0};
thread_local bool t_walking = false;

enum class Caller { Unknown, Own, Library };

/// The object that holds a code address: allocations that the C and C++ libraries make are their callers'.
Caller caller_at(const void* address) {
  static const int mark = 0;
  Dl_info own, found;
  if (::dladdr(address, &found) == 0 || found.dli_fname == nullptr || ::dladdr(&mark, &own) == 0) return Caller::Unknown;
  if (found.dli_fbase == own.dli_fbase) return Caller::Own;
  const char* slash = std::strrchr(found.dli_fname, '/');
  const char* name = slash != nullptr ? slash + 1 : found.dli_fname;
  for (const char* runtime : {"libc.so", "libstdc++.so", "libgcc_s.so", "ld-linux", "libdl.so", "libpthread.so", "libm.so"}) {
    if (std::strncmp(name, runtime, std::strlen(runtime)) == 0) return Caller::Unknown;
  }
  return Caller::Library;
}

struct Walk {
  int own_frames = 0;  // of this file, at the top of every stack
  Caller caller = Caller::Unknown;
};

_Unwind_Reason_Code look_at(_Unwind_Context* context, void* user) {
  auto& walk = *static_cast<Walk*>(user);
  const auto address = _Unwind_GetIP(context);
  if (address == 0) return _URC_END_OF_STACK;
  if (walk.own_frames > 0) {
    --walk.own_frames;
    return _URC_NO_REASON;
  }
  walk.caller = caller_at(reinterpret_cast<const void*>(address - 1));
  return walk.caller == Caller::Unknown ? _URC_NO_REASON : _URC_END_OF_STACK;
}

/// `address`: where the allocator returns to. Only behind the C++ library the stack has to be walked.
__attribute__((noinline)) void count(const void* address) {
  if (!g_counting.load(std::memory_order_relaxed) || t_walking) return;
  t_walking = true;
  Caller caller = caller_at(address);
  if (caller == Caller::Unknown) {
    Walk walk;
    walk.own_frames = 2;
    (void)_Unwind_Backtrace(&look_at, &walk);
    caller = walk.caller;
  }
  (caller == Caller::Library ? g_libraries : g_own).fetch_add(1, std::memory_order_relaxed);
  t_walking = false;
}

}  // namespace

// glibc lets a program define the allocation functions; its own stay reachable under these names. free() needs no
// wrapper, and operator new ends here too.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  count(__builtin_return_address(0));
  return __libc_malloc(size);
}
void* calloc(std::size_t number, std::size_t size) {
  count(__builtin_return_address(0));
  return __libc_calloc(number, size);
}
void* realloc(void* old, std::size_t size) {
  count(__builtin_return_address(0));
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  count(__builtin_return_address(0));
  return __libc_memalign(alignment, size);
}
void* memalign(std::size_t alignment, std::size_t size) {
  count(__builtin_return_address(0));
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  count(__builtin_return_address(0));
  *out = __libc_memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}
}
#endif

namespace edgert::cli {

void start_counting_allocations() {
#if EDGERT_COUNTS_ALLOCATIONS
  // The first walk may load what it needs.
  Walk walk;
  (void)_Unwind_Backtrace(&look_at, &walk);
  g_own = 0;
  g_libraries = 0;
  g_counting = true;
#endif
}

std::optional<AllocationCount> stop_counting_allocations() {
#if EDGERT_COUNTS_ALLOCATIONS
  g_counting = false;
  return AllocationCount{g_own.load(), g_libraries.load()};
#else
  return std::nullopt;
#endif
}

}  // namespace edgert::cli
