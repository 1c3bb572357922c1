// SPDX-License-Identifier: Apache-2.0
// kernels/common/ptx.h for the host: the same functions, from the instructions' definitions, on the fibres of machine.h.
// A kernel source compiled with this header runs under the sanitizers on any machine (emulate.h builds and calls it).
// Every kernel of a test is compiled with it: it includes nothing large.
#pragma once

#include <cstring>

#include "machine.h"

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
struct alignas(8) uint2 {
  unsigned x, y;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
extern "C" float fabsf(float) noexcept;
extern "C" float fmaxf(float, float) noexcept;
#if defined(__CUDA_ARCH__)
inline float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
inline double __dsqrt_rn(double x) { return __builtin_sqrt(x); }
#endif

#include "edgert/scalar/convert.h"

#define threadIdx (::emulation::self().index)
#define blockIdx (::emulation::self().block->index)
#define gridDim (::emulation::machine.grid)
#define blockDim (::emulation::machine.block)

inline void __syncthreads() { emulation::barrier(0); }
inline int __syncthreads_or(int value) { return emulation::barrier(value) != 0; }
inline void __syncwarp() { emulation::together(nullptr, 0, [](emulation::WarpSlot&) {}); }
inline void __threadfence() {}
inline unsigned __shfl_xor_sync(unsigned, unsigned value, int mask) {
  const std::uint64_t bits[2] = {value, static_cast<std::uint64_t>(mask)};
  return static_cast<unsigned>(*emulation::together(bits, 2, [](emulation::WarpSlot& s) {
    for (int i = 0; i < 32; ++i) s.out[i][0] = s.in[i ^ static_cast<int>(s.in[i][1])][0];
  }));
}
inline float __shfl_xor_sync(unsigned warp, float value, int mask) {
  return edgert::scalar::bit_cast<float>(__shfl_xor_sync(warp, edgert::scalar::bit_cast<unsigned>(value), mask));
}

inline unsigned __shfl_sync(unsigned, unsigned value, int from) {
  const std::uint64_t bits[2] = {value, static_cast<std::uint64_t>(from % 32)};
  return static_cast<unsigned>(*emulation::together(bits, 2, [](emulation::WarpSlot& s) {
    for (int i = 0; i < 32; ++i) s.out[i][0] = s.in[s.in[i][1]][0];
  }));
}
inline float __shfl_sync(unsigned warp, float value, int from) {
  return edgert::scalar::bit_cast<float>(__shfl_sync(warp, edgert::scalar::bit_cast<unsigned>(value), from));
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  const std::uint64_t bits = predicate != 0;
  return static_cast<unsigned>(*emulation::together(&bits, 1, [](emulation::WarpSlot& s) {
    unsigned mask = 0;
    for (int i = 0; i < 32; ++i) mask |= static_cast<unsigned>(s.in[i][0]) << i;
    for (int i = 0; i < 32; ++i) s.out[i][0] = mask;
  }));
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

namespace edgert::device {

using scalar::uint16;
using scalar::uint32;
using scalar::uint64;

struct alignas(16) Vector16 {
  uint32 word[4];
};

inline unsigned char* dynamic_shared_memory() { return emulation::self().block->shared; }
inline uint32 shared_address(const void* pointer) {
  const auto* block = emulation::self().block;
  const auto* byte = static_cast<const unsigned char*>(pointer);
  if (byte < block->shared || byte > block->shared + block->shared_bytes) emulation::fail("not an address of shared memory");
  return static_cast<uint32>(byte - block->shared) + emulation::kSharedBase;
}

inline void pin(int&) {}
inline void pin(uint32&) {}

template <int kBytes>
inline void copy_async(uint32 to, const void* from, uint32 bytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if (bytes > kBytes) emulation::fail("a copy of more bytes than it says");
  if (reinterpret_cast<std::uintptr_t>(from) % kBytes != 0) emulation::fail("misaligned source of a copy");
  emulation::copy_later(emulation::at(to, kBytes, kBytes), from, bytes, kBytes);
}
inline void copy_async_16(uint32 to, const void* from, uint32 bytes) { copy_async<16>(to, from, bytes); }
inline void copy_async_16(uint32 to, const void* from) { copy_async<16>(to, from, 16); }
inline void copy_async_commit() { emulation::close_group(); }
template <int kNewest>
inline void copy_async_wait() {
  emulation::finish_groups(kNewest);
}

inline void load_matrices(uint32 (&out)[4], uint32 row) { emulation::load_matrices(out, row, false); }
inline void load_matrices_transposed(uint32 (&out)[4], uint32 row) { emulation::load_matrices(out, row, true); }

inline Vector16 load_shared_16(uint32 address) {
  Vector16 v;
  std::memcpy(&v, emulation::at(address, 16, 16), 16);
  return v;
}
inline uint32 load_shared_4(uint32 address) {
  uint32 v;
  std::memcpy(&v, emulation::at(address, 4, 4), 4);
  return v;
}
inline uint2 load_shared_8(uint32 address) {
  uint2 v;
  std::memcpy(&v, emulation::at(address, 8, 8), 8);
  return v;
}
inline void store_shared_4(uint32 address, uint32 v) { std::memcpy(emulation::at(address, 4, 4), &v, 4); }
inline void store_shared_16(uint32 address, const Vector16& v) { std::memcpy(emulation::at(address, 16, 16), &v, 16); }
inline void store_shared_8(uint32 address, uint32 low, uint32 high) {
  const uint32 words[2] = {low, high};
  std::memcpy(emulation::at(address, 8, 8), words, 8);
}
inline Vector16 load_constant_16(const void* pointer) {
  if (reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0) emulation::fail("misaligned load");
  Vector16 v;
  std::memcpy(&v, pointer, 16);
  return v;
}
inline float exp2_approximate(float x) {
  const float y = __builtin_exp2f(x);
  return y < 0x1p-126f ? 0.0f : y;
}
inline float reciprocal_approximate(float x) { return 1.0f / x; }
inline void prefetch_l2(const void* pointer) { (void)*static_cast<const volatile unsigned char*>(pointer); }

inline float multiply_add_saturated(float a, float b, float c) {
  const double sum = static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(c);
  return sum > 0 ? sum < 1 ? static_cast<float>(sum) : 1.0f : 0.0f;
}
/// In double, which rounds no product of 16-bit elements and no sum that a rounding to them would notice.
template <class Element>
inline uint32 pairs_multiply_add_relu(uint32 a, uint32 b, uint32 c) {
  float x[2], y[2], z[2];
  Element::unpack(a, x[0], x[1]);
  Element::unpack(b, y[0], y[1]);
  Element::unpack(c, z[0], z[1]);
  for (int i = 0; i < 2; ++i) {
    const double sum = static_cast<double>(x[i]) * static_cast<double>(y[i]) + static_cast<double>(z[i]);
    x[i] = static_cast<float>(sum < 0 ? 0.0 : sum);
  }
  return Element::pack(x[0], x[1]);
}
template <class Element>
inline uint32 pairs_extreme(uint32 a, uint32 b, float sign) {
  float x[2], y[2];
  Element::unpack(a, x[0], x[1]);
  Element::unpack(b, y[0], y[1]);
  for (int i = 0; i < 2; ++i) x[i] = x[i] != x[i] || y[i] != y[i] ? x[i] + y[i] : x[i] * sign > y[i] * sign ? x[i] : y[i];
  return Element::pack(x[0], x[1]);
}
struct F16 {
  static void round(uint32 (&)[4]) {}
  static constexpr uint32 kLowestPair = 0xfc00fc00u;
  static uint16 from_float(float x) { return scalar::to_half(x).bits; }
  static float to_float(uint16 x) { return scalar::to_float(scalar::Half{x}); }
  static uint32 pack(float low, float high) { return from_float(low) | static_cast<uint32>(from_float(high)) << 16; }
  static uint32 pack_relu(float low, float high) { return pack(low < 0.0f ? 0.0f : low, high < 0.0f ? 0.0f : high); }
  static void unpack(uint32 in, float& low, float& high) {
    low = to_float(static_cast<uint16>(in));
    high = to_float(static_cast<uint16>(in >> 16));
  }
  static uint32 multiply_pairs(uint32 a, uint32 b) {
    float x[2], y[2];
    unpack(a, x[0], x[1]);
    unpack(b, y[0], y[1]);
    return pack(x[0] * y[0], x[1] * y[1]);
  }
  static uint32 add_pairs(uint32 a, uint32 b) {
    float x[2], y[2];
    unpack(a, x[0], x[1]);
    unpack(b, y[0], y[1]);
    return pack(x[0] + y[0], x[1] + y[1]);
  }
  static uint32 subtract_pairs(uint32 a, uint32 b) { return add_pairs(a, b ^ 0x80008000u); }
  static uint32 multiply_add_relu_pairs(uint32 a, uint32 b, uint32 c) { return pairs_multiply_add_relu<F16>(a, b, c); }
  static void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) { emulation::multiply_f16(d, a, b0, b1); }
  static void multiply_narrow(float (&d)[4], uint32 a0, uint32 a1, uint32 b) { emulation::multiply_f16(d, {a0, a1, 0, 0}, b, 0); }
  static uint32 maximum_pairs(uint32 a, uint32 b) { return pairs_extreme<F16>(a, b, 1.0f); }
  static uint32 minimum_pairs(uint32 a, uint32 b) { return pairs_extreme<F16>(a, b, -1.0f); }
};
struct BF16 {
  static void round(uint32 (&)[4]) {}
  static constexpr uint32 kLowestPair = 0xff80ff80u;
  static uint16 from_float(float x) { return scalar::to_bfloat16(x).bits; }
  static float to_float(uint16 x) { return scalar::to_float(scalar::BFloat16{x}); }
  static uint32 pack(float low, float high) { return from_float(low) | static_cast<uint32>(from_float(high)) << 16; }
  static uint32 pack_relu(float low, float high) { return pack(low < 0.0f ? 0.0f : low, high < 0.0f ? 0.0f : high); }
  static void unpack(uint32 in, float& low, float& high) {
    low = to_float(static_cast<uint16>(in));
    high = to_float(static_cast<uint16>(in >> 16));
  }
  static uint32 multiply_pairs(uint32 a, uint32 b) {
    float x[2], y[2];
    unpack(a, x[0], x[1]);
    unpack(b, y[0], y[1]);
    return pack(x[0] * y[0], x[1] * y[1]);
  }
  static uint32 multiply_add_relu_pairs(uint32 a, uint32 b, uint32 c) { return pairs_multiply_add_relu<BF16>(a, b, c); }
  static void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) { emulation::multiply_bf16(d, a, b0, b1); }
  static void multiply_narrow(float (&d)[4], uint32 a0, uint32 a1, uint32 b) { emulation::multiply_bf16(d, {a0, a1, 0, 0}, b, 0); }
  static uint32 maximum_pairs(uint32 a, uint32 b) { return pairs_extreme<BF16>(a, b, 1.0f); }
  static uint32 minimum_pairs(uint32 a, uint32 b) { return pairs_extreme<BF16>(a, b, -1.0f); }
};

struct F32 {};

struct TF32 {
  /// To 11 bits, halves away from zero.
  static void round(uint32 (&a)[4]) {
    for (uint32& bits : a) bits = (bits + 0x1000u) & 0xffffe000u;
  }
  static uint32 multiply_pairs(uint32 a, uint32 b) { return scalar::bit_cast<uint32>(scalar::bit_cast<float>(a) * scalar::bit_cast<float>(b)); }
  static uint32 multiply_add_relu_pairs(uint32 a, uint32 b, uint32 c) {
    const float sum = scalar::bit_cast<float>(a) * scalar::bit_cast<float>(b) + scalar::bit_cast<float>(c);
    return scalar::bit_cast<uint32>(sum < 0.0f ? 0.0f : sum);
  }
  static void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) { emulation::multiply_tf32(d, a, b0, b1); }
};

inline void wait_for_previous_grid() { emulation::previous_grid_ended(); }
inline void allow_next_grid() {}
inline void assume_indices(unsigned, unsigned) {}
inline void hold_place(int) {}
inline uint32 fetch_add_ordered(uint32* counter, uint32 value) {
  emulation::yield();  // whoever waits for others lets them go on
  const uint32 old = *counter;
  *counter += value;
  return old;
}

inline uint32 cluster_rank() { return emulation::self().block->rank; }
inline uint32 cluster_address(uint32 address, uint32 rank) {
  if (rank >= emulation::machine.cluster) emulation::fail("no such block in the cluster");
  return address | (rank + 1) << 24;
}
inline void cluster_arrive() { emulation::arrive_at_cluster(); }
inline void cluster_wait() { emulation::wait_for_cluster(); }
inline void receive_begin(uint32 barrier, uint32 bytes) {
  const emulation::Transactions state = {static_cast<std::int32_t>(bytes), 0};
  std::memcpy(emulation::at(barrier, 8, 8), &state, 8);
}
inline void receive_again(uint32 barrier, uint32 bytes) {
  emulation::Transactions state;
  std::memcpy(&state, emulation::at(barrier, 8, 8), 8);
  if (state.pending != 0) emulation::fail("the barrier still expects something");
  state.pending = static_cast<std::int32_t>(bytes);
  std::memcpy(emulation::at(barrier, 8, 8), &state, 8);
}
inline void send_4(uint32 address, uint32 v, uint32 barrier) {
  if (address >> 24 != barrier >> 24) emulation::fail("data and barrier lie in different blocks");
  std::memcpy(emulation::at(address, 4, 4), &v, 4);
  emulation::count_arrived(barrier, 4);
}
inline void send_16(uint32 address, const Vector16& v, uint32 barrier) {
  if (address >> 24 != barrier >> 24) emulation::fail("data and barrier lie in different blocks");
  std::memcpy(emulation::at(address, 16, 16), &v, 16);
  emulation::count_arrived(barrier, 16);
}
inline void copy_bulk_to(uint32 blocks, uint32 to, const void* from, uint32 bytes, uint32 barrier) {
  if (bytes % 16 != 0 || reinterpret_cast<std::uintptr_t>(from) % 16 != 0) emulation::fail("bulk copies are in units of 16 bytes");
  for (uint32 rank = 0; blocks >> rank != 0; ++rank) {
    if ((blocks >> rank & 1) == 0) continue;
    const uint32 block = cluster_address(0, rank);
    emulation::send_later(to | block, from, bytes, barrier | block);
  }
}
inline void copy_bulk(uint32 to, const void* from, uint32 bytes, uint32 barrier) {
  copy_bulk_to(1u << cluster_rank(), to, from, bytes, barrier);
}
inline void receive_wait(uint32 barrier, uint32 parity = 0) { emulation::wait_for_phase(barrier, parity); }

}  // namespace edgert::device
