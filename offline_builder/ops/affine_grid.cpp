// SPDX-License-Identifier: Apache-2.0
// ONNX AffineGrid: the positions of an image's pixels, between -1 and 1, through an affine map.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

/// Where pixel i of `extent` lies; a single one in the middle.
double position(std::int64_t i, std::int64_t extent, bool align_corners) {
  const auto count = static_cast<double>(extent);
  if (align_corners) return extent == 1 ? 0.0 : static_cast<double>(2 * i) / (count - 1) - 1;
  return static_cast<double>(2 * i + 1) / count - 1;
}

void import_affine_grid(OnnxNode& node) {
  const Dims theta = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  const std::vector<std::int64_t> size = known_ints(node, 1, "the size");
  const bool align_corners = node.int_or("align_corners", 0) != 0;
  if (size.size() < 4 || size.size() > 5) node.fail("the size must have 4 or 5 elements");
  const auto axes = static_cast<std::int64_t>(size.size()) - 2;
  require_dims(theta, {size[0], axes, axes + 1}, "theta");
  const Dims spatial(size.begin() + 2, size.end());
  for (const std::int64_t extent : spatial) {
    if (extent < 1) node.fail("the size is " + ir::to_string(size));
  }
  const std::int64_t pixels = checked_constant_size(node, spatial);
  checked_constant_size(node, {pixels, axes + 1});
  std::vector<float> grid;  // [pixels, axes + 1]: x, y (, z), 1
  for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
    std::int64_t rest = pixel;
    for (std::size_t i = spatial.size(); i-- > 0; rest /= spatial[i]) {
      grid.push_back(static_cast<float>(position(rest % spatial[i], spatial[i], align_corners)));
    }
    grid.push_back(1.0f);
  }
  const ValueId map = transpose(node, cast_narrow(node, node.input(0)), {0, 2, 1});
  const ValueId base = cast(node, float_constant(node, {pixels, axes + 1}, grid), dtype_of(node, map));
  Dims out{size[0]};
  out.insert(out.end(), spatial.begin(), spatial.end());
  out.push_back(axes);
  const ValueId left = reshape(node, base, {1, pixels, axes + 1});
  node.set_output(0, cast(node, reshape(node, matmul(node, left, map), out), dtype));
}

}  // namespace

void register_affine_grid(Registry& registry) { registry.add_onnx("AffineGrid", &import_affine_grid, 20); }

}  // namespace edgert::ops
