// SPDX-License-Identifier: Apache-2.0
// A session's results: the same bits again and again, with any number of threads, beside other sessions, and nearly the
// same numbers on every instruction set.
#include <thread>

#include "edgert/thread_pool.h"
#include "contracts/digits_plans.h"

using namespace edgert;
using namespace edgert::test;

TEST_CASE("different pictures have different scores") {
  for (const std::string& name : digits_plans()) {
    const LoadedPlan plan = digits_plan(name);
    OwnSession own(plan.view);
    CHECK(largest_difference(scores(own.session, 1), scores(own.session, 2)) > 0.1f);
  }
}

TEST_CASE("repeats give the same bits, whatever the memory held before") {
  for (const std::string& name : digits_plans()) {
    CAPTURE(name);
    const LoadedPlan plan = digits_plan(name);
    OwnSession own(plan.view, {}, 0xff);
    const std::vector<float> first = scores(own.session, 1);
    int different = 0;
    for (int i = 0; i < 100; ++i) different += !same_bits(scores(own.session, 1), first);
    CHECK(different == 0);
    OwnSession zeros(plan.view, {}, 0);
    CHECK(same_bits(scores(zeros.session, 1), first));
    // Another picture between leaves no trace.
    (void)scores(own.session, 2);
    CHECK(same_bits(scores(own.session, 1), first));
  }
}

TEST_CASE("the number of threads does not change a bit") {
  for (const std::string& name : digits_plans()) {
    CAPTURE(name);
    const LoadedPlan plan = digits_plan(name);
    const std::vector<float> expected = scores(OwnSession(plan.view).session, 4);
    for (const std::uint32_t threads : {2u, 3u, 4u}) {
      StaticThreadPool<> pool(threads);
      SessionOptions options;
      options.pool = pool.hook();
      OwnSession own(plan.view, options);
      for (int i = 0; i < 20; ++i) CHECK(same_bits(scores(own.session, 4), expected));
    }
  }
}

TEST_CASE("every instruction set gives nearly the same scores") {
  for (const std::string& name : digits_plans()) {
    CAPTURE(name);
    const LoadedPlan plan = digits_plan(name);
    OwnSession best(plan.view);
    const std::vector<float> expected = scores(best.session, 5);
    for (const cpu::Isa isa : {cpu::Isa::Baseline, cpu::Isa::Avx2, cpu::Isa::Avx512}) {
      OwnSession own(plan.view);
      own.session.limit_isa(isa);
      CHECK(own.session.isa() <= isa);
      CHECK(own.session.isa() <= best.session.isa());
      CHECK(largest_difference(scores(own.session, 5), expected) < 1e-3f);
    }
  }
}

TEST_CASE("sessions share a plan, in turn and at once") {
  const LoadedPlan plan = digits_plan("digits_mobilenet");
  OwnSession one(plan.view);
  OwnSession two(plan.view);
  const std::vector<float> first = scores(one.session, 1);
  const std::vector<float> second = scores(two.session, 2);
  CHECK_FALSE(same_bits(first, second));
  CHECK(same_bits(scores(two.session, 1), first));
  CHECK(same_bits(scores(one.session, 2), second));

  int different[2] = {0, 0};
  const auto work = [&different](TestSession& session, std::uint32_t seed, const std::vector<float>& expected, int who) {
    write_picture(*session.input(0u), seed);
    for (int i = 0; i < 200; ++i) {
      const bool ran = session.run().ok();
      different[who] += !ran || std::memcmp(session.output(0u)->data, expected.data(), expected.size() * sizeof(float)) != 0;
    }
  };
  std::thread other([&] { work(one.session, 1, first, 0); });
  work(two.session, 2, second, 1);
  other.join();
  CHECK(different[0] == 0);
  CHECK(different[1] == 0);
}

TEST_CASE("a session may be prepared again, for another plan too") {
  const LoadedPlan resnet = digits_plan("digits_resnet");
  const LoadedPlan vit = digits_plan("digits_vit");
  const std::vector<float> expected = scores(OwnSession(resnet.view).session, 1);
  const std::uint64_t room = needed_bytes(resnet.view) + needed_bytes(vit.view);
  const Block memory(room);
  TestSession session;
  REQUIRE(session.prepare(resnet.view, memory.span()).ok());
  CHECK(same_bits(scores(session, 1), expected));
  REQUIRE(session.prepare(vit.view, memory.span()).ok());
  CHECK_FALSE(same_bits(scores(session, 1), expected));
  CHECK(session.prepare(resnet.view, {memory.data(), 64}).error() == Error::ArenaTooSmall);
  CHECK(session.run().error() == Error::NotPrepared);
  CHECK(session.input(0u).status().error() == Error::NotPrepared);
  REQUIRE(session.prepare(resnet.view, memory.span()).ok());
  CHECK(same_bits(scores(session, 1), expected));
}

TEST_CASE("profiles share a session's memory") {
  const LoadedPlan plan = digits_plan("digits_profiles");
  REQUIRE(plan.view.profile_count() == 2);
  OwnSession own(plan.view);
  TestSession& session = own.session;
  CHECK(session.profile() == 0);
  const std::vector<float> alone = scores(session, 1);
  REQUIRE(alone.size() == 10);

  REQUIRE(session.set_profile(1).ok());
  const TensorView batch = *session.input(0u);
  REQUIRE(batch.dims[0] == 4);
  const std::vector<float> pixels = picture(batch.elements() / 4, 1);
  for (int i = 0; i < 4; ++i) std::memcpy(batch.as<float>() + i * 64, pixels.data(), 64 * sizeof(float));
  REQUIRE(session.run().ok());
  const TensorView output = *session.output(0u);
  REQUIRE(output.elements() == 40);
  for (int i = 0; i < 4; ++i) {
    const float* row = output.as<float>() + i * 10;
    CHECK(largest_difference({row, row + 10}, alone) < 1e-4f);
  }

  CHECK(session.find_profile({&batch, 1}).value() == 1);
  TensorView other = batch;
  other.dims[0] = 3;
  CHECK(session.find_profile({&other, 1}).status().error() == Error::NameNotFound);
  CHECK(session.set_profile(2).error() == Error::InvalidArgument);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(session.set_profile(0).ok());
    CHECK(same_bits(scores(session, 1), alone));
    REQUIRE(session.set_profile(1).ok());
    (void)scores(session, 7);
  }
}
