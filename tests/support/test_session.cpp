// SPDX-License-Identifier: Apache-2.0
#include "support/test_session.h"

namespace edgert::test {

const cpu::OperatorEntry* CompiledOperators::find(std::uint16_t id) noexcept { return cpu::AllOperators::find(id); }

}  // namespace edgert::test
