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
/// threads (in the constructor) is the only time that it takes anything from the system. One caller at a time.
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
    const std::uint64_t generation = (pool.work_.load(std::memory_order_relaxed) >> 32) + 1;
    {
      const std::lock_guard<std::mutex> lock(pool.mutex_);
      pool.work_.store(generation << 32 | parts, std::memory_order_release);
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

  bool has_work() const noexcept { return (work_.load(std::memory_order_acquire) & 0xffffffffu) != 0; }

  /// Takes parts from the last to the first. body_ and context_ stay as they are until a part that was taken is finished,
  /// so they are read only after taking one.
  void take_parts(std::uint32_t thread) {
    std::uint64_t work = work_.load(std::memory_order_acquire);
    while ((work & 0xffffffffu) != 0) {
      if (!work_.compare_exchange_weak(work, work - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      body_(context_, static_cast<std::uint32_t>(work & 0xffffffffu) - 1, thread);
      unfinished_.fetch_sub(1, std::memory_order_acq_rel);
      work = work_.load(std::memory_order_acquire);
    }
  }

  void work(std::uint32_t thread) {
    while (!stop_.load(std::memory_order_acquire)) {
      for (int spin = 0; spin < kSpins && !has_work() && !stop_.load(std::memory_order_relaxed); ++spin) pause();
      if (!has_work()) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [this] { return has_work() || stop_.load(std::memory_order_relaxed); });
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
  /// Generation in the upper half, parts that nobody has taken in the lower: one word, so that a worker that comes late
  /// cannot take a part of one generation for another's.
  std::atomic<std::uint64_t> work_{0};
  std::atomic<std::uint32_t> unfinished_{0};  ///< parts of this generation that have not returned
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  alignas(std::thread) unsigned char storage_[kMaxThreads * sizeof(std::thread)];
};

}  // namespace edgert
