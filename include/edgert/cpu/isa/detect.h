// SPDX-License-Identifier: Apache-2.0
// Which instruction set the processor and the operating system support. Asked once, when a session is prepared.
#pragma once

#include "edgert/cpu/isa/region.h"
#include "edgert/cpu/operator.h"

namespace edgert::cpu {

/// The best set that this processor runs and that kernels exist for. On anything but x86-64 that is the Baseline, which
/// on aarch64 means NEON.
inline Isa detect_isa() noexcept {
#if EDGERT_ISA_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx2 && avx512) return Isa::Avx512;
  if (avx2) return Isa::Avx2;
#endif
  return Isa::Baseline;
}

}  // namespace edgert::cpu
