// SPDX-License-Identifier: Apache-2.0
// ONNX ConvTranspose. With a stride s, the outputs whose positions have the same remainder modulo s ("phase") are a
// convolution of the input with every s-th filter element: all phases together are one convolution with s times s as many
// channels, whose results are interleaved. What that cannot say (groups, dilation) is a convolution with the filters turned
// round over the input with zeros between its elements.
#include <algorithm>
#include <optional>

#include "ops/window.h"

namespace edgert::ops {
namespace {

/// stride - 1 zeros between neighbours along every spatial dimension.
ValueId spread(OnnxNode& node, ValueId x, const std::vector<std::int64_t>& stride) {
  const Dims dims = dims_of(node, x);
  Dims split{dims[0], dims[1]};
  Dims wide{dims[0], dims[1]};
  std::vector<std::int64_t> after{0, 0};
  for (std::size_t i = 0; i < stride.size(); ++i) {
    split.insert(split.end(), {dims[i + 2], 1});
    after.insert(after.end(), {0, stride[i] - 1});
    wide.push_back(ir::element_count({dims[i + 2], stride[i]}));
  }
  const ValueId padded = pad_zero(node, reshape(node, x, split), std::vector<std::int64_t>(after.size(), 0), after);
  ValueId y = reshape(node, padded, wide);
  for (std::size_t i = 0; i < stride.size(); ++i) {
    if (dims[i + 2] > 0) y = slice(node, y, i + 2, 0, (dims[i + 2] - 1) * stride[i] + 1);
  }
  return y;
}

/// Elements along `axis` in reverse order.
ValueId backwards(OnnxNode& node, ValueId x, std::size_t axis) {
  const std::int64_t extent = dims_of(node, x)[axis];
  std::vector<std::int64_t> order = iota(extent);
  std::reverse(order.begin(), order.end());
  return extent > 1 ? gather(node, x, int64_constant(node, {extent}, order), axis) : x;
}

/// [C, M / groups, ...] as the [M, C / groups, ...] of a convolution, each filter turned round.
ValueId turn_filters(OnnxNode& node, ValueId w, std::int64_t groups) {
  const Dims dims = dims_of(node, w);
  Dims split{groups, dims[0] / groups};
  split.insert(split.end(), dims.begin() + 1, dims.end());
  std::vector<std::int64_t> perm = iota(static_cast<std::int64_t>(split.size()));
  std::swap(perm[1], perm[2]);
  Dims joined{groups * dims[1], dims[0] / groups};
  joined.insert(joined.end(), dims.begin() + 2, dims.end());
  ValueId turned = reshape(node, transpose(node, reshape(node, w, split), perm), joined);
  for (std::size_t i = 2; i < dims.size(); ++i) turned = backwards(node, turned, i);
  return turned;
}

/// Each has filters of its own; networks have up to 32 x 32.
constexpr std::int64_t kMostPhases = 4096;

/// The convolution over all phases, interleaved; `window` has the result's padding and `out` its spatial extents.
/// Nothing when the phases reach less far than the result, or are too many.
std::optional<ValueId> convolve_phases(OnnxNode& node, ValueId x, ValueId w, ValueId bias, const Window& window,
                                       const Dims& out) {
  const Dims x_dims = dims_of(node, x), w_dims = dims_of(node, w);
  const std::size_t rank = window.rank();
  Window phase = window;
  std::vector<std::int64_t> missing{0, 0};
  Dims split{w_dims[0], w_dims[1]};             // C, M, then per dimension: taps of a phase, phases
  std::vector<std::int64_t> by_phase;           // phases, M, C, taps
  std::vector<std::int64_t> taps_last{1, 0};
  std::int64_t phases = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t stride = window.stride[i], taps = ceil_div(window.kernel[i], stride);
    if (stride > kMostPhases / phases) return std::nullopt;
    // Element j * stride + r of the filter belongs to phase r, whose outputs are at q * stride + r for q < extent + taps - 1.
    if (window.begin[i] < 0 || window.begin[i] + out[i] > ir::element_count({x_dims[i + 2] + taps - 1, stride})) return std::nullopt;
    missing.push_back(taps * stride - window.kernel[i]);
    split.insert(split.end(), {taps, stride});
    by_phase.push_back(static_cast<std::int64_t>(2 * i + 3));
    taps_last.push_back(static_cast<std::int64_t>(2 * i + 2));
    phase.kernel[i] = taps;
    phase.stride[i] = 1;
    phase.begin[i] = phase.end[i] = taps - 1;
    phases *= stride;
  }
  by_phase.insert(by_phase.end(), taps_last.begin(), taps_last.end());
  Dims filters{phases * w_dims[1], w_dims[0]};
  filters.insert(filters.end(), phase.kernel.begin(), phase.kernel.end());
  const ValueId whole = pad_zero(node, w, std::vector<std::int64_t>(missing.size(), 0), missing);
  ValueId turned = reshape(node, transpose(node, reshape(node, whole, split), by_phase), filters);
  for (std::size_t i = 0; i < rank; ++i) turned = backwards(node, turned, i + 2);
  if (bias != ir::kNone) bias = concat(node, std::vector<ValueId>(static_cast<std::size_t>(phases), bias), 0);
  ValueId y = convolve(node, x, turned, bias, phase, 1);

  const Dims results = dims_of(node, y);
  Dims apart{results[0]}, joined{results[0], w_dims[1]};
  std::vector<std::int64_t> interleave{0, static_cast<std::int64_t>(rank) + 1};
  for (std::size_t i = 0; i < rank; ++i) apart.push_back(window.stride[i]);
  apart.push_back(w_dims[1]);
  for (std::size_t i = 0; i < rank; ++i) {
    apart.push_back(results[i + 2]);
    interleave.insert(interleave.end(), {static_cast<std::int64_t>(rank + 2 + i), static_cast<std::int64_t>(1 + i)});
    joined.push_back(results[i + 2] * window.stride[i]);
  }
  y = reshape(node, transpose(node, reshape(node, y, apart), interleave), joined);
  for (std::size_t i = 0; i < rank; ++i) {
    if (out[i] != joined[i + 2]) y = slice(node, y, i + 2, window.begin[i], out[i]);
  }
  return y;
}

/// Resolves pads from output_shape or auto_pad, whichever the node has.
void resolve_pads(const OnnxNode& node, const Dims& spatial, const std::vector<std::int64_t>& output_padding,
                  Window& window) {
  const std::string auto_pad = node.string_or("auto_pad", "NOTSET");
  const bool same = auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER";
  if (!same && !node.has("output_shape")) return;
  const std::size_t rank = window.rank();
  Dims wanted = node.ints_or("output_shape", {});
  if (!node.has("output_shape")) {
    for (std::size_t i = 0; i < rank; ++i) wanted.push_back(ir::element_count({spatial[i], window.stride[i]}));
  }
  if (wanted.size() != rank) node.fail("attribute 'output_shape' has " + std::to_string(wanted.size()) + " entries");
  for (std::size_t i = 0; i < rank; ++i) {
    to_int32(wanted[i], 1, "attribute 'output_shape'");
    const std::int64_t full = window.stride[i] * (spatial[i] - 1) + output_padding[i] + window.span(i);
    const std::int64_t total = full - wanted[i];
    // An output larger than the windows reach is filled up behind them.
    const std::int64_t smaller_half = std::max<std::int64_t>(total, 0) / 2;
    const std::int64_t larger_half = std::max<std::int64_t>(total, 0) - smaller_half;
    window.begin[i] = auto_pad == "SAME_UPPER" ? smaller_half : larger_half;
    window.end[i] = total - window.begin[i];
  }
}

void import_conv_transpose(OnnxNode& node) {
  const DType dtype = node.type(0).dtype;
  const ValueId x = cast_narrow(node, node.input(0));
  const ValueId w = cast_narrow(node, node.input(1));
  const ValueId bias = node.has_input(2) ? cast_narrow(node, node.input(2)) : ir::kNone;
  const Dims x_dims = dims_of(node, x);
  const Dims w_dims = dims_of(node, w);
  const std::int64_t groups = to_int32(node.int_or("group", 1), 1, "attribute 'group'");
  if (x_dims.size() < 3 || x_dims.size() > 5 || w_dims.size() != x_dims.size() || w_dims[0] != x_dims[1] ||
      x_dims[1] % groups != 0) {
    node.fail("input " + ir::to_string(x_dims) + ", weights " + ir::to_string(w_dims) + " and group " +
              std::to_string(groups) + " don't fit");
  }
  const Dims spatial(x_dims.begin() + 2, x_dims.end());
  const std::vector<std::int64_t> kernel(w_dims.begin() + 2, w_dims.end());
  if (node.has("kernel_shape") && node.ints_or("kernel_shape", {}) != kernel) {
    node.fail("attribute 'kernel_shape' differs from the weights' " + ir::to_string(kernel));
  }
  if (bias != ir::kNone) require_dims(dims_of(node, bias), {ir::element_count({w_dims[1], groups})}, "the bias");
  Window window = read_window(node, spatial, kernel);
  const std::size_t rank = window.rank();
  // Throws where the extents below would overflow.
  for (std::size_t i = 0; i < rank; ++i) static_cast<void>(ir::element_count({spatial[i], window.stride[i]}));
  const std::vector<std::int64_t> output_padding = detail::window_list(node, "output_padding", rank, 0, 0);
  resolve_pads(node, spatial, output_padding, window);

  const auto is_one = [](std::int64_t number) { return number == 1; };
  const bool strided = !std::all_of(window.stride.begin(), window.stride.end(), is_one);
  if (strided && groups == 1 && std::all_of(window.dilation.begin(), window.dilation.end(), is_one)) {
    Dims out;
    for (std::size_t i = 0; i < rank; ++i) {
      out.push_back((spatial[i] - 1) * window.stride[i] + window.kernel[i] - window.begin[i] - window.end[i] +
                    output_padding[i]);
    }
    const bool some = std::all_of(out.begin(), out.end(), [](std::int64_t extent) { return extent > 0; });
    if (const auto y = some ? convolve_phases(node, x, w, bias, window, out) : std::nullopt) {
      node.set_output(0, cast(node, *y, dtype));
      return;
    }
  }

  // Padding cuts the result's borders off, so the convolution pads by what the window reaches beyond them.
  std::vector<std::int64_t> before{0, 0};
  std::vector<std::int64_t> after{0, 0};
  for (std::size_t i = 0; i < rank; ++i) {
    before.push_back(window.span(i) - 1 - window.begin[i]);
    after.push_back(window.span(i) - 1 - window.end[i] + output_padding[i]);
  }
  const ValueId padded = pad_zero(node, spread(node, x, window.stride), before, after);
  window.stride.assign(rank, 1);
  window.begin.assign(rank, 0);
  window.end.assign(rank, 0);
  const ValueId y = convolve(node, padded, turn_filters(node, w, groups), bias, window, groups);
  node.set_output(0, cast(node, y, dtype));
}

}  // namespace

void register_conv_transpose(Registry& registry) { registry.add_onnx("ConvTranspose", &import_conv_transpose); }

}  // namespace edgert::ops
