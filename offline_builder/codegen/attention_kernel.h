// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/attention.cu: fused attention over strided views.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "codegen/conv_kernel.h"

namespace edgert::codegen {

/// Elements from image to image, row to row and head to head; channels of a head are neighbours. All are multiples of 8,
/// as is the first element's place.
struct AttentionView {
  std::int64_t batch = 0, row = 0, head = 0;
};

enum class AttentionMask : std::uint8_t {
  None = 0,
  Additive = 1,       ///< elements of the shape's type, added to the scaled scores
  Keep = 2,           ///< bytes; a score counts where they are not 0
  Hide = 3,           ///< bytes; a score counts where they are 0
  AdditiveFloat = 4,  ///< f32, added to the scaled scores
  Causal = 5,         ///< query i sees the keys up to i + causal_offset; no mask in memory
};

/// y[b][i][h] = sum over j of softmax_j(scale * q[b][i][h] . k[b][j][h] + mask[b][h][i][j]) * v[b][j][h].
struct AttentionShape {
  std::int32_t batch = 1, heads = 1, queries = 1, keys = 1;
  std::int32_t depth = 64;        ///< of a head of q and k; a multiple of 8
  std::int32_t value_depth = 64;  ///< of a head of v and y; a multiple of 8
  AttentionView q, k, v, y;
  AttentionMask mask = AttentionMask::None;
  AttentionView mask_view;  ///< of the mask; 0 where it is the same for all; keys are neighbours; no multiple asked for
  /// Where Keep and Hide hide a key, this is added to its score; less than this no additive mask adds. If it is finite, a
  /// query all of whose keys are hidden gives the mean of the values.
  float hidden = -std::numeric_limits<float>::infinity();
  std::int32_t causal_offset = 0;  ///< not negative: each query sees a key
  bool zero_hidden = false;        ///< a query all of whose scores are minus infinity gives zeros instead of NaN
  float scale = 1.0f;
  ElementType element = ElementType::F16;
};

/// A block computes 16 * warps_q queries of a head; `warps_k` warps share each `chunk` of keys; chunks pass through
/// `buffers` places in shared memory.
struct AttentionTile {
  std::int32_t warps_q = 1, warps_k = 8, chunk = 256, buffers = 1;
};

/// Bytes of dynamic shared memory, or nothing when shape, tile and target do not go together.
std::optional<std::uint32_t> attention_shared_bytes(const AttentionShape& shape, const AttentionTile& tile, const ConvTarget& target);

/// The kernel. Its arguments are q, k, v, mask, y, all addresses, and the address and size in bytes of a later kernel's
/// weights to bring into the L2 cache (size 0 for none). Throws CompileError when attention_shared_bytes() has no value.
KernelSpec make_attention(const AttentionShape& shape, const AttentionTile& tile, const ConvTarget& target);

/// Tiles worth trying, the most promising first.
std::vector<AttentionTile> rank_attention_tiles(const AttentionShape& shape, const ConvTarget& target, std::size_t limit);

}  // namespace edgert::codegen
