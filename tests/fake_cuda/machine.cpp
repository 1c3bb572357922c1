// SPDX-License-Identifier: Apache-2.0
#include "machine.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#include <csetjmp>
#endif
#include <ucontext.h>

namespace emulation {

Machine machine;

namespace {

constexpr std::size_t kStackBytes = 256 * 1024;

struct Copy {
  unsigned char* to;
  const unsigned char* from;
  unsigned bytes, filled;
};

struct BulkCopy {
  unsigned to, barrier;
  std::vector<unsigned char> bytes;
};

/// What a product that runs on its own has read, and where.
struct Product {
  float* sum;
  std::vector<std::pair<const unsigned char*, std::vector<unsigned char>>> operands;
};

/// Sums that products work on: the program sees NaN until they are done.
struct Sums {
  float* to;
  std::vector<float> value;
};

/// A place on the host where a fibre, or the scheduler, goes on. Switching with setjmp asks nothing of the kernel;
/// AddressSanitizer follows switches of contexts only.
struct Place {
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
#else
  std::jmp_buf jump;
  bool started = false;
#endif
  ucontext_t context;
};

/// A fibre runs one thread after the other.
struct Fibre : Thread {
  Place place;
  std::unique_ptr<unsigned char[]> stack{new unsigned char[kStackBytes]};
  bool done = false;
  bool waited = false;  // for the previous grid
  // Not resumed while *watched == value.
  const unsigned* watched = nullptr;
  unsigned value = 0;
  std::deque<std::vector<Copy>> groups;
  std::vector<Copy> open;
  std::deque<std::vector<Product>> products;
  std::vector<Product> open_products;
  std::vector<Sums> sums;
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

struct RunningBlock : Block {
  std::vector<WarpSlot> warps;
  std::unique_ptr<void, Free> allocation;
  unsigned threads = 0, ended = 0;
  unsigned arrived = 0, generation = 0;
  int any = 0, any_result = 0;
};

struct Scheduler {
  Place place;
  const void* stack_bottom = nullptr;
  std::size_t stack_bytes = 0;
  std::vector<std::unique_ptr<Fibre>> fibres;  // kept: stacks cost more than what runs on them
  std::vector<std::unique_ptr<RunningBlock>> blocks;
  std::vector<BulkCopy> on_the_way;
  unsigned cluster_arrived = 0;
  std::vector<Region> regions;
  bool poisoned = false;
  void (*call)(void**) = nullptr;
  void** parameters = nullptr;
};
Scheduler scheduler;

Fibre& fibre() { return static_cast<Fibre&>(self()); }
RunningBlock& block_of(const Thread& thread) { return static_cast<RunningBlock&>(*thread.block); }

void poison(bool on) {
#if defined(__SANITIZE_ADDRESS__)
  if (on == scheduler.poisoned) return;
  scheduler.poisoned = on;
  for (const Region& region : scheduler.regions) {
    if (on) __asan_poison_memory_region(region.data, region.bytes);
    else __asan_unpoison_memory_region(region.data, region.bytes);
  }
#else
  (void)on;
#endif
}

#if defined(__SANITIZE_ADDRESS__)
void to_scheduler(Fibre& from) {
  __sanitizer_start_switch_fiber(&from.place.fake_stack, scheduler.stack_bottom, scheduler.stack_bytes);
  swapcontext(&from.place.context, &scheduler.place.context);
  __sanitizer_finish_switch_fiber(from.place.fake_stack, &scheduler.stack_bottom, &scheduler.stack_bytes);
}
void to_fibre(Fibre& to) {
  __sanitizer_start_switch_fiber(&scheduler.place.fake_stack, to.stack.get(), kStackBytes);
  swapcontext(&scheduler.place.context, &to.place.context);
  __sanitizer_finish_switch_fiber(scheduler.place.fake_stack, nullptr, nullptr);
}
#else
void to_scheduler(Fibre& from) {
  if (_setjmp(from.place.jump) == 0) _longjmp(scheduler.place.jump, 1);
}
void to_fibre(Fibre& to) {
  if (_setjmp(scheduler.place.jump) != 0) return;
  if (to.place.started) _longjmp(to.place.jump, 1);
  to.place.started = true;
  setcontext(&to.place.context);
}
#endif

void fibre_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.stack_bottom, &scheduler.stack_bytes);
#endif
  for (;;) {
    scheduler.call(scheduler.parameters);
    Fibre& self = fibre();
    if (!self.waited) fail("a thread ended without waiting for the previous grid");
    if (!self.open.empty()) fail("a thread ended with copies in no group");
    if (!self.open_products.empty() || !self.products.empty()) fail("a thread ended before its products");
    self.done = true;
    to_scheduler(self);
  }
}

/// The fibre with this number, at the beginning of a thread.
Fibre& fresh_fibre(std::size_t number) {
  if (number == scheduler.fibres.size()) {
    auto fibre = std::make_unique<Fibre>();
    getcontext(&fibre->place.context);
    fibre->place.context.uc_stack.ss_sp = fibre->stack.get();
    fibre->place.context.uc_stack.ss_size = kStackBytes;
    fibre->place.context.uc_link = nullptr;
    makecontext(&fibre->place.context, fibre_main, 0);
    scheduler.fibres.push_back(std::move(fibre));
  }
  Fibre& fibre = *scheduler.fibres[number];
  fibre.done = fibre.waited = false;
  fibre.watched = nullptr;
  fibre.groups.clear();
  return fibre;
}

void release_if_all_arrived(RunningBlock& block) {
  if (block.arrived == 0 || block.arrived + block.ended != block.threads) return;
  block.any_result = block.any;
  block.any = 0;
  block.arrived = 0;
  ++block.generation;
}

/// Waits, without turns of its own, until `word` is no longer `value`.
void wait_while(const unsigned& word, unsigned value) {
  Fibre& self = fibre();
  self.watched = &word;
  self.value = value;
  while (word == value) to_scheduler(self);
  self.watched = nullptr;
}

/// One turn; false when the thread waits for something that has not happened.
bool resume(Fibre& fibre) {
  if (fibre.watched != nullptr && *fibre.watched == fibre.value) return false;
  machine.current = &fibre;
  poison(!fibre.waited);
  to_fibre(fibre);
  if (fibre.done) {
    ++block_of(fibre).ended;
    release_if_all_arrived(block_of(fibre));
  }
  return true;
}

std::unique_ptr<RunningBlock> make_block(unsigned number, unsigned rank, unsigned shared_bytes) {
  auto block = std::make_unique<RunningBlock>();
  block->index = {number % machine.grid.x, number / machine.grid.x % machine.grid.y, number / (machine.grid.x * machine.grid.y)};
  block->rank = rank;
  block->threads = machine.block.x * machine.block.y * machine.block.z;
  if (block->threads % 32 != 0) fail("blocks are whole warps");
  block->warps.resize(block->threads / 32);
  // The launch's size exactly, so that AddressSanitizer sees what lies behind it.
  void* shared = nullptr;
  if (::posix_memalign(&shared, 128, shared_bytes) != 0) fail("no memory for a block");
  block->allocation.reset(shared);
  block->shared = static_cast<unsigned char*>(shared);
  block->shared_bytes = shared_bytes;
  if (shared_bytes != 0) std::memset(shared, 0xff, shared_bytes);  // as halves and as floats: NaN
  return block;
}

void run_cluster(unsigned first_block, unsigned shared_bytes, std::mt19937& random) {
  scheduler.blocks.clear();
  scheduler.on_the_way.clear();
  scheduler.cluster_arrived = 0;
  std::vector<Fibre*> all;
  for (unsigned rank = 0; rank < machine.cluster; ++rank) {
    scheduler.blocks.push_back(make_block(first_block + rank, rank, shared_bytes));
    RunningBlock& block = *scheduler.blocks.back();
    for (unsigned t = 0; t < block.threads; ++t) {
      Fibre& fibre = fresh_fibre(all.size());
      fibre.block = &block;
      fibre.index = {t % machine.block.x, t / machine.block.x % machine.block.y, t / (machine.block.x * machine.block.y)};
      all.push_back(&fibre);
    }
  }
  // Rounds in an order of their own. One in which nobody has a turn is a deadlock, and so are rounds without an end.
  for (unsigned rounds = 0; !all.empty(); ++rounds) {
    if (rounds % 16 == 0) std::shuffle(all.begin(), all.end(), random);
    bool any = false;
    for (Fibre* fibre : all) any |= resume(*fibre);
    if (!any || rounds > 2000000) fail("the threads wait for each other for ever");
    all.erase(std::remove_if(all.begin(), all.end(), [](const Fibre* fibre) { return fibre->done; }), all.end());
  }
  poison(false);
}

/// What a waiting thread finds at `barrier` from now on.
void deliver(unsigned barrier) {
  std::vector<BulkCopy> others;
  for (BulkCopy& copy : scheduler.on_the_way) {
    if (at(copy.barrier, 8, 8) != at(barrier, 8, 8)) {
      others.push_back(std::move(copy));
      continue;
    }
    const auto bytes = static_cast<unsigned>(copy.bytes.size());
    std::memcpy(at(copy.to, bytes, 16), copy.bytes.data(), bytes);
    count_arrived(barrier, bytes);
  }
  scheduler.on_the_way.swap(others);
}

}  // namespace

void fail(const char* what) {
  std::fprintf(stderr, "kernel emulation: %s\n", what);
  std::abort();
}

void launch(const unsigned* grid, const unsigned* block, unsigned cluster, unsigned shared_bytes, void (*call)(void**), void** parameters,
            const Region* regions, std::size_t count, unsigned seed) {
  machine.grid = {grid[0], grid[1], grid[2]};
  machine.block = {block[0], block[1], block[2]};
  machine.cluster = cluster;
  scheduler.call = call;
  scheduler.parameters = parameters;
  scheduler.regions.assign(regions, regions + count);
  std::mt19937 random(seed);
  for (unsigned first = 0; first < grid[0] * grid[1] * grid[2]; first += cluster) run_cluster(first, shared_bytes, random);
}

void yield() { to_scheduler(fibre()); }

void previous_grid_ended() {
  fibre().waited = true;
  poison(false);
}

int barrier(int value) {
  RunningBlock& block = block_of(self());
  const unsigned generation = block.generation;
  block.any |= value;
  ++block.arrived;
  release_if_all_arrived(block);
  wait_while(block.generation, generation);
  return block.any_result;
}

const std::uint64_t* together(const std::uint64_t* operands, int count, void (*compute)(WarpSlot&)) {
  const Thread& thread = self();
  const unsigned number = flat(thread.index);
  WarpSlot& slot = block_of(thread).warps[number / 32];
  for (int i = 0; i < count; ++i) slot.in[number % 32][i] = operands[i];
  const unsigned generation = slot.generation;
  if (++slot.arrived == 32) {
    compute(slot);
    slot.arrived = 0;
    ++slot.generation;
  }
  wait_while(slot.generation, generation);
  return slot.out[number % 32];
}

unsigned char* at(unsigned address, unsigned bytes, unsigned alignment) {
  const Block* block = self().block;
  if (address >> 24 != 0) block = scheduler.blocks[(address >> 24) - 1].get();
  const unsigned offset = (address & 0xffffffu) - kSharedBase;
  if (offset % alignment != 0) fail("misaligned shared address");
  if (offset > block->shared_bytes || block->shared_bytes - offset < bytes) fail("shared address outside the launch's memory");
  return block->shared + offset;
}

void copy_later(unsigned char* to, const void* from, unsigned bytes, unsigned filled) {
  fibre().open.push_back({to, static_cast<const unsigned char*>(from), bytes, filled});
}
void close_group() {
  Fibre& self = fibre();
  self.groups.push_back(std::move(self.open));
  self.open.clear();
}
void finish_groups(std::size_t but_newest) {
  std::deque<std::vector<Copy>>& groups = fibre().groups;
  while (groups.size() > but_newest) {
    for (const Copy& copy : groups.front()) {
      std::memcpy(copy.to, copy.from, copy.bytes);
      std::memset(copy.to + copy.bytes, 0, copy.filled - copy.bytes);
    }
    groups.pop_front();
  }
}

void multiply_group(float* sum, int columns, unsigned a, unsigned b, float (*to_float)(std::uint16_t)) {
  Fibre& self = fibre();
  const int thread = static_cast<int>(flat(self.index)), lane = thread % 32;
  Product product = {sum, {}};
  // 16 elements of a row, from two vectors whose numbers have the lowest bits of the row's taken from them.
  const auto row_of = [&](unsigned matrix, int row, double (&to)[16]) {
    if (matrix % 32 != 0 || matrix / 128 % 8 != 0) fail("no matrix of a product starts there");
    for (unsigned half = 0; half < 2; ++half) {
      const unsigned plain = matrix + static_cast<unsigned>(row) * 128 + half * 16;
      const unsigned char* from = at(plain ^ (plain >> 7 & 7) << 4, 16, 16);
      product.operands.push_back({from, {from, from + 16}});
      for (int i = 0; i < 8; ++i) {
        std::uint16_t bits;
        std::memcpy(&bits, from + 2 * i, 2);
        to[8 * half + static_cast<unsigned>(i)] = static_cast<double>(to_float(bits));
      }
    }
  };
  auto sums = std::find_if(self.sums.begin(), self.sums.end(), [&](const Sums& s) { return s.to == sum; });
  if (sums == self.sums.end()) {
    self.sums.push_back({sum, {sum, sum + columns / 2}});
    sums = self.sums.end() - 1;
    std::fill(sum, sum + columns / 2, __builtin_nanf(""));
  }
  double left[2][16], right[16];
  for (int half = 0; half < 2; ++half) row_of(a, thread / 32 % 4 * 16 + half * 8 + lane / 4, left[half]);
  for (int i = 0; i < columns / 4; ++i) {
    row_of(b, i / 2 * 8 + lane % 4 * 2 + i % 2, right);
    for (int half = 0; half < 2; ++half) {
      float& to = sums->value[static_cast<std::size_t>(i / 2 * 4 + half * 2 + i % 2)];
      double total = static_cast<double>(to);
      for (int k = 0; k < 16; ++k) total += left[half][k] * right[k];
      to = static_cast<float>(total);
    }
  }
  self.open_products.push_back(std::move(product));
}
void close_products() {
  Fibre& self = fibre();
  self.products.push_back(std::move(self.open_products));
  self.open_products.clear();
}
void finish_products(std::size_t but_newest) {
  Fibre& self = fibre();
  for (; self.products.size() > but_newest; self.products.pop_front()) {
    for (const Product& product : self.products.front()) {
      for (const auto& [from, bytes] : product.operands) {
        if (std::memcmp(from, bytes.data(), bytes.size()) != 0) fail("an operand changed while it was multiplied");
      }
    }
  }
  if (!self.products.empty()) return;
  for (const Sums& sums : self.sums) std::copy(sums.value.begin(), sums.value.end(), sums.to);
  self.sums.clear();
}

void arrive_at_cluster() { ++scheduler.cluster_arrived; }
void wait_for_cluster() {
  // One barrier a kernel: all threads of all blocks have arrived.
  const std::size_t expected = scheduler.blocks.size() * block_of(self()).threads;
  while (scheduler.cluster_arrived < expected) yield();
}

void count_arrived(unsigned barrier, unsigned bytes) {
  Transactions state;
  std::memcpy(&state, at(barrier, 8, 8), 8);
  state.pending -= static_cast<std::int32_t>(bytes);
  if (state.pending < 0) fail("more bytes arrived than expected");
  if (state.pending == 0) ++state.phases;
  std::memcpy(at(barrier, 8, 8), &state, 8);
}
void send_later(unsigned to, const void* from, unsigned bytes, unsigned barrier) {
  const auto* source = static_cast<const unsigned char*>(from);
  scheduler.on_the_way.push_back({to, barrier, std::vector<unsigned char>(source, source + bytes)});
}
void wait_for_phase(unsigned barrier, unsigned parity) {
  for (;;) {
    Transactions state;
    std::memcpy(&state, at(barrier, 8, 8), 8);
    if (state.phases % 2 != parity) break;
    deliver(barrier);
    yield();
  }
}

}  // namespace emulation
