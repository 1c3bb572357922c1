// SPDX-License-Identifier: Apache-2.0
// Counts every allocation of the process, so that `bench` can show that there are none after prepare().
#pragma once

#include <cstdint>
#include <optional>

namespace edgert::cli {

/// malloc, calloc, realloc, aligned_alloc, memalign and posix_memalign calls of all threads since the program started; nothing
/// where the C library's allocator cannot be wrapped (not glibc, or a sanitizer's own allocator).
std::optional<std::uint64_t> allocation_count();

}  // namespace edgert::cli
