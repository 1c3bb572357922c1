// SPDX-License-Identifier: Apache-2.0
// Tactics that a vendor's library computes: offered beside a family's own where the user allows it.
#pragma once

#include <vector>

#include "families/family.h"

namespace edgert::families {

/// cuBLASLt for products with constant matrices, cuDNN for convolutions with constant weights; none for other nodes, forms that
/// the library lacks, and what a family computes together with other nodes. The library's best proposals, in its order.
std::vector<Candidate> library_candidates(const Context& context, ir::NodeId node);

}  // namespace edgert::families
