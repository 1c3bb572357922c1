// SPDX-License-Identifier: Apache-2.0
// kernels/common/ptx.h for the host: the same functions, from the instructions' definitions, on fibres. A kernel source
// compiled with this header runs under the sanitizers on any machine (emulate.h builds and calls it).
//
// One fibre is one thread of the grid. All blocks of a cluster run together, one cluster after the other; fibres switch
// at barriers and at instructions that work on a whole warp, in an order that a seed decides. Shared memory is one heap
// allocation a block, of exactly the launch's size. Asynchronous copies happen as late as the program allows: when their
// group is waited for. Memory that belongs to the previous kernel is poisoned for a thread until it has waited for it.
// What hardware leaves undefined ends the program with a message.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#include <ucontext.h>

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
struct Index3 {
  unsigned x, y, z;
};
#if defined(__CUDA_ARCH__)
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline double __dsqrt_rn(double x) { return std::sqrt(x); }
#endif

#include "edgert/scalar/convert.h"

namespace emulation {

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "kernel emulation: %s\n", what);
  std::abort();
}

/// A range of memory that threads may touch only after wait_for_previous_grid().
struct Region {
  void* data;
  std::size_t bytes;
};

struct Copy {
  unsigned char* to;
  const unsigned char* from;
  unsigned bytes;
  unsigned filled;  ///< with zeros behind the bytes
};

struct Block;

/// Operands of an instruction that a whole warp executes, lane by lane.
struct WarpSlot {
  int arrived = 0;
  unsigned generation = 0;
  std::uint64_t in[32][8];
  std::uint64_t out[32][4];
};

struct Thread {
  ucontext_t context;
  std::unique_ptr<unsigned char[]> stack;
  void* asan_stack = nullptr;
  Block* block = nullptr;
  Index3 index = {};
  bool done = false;
  bool waited = false;  // for the previous grid
  std::deque<std::vector<Copy>> groups;
  std::vector<Copy> open;
};

struct Block {
  Index3 index = {};
  unsigned rank = 0;
  std::vector<Thread> threads;
  std::vector<WarpSlot> warps;
  std::unique_ptr<unsigned char[]> allocation;
  unsigned char* shared = nullptr;
  unsigned shared_bytes = 0;
  unsigned arrived = 0, generation = 0;
  int any = 0, any_result = 0;
};

/// What a block will find at `to` once its `barrier` has counted it; both are addresses in the cluster.
struct BulkCopy {
  unsigned to, barrier;
  std::vector<unsigned char> bytes;
};

struct Machine {
  Index3 grid = {}, block = {};
  unsigned cluster = 1;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<BulkCopy> on_the_way;
  unsigned cluster_arrived = 0, cluster_generation = 0;
  Thread* current = nullptr;
  ucontext_t scheduler;
  void* scheduler_stack = nullptr;
  const void* scheduler_bottom = nullptr;
  std::size_t scheduler_size = 0;
  std::vector<Region> regions;
  bool poisoned = false;
  void (*call)(void**) = nullptr;
  void** parameters = nullptr;
};
inline Machine machine;

constexpr std::size_t kStackBytes = 256 * 1024;

inline void poison(bool on) {
#if defined(__SANITIZE_ADDRESS__)
  if (on == machine.poisoned) return;
  machine.poisoned = on;
  for (const Region& region : machine.regions) {
    if (on) __asan_poison_memory_region(region.data, region.bytes);
    else __asan_unpoison_memory_region(region.data, region.bytes);
  }
#else
  (void)on;
#endif
}

/// Back to the scheduler; returns when this fibre's turn comes again.
inline void yield() {
  Thread* self = machine.current;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(self->done ? nullptr : &self->asan_stack, machine.scheduler_bottom, machine.scheduler_size);
#endif
  swapcontext(&self->context, &machine.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self->asan_stack, &machine.scheduler_bottom, &machine.scheduler_size);
#endif
}

inline void thread_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &machine.scheduler_bottom, &machine.scheduler_size);
#endif
  machine.call(machine.parameters);
  Thread* self = machine.current;
  if (!self->waited) fail("a thread ended without waiting for the previous grid");
  if (!self->open.empty()) fail("a thread ended with copies in no group");
  self->done = true;
  yield();
  fail("a finished fibre ran again");
}

inline void resume(Thread& thread) {
  machine.current = &thread;
  poison(!thread.waited);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&machine.scheduler_stack, thread.stack.get(), kStackBytes);
#endif
  swapcontext(&machine.scheduler, &thread.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(machine.scheduler_stack, nullptr, nullptr);
#endif
}

inline Thread& self() { return *machine.current; }
inline unsigned flat(const Index3& i) { return (i.z * machine.block.y + i.y) * machine.block.x + i.x; }

/// Waits until all threads of the block are here. Threads that ended count, as on hardware since sm_70.
inline int barrier(int value) {
  Block& block = *self().block;
  const unsigned generation = block.generation;
  block.any |= value;
  ++block.arrived;
  while (block.generation == generation) {
    unsigned ended = 0;
    for (const Thread& thread : block.threads) ended += thread.done;
    if (block.arrived + ended == block.threads.size()) {
      block.any_result = block.any;
      block.any = 0;
      block.arrived = 0;
      ++block.generation;
      break;
    }
    yield();
  }
  return block.any_result;
}

/// Brings a warp together: every lane stores operands, the last to come runs `compute` for all.
template <class Compute>
WarpSlot& together(const std::uint64_t* operands, int count, Compute compute) {
  Thread& thread = self();
  const unsigned number = flat(thread.index);
  WarpSlot& slot = thread.block->warps[number / 32];
  const unsigned lane = number % 32;
  for (int i = 0; i < count; ++i) slot.in[lane][i] = operands[i];
  const unsigned generation = slot.generation;
  if (++slot.arrived == 32) {
    compute(slot);
    slot.arrived = 0;
    ++slot.generation;
  }
  while (slot.generation == generation) yield();
  return slot;
}

inline unsigned lane() { return flat(self().index) % 32; }

/// Shared addresses count from 16, so that 0 is none; bits 24 and up say whose memory a cluster address means.
constexpr unsigned kSharedBase = 16;
inline unsigned char* at(unsigned address, unsigned bytes, unsigned alignment) {
  Block* block = self().block;
  if (address >> 24 != 0) block = machine.blocks[(address >> 24) - 1].get();
  const unsigned offset = (address & 0xffffffu) - kSharedBase;
  if (offset % alignment != 0) fail("misaligned shared address");
  if (offset > block->shared_bytes || block->shared_bytes - offset < bytes) fail("shared address outside the launch's memory");
  return block->shared + offset;
}

inline void run_cluster(unsigned first_block, unsigned shared_bytes, std::mt19937& random) {
  machine.blocks.clear();
  machine.on_the_way.clear();
  machine.cluster_arrived = machine.cluster_generation = 0;
  const unsigned threads = machine.block.x * machine.block.y * machine.block.z;
  if (threads % 32 != 0) fail("blocks are whole warps");
  std::vector<Thread*> all;
  for (unsigned rank = 0; rank < machine.cluster; ++rank) {
    auto block = std::make_unique<Block>();
    const unsigned number = first_block + rank;
    block->index = {number % machine.grid.x, number / machine.grid.x % machine.grid.y, number / (machine.grid.x * machine.grid.y)};
    block->rank = rank;
    block->threads.resize(threads);
    block->warps.resize(threads / 32);
    // The launch's size exactly, at the end of an allocation that aligns its start to 128.
    block->allocation = std::make_unique<unsigned char[]>(shared_bytes + 128);
    const std::size_t misfit = reinterpret_cast<std::uintptr_t>(block->allocation.get()) % 128;
    block->shared = block->allocation.get() + (misfit == 0 ? 0 : 128 - misfit);
    block->shared_bytes = shared_bytes;
    std::memset(block->shared, 0xff, shared_bytes);  // as halves and as floats: NaN
    for (unsigned t = 0; t < threads; ++t) {
      Thread& thread = block->threads[t];
      thread.block = block.get();
      thread.index = {t % machine.block.x, t / machine.block.x % machine.block.y, t / (machine.block.x * machine.block.y)};
      thread.stack = std::make_unique<unsigned char[]>(kStackBytes);
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = thread.stack.get();
      thread.context.uc_stack.ss_size = kStackBytes;
      thread.context.uc_link = nullptr;
      makecontext(&thread.context, thread_main, 0);
      all.push_back(&thread);
    }
    machine.blocks.push_back(std::move(block));
  }
  // Rounds in an order of their own; a thread that waits for others just yields. Rounds without an end are a deadlock.
  for (unsigned rounds = 0; !all.empty(); ++rounds) {
    if (rounds > 2000000) fail("the threads wait for each other for ever");
    if (rounds % 16 == 0) std::shuffle(all.begin(), all.end(), random);
    for (Thread* thread : all) resume(*thread);
    all.erase(std::remove_if(all.begin(), all.end(), [](const Thread* thread) { return thread->done; }), all.end());
  }
  poison(false);
}

/// A transaction barrier in shared memory.
struct Transactions {
  std::int32_t pending;  ///< bytes
  std::uint32_t phases;  ///< how often all of them have come
};

/// Counts bytes at a transaction barrier.
inline void count_arrived(unsigned barrier, unsigned bytes) {
  Transactions state;
  std::memcpy(&state, at(barrier, 8, 8), 8);
  state.pending -= static_cast<std::int32_t>(bytes);
  if (state.pending < 0) fail("more bytes arrived than expected");
  if (state.pending == 0) ++state.phases;
  std::memcpy(at(barrier, 8, 8), &state, 8);
}

/// Bulk copies arrive when this block waits for them at the barrier, and no earlier.
inline void deliver(unsigned barrier) {
  std::vector<BulkCopy> others;
  for (BulkCopy& copy : machine.on_the_way) {
    if (at(copy.barrier, 8, 8) != at(barrier, 8, 8)) {
      others.push_back(std::move(copy));
      continue;
    }
    std::memcpy(at(copy.to, static_cast<unsigned>(copy.bytes.size()), 16), copy.bytes.data(), copy.bytes.size());
    count_arrived(barrier, static_cast<unsigned>(copy.bytes.size()));
  }
  machine.on_the_way.swap(others);
}

}  // namespace emulation

#define threadIdx (::emulation::self().index)
#define blockIdx (::emulation::self().block->index)
#define gridDim (::emulation::machine.grid)
#define blockDim (::emulation::machine.block)

inline void __syncthreads() { emulation::barrier(0); }
inline int __syncthreads_or(int value) { return emulation::barrier(value) != 0; }
inline void __syncwarp() { emulation::together(nullptr, 0, [](emulation::WarpSlot&) {}); }
inline void __threadfence() {}
inline unsigned __shfl_xor_sync(unsigned, unsigned value, int mask) {
  const std::uint64_t bits = value;
  const auto& slot = emulation::together(&bits, 1, [mask](emulation::WarpSlot& s) {
    for (int i = 0; i < 32; ++i) s.out[i][0] = s.in[i ^ mask][0];
  });
  return static_cast<unsigned>(slot.out[emulation::lane()][0]);
}
inline float __shfl_xor_sync(unsigned warp, float value, int mask) {
  return edgert::scalar::bit_cast<float>(__shfl_xor_sync(warp, edgert::scalar::bit_cast<unsigned>(value), mask));
}

inline unsigned __shfl_sync(unsigned, unsigned value, int from) {
  const std::uint64_t bits[2] = {value, static_cast<std::uint64_t>(from % 32)};
  const auto& slot = emulation::together(bits, 2, [](emulation::WarpSlot& s) {
    for (int i = 0; i < 32; ++i) s.out[i][0] = s.in[s.in[i][1]][0];
  });
  return static_cast<unsigned>(slot.out[emulation::lane()][0]);
}
inline float __shfl_sync(unsigned warp, float value, int from) {
  return edgert::scalar::bit_cast<float>(__shfl_sync(warp, edgert::scalar::bit_cast<unsigned>(value), from));
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  const std::uint64_t bits = predicate != 0;
  const auto& slot = emulation::together(&bits, 1, [](emulation::WarpSlot& s) {
    unsigned mask = 0;
    for (int i = 0; i < 32; ++i) mask |= static_cast<unsigned>(s.in[i][0]) << i;
    for (int i = 0; i < 32; ++i) s.out[i][0] = mask;
  });
  return static_cast<unsigned>(slot.out[emulation::lane()][0]);
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

inline void copy_async_16(uint32 to, const void* from, uint32 bytes) {
  if (bytes > 16) emulation::fail("a copy of more than 16 bytes");
  if (reinterpret_cast<std::uintptr_t>(from) % 16 != 0) emulation::fail("misaligned source of a copy");
  emulation::self().open.push_back({emulation::at(to, 16, 16), static_cast<const unsigned char*>(from), bytes, 16});
}
template <int kBytes>
inline void copy_async(uint32 to, const void* from, uint32 bytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if (bytes > kBytes) emulation::fail("a copy of more bytes than it says");
  if (reinterpret_cast<std::uintptr_t>(from) % kBytes != 0) emulation::fail("misaligned source of a copy");
  emulation::self().open.push_back({emulation::at(to, kBytes, kBytes), static_cast<const unsigned char*>(from), bytes, kBytes});
}
inline void copy_async_16(uint32 to, const void* from) { copy_async_16(to, from, 16); }
inline void copy_async_commit() {
  auto& thread = emulation::self();
  thread.groups.push_back(std::move(thread.open));
  thread.open.clear();
}
template <int kNewest>
inline void copy_async_wait() {
  auto& thread = emulation::self();
  while (thread.groups.size() > static_cast<std::size_t>(kNewest)) {
    for (const emulation::Copy& copy : thread.groups.front()) {
      unsigned char bytes[16] = {};
      std::memcpy(bytes, copy.from, copy.bytes);
      std::memcpy(copy.to, bytes, copy.filled);
    }
    thread.groups.pop_front();
  }
}

/// Four 8x8 matrices of 16-bit elements whose rows the lanes address.
template <bool kTransposed>
inline void load_matrices_of(uint32 (&out)[4], uint32 row) {
  const std::uint64_t pointer = reinterpret_cast<std::uintptr_t>(emulation::at(row, 16, 16));
  const auto& slot = emulation::together(&pointer, 1, [](emulation::WarpSlot& s) {
    const auto element = [&](int matrix, int line, int column) {
      uint16 value;
      std::memcpy(&value, reinterpret_cast<const unsigned char*>(static_cast<std::uintptr_t>(s.in[matrix * 8 + line][0])) + column * 2, 2);
      return value;
    };
    for (int lane = 0; lane < 32; ++lane) {
      const int pair = lane % 4 * 2;
      for (int matrix = 0; matrix < 4; ++matrix) {
        const uint32 low = kTransposed ? element(matrix, pair, lane / 4) : element(matrix, lane / 4, pair);
        const uint32 high = kTransposed ? element(matrix, pair + 1, lane / 4) : element(matrix, lane / 4, pair + 1);
        s.out[lane][matrix] = low | high << 16;
      }
    }
  });
  for (int i = 0; i < 4; ++i) out[i] = static_cast<uint32>(slot.out[emulation::lane()][i]);
}
inline void load_matrices(uint32 (&out)[4], uint32 row) { load_matrices_of<false>(out, row); }
inline void load_matrices_transposed(uint32 (&out)[4], uint32 row) { load_matrices_of<true>(out, row); }

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
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}
inline float reciprocal_approximate(float x) { return 1.0f / x; }
inline void prefetch_l2(const void* pointer) { (void)*static_cast<const volatile unsigned char*>(pointer); }

/// d += a * b of m16n8k16, whatever the element type: products are exact in double, the sum is rounded once.
template <class Element>
inline void multiply_warp(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
  std::uint64_t operands[8] = {a[0], a[1], a[2], a[3], b0, b1, 0, 0};
  for (int i = 0; i < 4; ++i) operands[6 + i / 2] |= std::uint64_t{scalar::bit_cast<uint32>(d[i])} << (i % 2 * 32);
  const auto& slot = emulation::together(operands, 8, [](emulation::WarpSlot& s) {
    const auto half = [&](std::uint64_t word, int which) { return Element::to_float(static_cast<uint16>(word >> (which * 16))); };
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) {
        // Lane 4 * (row % 8) + column / 2 holds this element of d in register 2 * (row / 8) + column % 2.
        const int owner = row % 8 * 4 + column / 2;
        const int reg = row / 8 * 2 + column % 2;
        double sum = scalar::bit_cast<float>(static_cast<uint32>(s.in[owner][6 + reg / 2] >> (reg % 2 * 32)));
        for (int k = 0; k < 16; ++k) {
          const int a_lane = row % 8 * 4 + k % 8 / 2;
          const int a_reg = row / 8 + k / 8 * 2;
          const int b_lane = column * 4 + k % 8 / 2;
          sum += static_cast<double>(half(s.in[a_lane][a_reg], k % 2)) * half(s.in[b_lane][4 + k / 8], k % 2);
        }
        s.out[owner][reg] = scalar::bit_cast<uint32>(static_cast<float>(sum));
      }
    }
  });
  for (int i = 0; i < 4; ++i) d[i] = scalar::bit_cast<float>(static_cast<uint32>(slot.out[emulation::lane()][i]));
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
struct F16 {
  static void round(uint32 (&)[4]) {}
  static constexpr uint32 kLowestPair = 0xfc00fc00u;
  static uint16 from_float(float x) { return scalar::to_half(x).bits; }
  static float to_float(uint16 x) { return scalar::to_float(scalar::Half{x}); }
  static uint32 pack(float low, float high) { return from_float(low) | static_cast<uint32>(from_float(high)) << 16; }
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
  static uint32 multiply_add_relu_pairs(uint32 a, uint32 b, uint32 c) { return pairs_multiply_add_relu<F16>(a, b, c); }
  static void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) { multiply_warp<F16>(d, a, b0, b1); }
};
struct BF16 {
  static void round(uint32 (&)[4]) {}
  static constexpr uint32 kLowestPair = 0xff80ff80u;
  static uint16 from_float(float x) { return scalar::to_bfloat16(x).bits; }
  static float to_float(uint16 x) { return scalar::to_float(scalar::BFloat16{x}); }
  static uint32 pack(float low, float high) { return from_float(low) | static_cast<uint32>(from_float(high)) << 16; }
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
  static void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) { multiply_warp<BF16>(d, a, b0, b1); }
};

struct TF32 {
  /// To 11 bits, halves away from zero.
  static void round(uint32 (&a)[4]) {
    for (uint32& bits : a) bits = (bits + 0x1000u) & 0xffffe000u;
  }
  static uint32 multiply_pairs(uint32 a, uint32 b) { return scalar::bit_cast<uint32>(scalar::bit_cast<float>(a) * scalar::bit_cast<float>(b)); }
  static uint32 multiply_add_relu_pairs(uint32 a, uint32 b, uint32 c) {
    return scalar::bit_cast<uint32>(std::max(scalar::bit_cast<float>(a) * scalar::bit_cast<float>(b) + scalar::bit_cast<float>(c), 0.0f));
  }
  static void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
    std::uint64_t operands[8] = {a[0], a[1], a[2], a[3], b0, b1, 0, 0};
    for (int i = 0; i < 4; ++i) operands[6 + i / 2] |= std::uint64_t{scalar::bit_cast<uint32>(d[i])} << (i % 2 * 32);
    const auto& slot = emulation::together(operands, 8, [](emulation::WarpSlot& s) {
      // The lowest 13 bits of an operand are not looked at.
      const auto number = [](std::uint64_t word) { return static_cast<double>(scalar::bit_cast<float>(static_cast<uint32>(word) & 0xffffe000u)); };
      for (int row = 0; row < 16; ++row) {
        for (int column = 0; column < 8; ++column) {
          const int owner = row % 8 * 4 + column / 2;
          const int reg = row / 8 * 2 + column % 2;
          double sum = scalar::bit_cast<float>(static_cast<uint32>(s.in[owner][6 + reg / 2] >> (reg % 2 * 32)));
          for (int k = 0; k < 8; ++k) sum += number(s.in[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2]) * number(s.in[column * 4 + k % 4][4 + k / 4]);
          s.out[owner][reg] = scalar::bit_cast<uint32>(static_cast<float>(sum));
        }
      }
    });
    for (int i = 0; i < 4; ++i) d[i] = scalar::bit_cast<float>(static_cast<uint32>(slot.out[emulation::lane()][i]));
  }
};

inline void wait_for_previous_grid() {
  emulation::self().waited = true;
  emulation::poison(false);
}
inline void allow_next_grid() {}
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
inline void cluster_arrive() { ++emulation::machine.cluster_arrived; }
inline void cluster_wait() {
  // One barrier a kernel: all threads of all blocks have arrived.
  const std::size_t expected = emulation::machine.blocks.size() * emulation::self().block->threads.size();
  while (emulation::machine.cluster_arrived < expected) emulation::yield();
}
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
    const auto* source = static_cast<const unsigned char*>(from);
    const uint32 block = cluster_address(0, rank);
    emulation::machine.on_the_way.push_back({to | block, barrier | block, std::vector<unsigned char>(source, source + bytes)});
  }
}
inline void copy_bulk(uint32 to, const void* from, uint32 bytes, uint32 barrier) {
  copy_bulk_to(1u << cluster_rank(), to, from, bytes, barrier);
}
inline void receive_wait(uint32 barrier, uint32 parity = 0) {
  for (;;) {
    emulation::Transactions state;
    std::memcpy(&state, emulation::at(barrier, 8, 8), 8);
    if (state.phases % 2 != parity) break;
    emulation::deliver(barrier);
    emulation::yield();
  }
}

}  // namespace edgert::device
