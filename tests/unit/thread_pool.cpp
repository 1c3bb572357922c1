// SPDX-License-Identifier: Apache-2.0
// The ready thread pool: every part once, no thread number twice at once, also when workers come late or sleep.
#include "edgert/thread_pool.h"

#include <doctest/doctest.h>

#include <chrono>
#include <vector>

using edgert::StaticThreadPool;

namespace {

struct Job {
  explicit Job(std::uint32_t parts, std::uint32_t threads) : calls(parts), inside(threads) {}
  std::vector<std::atomic<int>> calls;   ///< of each part
  std::vector<std::atomic<int>> inside;  ///< calls running now, by thread number
  std::atomic<bool> shared{false};       ///< one thread number was in two calls at once

  static void run_part(void* context, std::uint32_t part, std::uint32_t thread) {
    Job& job = *static_cast<Job*>(context);
    if (job.inside.at(thread).fetch_add(1) != 0) job.shared = true;
    job.calls.at(part).fetch_add(1);
    job.inside.at(thread).fetch_sub(1);
  }
};

void check_run(StaticThreadPool<>& pool, std::uint32_t parts) {
  const edgert::ThreadPool hook = pool.hook();
  Job job(parts, hook.threads);
  hook.run(hook.user, parts, &Job::run_part, &job);
  bool once = true;
  for (const std::atomic<int>& calls : job.calls) once = once && calls == 1;
  REQUIRE(once);
  REQUIRE_FALSE(job.shared);
}

}  // namespace

TEST_CASE("every part runs once before run returns") {
  for (const std::uint32_t threads : {1u, 2u, 3u, 8u}) {
    StaticThreadPool<> pool(threads);
    CHECK(pool.hook().threads == threads);
    for (std::uint32_t round = 0; round < 2000; ++round) check_run(pool, round % 11);
  }
}

TEST_CASE("workers that went to sleep wake up or are not needed") {
  StaticThreadPool<> pool(3);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    check_run(pool, 6);
  }
}

TEST_CASE("a pool that never worked ends") {
  for (int i = 0; i < 50; ++i) StaticThreadPool<> pool(4);
}

TEST_CASE("as many threads as there is room for") {
  StaticThreadPool<2> pool(9);
  CHECK(pool.threads() == 2);
  StaticThreadPool<> none(0);
  CHECK(none.threads() == 1);
}
