// SPDX-License-Identifier: Apache-2.0
// A ready thread pool for SessionOptions::pool. The rest of the runtime does not include it: a program that has threads
// of its own gives those instead.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <thread>

#include "edgert/session.h"

namespace edgert {

/// `threads` workers in all, the calling thread among them; the others wait between calls, spinning first. Starting the
/// threads (in the constructor) is the only time that it takes anything from the system. One caller at a time, of at most
/// 65,535 parts.
template <std::uint32_t kMaxThreads = 64>
class StaticThreadPool {
 public:
  explicit StaticThreadPool(std::uint32_t threads) noexcept : threads_(threads < 1 ? 1 : threads > kMaxThreads ? kMaxThreads : threads) {
    for (std::uint32_t i = 1; i < threads_; ++i) new (worker(i)) std::thread([this, i] { work(i); });
  }
  ~StaticThreadPool() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_.store(true, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::uint32_t i = 1; i < threads_; ++i) {
      worker(i)->join();
      worker(i)->~thread();
    }
  }
  StaticThreadPool(const StaticThreadPool&) = delete;
  StaticThreadPool& operator=(const StaticThreadPool&) = delete;

  std::uint32_t threads() const noexcept { return threads_; }
  /// What a session takes; the pool must outlive it.
  ThreadPool hook() noexcept { return {&StaticThreadPool::run, this, threads_}; }

 private:
  using Body = void (*)(void* context, std::uint32_t part, std::uint32_t thread);
  /// A worker looks for new work this often before it sleeps: some 20 microseconds, more than a session needs between
  /// two steps and less than a camera needs between two frames.
  static constexpr int kSpins = 4000;

  std::thread* worker(std::uint32_t i) noexcept { return reinterpret_cast<std::thread*>(storage_) + i; }

  static void run(void* user, std::uint32_t parts, Body body, void* context) {
    auto& pool = *static_cast<StaticThreadPool*>(user);
    if (parts == 0) return;
    pool.body_ = body;
    pool.context_ = context;
    pool.unfinished_.store(parts, std::memory_order_relaxed);
    {
      const std::lock_guard<std::mutex> lock(pool.mutex_);
      const std::uint64_t generation = (pool.ranges_[0].word.load(std::memory_order_relaxed) >> 32) + 1;
      std::uint32_t first = 0;
      for (std::uint32_t i = 0; i < pool.threads_; ++i) {
        const std::uint32_t last = static_cast<std::uint32_t>(std::uint64_t{parts} * (i + 1) / pool.threads_);
        pool.ranges_[i].word.store(generation << 32 | std::uint64_t{last} << 16 | first, std::memory_order_release);
        first = last;
      }
    }
    pool.wake_.notify_all();
    pool.take_parts(0);
    // Parts are waited for, not workers: one that the system does not run just now has taken none and delays nobody.
    for (int spin = 1; pool.unfinished_.load(std::memory_order_acquire) != 0; ++spin) {
      if (spin % kSpins == 0) {
        std::this_thread::yield();
      } else {
        pause();
      }
    }
  }

  /// Parts [first, last) that nobody has taken, with the call's number above: one word, so that a worker that comes late
  /// cannot take a part of one call for another's. A cache line each.
  struct alignas(64) Range {
    std::atomic<std::uint64_t> word{0};
  };
  static std::uint32_t first_of(std::uint64_t word) noexcept { return static_cast<std::uint32_t>(word & 0xffffu); }
  static std::uint32_t last_of(std::uint64_t word) noexcept { return static_cast<std::uint32_t>(word >> 16 & 0xffffu); }

  bool has_work(std::uint32_t thread) const noexcept {
    const std::uint64_t word = ranges_[thread].word.load(std::memory_order_acquire);
    return first_of(word) != last_of(word);
  }

  /// A thread takes its own range from the front: in every step the same piece of the tensors, which lies in its cache.
  /// Then it helps the others, from the back. body_ and context_ stay as they are until a part that was taken is
  /// finished, so they are read only after taking one.
  void take_parts(std::uint32_t thread) {
    for (std::uint32_t i = 0; i < threads_; ++i) {
      const std::uint32_t owner = thread + i < threads_ ? thread + i : thread + i - threads_;
      std::atomic<std::uint64_t>& range = ranges_[owner].word;
      std::uint64_t word = range.load(std::memory_order_acquire);
      while (first_of(word) != last_of(word)) {
        const std::uint64_t taken = i == 0 ? word + 1 : word - (std::uint64_t{1} << 16);
        if (!range.compare_exchange_weak(word, taken, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
        body_(context_, i == 0 ? first_of(word) : last_of(word) - 1, thread);
        unfinished_.fetch_sub(1, std::memory_order_acq_rel);
        word = range.load(std::memory_order_acquire);
      }
    }
  }

  void work(std::uint32_t thread) {
    while (!stop_.load(std::memory_order_acquire)) {
      for (int spin = 0; spin < kSpins && !has_work(thread) && !stop_.load(std::memory_order_relaxed); ++spin) pause();
      if (!has_work(thread)) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [this, thread] { return has_work(thread) || stop_.load(std::memory_order_relaxed); });
      }
      take_parts(thread);
    }
  }

  static void pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
  }

  const std::uint32_t threads_;
  Body body_ = nullptr;
  void* context_ = nullptr;
  Range ranges_[kMaxThreads];
  std::atomic<std::uint32_t> unfinished_{0};  ///< parts of this generation that have not returned
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  alignas(std::thread) unsigned char storage_[kMaxThreads * sizeof(std::thread)];
};

}  // namespace edgert
