// SPDX-License-Identifier: Apache-2.0
#include "families/winograd.h"

#include <algorithm>

#include "codegen/winograd_kernel.h"

namespace edgert::families {

void add_winograd(const Context& context, const codegen::ConvShape& shape, const std::vector<float>& weights, std::size_t limit, std::vector<Estimated>& candidates) {
  if (!context.winograd() || candidates.empty()) return;
  const std::vector<codegen::WinogradEstimate> tiles = codegen::rank_winograd_tiles(shape, context.target(), limit);
  if (tiles.empty() || (candidates.size() == limit && tiles[0].microseconds >= candidates.back().microseconds)) return;
  const std::vector<std::uint16_t> packed = codegen::pack_winograd_weights(shape, weights.data());
  if (!codegen::are_finite_halves(packed)) return;
  const ir::Bytes bytes = to_bytes(packed);
  const Candidate direct = candidates[0].candidate;  // reads and writes the same
  const std::vector<Argument>& from = direct.launches[0].arguments;
  for (const codegen::WinogradEstimate& each : tiles) {
    Launch launch{codegen::make_winograd(shape, each.tile, context.target()),
                  {from[0], Argument::weights(0), Argument::weights(1), from[3], from[4], Argument::later_weights(), Argument::later_weight_bytes()}};
    Candidate candidate = Candidate::of(std::move(launch), direct.compute);
    candidate.weights = {bytes, direct.weights[1]};
    candidate.covered = direct.covered;
    candidates.push_back({std::move(candidate), each.microseconds});
  }
  std::stable_sort(candidates.begin(), candidates.end(), [](const Estimated& a, const Estimated& b) { return a.microseconds < b.microseconds; });
  candidates.resize(std::min(candidates.size(), limit));
}

}  // namespace edgert::families
