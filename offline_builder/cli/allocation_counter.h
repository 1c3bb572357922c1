// SPDX-License-Identifier: Apache-2.0
// Counts the allocations of the process by who asked for them, so that `bench` can show that the runtime asks for none after
// prepare().
#pragma once

#include <cstdint>
#include <optional>

namespace edgert::cli {

/// Calls of malloc, calloc, realloc, aligned_alloc, memalign and posix_memalign, of all threads.
struct AllocationCount {
  std::uint64_t own = 0;        ///< by this program, also through the C++ library, and those whose caller cannot be told
  std::uint64_t libraries = 0;  ///< by other libraries for themselves: the CUDA driver's
};

/// Counts from zero. Between start and stop each allocation costs a walk up its stack.
void start_counting_allocations();
/// What came since the start; nothing where the C library's allocator cannot be wrapped (not glibc, or a sanitizer's own
/// allocator).
std::optional<AllocationCount> stop_counting_allocations();

}  // namespace edgert::cli
