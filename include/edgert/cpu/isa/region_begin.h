// SPDX-License-Identifier: Apache-2.0
// Opens the namespace of instruction set EDGERT_ISA_LEVEL and switches its target on; region_end.h closes both.
// Included by for_each_isa.h only, once per instruction set, hence without a guard. How to use it: region.h.

#if EDGERT_ISA_LEVEL == 0
namespace edgert::cpu::baseline {
#elif EDGERT_ISA_LEVEL == 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace edgert::cpu::avx2 {
#elif EDGERT_ISA_LEVEL == 2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif
namespace edgert::cpu::avx512 {
#endif
