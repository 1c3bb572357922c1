// SPDX-License-Identifier: Apache-2.0
// What stands between the first product of an attention and its softmax, read from pointwise programs.
#pragma once

#include <limits>
#include <optional>

#include "families/family.h"

namespace edgert::families {

/// A score that weighs nothing beside any that is seen, and absorbs what is added to it, but is finite: a query that sees
/// no key then gives the mean of the values, as it does in f32 with the lowest float.
inline constexpr float kLowestScore = -1e30f;

/// softmax(scale * raw + mask), or with a boolean mask scale * raw + hidden where it hides.
struct Scores {
  enum class Kind : std::uint8_t { None, Added, Keep, Hide };
  Kind kind = Kind::None;
  float scale = 1.0f;
  ir::ValueId mask = ir::kNone;
  float hidden = -std::numeric_limits<float>::infinity();  ///< Keep, Hide: at most -1e4
};

/// The pointwise node's result in terms of its input `raw`; nothing when it is something else.
std::optional<Scores> scores_of(const Context& context, const ir::Node& pointwise, ir::ValueId raw);

/// A pointwise node that is scale * value.
struct Scaled {
  ir::ValueId value = ir::kNone;
  float scale = 1.0f;
};
std::optional<Scaled> scaled_input(const Context& context, const ir::Node& pointwise);

/// Where the mask is constant and lets query i see the keys up to i + offset, offset >= 0, alike in all heads: the offset.
std::optional<std::int64_t> causal_offset(const Context& context, const Scores& scores);

}  // namespace edgert::families
