// SPDX-License-Identifier: Apache-2.0
// A session with all operators whose kernels are compiled once, in test_session.cpp, and not in every test.
#pragma once

#include "edgert/session.h"

namespace edgert::test {

struct CompiledOperators {
  static const cpu::OperatorEntry* find(std::uint16_t id) noexcept;
};
using TestSession = Session<CompiledOperators>;

}  // namespace edgert::test
