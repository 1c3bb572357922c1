// SPDX-License-Identifier: Apache-2.0
// What a network's first layer reads: an image as the application has it, in bytes or floats and in any order, and the
// normalisation that the graph does before the first convolution, so that the convolution does both while it loads.
#pragma once

#include <optional>
#include <vector>

#include "families/family.h"

namespace edgert::families {

struct ImageInput {
  /// u8 or f32, with the dims of the convolution's input (ONNX's order) and the source's strides.
  Operand source;
  /// The convolution's input is scale * source + shift, a pair for each channel.
  std::vector<float> scale, shift;
  /// Conversions, copies and pointwise steps between the source and the convolution.
  std::vector<ir::NodeId> covered;

  bool normalized() const;
};

/// Follows the first input of `node`, [N, C, H, W], back through casts from u8, changes of order, and sums, differences,
/// products and quotients with constants that are the same all over a channel, as far as nobody else reads what lies
/// between. The source may be the input itself. Nothing where the end is neither u8 nor f32.
std::optional<ImageInput> find_image(const Context& context, const ir::Node& node);

}  // namespace edgert::families
