// SPDX-License-Identifier: Apache-2.0
// The machine that emulated kernels run on: threads, blocks, clusters and what moves data among them. machine.cpp is
// compiled once and linked to every kernel, whose own source only needs these declarations.
//
// One fibre is one thread of the grid. All blocks of a cluster run together, one cluster after the other; fibres switch
// at barriers and at instructions that work on a whole warp, in an order that a seed decides. Shared memory is one heap
// allocation a block, of exactly the launch's size. Asynchronous copies happen as late as the program allows: when their
// group is waited for. Memory that belongs to the previous kernel is poisoned for a thread until it has waited for it.
// What hardware leaves undefined ends the program with a message.
#pragma once

#include <cstddef>
#include <cstdint>

struct Index3 {
  unsigned x, y, z;
};

namespace emulation {

[[noreturn]] void fail(const char* what);

/// A range of memory that threads may touch only after previous_grid_ended().
struct Region {
  void* data;
  std::size_t bytes;
};

struct Block {
  Index3 index = {};
  unsigned rank = 0;  ///< in its cluster
  unsigned char* shared = nullptr;
  unsigned shared_bytes = 0;
};
struct Thread {
  Index3 index = {};
  Block* block = nullptr;
};
struct Machine {
  Index3 grid = {}, block = {};
  unsigned cluster = 1;
  Thread* current = nullptr;
};
extern Machine machine;

/// Runs a grid: `call(parameters)` once a thread.
void launch(const unsigned* grid, const unsigned* block, unsigned cluster, unsigned shared_bytes, void (*call)(void**), void** parameters,
            const Region* regions, std::size_t count, unsigned seed);

inline Thread& self() { return *machine.current; }
inline unsigned flat(const Index3& i) { return (i.z * machine.block.y + i.y) * machine.block.x + i.x; }
inline unsigned lane() { return flat(self().index) % 32; }

/// Lets other threads run; returns when this thread's turn comes again.
void yield();
void previous_grid_ended();

/// Waits until all threads of the block are here; whether `value` was not 0 for any. Threads that ended count, as on
/// hardware since sm_70.
int barrier(int value);

/// Operands of an instruction that a whole warp executes, lane by lane.
struct WarpSlot {
  int arrived = 0;
  unsigned generation = 0;
  std::uint64_t in[32][8];
  std::uint64_t out[32][4];
};
/// Brings a warp together: every lane stores `count` operands, the last to come runs `compute` for all. Returns this
/// lane's results.
const std::uint64_t* together(const std::uint64_t* operands, int count, void (*compute)(WarpSlot&));

/// Shared addresses count from 16, so that 0 is none; bits 24 and up say whose memory a cluster address means.
constexpr unsigned kSharedBase = 16;
unsigned char* at(unsigned address, unsigned bytes, unsigned alignment);

/// To `to`, once this thread waits for its group: `bytes` bytes, and zeros up to `filled`.
void copy_later(unsigned char* to, const void* from, unsigned bytes, unsigned filled);
void close_group();
void finish_groups(std::size_t but_newest);

void arrive_at_cluster();
void wait_for_cluster();

/// A transaction barrier in shared memory.
struct Transactions {
  std::int32_t pending;  ///< bytes
  std::uint32_t phases;  ///< how often all of them have come
};
/// Counts bytes at a transaction barrier.
void count_arrived(unsigned barrier, unsigned bytes);
/// A copy that is there once a thread waits for `barrier`, and no earlier; both are addresses in the cluster.
void send_later(unsigned to, const void* from, unsigned bytes, unsigned barrier);
void wait_for_phase(unsigned barrier, unsigned parity);

// d += a * b of a warp, m16n8k16 or, for TF32, m16n8k8: products are exact in double, the sum is rounded once.
void multiply_f16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
void multiply_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
void multiply_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
/// This thread's part of sum += a * transposed b for 64 rows of a and `columns` of b, 16 elements of each, which lie at these
/// addresses as kernels/common/warpgroup.h says. Done once finish_products() has left at most `but_newest` batches.
void multiply_group(float* sum, int columns, unsigned a, unsigned b, float (*to_float)(std::uint16_t));
void close_products();
void finish_products(std::size_t but_newest);
/// Four 8x8 matrices of 16-bit elements whose rows the lanes address.
void load_matrices(unsigned (&out)[4], unsigned row, bool transposed);

}  // namespace emulation
