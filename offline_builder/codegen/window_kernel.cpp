// SPDX-License-Identifier: Apache-2.0
#include "codegen/window_kernel.h"

#include <algorithm>
#include <string>

#include "edgert/scalar/convert.h"

namespace edgert::codegen {

namespace {

std::int32_t divide_up(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }

}  // namespace

KernelSpec make_window(const WindowShape& shape, std::int32_t strip, std::int32_t threads, const ConvTarget& target) {
  static constexpr const char* kNames[] = {"depthwise", "max_pool", "average_pool"};
  ProblemText text(shape.element);
  text.define("EDGERT_ENTRY", "window");
  text.set("kDepthwise", shape.kind == WindowKind::Depthwise).set("kMaximum", shape.kind == WindowKind::Maximum);
  text.set("kBatch", std::int64_t{shape.batch}).set("kHeight", std::int64_t{shape.height}).set("kWidth", std::int64_t{shape.width});
  text.set("kChannels", std::int64_t{shape.channels}).set("kOutHeight", std::int64_t{shape.out_height});
  text.set("kOutWidth", std::int64_t{shape.out_width});
  static constexpr const char* kAxis[2] = {"Height", "Width"};
  for (int d = 0; d < 2; ++d) {
    text.set(std::string("kKernel") + kAxis[d], std::int64_t{shape.kernel[d]});
    text.set(std::string("kStride") + kAxis[d], std::int64_t{shape.stride[d]});
    text.set(std::string("kDilation") + kAxis[d], std::int64_t{shape.dilation[d]});
  }
  text.set("kPadTop", std::int64_t{shape.pad[0]}).set("kPadLeft", std::int64_t{shape.pad[1]});
  text.set("kInputPitch", std::int64_t{shape.input_pitch}).set("kOutputPitch", std::int64_t{shape.output_pitch});
  text.set("kInputAtOnce", std::int64_t{shape.input_at_once}).set("kOutputAtOnce", std::int64_t{shape.output_at_once});
  text.set("kHasBias", shape.bias && shape.kind == WindowKind::Depthwise).set("kCountPadding", shape.count_padding);
  text.set("kStrip", std::int64_t{strip}).set("kThreads", std::int64_t{threads}).epilogue(shape.epilogue);
  KernelSpec spec;
  const std::string name = std::string(kNames[static_cast<int>(shape.kind)]) + std::to_string(shape.kernel[0]) + "x" +
                           std::to_string(shape.kernel[1]) + "s" + std::to_string(shape.stride[0]) + "_" +
                           std::to_string(shape.height) + "x" + std::to_string(shape.width) + "x" +
                           std::to_string(shape.channels) + "_p" + std::to_string(strip) + "_b" + std::to_string(threads);
  spec.job = make_job(name, "kernels/window.cu", text.text(), target.arch);
  spec.entry = "window";
  spec.tile = "strip " + std::to_string(strip) + " threads " + std::to_string(threads);
  const std::int64_t items = std::int64_t{shape.batch} * shape.out_height * ((shape.out_width + strip - 1) / strip) *
                             ((shape.channels + 7) / 8);
  spec.grid[0] = static_cast<std::uint32_t>((items + threads - 1) / threads);
  spec.block[0] = static_cast<std::uint32_t>(threads);
  return spec;
}

std::vector<std::uint16_t> pack_depthwise_weights(const WindowShape& shape, const float* weights) {
  const std::int32_t taps = shape.kernel[0] * shape.kernel[1];
  const std::int32_t channels = (shape.channels + 7) / 8 * 8;
  std::vector<std::uint16_t> packed(static_cast<std::size_t>(taps) * static_cast<std::size_t>(channels));
  for (std::int32_t t = 0; t < taps; ++t) {
    for (std::int32_t c = 0; c < shape.channels; ++c) {
      const float value = weights[c * taps + t];
      packed[static_cast<std::size_t>(t * channels + c)] =
          shape.element == ElementType::F16 ? scalar::to_half(value).bits : scalar::to_bfloat16(value).bits;
    }
  }
  return packed;
}

GemvTile gemv_tile(const GemvShape& shape, const ConvTarget& target) {
  GemvTile tile;
  tile.row_a_block = shape.rows > 4 && shape.pixels > 1;  // averages are the larger part of the work
  const std::int32_t rows = tile.row_a_block ? shape.rows : 1;
  // Blocks that only multiply run beside each other on a multiprocessor.
  const std::int32_t at_once = target.multiprocessors * (shape.pixels > 1 ? 1 : 2);
  if (divide_up(shape.outputs, 8) * rows <= at_once * (shape.pixels > 1 ? 1 : 2)) return tile;
  tile.threads = 512;
  tile.rounds = std::min(divide_up(shape.outputs * rows, 16 * at_once), divide_up(shape.outputs, 16));
  return tile;
}

KernelSpec make_gemv(const GemvShape& shape, const GemvTile& tile, const ConvTarget& target) {
  ProblemText text(shape.element);
  text.define("EDGERT_ENTRY", "gemv");
  text.define("EDGERT_GEMV_OUTPUT", shape.float_output ? "float" : "unsigned short");
  const bool residual = shape.epilogue.residual != scalar::ResidualMode::None;
  text.define("EDGERT_GEMV_RESIDUAL", residual ? "1" : "0").define("EDGERT_GEMV_MORE_PARAMETERS", residual ? ", const EDGERT_GEMV_INPUT* residual" : "");
  text.set("kFloatWeights", shape.float_weights);
  text.set("kResidualPitch", std::int64_t{shape.residual_pitch});
  text.define("EDGERT_GEMV_INPUT", shape.float_input ? "float" : "unsigned short");
  text.set("kDivisor", std::int64_t{shape.divisor == 0 ? shape.pixels : shape.divisor});
  const std::int32_t rows = tile.row_a_block ? 1 : shape.rows;
  text.set("kRows", std::int64_t{rows}).set("kDepth", std::int64_t{shape.depth}).set("kOutputs", std::int64_t{shape.outputs});
  text.set("kPixels", std::int64_t{shape.pixels}).set("kInputPitch", std::int64_t{shape.input_pitch});
  text.set("kOutputPitch", std::int64_t{shape.output_pitch}).set("kHasBias", shape.bias).epilogue(shape.epilogue);
  text.set("kThreads", std::int64_t{tile.threads}).set("kRowsPerWarp", std::int64_t{tile.rows_per_warp}).set("kRounds", std::int64_t{tile.rounds});
  text.set("kClusterBlocks", std::int64_t{tile.cluster});
  // Rows as floats, partial sums of each group of pixels, a barrier: as the kernel lays them out.
  const std::int32_t share = shape.depth / 8 / tile.cluster;
  const std::int32_t groups = shape.pixels == 1 ? 1 : std::min(std::max(tile.threads / share, 1), shape.pixels);
  const std::int32_t shared = (rows * shape.depth + rows * groups * share * 8) * 4 + 16;
  text.set("kSharedBytes", std::int64_t{shared});
  KernelSpec spec;
  spec.shared_bytes = static_cast<std::uint32_t>(shared);
  const std::string name = "gemv" + std::to_string(shape.rows) + "x" + std::to_string(shape.depth) + "x" +
                           std::to_string(shape.outputs) + "_p" + std::to_string(shape.pixels) + "_b" +
                           std::to_string(tile.threads) + "_r" + std::to_string(tile.rows_per_warp) + "_c" + std::to_string(tile.cluster) + (tile.rounds > 1 ? "_n" + std::to_string(tile.rounds) : "") +
                           (tile.row_a_block ? "_y" : "");
  spec.job = make_job(name, "kernels/gemv.cu", text.text(), target.arch);
  spec.entry = "gemv";
  spec.tile = "threads " + std::to_string(tile.threads) + " rows " + std::to_string(tile.rows_per_warp) + " cluster " + std::to_string(tile.cluster) + (tile.rounds > 1 ? " rounds " + std::to_string(tile.rounds) : "");
  const std::int32_t blocks = divide_up(shape.outputs, tile.threads / 32 * tile.rows_per_warp * tile.rounds);
  spec.grid[0] = static_cast<std::uint32_t>(divide_up(blocks, tile.cluster) * tile.cluster);
  spec.grid[1] = static_cast<std::uint32_t>(shape.rows / rows);
  spec.block[0] = static_cast<std::uint32_t>(tile.threads);
  spec.cluster = static_cast<std::uint32_t>(tile.cluster);
  return spec;
}

}  // namespace edgert::codegen
