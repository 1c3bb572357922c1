// SPDX-License-Identifier: Apache-2.0
// Closes what region_begin.h opened.

}  // namespace of the instruction set

#if EDGERT_ISA_LEVEL != 0
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
