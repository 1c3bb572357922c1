// SPDX-License-Identifier: Apache-2.0
#include "codegen/squeeze_kernel.h"

#include <algorithm>
#include <limits>
#include <string>

namespace edgert::codegen {

namespace {

constexpr std::int32_t kThreads = 256;

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// As the kernel lays it out: both shares of weights, sums of groups, means, parts, squeezed values, a barrier.
std::int64_t shared_bytes(const SqueezeShape& s, std::int32_t cluster) {
  const std::int64_t share = divide_up(s.depth / 8, cluster), outputs = divide_up(s.outputs, cluster);
  const std::int64_t groups = std::min<std::int64_t>(std::max<std::int64_t>(kThreads / share, 1), s.pixels);
  return s.squeezed * (share * 16 + 16) + outputs * (s.squeezed * 2 + 16) + groups * share * 32 + share * 32 + (cluster + 1) * std::int64_t{s.squeezed} * 4 + 16;
}

}  // namespace

std::optional<std::uint32_t> squeeze_shared_bytes(const SqueezeShape& s, std::int32_t cluster, const ConvTarget& target) {
  constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max();
  if (s.images < 1 || s.pixels < 1 || s.divisor < 1 || s.depth < 8 || s.depth % 8 != 0 || s.squeezed < 8 || s.squeezed % 8 != 0 || s.outputs < 1) return std::nullopt;
  if (s.depth > 65536 || s.squeezed > 65536 || s.outputs > 65536 || s.input_pitch < s.depth || s.input_pitch % 8 != 0 || s.output_pitch < s.outputs) return std::nullopt;
  if (s.images > kLimit / s.pixels / s.input_pitch || s.images > kLimit / s.output_pitch) return std::nullopt;
  if (cluster < 1 || cluster > 8 || (cluster > 1 && target.arch < 90)) return std::nullopt;
  const std::int64_t bytes = shared_bytes(s, cluster);
  return bytes > target.shared_bytes ? std::nullopt : std::optional<std::uint32_t>(static_cast<std::uint32_t>(bytes));
}

KernelSpec make_squeeze(const SqueezeShape& shape, std::int32_t cluster, const ConvTarget& target) {
  const std::string name = "squeeze_" + std::to_string(shape.depth) + "_" + std::to_string(shape.squeezed) + "_" + std::to_string(shape.outputs) + "_p" +
                           std::to_string(shape.pixels) + "_c" + std::to_string(cluster);
  const auto shared = squeeze_shared_bytes(shape, cluster, target);
  if (!shared) throw CompileError(name + ": these products do not fit the target");
  ProblemText text(shape.element);
  text.define("EDGERT_ENTRY", "squeeze").define("EDGERT_SQUEEZE_INPUT", shape.float_input ? "float" : "unsigned short");
  text.set("kDepth", std::int64_t{shape.depth}).set("kSqueezed", std::int64_t{shape.squeezed}).set("kOutputs", std::int64_t{shape.outputs});
  text.set("kPixels", std::int64_t{shape.pixels}).set("kInputPitch", std::int64_t{shape.input_pitch}).set("kOutputPitch", std::int64_t{shape.output_pitch});
  text.set("kDivisor", std::int64_t{shape.divisor}).set("kThreads", std::int64_t{kThreads}).set("kClusterBlocks", std::int64_t{cluster});
  text.set("kFirstActivation", "scalar::PointwiseOp", "static_cast<scalar::PointwiseOp>(" + std::to_string(static_cast<int>(shape.first.activation)) + ")");
  text.set("kFirstAlpha", shape.first.alpha).set("kFirstBeta", shape.first.beta).epilogue(shape.epilogue);
  text.set("kSharedBytes", std::int64_t{*shared});
  KernelSpec spec;
  spec.job = make_job(name, "kernels/squeeze.cu", text.text(), target.arch);
  spec.entry = "squeeze";
  spec.tile = "cluster " + std::to_string(cluster);
  spec.grid[0] = static_cast<std::uint32_t>(shape.images * cluster);
  spec.block[0] = static_cast<std::uint32_t>(kThreads);
  spec.cluster = static_cast<std::uint32_t>(cluster);
  spec.shared_bytes = *shared;
  return spec;
}

}  // namespace edgert::codegen
