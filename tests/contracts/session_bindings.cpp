// SPDX-License-Identifier: Apache-2.0
// Inputs and outputs: by name, in the caller's memory, and with no memory of the session's at all.
#include "contracts/digits_plans.h"

using namespace edgert;
using namespace edgert::test;

namespace {

std::vector<float> values(const Block& block) { return {block.floats(), block.floats() + 10}; }

}  // namespace

TEST_CASE("bindings are found by name") {
  const LoadedPlan plan = digits_plan("digits_resnet");
  OwnSession own(plan.view);
  CHECK(own.session.find_input("image").value() == 0);
  CHECK(own.session.find_output("logits").value() == 0);
  CHECK(own.session.find_input("logits").status().error() == Error::NameNotFound);
  CHECK(own.session.input("image")->data == own.session.input(0u)->data);
  CHECK(own.session.output("logits")->data == own.session.output(0u)->data);
  CHECK(own.session.input(1u).status().error() == Error::InvalidArgument);
  CHECK(own.session.output("image").status().error() == Error::NameNotFound);
}

TEST_CASE("the caller's buffers are used, and inputs are only read") {
  const LoadedPlan plan = digits_plan("digits_resnet");
  OwnSession own(plan.view);
  const std::vector<float> expected = scores(own.session, 1);
  const std::vector<float> pixels = picture(64, 1);
  const Block input(64 * sizeof(float));
  const Block output(10 * sizeof(float));
  std::memcpy(input.data(), pixels.data(), input.size());
  REQUIRE(own.session.bind_input(0, input.data(), input.size()).ok());
  REQUIRE(own.session.bind_output(0, output.data(), output.size()).ok());
  CHECK(own.session.input(0u)->data == input.data());
  CHECK(own.session.output(0u)->data == output.data());
  REQUIRE(own.session.run().ok());
  CHECK(same_bits(values(output), expected));
  CHECK(std::memcmp(input.data(), pixels.data(), input.size()) == 0);
  // Bound buffers stay bound when the profile is set again.
  std::memset(output.data(), 0, output.size());
  REQUIRE(own.session.set_profile(0).ok());
  REQUIRE(own.session.run().ok());
  CHECK(same_bits(values(output), expected));
}

TEST_CASE("buffers that cannot be bound are refused, and the old ones stay") {
  const LoadedPlan plan = digits_plan("digits_resnet");
  OwnSession own(plan.view);
  const std::vector<float> expected = scores(own.session, 1);
  const Block buffer(512);
  const Status small = own.session.bind_input(0, buffer.data(), 64 * sizeof(float) - 1);
  CHECK(small.error() == Error::ArenaTooSmall);
  CHECK(small.value() == 64 * sizeof(float));
  CHECK(own.session.bind_input(0, nullptr, 512).error() == Error::ArenaTooSmall);
  CHECK(own.session.bind_input(0, buffer.data() + 4, 300).error() == Error::ArenaMisaligned);
  CHECK(own.session.bind_output(0, buffer.data(), 39).error() == Error::ArenaTooSmall);
  CHECK(own.session.bind_input(1, buffer.data(), 512).error() == Error::InvalidArgument);
  CHECK(own.session.bind_output(1, buffer.data(), 512).error() == Error::InvalidArgument);
  CHECK(same_bits(scores(own.session, 1), expected));
  TestSession unprepared;
  CHECK(unprepared.bind_input(0, buffer.data(), 512).error() == Error::NotPrepared);
  CHECK(unprepared.bind_output(0, buffer.data(), 512).error() == Error::NotPrepared);
  CHECK(unprepared.find_input("image").status().error() == Error::NotPrepared);
  CHECK(unprepared.output("logits").status().error() == Error::NotPrepared);
  CHECK(unprepared.set_profile(0).error() == Error::NotPrepared);
  unprepared.reset();
}

TEST_CASE("a binding must hold the largest profile") {
  const LoadedPlan plan = digits_plan("digits_profiles");
  OwnSession own(plan.view);
  const Block buffer(4 * 64 * sizeof(float));
  const Status small = own.session.bind_input(0, buffer.data(), 64 * sizeof(float));
  CHECK(small.error() == Error::ArenaTooSmall);
  CHECK(small.value() == buffer.size());
  CHECK(own.session.bind_input(0, buffer.data(), buffer.size()).ok());
}

TEST_CASE("with external inputs and outputs the session holds no memory for them") {
  const LoadedPlan plan = digits_plan("digits_resnet");
  const std::vector<float> expected = scores(OwnSession(plan.view).session, 1);
  SessionOptions options;
  options.external_io = true;
  const Result<SessionNeeds> needs = TestSession::needs(plan.view);
  REQUIRE(needs.ok());
  CHECK(needed_bytes(plan.view) - needed_bytes(plan.view, options) == needs->io_bytes);
  OwnSession own(plan.view, options);
  CHECK(own.session.input(0u)->data == nullptr);
  CHECK(own.session.run().error() == Error::NotPrepared);
  const std::vector<float> pixels = picture(64, 1);
  const Block input(64 * sizeof(float));
  const Block output(10 * sizeof(float));
  std::memcpy(input.data(), pixels.data(), input.size());
  REQUIRE(own.session.bind_input(0, input.data(), input.size()).ok());
  const Status half = own.session.run();
  CHECK(half.error() == Error::NotPrepared);
  CHECK(half.index() == 1);
  REQUIRE(own.session.bind_output(0, output.data(), output.size()).ok());
  REQUIRE(own.session.run().ok());
  CHECK(same_bits(values(output), expected));
}
