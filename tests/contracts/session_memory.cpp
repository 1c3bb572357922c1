// SPDX-License-Identifier: Apache-2.0
// A session's memory: nothing is allocated after prepare, nothing beside it is touched, and it is exactly as large as
// said.
#include <atomic>
#include <thread>

#include "edgert/thread_pool.h"
#include "support/allocation_counter.h"
#include "contracts/digits_plans.h"

using namespace edgert;
using namespace edgert::test;

namespace {

void count_line(void* user, LogLevel, const char*) { ++*static_cast<int*>(user); }

/// Prepare, runs and failures; returns how many of the calls did not answer as they should.
int use(const LoadedPlan& plan, TestSession& session, const Block& memory, const SessionOptions& options) {
  int wrong = 0;
  const auto expect = [&wrong](Status status, Error error) { wrong += status.error() != error; };
  expect(PlanView::load({plan.bytes.data(), plan.bytes.size()}).status(), Error::Ok);
  expect(PlanView::load({plan.bytes.data(), plan.bytes.size() - 1}, {options.log, {}}).status(), Error::PlanTruncated);
  expect(session.prepare(plan.view, {memory.data(), 64}, options), Error::ArenaTooSmall);
  expect(session.run(), Error::NotPrepared);
  expect(session.prepare(plan.view, memory.span(), options), Error::Ok);
  for (int i = 0; i < EDGERT_TEST_RUNS; ++i) expect(session.run(), Error::Ok);
  expect(session.set_profile(99), Error::InvalidArgument);
  expect(session.bind_input(99, nullptr, 0), Error::InvalidArgument);
  expect(session.bind_input(0, memory.data(), 1), Error::ArenaTooSmall);
  expect(session.find_input("no such input").status(), Error::NameNotFound);
  expect(session.output(99u).status(), Error::InvalidArgument);
  expect(session.set_profile(0), Error::Ok);
  session.reset();
  expect(session.run(), Error::Ok);
  return wrong;
}

/// Threads take from the heap while they start. A part that waits for all others makes every thread take one.
void wait_until_started(StaticThreadPool<>& pool) {
  struct Meeting {
    std::atomic<std::uint32_t> missing;
  } meeting{{pool.threads()}};
  const auto meet = [](void* context, std::uint32_t, std::uint32_t) {
    auto& here = *static_cast<Meeting*>(context);
    --here.missing;
    while (here.missing != 0) std::this_thread::yield();
  };
  pool.hook().run(&pool, pool.threads(), meet, &meeting);
}

}  // namespace

TEST_CASE("the counter counts") {
  start_counting_allocations();
  void* volatile taken = std::malloc(16);
  std::free(taken);
  delete new volatile int(1);
  CHECK(stop_counting_allocations() == 2);
}

TEST_CASE("nothing is allocated by loading, preparing, running or failing") {
  for (const std::string& name : digits_plans()) {
    for (const std::uint32_t threads : {1u, 2u}) {
      CAPTURE(name);
      CAPTURE(threads);
      const LoadedPlan plan = digits_plan(name);
      StaticThreadPool<> pool(threads);
      wait_until_started(pool);
      int lines = 0;
      SessionOptions options;
      options.log = {&count_line, &lines};
      if (threads > 1) options.pool = pool.hook();
      const Block memory(needed_bytes(plan.view, options));
      TestSession session;
      start_counting_allocations();
      const int wrong = use(plan, session, memory, options);
      const std::uint64_t allocations = stop_counting_allocations();
      CHECK(wrong == 0);
      CHECK(allocations == 0);
      CHECK(lines >= 2);  // failures name the thing
    }
  }
}

TEST_CASE("memory of any size below the needed one is refused, and told the needed one") {
#if defined(__SANITIZE_ADDRESS__) || defined(__aarch64__)
  constexpr std::uint64_t kStep = 211;
#else
  constexpr std::uint64_t kStep = 7;
#endif
  for (const std::string& name : digits_plans()) {
    CAPTURE(name);
    const LoadedPlan plan = digits_plan(name);
    const std::uint64_t needed = needed_bytes(plan.view);
    const Block memory(needed);
    TestSession session;
    std::uint64_t wrong = 0;
    const auto squeeze = [&](std::uint64_t size) {
      const Status status = session.prepare(plan.view, {memory.data(), size});
      wrong += status.error() != Error::ArenaTooSmall || status.value() != needed || session.run().error() != Error::NotPrepared;
    };
    for (std::uint64_t size = 0; size < needed; size += size < 256 || size + 256 > needed ? 1 : kStep) squeeze(size);
    squeeze(needed - 1);
    CHECK(wrong == 0);
    // A refused block was not written to.
    std::uint64_t touched = 0;
    for (std::size_t i = 0; i < memory.size(); ++i) touched += memory.data()[i] != std::byte{0x5a};
    CHECK(touched == 0);
    REQUIRE(session.prepare(plan.view, memory.span()).ok());
    CHECK(scores(session, 1).size() == 10);
  }
}

TEST_CASE("memory off its alignment is refused") {
  const LoadedPlan plan = digits_plan("digits_resnet");
  const std::uint64_t needed = needed_bytes(plan.view);
  const Block memory(needed + 64);
  TestSession session;
  for (std::size_t offset = 1; offset < 64; ++offset) {
    const Status status = session.prepare(plan.view, {memory.data() + offset, needed});
    CHECK(status.error() == Error::ArenaMisaligned);
    CHECK(status.value() == 64);
  }
}

TEST_CASE("a session stays inside its memory, wherever that lies") {
  constexpr std::size_t kRoom = 64 * 64;
  for (const std::string& name : digits_plans()) {
    CAPTURE(name);
    const LoadedPlan plan = digits_plan(name);
    const std::vector<float> expected = scores(OwnSession(plan.view).session, 3);
    const std::uint64_t needed = needed_bytes(plan.view);
    const Block field(needed + kRoom, 0xa5);
    std::uint32_t random = 1;
    for (int round = 0; round < 16; ++round) {
      random = random * 1664525u + 1013904223u;
      const std::size_t offset = (random >> 20) % (kRoom / 64 + 1) * 64;
      std::memset(field.data(), 0xa5, field.size());
      TestSession session;
      REQUIRE(session.prepare(plan.view, {field.data() + offset, needed}).ok());
      CHECK(same_bits(scores(session, 3), expected));
      std::size_t touched = 0;
      for (std::size_t i = 0; i < field.size(); ++i) {
        if (i < offset || i >= offset + needed) touched += field.data()[i] != std::byte{0xa5};
      }
      CHECK(touched == 0);
    }
  }
}

TEST_CASE("memory grows by one scratch a thread") {
  const LoadedPlan plan = digits_plan("digits_mobilenet");
  const Result<SessionNeeds> needs = TestSession::needs(plan.view);
  REQUIRE(needs.ok());
  for (const std::uint32_t threads : {1u, 2u, 3u, 8u}) {
    SessionOptions options;
    options.pool.threads = threads;
    options.pool.run = [](void*, std::uint32_t, void (*)(void*, std::uint32_t, std::uint32_t), void*) {};
    CHECK(needed_bytes(plan.view, options) == session_bytes(*needs, threads));
    CHECK(session_bytes(*needs, threads) - session_bytes(*needs, 1) == (threads - 1) * needs->scratch_bytes);
  }
}
