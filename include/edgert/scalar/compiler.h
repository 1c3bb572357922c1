// SPDX-License-Identifier: Apache-2.0
// What the scalar headers need from the compiler: host compilers and NVRTC both read them, and NVRTC finds no standard
// header, so nothing is included and the types are the language's own.
#pragma once

/// Functions of this folder are inlined without exception: kernels call them inside regions compiled for an instruction
/// set that the machine may lack, and an out-of-line copy from such a region could be linked in everywhere.
#if defined(__CUDACC__)
#define EDGERT_SCALAR __host__ __device__ __forceinline__
#else
#define EDGERT_SCALAR __attribute__((always_inline)) inline
#endif

namespace edgert::scalar {

using uint16 = unsigned short;
using uint32 = unsigned int;
using uint64 = unsigned long long;
using int64 = long long;
static_assert(sizeof(uint16) == 2 && sizeof(uint32) == 4 && sizeof(uint64) == 8, "unexpected integer widths");

/// The bits of `from` as a To of the same size.
template <class To, class From>
EDGERT_SCALAR To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
  union {
    From source;
    To target;
  } pun = {from};
  return pun.target;
}

EDGERT_SCALAR float infinity_f32() { return bit_cast<float>(uint32{0x7f800000u}); }
EDGERT_SCALAR float nan_f32() { return bit_cast<float>(uint32{0x7fc00000u}); }
EDGERT_SCALAR double infinity_f64() { return bit_cast<double>(uint64{0x7ff0000000000000ull}); }
EDGERT_SCALAR double nan_f64() { return bit_cast<double>(uint64{0x7ff8000000000000ull}); }

// The square root instruction, never the library call that __builtin_sqrt turns into to set errno.
#if defined(__CUDA_ARCH__)
EDGERT_SCALAR float sqrt(float x) { return __fsqrt_rn(x); }
EDGERT_SCALAR double sqrt(double x) { return __dsqrt_rn(x); }
#elif defined(__SSE2__)
EDGERT_SCALAR float sqrt(float x) {
  typedef float Register __attribute__((vector_size(16)));
  const Register value = {x, 0.0f, 0.0f, 0.0f};
  return __builtin_ia32_sqrtss(value)[0];
}
EDGERT_SCALAR double sqrt(double x) {
  typedef double Register __attribute__((vector_size(16)));
  const Register value = {x, 0.0};
  return __builtin_ia32_sqrtsd(value)[0];
}
#elif defined(__aarch64__)
EDGERT_SCALAR float sqrt(float x) {
  float root;
  __asm__("fsqrt %s0, %s1" : "=w"(root) : "w"(x));
  return root;
}
EDGERT_SCALAR double sqrt(double x) {
  double root;
  __asm__("fsqrt %d0, %d1" : "=w"(root) : "w"(x));
  return root;
}
#else
EDGERT_SCALAR float sqrt(float x) { return x < 0.0f ? nan_f32() : __builtin_sqrtf(x); }
EDGERT_SCALAR double sqrt(double x) { return x < 0.0 ? nan_f64() : __builtin_sqrt(x); }
#endif

}  // namespace edgert::scalar
