// SPDX-License-Identifier: Apache-2.0
#include "families/winograd.h"

#include <algorithm>

#include "codegen/winograd_kernel.h"

namespace edgert::families {
namespace {

/// Estimates of direct convolutions are up to a quarter too high where tensor cores bound them: what Winograd's algorithm must
/// be faster by to be preferred unmeasured.
constexpr double kMargin = 1.28;
/// Where it is estimated to take as many times as long, it is not worth measuring.
constexpr double kHopeless = 1.5;

}  // namespace

void add_winograd(const Context& context, const codegen::ConvShape& shape, const std::vector<float>& weights, std::size_t limit, std::vector<Estimated>& candidates) {
  if (!context.winograd() || candidates.empty()) return;
  const std::vector<codegen::WinogradEstimate> tiles = codegen::rank_winograd_tiles(shape, context.target(), limit);
  if (tiles.empty() || tiles[0].microseconds * (limit == 1 ? kMargin : 1 / kHopeless) > candidates[0].microseconds) return;
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
    candidates.push_back({std::move(candidate), each.microseconds * kMargin});
  }
  // The best one is measured in any case.
  const std::size_t best = candidates.size() - tiles.size();
  if (limit > 1) candidates[best].microseconds = std::min(candidates[best].microseconds, candidates[std::min(best, limit - 1) - 1].microseconds);
  std::stable_sort(candidates.begin(), candidates.end(), [](const Estimated& a, const Estimated& b) { return a.microseconds < b.microseconds; });
  candidates.resize(std::min(candidates.size(), limit));
}

}  // namespace edgert::families
