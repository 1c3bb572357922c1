// SPDX-License-Identifier: Apache-2.0
// One kernel source, compiled once per instruction set: how it is done and how to write one.
//
// A family of kernels is two files in this folder:
//
//   softmax_kernels.inc   the code. No include guard, no #include, no namespace: plain functions and templates.
//   softmax_kernels.h     #pragma once; includes whatever the code needs; then
//                           #define EDGERT_ISA_SOURCE "edgert/cpu/isa/softmax_kernels.inc"
//                           #include "edgert/cpu/isa/for_each_isa.h"
//
// for_each_isa.h includes the source inside namespace edgert::cpu::baseline, then, on x86-64, again inside
// edgert::cpu::avx2 and edgert::cpu::avx512 with that target switched on, and undefines EDGERT_ISA_SOURCE. The
// operator, compiled for the baseline, picks the copy with
//
//   EDGERT_ISA_DISPATCH(work.isa, softmax_row(x, y, n));
//
// What the source may use: the vector types and helpers that vectors.inc put into the same namespace (f32v, i32v,
// kLanes, load, store, splat, ...; exp, sigmoid, activate, ... of scalar/float_math.inc on f32v), kernels of the same
// namespace, compiler builtins, and functions from outside that are EDGERT_ALWAYS_INLINE. EDGERT_ISA_LEVEL is 0, 1 or 2
// (baseline, AVX2, AVX-512) meanwhile.
//
// What it must never do:
//  * Call or instantiate anything that is shared between the copies and is not always inlined: no std::, no ordinary
//    inline function, no template from outside (constexpr functions count: at -O0 they are calls). Such a function
//    becomes a weak symbol holding AVX code; if the linker keeps that one of several equal ones, every caller in the
//    program dies on an older processor. tests/contracts/weak_symbols.sh looks for them at -O0.
//  * Take or return a vector through a function that is not always_inline: the calling convention depends on the
//    target, and compilers warn (-Wpsabi). Pass pointers.
//  * Rely on an optimisation level: firmware is compiled with -O2 or -Os. Loops over registers carry
//    EDGERT_UNROLL; loops that the compiler shall vectorise have a constant trip count.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define EDGERT_ISA_X86 1
#else
#define EDGERT_ISA_X86 0
#endif

#ifndef EDGERT_ALWAYS_INLINE
#define EDGERT_ALWAYS_INLINE inline __attribute__((always_inline))
#endif

/// Unrolls the following loop completely (its constant trip count is at most 32), so that arrays become registers.
#if defined(__clang__)
#define EDGERT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define EDGERT_UNROLL _Pragma("GCC unroll 32")
#endif

namespace edgert::cpu {

/// After a kernel that used 256- or 512-bit registers their upper halves must be cleared, or the SSE code around it
/// runs several times slower (measured: 6.7 instead of 38 GFLOP/s). Compilers do that by themselves, but for g++ with
/// -Os.
struct UpperHalvesCleared {
#if EDGERT_ISA_X86 && defined(__OPTIMIZE_SIZE__) && !defined(__clang__)
  bool used;
  constexpr explicit UpperHalvesCleared(bool used_) noexcept : used(used_) {}
  EDGERT_ALWAYS_INLINE ~UpperHalvesCleared() {
    if (used) {
      __asm__ volatile("vzeroupper" ::
                           : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                             "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    }
  }
#else
  constexpr explicit UpperHalvesCleared(bool) noexcept {}
#endif
};

}  // namespace edgert::cpu

/// Calls the copy of a kernel that was compiled for `isa`.
#if EDGERT_ISA_X86
#define EDGERT_ISA_DISPATCH(isa, ...)                                                  \
  (static_cast<void>(::edgert::cpu::UpperHalvesCleared((isa) != ::edgert::cpu::Isa::Baseline)), \
   (isa) == ::edgert::cpu::Isa::Avx512   ? ::edgert::cpu::avx512::__VA_ARGS__          \
   : (isa) == ::edgert::cpu::Isa::Avx2   ? ::edgert::cpu::avx2::__VA_ARGS__            \
                                         : ::edgert::cpu::baseline::__VA_ARGS__)
#else
#define EDGERT_ISA_DISPATCH(isa, ...) (static_cast<void>(isa), ::edgert::cpu::baseline::__VA_ARGS__)
#endif
