// SPDX-License-Identifier: Apache-2.0
#include "cli/allocation_counter.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define EDGERT_COUNTS_ALLOCATIONS 1
#else
#define EDGERT_COUNTS_ALLOCATIONS 0
#endif

#if EDGERT_COUNTS_ALLOCATIONS
namespace {
std::atomic<std::uint64_t> g_allocations{0};
}

// glibc lets a program define the allocation functions; its own stay reachable under these names. free() needs no
// wrapper, and operator new ends here too.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, size);
}
void* memalign(std::size_t alignment, std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  *out = __libc_memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}
}
#endif

namespace edgert::cli {

std::optional<std::uint64_t> allocation_count() {
#if EDGERT_COUNTS_ALLOCATIONS
  return g_allocations.load(std::memory_order_relaxed);
#else
  return std::nullopt;
#endif
}

}  // namespace edgert::cli
