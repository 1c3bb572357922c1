// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/conv.cu: what a layer and a tile are, whether they fit together, the kernel that results, and the
// order in which it wants its weights.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "codegen/kernel_spec.h"

namespace edgert::codegen {

/// A convolution over channels-last tensors; a matrix product [M, K] x [K, N] has height 1, width M, channels K.
/// Pitches count elements from pixel to pixel. They, and the tensors' first elements, are multiples of what is moved at once.
struct ConvShape {
  std::int32_t batch = 1, height = 1, width = 1, channels = 1;
  std::int32_t out_height = 1, out_width = 1, out_channels = 1;
  std::int32_t kernel[2] = {1, 1}, stride[2] = {1, 1}, dilation[2] = {1, 1}, pad[2] = {0, 0};
  std::int32_t input_pitch = 0, output_pitch = 0, residual_pitch = 0;
  /// Pixels from image to image of the result, where there is something else between them; 0: out_height * out_width. Without
  /// residual and plane_output.
  std::int32_t output_image_pixels = 0;
  /// Neighbouring channels that are loaded or stored together: 2, 4 or 8 of the input, 1 to 8 of the others.
  std::int32_t input_at_once = 8, output_at_once = 8, residual_at_once = 8;
  bool bias = true;
  /// Output channels [g, g + 1) * out_channels / groups read input channels [g, g + 1) * channels / groups. Both quotients are
  /// multiples of 16 where there is more than one.
  std::int32_t groups = 1;
  /// The result is float planes (NCHW): a network's last layer. output_pitch and output_at_once are of no account.
  bool plane_output = false;
  /// The input is an image of at most 8 channels as the application has it, a network's first layer: floats, or bytes
  /// (`image_bytes`), with strides in elements between images, channels, rows and columns (all 0: planes, one after the
  /// other). With `image_normalized` what enters the product is scale * input + shift of the channel; padding stays 0.
  bool image = false, image_bytes = false, image_normalized = false;
  std::int32_t image_stride[4] = {0, 0, 0, 0};
  float image_scale[8] = {}, image_shift[8] = {};
  /// Each input pixel is normalised over its channels before the product. For 1x1 kernels of stride 1 with height 1 and a
  /// multiple of 8 channels; weights and bias come from fold_layer_norm().
  bool layer_norm = false;
  bool rms = false;  ///< without the mean: x / sqrt(mean(x * x) + epsilon)
  /// The normalised input, times gamma plus beta, is also written, with the input's pitch (layer_norm only).
  bool store_normalized = false;
  float epsilon = 1e-5f;
  /// Each input channel is multiplied by a factor of its own, and the product rounded, before the product with the weights:
  /// factors [batch][channels] of the shape's type, as squeeze-and-excitation makes them. 1x1 kernels, channels % 8 == 0.
  bool scaled = false;
  /// Each input channel is multiplied by a factor, a term is added, what is negative becomes zero, and the result is rounded:
  /// batch normalisation and Relu before the convolution. Constant factors [channels] and then terms, of the shape's type,
  /// in the place of `scaled`'s; 1x1 kernels without padding, channels % 8 == 0.
  bool pre_activated = false;
  /// A 1x1 convolution of another tensor without padding, whose result is added to the sums before bias and activation: a
  /// residual block's shortcut. No channels: none. Both channel counts are multiples of 8, as the pitch is, and neither group,
  /// image, layer_norm, scaled nor pre_activated is with it, nor F32.
  struct Shortcut {
    std::int32_t channels = 0, pitch = 0;
    std::int32_t height = 1, width = 1, stride[2] = {1, 1};
    std::int32_t out_height = 1, out_width = 1;  ///< of an image; the convolution may see all images' pixels as one row
  };
  Shortcut shortcut = {};
  /// TF32 and F32: operands and results are f32; `channels` (but of `image`), `input_pitch`, `input_at_once`, the same of `shortcut`, and a tile's
  /// `chunk` count 16-bit halves of the elements; the other `at_once` are at most 4. No layer_norm, scaled, pre_activated.
  ElementType element = ElementType::F16;
  scalar::Epilogue epilogue = {};
};

/// How the work is cut. A block computes tile_height x tile_width output pixels times block_n channels, in steps of
/// `chunk` input channels, with up to `buffers` input patches in shared memory; warps share it along pixels, channels
/// and depth; `split` blocks share the input channels.
struct ConvTile {
  std::int32_t tile_height = 1, tile_width = 64, block_n = 64, chunk = 64, buffers = 2;
  std::int32_t warps_m = 2, warps_n = 2, warps_k = 1;
  std::int32_t split = 1;
  bool shared_weights = false;  ///< weights go through shared memory, else from memory to the registers of each warp
  /// With `shared_weights`, not in bulk: how many stages of weights, a few 16-channel steps each, lie in shared memory at a
  /// time, all but one being copied; 0: all of the block's, requested before the wait.
  std::int32_t weight_stages = 0;
  /// Rows, and weights in shared memory, come in bulk copies (sm_90 and later): for matrix products whose depth lies in
  /// shared memory as a whole.
  bool bulk = false;
  /// With `bulk`: blocks with neighbouring channels that read the input once for all. They form a cluster, to which the splits
  /// belong where there are any.
  std::int32_t share_rows = 1;
  /// Products by groups of four warps, in a ring of `weight_stages` stages for rows and weights (kernels/conv_group.cu; sm_90
  /// alone): for matrix products of 16-bit elements. `tile_width` is 64 * warps_m / 4, `chunk` 64, weights are packed for it.
  bool groups_of_warps = false;
  bool cluster = false;  ///< the splits form a cluster (sm_90 and later) instead of meeting in a workspace
};

struct ConvTarget {
  std::uint32_t arch = 87;
  std::int32_t multiprocessors = 16;
  std::int32_t shared_bytes = 163 * 1024;  ///< what a block can have
  bool own_features = true;                ///< kernels may use instructions that this SM alone has (CompileJob::own_features)
};

/// How much dynamic shared memory a launch asks for, beyond what its kernel needs, so that with programmatic dependent
/// launch blocks spread evenly: with two of a kernel on one multiprocessor and none on another it takes twice as long,
/// and the kernels after it inherit the imbalance. `Wide` leaves room for no second block of its kind, but for a `Narrow`
/// one, of which again no two fit beside it. So steps alternate, and each kernel's blocks find one place everywhere. Nothing
/// more than what is needed where blocks take turns on multiprocessors, or launches (before sm_90), anyway.
enum class Footprint : std::uint8_t { Wide, Narrow };
std::uint32_t launch_shared_bytes(const KernelSpec& spec, Footprint footprint, const ConvTarget& target);

/// Bytes of dynamic shared memory that the kernel needs, or nothing when shape, tile and target do not go together.
std::optional<std::uint32_t> conv_shared_bytes(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target);

/// The kernel. Its arguments are x, packed weights, bias, residual, y, workspace, counters, all addresses, and the
/// address and size in bytes of a later kernel's weights to bring into the L2 cache (size 0 for none); with
/// store_normalized then the normalised input's address, with scaled or pre_activated that of the factors, with a shortcut
/// that of its input.
/// Throws CompileError when conv_shared_bytes() has no value.
KernelSpec make_conv(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target);

/// Channels of one pixel in shared memory for `image`, and the depth of one kernel row.
std::int32_t stem_pixel_channels(const ConvShape& shape);
std::int32_t stem_chunk(const ConvShape& shape);

/// Weights [out_channels][channels / groups][kernel] in the order that the kernel reads: for each tap (for `image` each
/// kernel row) and each 16 inputs, for each 16 outputs, lane by lane the fragments of mma.m16n8k16. Zeros where there is
/// no weight. 16-bit elements of the shape's type; of TF32 the halves of floats, from [out_channels][channels / 2][kernel].
/// Those of a shortcut, [out_channels][shortcut.channels], follow as further taps of as many channels as the convolution has.
std::vector<std::uint16_t> pack_conv_weights(const ConvShape& shape, const float* weights, const float* shortcut_weights = nullptr);

/// The same as the tile's kernel reads them. With `groups_of_warps`: for each 64 channels, for each output (a multiple of 16 of
/// them) 64 channels in vectors of eight, that with number v where number v ^ (output % 8) would be.
std::vector<std::uint16_t> pack_conv_weights(const ConvShape& shape, const ConvTile& tile, const float* weights);

/// Weights [out_channels][channels] with gamma folded in, rounded to the shape's type, and what the kernel takes as bias:
/// bias (null for none) plus the weights' products with beta, the sums of each output's folded weights, each rounded up
/// to a multiple of 16, and with store_normalized gamma and beta. The shape must have `bias` set.
struct FoldedNorm {
  std::vector<float> weights, bias;
};
FoldedNorm fold_layer_norm(const ConvShape& shape, const float* weights, const float* bias, const float* gamma, const float* beta);

/// Taps that a shortcut's channels are divided into; the last one's may be fewer.
std::int32_t shortcut_taps(const ConvShape& shape);

/// Microseconds that a valid tile takes, roughly, from its wait for the launch before on.
double estimate_conv(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target);

/// Tiles worth trying, the most promising first by that estimate.
std::vector<ConvTile> rank_conv_tiles(const ConvShape& shape, const ConvTarget& target, std::size_t limit);

}  // namespace edgert::codegen
