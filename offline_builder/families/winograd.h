// SPDX-License-Identifier: Apache-2.0
// Winograd's algorithm as a tactic of convolutions (kernels/winograd.cu), beside those that follow the definition.
#pragma once

#include <vector>

#include "families/family.h"

namespace edgert::families {

/// A candidate, and the microseconds that it is estimated to take.
struct Estimated {
  Candidate candidate;
  double microseconds;
};

/// Puts Winograd's algorithm among a convolution's `candidates`, at most `limit` in the order of their estimates, where the
/// kernel takes the shape, f16 its weights [out_channels][channels][3][3], and the user Winograd's algorithm.
void add_winograd(const Context& context, const codegen::ConvShape& shape, const std::vector<float>& weights, std::size_t limit, std::vector<Estimated>& candidates);

}  // namespace edgert::families
