// SPDX-License-Identifier: Apache-2.0
// The sliding window that convolutions and pooling share: attributes of ONNX's nodes, resolved and checked.
#pragma once

#include <vector>

#include "ops/compose.h"

namespace edgert::ops {

/// One entry a spatial dimension.
struct Window {
  std::vector<std::int64_t> kernel, stride, dilation, begin, end;

  std::size_t rank() const { return kernel.size(); }
  /// Elements from the first to the last that one window reads.
  std::int64_t span(std::size_t i) const { return (kernel[i] - 1) * dilation[i] + 1; }
  /// Adds a leading dimension of extent 1, so that a one-dimensional window becomes two-dimensional.
  void lift() {
    for (std::vector<std::int64_t>* field : {&kernel, &stride, &dilation}) field->insert(field->begin(), 1);
    for (std::vector<std::int64_t>* field : {&begin, &end}) field->insert(field->begin(), 0);
  }
};

namespace detail {

inline std::vector<std::int64_t> window_list(const OnnxNode& node, const char* attribute, std::size_t rank,
                                             std::int64_t minimum, std::int64_t fallback) {
  std::vector<std::int64_t> values = node.ints_or(attribute, std::vector<std::int64_t>(rank, fallback));
  if (values.size() != rank) {
    node.fail(std::string("attribute '") + attribute + "' has " + std::to_string(values.size()) + " entries, not " +
              std::to_string(rank));
  }
  for (const std::int64_t value : values) to_int32(value, minimum, std::string("attribute '") + attribute + "'");
  return values;
}

}  // namespace detail

/// Reads strides, dilations, pads and auto_pad for windows of `kernel` over `spatial` extents.
inline Window read_window(const OnnxNode& node, const Dims& spatial, const std::vector<std::int64_t>& kernel) {
  const std::size_t rank = spatial.size();
  Window window;
  window.kernel = kernel;
  for (const std::int64_t extent : kernel) to_int32(extent, 1, "the kernel's extent");
  window.stride = detail::window_list(node, "strides", rank, 1, 1);
  window.dilation = detail::window_list(node, "dilations", rank, 1, 1);
  window.begin.assign(rank, 0);
  window.end.assign(rank, 0);
  const std::string auto_pad = node.string_or("auto_pad", "NOTSET");
  if (auto_pad == "NOTSET" || auto_pad.empty()) {
    const std::vector<std::int64_t> pads = detail::window_list(node, "pads", 2 * rank, 0, 0);
    window.begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank));
    window.end.assign(pads.begin() + static_cast<std::ptrdiff_t>(rank), pads.end());
  } else if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
    for (std::size_t i = 0; i < rank; ++i) {
      const std::int64_t positions = (spatial[i] + window.stride[i] - 1) / window.stride[i];
      const std::int64_t total =
          std::max<std::int64_t>((positions - 1) * window.stride[i] + window.span(i) - spatial[i], 0);
      window.begin[i] = auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
      window.end[i] = total - window.begin[i];
    }
  } else if (auto_pad != "VALID") {
    node.fail("auto_pad '" + auto_pad + "' is not known");
  }
  return window;
}

/// x [N, C, one to three spatial dimensions] convolved with w [M, C / groups, ...]; bias [M] or kNone. In conv.cpp.
ValueId convolve(OnnxNode& node, ValueId x, ValueId w, ValueId bias, Window window, std::int64_t groups);

/// kernel_shape, which pooling needs and convolutions may repeat.
inline std::vector<std::int64_t> kernel_shape(const OnnxNode& node, std::size_t rank) {
  if (!node.has("kernel_shape")) node.fail("attribute 'kernel_shape' is missing");
  return detail::window_list(node, "kernel_shape", rank, 1, 1);
}

inline void store_pair(const std::vector<std::int64_t>& values, std::int32_t (&out)[2]) {
  out[0] = to_int32(values.at(0), 0, "a window's extent");
  out[1] = to_int32(values.at(1), 0, "a window's extent");
}

/// "kernel=3x3 stride=2x2 dilation=1x1 pad=1,1,0,0" of any attribute struct with these members.
template <class Attributes>
std::string describe_window(const Attributes& a) {
  const auto pair = [](const std::int32_t(&p)[2]) { return std::to_string(p[0]) + 'x' + std::to_string(p[1]); };
  return "kernel=" + pair(a.kernel) + " stride=" + pair(a.stride) + " dilation=" + pair(a.dilation) +
         " pad=" + std::to_string(a.pad_begin[0]) + ',' + std::to_string(a.pad_begin[1]) + ',' +
         std::to_string(a.pad_end[0]) + ',' + std::to_string(a.pad_end[1]);
}

/// Output extent along spatial dimension `i` (0: rows) of an attribute struct with these members.
template <class Attributes>
std::int64_t window_output(const Attributes& a, std::size_t i, std::int64_t extent, bool ceil = false) {
  require(a.kernel[i] >= 1 && a.stride[i] >= 1 && a.dilation[i] >= 1 && a.pad_begin[i] >= 0 && a.pad_end[i] >= 0,
          "kernel, stride and dilation must be at least 1 and padding at least 0");
  const std::int64_t span = (std::int64_t{a.kernel[i]} - 1) * a.dilation[i] + 1;
  const std::int64_t padded = extent + a.pad_begin[i] + a.pad_end[i];
  const std::int64_t count = window_positions(padded, span, a.stride[i], ceil);
  // Rounding up never adds a window that starts in the padding behind the image.
  const bool beyond = ceil && (count - 1) * a.stride[i] >= extent + a.pad_begin[i];
  return beyond ? count - 1 : count;
}

}  // namespace edgert::ops
