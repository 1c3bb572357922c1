// SPDX-License-Identifier: Apache-2.0
// What the family of summed rows tells others.
#pragma once

#include "families/family.h"

namespace edgert::families {

/// Whether `value` is a sum with gathered rows that only one node reads: its launch can normalise it at no cost.
bool is_sum_of_gathered_rows(const Context& context, ir::ValueId value);

}  // namespace edgert::families
