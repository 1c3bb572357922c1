// SPDX-License-Identifier: Apache-2.0
// Counts what the whole program takes from the system between start and stop: the C heap (which operator new uses),
// mmap and sbrk. In a sanitizer build the sanitizer's own hook counts the heap.
#pragma once

#include <cstdint>

namespace edgert::test {

void start_counting_allocations();
/// The number since the start.
std::uint64_t stop_counting_allocations();

}  // namespace edgert::test
