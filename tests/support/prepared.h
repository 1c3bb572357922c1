// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "plan/aligned_bytes.h"
#include "support/plan_file.h"

namespace edgert::test {

/// A plan, its view and a session prepared on it, all with lifetimes that fit.
struct Prepared {
  explicit Prepared(const std::vector<std::byte>& plan, const SessionOptions& options = {}) : bytes(plan) {
    const Result<PlanView> view = PlanView::load(bytes.span());
    REQUIRE(view.ok());
    const Result<std::uint64_t> needed = TestSession::memory_bytes(*view, options);
    REQUIRE(needed.ok());
    memory = std::make_unique<Block>(*needed);
    REQUIRE(session.prepare(*view, memory->span(), options).ok());
  }
  float* input() { return session.input(0u)->as<float>(); }
  float output(std::size_t i = 0) { return session.output(0u)->as<float>()[i]; }

  plan::Bytes64 bytes;
  std::unique_ptr<Block> memory;
  TestSession session;
};

}  // namespace edgert::test
