// SPDX-License-Identifier: Apache-2.0
// Every kernel family compiles for every target, spills no register, and fits its target.
#include <array>

#include "codegen/attention_kernel.h"
#include "codegen/conv_kernel.h"
#include "codegen/expand_kernel.h"
#include "codegen/inverted_residual_mma_kernel.h"
#include "codegen/rows_kernel.h"
#include "codegen/squeeze_kernel.h"
#include "codegen/window_kernel.h"
#include "codegen/winograd_kernel.h"
#include "compiled_kernels.h"
#include "edgert/scalar/convert.h"

namespace {

using namespace edgert;
using namespace edgert::codegen;

ConvTarget target_of(std::uint32_t arch) {
  ConvTarget target;
  target.arch = arch;
  target.multiprocessors = arch == 87 ? 16 : arch == 110 ? 20 : 132;
  target.shared_bytes = arch == 87 ? 163 * 1024 : 227 * 1024;
  return target;
}

ConvShape conv(std::int32_t extent, std::int32_t channels, std::int32_t out_channels, std::int32_t kernel, std::int32_t stride) {
  ConvShape s;
  s.height = s.width = extent;
  s.channels = channels;
  s.out_channels = out_channels;
  s.kernel[0] = s.kernel[1] = kernel;
  s.stride[0] = s.stride[1] = stride;
  s.pad[0] = s.pad[1] = kernel / 2;
  s.out_height = s.out_width = (extent - 1) / stride + 1;
  s.input_pitch = (channels + 7) / 8 * 8;
  s.output_pitch = s.residual_pitch = (out_channels + 7) / 8 * 8;
  return s;
}

/// One kernel of each kind of code path: taps, strides, tails, residuals, splits, both types, the first layer.
std::vector<KernelSpec> all_families(const ConvTarget& target) {
  std::vector<KernelSpec> specs;
  const auto add = [&](const ConvShape& shape) {
    const auto tiles = rank_conv_tiles(shape, target, 2);
    REQUIRE(tiles.size() == 2);
    for (const ConvTile& tile : tiles) specs.push_back(make_conv(shape, tile, target));
  };
  add(conv(56, 64, 64, 3, 1));
  add(conv(28, 128, 256, 3, 2));
  add(conv(7, 512, 512, 3, 1));
  add(conv(14, 1024, 256, 1, 1));
  add(conv(13, 40, 20, 5, 1));
  ConvShape shape = conv(14, 256, 256, 3, 1);
  shape.element = ElementType::BF16;
  shape.epilogue.activation = scalar::PointwiseOp::Silu;
  shape.epilogue.residual = scalar::ResidualMode::AfterActivation;
  add(shape);
  shape = conv(224, 3, 64, 7, 2);
  shape.image = true;
  add(shape);
  ConvTile split;
  split.tile_width = 32, split.block_n = 32, split.split = 4;
  shape = conv(7, 512, 64, 1, 1);
  shape.width = shape.out_width = 49, shape.height = shape.out_height = 1;
  specs.push_back(make_conv(shape, split, target));
  shape = conv(1, 384, 1536, 1, 1);
  shape.width = shape.out_width = 197;
  shape.layer_norm = true;
  shape.epilogue.activation = scalar::PointwiseOp::Gelu;
  add(shape);
  shape = conv(1, 768, 2304, 1, 1);
  shape.width = shape.out_width = 128;
  shape.layer_norm = shape.store_normalized = true;
  add(shape);
  shape = conv(1, 480, 112, 1, 1);
  shape.width = shape.out_width = 196;
  shape.scaled = true;
  add(shape);
  shape.scaled = false, shape.pre_activated = true;
  add(shape);
  shape = conv(28, 58, 21, 3, 1);
  shape.input_pitch = 58, shape.input_at_once = 2, shape.residual_pitch = 21, shape.residual_at_once = 1;
  shape.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  shape.plane_output = true;
  add(shape);
  shape = conv(28, 116, 116, 1, 1);
  shape.input_pitch = shape.output_pitch = 116, shape.input_at_once = shape.output_at_once = 4;
  add(shape);
  shape = conv(28, 256, 256, 3, 1);
  shape.groups = 16;
  add(shape);
  for (const std::int32_t kernel : {1, 3}) {  // ends of ResNet's blocks
    shape = conv(14, 256, kernel == 1 ? 1024 : 256, kernel, 1);
    shape.shortcut.channels = shape.shortcut.pitch = kernel == 1 ? 512 : 128;
    shape.shortcut.height = shape.shortcut.width = 28, shape.shortcut.stride[0] = shape.shortcut.stride[1] = 2;
    shape.shortcut.out_height = shape.shortcut.out_width = 14;
    add(shape);
  }
  ConvTile shared;
  shared.tile_width = 32, shared.block_n = 96, shared.chunk = 128, shared.warps_m = 1, shared.warps_n = 3, shared.warps_k = 2;
  shape = conv(1, 384, 1536, 1, 1);
  shape.width = shape.out_width = 197;
  shared.shared_weights = true;
  specs.push_back(make_conv(shape, shared, target));
  ConvTile ring;  // the largest warp tile, as many registers as there are
  ring.tile_width = 128, ring.block_n = 128, ring.chunk = 32, ring.buffers = 4, ring.warps_m = ring.warps_n = 2;
  ring.shared_weights = true, ring.weight_stages = 4;
  shape.epilogue.activation = scalar::PointwiseOp::Gelu;
  shape.epilogue.residual = scalar::ResidualMode::AfterActivation;
  specs.push_back(make_conv(shape, ring, target));
  ring.tile_height = 8, ring.tile_width = 16, ring.buffers = 2;
  specs.push_back(make_conv(conv(28, 128, 128, 3, 1), ring, target));
  shape.epilogue = {};
  if (target.arch >= 90) {
    shape.width = shape.out_width = 128;
    shared.bulk = true, shared.share_rows = 4, shared.buffers = 8;
    specs.push_back(make_conv(shape, shared, target));
    shared.share_rows = 2, shared.split = 3, shared.cluster = true;
    specs.push_back(make_conv(shape, shared, target));
  }
  if (const auto nvrtc = test::find_nvrtc(); target.arch == 90 && nvrtc && std::stoi(nvrtc->version()) >= 12) {
    for (const std::int32_t groups : {1, 2, 3, 4}) {  // along rows, each with as many columns as fit
      ConvTile tile;
      tile.groups_of_warps = true, tile.chunk = 64, tile.warps_n = 1;
      tile.warps_m = 4 * groups, tile.tile_width = 64 * groups, tile.block_n = groups == 1 ? 256 : groups == 2 ? 208 : groups == 3 ? 160 : 96;
      tile.weight_stages = 4;
      shape = conv(1, 768, 3072, 1, 1);
      shape.width = shape.out_width = 1024;
      shape.epilogue.activation = scalar::PointwiseOp::Gelu;
      shape.layer_norm = shape.store_normalized = groups <= 2;
      specs.push_back(make_conv(shape, tile, target));
      shape.layer_norm = shape.store_normalized = false;
      shape.epilogue.residual = scalar::ResidualMode::BeforeActivation;
      tile.warps_n = groups <= 2 ? 2 : 1, tile.block_n = 96, tile.split = 2, tile.cluster = true;
      specs.push_back(make_conv(shape, tile, target));
    }
  }
  // As many registers as 512 threads may have: whole and partial steps of channels, with and without a residual.
  for (const std::int32_t block_n : {32, 64}) {
    specs.push_back(make_winograd(conv(56, 64, 64, 3, 1), {8, 4, block_n}, target));
    shape = conv(14, 240, 200, 3, 1);
    shape.batch = 8;
    shape.epilogue.activation = scalar::PointwiseOp::Silu;
    shape.epilogue.residual = scalar::ResidualMode::AfterActivation;
    specs.push_back(make_winograd(shape, {4, 7, block_n}, target));
  }
  for (const std::int32_t window : {3, 5}) {
    ExpandShape expand;
    expand.height = expand.width = expand.out_height = expand.out_width = 14;
    expand.channels = expand.input_pitch = 96, expand.hidden = expand.output_pitch = 576;
    expand.window = window, expand.pad[0] = expand.pad[1] = window / 2, expand.pool = window == 5;
    expand.expand.activation = expand.epilogue.activation = scalar::PointwiseOp::Silu;
    for (const ExpandTile& tile : rank_expand_tiles(expand, target, 2)) specs.push_back(make_expand(expand, tile, target));
    for (const ExpandMmaTile& tile : rank_expand_mma_tiles(expand, target, 2)) specs.push_back(make_expand_mma(expand, tile, target));
  }
  for (const auto& [extent, channels, hidden, out_channels, stride] : {std::array{56, 24, 144, 32, 2}, std::array{14, 96, 576, 96, 1}, std::array{7, 160, 960, 320, 1}}) {
    InvertedResidualShape block;
    block.first.height = block.first.width = extent, block.first.out_height = block.first.out_width = extent / stride;
    block.first.channels = block.first.input_pitch = channels, block.first.hidden = hidden, block.first.stride = stride;
    block.first.expand.activation = block.first.epilogue.activation = scalar::PointwiseOp::HardSwish;
    block.out_channels = block.output_pitch = block.residual_pitch = out_channels;
    if (channels == out_channels) block.epilogue.residual = scalar::ResidualMode::BeforeActivation;
    for (const InvertedResidualTile& tile : rank_inverted_residual_tiles(block, target, 2)) specs.push_back(make_inverted_residual(block, tile, target));
    for (const InvertedResidualMmaTile& tile : rank_inverted_residual_mma_tiles(block, target, 2)) specs.push_back(make_inverted_residual_mma(block, tile, target));
  }
  SqueezeShape squeeze;
  squeeze.depth = squeeze.outputs = squeeze.input_pitch = squeeze.output_pitch = 672, squeeze.squeezed = 168, squeeze.pixels = 14;
  squeeze.float_input = true, squeeze.divisor = 196;
  squeeze.epilogue.activation = scalar::PointwiseOp::HardSigmoid;
  if (target.arch >= 90) specs.push_back(make_squeeze(squeeze, 8, target));
  squeeze.float_input = false, squeeze.squeezed = 40, squeeze.epilogue.activation = scalar::PointwiseOp::Sigmoid;
  specs.push_back(make_squeeze(squeeze, 1, target));
  AttentionShape attention;
  attention.heads = 6, attention.queries = attention.keys = 197, attention.scale = 0.125f;
  attention.q = attention.k = attention.v = {197 * 1152, 1152, 64};
  attention.y = {197 * 384, 384, 64};
  for (const std::int32_t keys : {197, 1024}) {
    attention.keys = keys;
    attention.mask = keys == 197 ? AttentionMask::None : AttentionMask::Additive;
    for (const AttentionTile& tile : rank_attention_tiles(attention, target, 2)) specs.push_back(make_attention(attention, tile, target));
  }
  RowsShape rows;
  rows.rows = 128, rows.depth = rows.output_pitch = 768, rows.normalize = true;
  rows.tables = {{30522, 768, 8}, {512, 768, 0}, {2, 768, 8}};
  specs.push_back(make_rows(rows, 128, 2, target));
  for (const WindowKind kind : {WindowKind::Depthwise, WindowKind::Maximum, WindowKind::Average}) {
    WindowShape window;
    window.kind = kind;
    window.height = window.width = window.out_height = window.out_width = 14;
    window.channels = 100;
    window.input_pitch = window.output_pitch = 104;
    specs.push_back(make_window(window, 2, 128, target));
    window.channels = window.input_pitch = window.output_pitch = 58, window.input_at_once = 2, window.output_at_once = 1;
    specs.push_back(make_window(window, 2, 128, target));
  }
  GemvShape gemv;
  gemv.pixels = 49;
  gemv.input_pitch = 512;
  gemv.output_pitch = 1000;
  specs.push_back(make_gemv(gemv, {256, 1, target.arch >= 90 ? 4 : 1}, target));
  gemv.rows = 4, gemv.pixels = 1;
  specs.push_back(make_gemv(gemv, {128, 2, 1}, target));
  return specs;
}

TEST_CASE("every family compiles for every target without a spill") {
  test::check_that_all_compile([](std::uint32_t arch) { return all_families(target_of(arch)); });
}

TEST_CASE("packed weights hold each weight once, in the place that the fragment layout gives it") {
  ConvShape shape = conv(8, 24, 20, 3, 1);
  std::vector<float> weights(20 * 24 * 9);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i % 1021) + 1.0f;
  const auto packed = pack_conv_weights(shape, weights.data());
  REQUIRE(packed.size() == 9u * 2 * 2 * 256);
  // From mma.m16n8k16's definition: lane holds rows 2 (lane % 4) + {0, 1, 8, 9} of column lane / 4.
  std::size_t zeros = 0;
  for (std::size_t i = 0; i < packed.size(); ++i) {
    const std::size_t block = i / 256, lane = i % 256 / 8, in_lane = i % 8;
    const std::size_t tap = block / 4, k0 = block / 2 % 2 * 16, n0 = block % 2 * 16;
    const std::size_t n = n0 + in_lane / 4 * 8 + lane / 4;
    const std::size_t k = k0 + in_lane / 2 % 2 * 8 + lane % 4 * 2 + in_lane % 2;
    const float expected = n < 20 && k < 24 ? weights[(n * 24 + k) * 9 + tap] : 0.0f;
    CHECK(scalar::to_float(scalar::Half{packed[i]}) == expected);
    zeros += expected == 0.0f;
  }
  CHECK(packed.size() - zeros == weights.size());
}

TEST_CASE("tiles that do not fit are refused") {
  const ConvShape shape = conv(14, 64, 64, 3, 1);
  const ConvTarget orin = target_of(87);
  ConvTile tile;
  tile.tile_height = tile.tile_width = 7;
  REQUIRE(conv_shared_bytes(shape, tile, orin).has_value());
  const auto refused = [&](auto change) {
    ConvTile other = tile;
    change(other);
    return !conv_shared_bytes(shape, other, orin).has_value();
  };
  CHECK(refused([](ConvTile& t) { t.block_n = 40; }));
  CHECK(refused([](ConvTile& t) { t.warps_k = 8; }));
  CHECK(refused([](ConvTile& t) { t.split = 2; }));            // one chunk cannot be split
  CHECK(refused([](ConvTile& t) { t.chunk = 32, t.split = 2, t.cluster = true; }));  // no clusters on sm_87
  CHECK(refused([](ConvTile& t) { t.chunk = 16, t.buffers = 1; }));
  CHECK(refused([](ConvTile& t) { t.tile_height = t.tile_width = 64; }));
  ConvTile bad = tile;
  bad.block_n = 40;
  CHECK_THROWS_AS(make_conv(shape, bad, orin), CompileError);
}

TEST_CASE("every layer has tiles on every target, the first of them valid") {
  for (const std::uint32_t arch : {87u, 90u, 110u}) {
    for (const ConvShape& shape : {conv(56, 64, 64, 3, 1), conv(7, 960, 160, 1, 1), conv(5, 8, 8, 3, 1), conv(100, 3, 5, 1, 1)}) {
      const auto tiles = rank_conv_tiles(shape, target_of(arch), 4);
      REQUIRE(!tiles.empty());
      for (const ConvTile& tile : tiles) CHECK(conv_shared_bytes(shape, tile, target_of(arch)).has_value());
    }
  }
}

TEST_CASE("wide and narrow footprints fit beside each other, but no two of a kind") {
  const ConvTarget target = target_of(90);
  const std::uint32_t all = 228 * 1024;  // a multiprocessor's, with 1 KiB reserved a block
  KernelSpec spec;
  spec.shared_bytes = 1000;
  const std::uint32_t wide = launch_shared_bytes(spec, Footprint::Wide, target) + 1024;
  const std::uint32_t narrow = launch_shared_bytes(spec, Footprint::Narrow, target) + 1024;
  CHECK(wide + narrow <= all);
  CHECK(2 * wide > all);
  CHECK(wide + 2 * narrow > all);
  spec.shared_bytes = 200 * 1024;
  CHECK(launch_shared_bytes(spec, Footprint::Narrow, target) == 200 * 1024);
  spec.shared_bytes = 1000, spec.grid[0] = 133;  // two blocks of one multiprocessor take turns
  CHECK(launch_shared_bytes(spec, Footprint::Wide, target) == 1000);
  spec.grid[0] = 8;
  CHECK(launch_shared_bytes(spec, Footprint::Wide, target_of(87)) == 1000);  // launches take turns
}

}  // namespace
