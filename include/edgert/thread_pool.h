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
      stop_ = true;
      generation_.fetch_add(1, std::memory_order_release);
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
    pool.body_ = body;
    pool.context_ = context;
    pool.parts_ = parts;
    pool.next_.store(0, std::memory_order_relaxed);
    pool.busy_.store(pool.threads_ - 1, std::memory_order_relaxed);
    {
      const std::lock_guard<std::mutex> lock(pool.mutex_);
      pool.generation_.fetch_add(1, std::memory_order_release);
    }
    pool.wake_.notify_all();
    pool.take_parts(0);
    while (pool.busy_.load(std::memory_order_acquire) != 0) pause();
  }

  void take_parts(std::uint32_t thread) {
    for (;;) {
      const std::uint32_t part = next_.fetch_add(1, std::memory_order_relaxed);
      if (part >= parts_) return;
      body_(context_, part, thread);
    }
  }

  void work(std::uint32_t thread) {
    std::uint32_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && generation_.load(std::memory_order_acquire) == seen; ++spin) pause();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stop_) return;
      take_parts(thread);
      busy_.fetch_sub(1, std::memory_order_release);
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
  std::uint32_t parts_ = 0;
  std::atomic<std::uint32_t> next_{0};
  std::atomic<std::uint32_t> busy_{0};
  std::atomic<std::uint32_t> generation_{0};
  bool stop_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  alignas(std::thread) unsigned char storage_[kMaxThreads * sizeof(std::thread)];
};

}  // namespace edgert
