// SPDX-License-Identifier: Apache-2.0
// Col2Im: sums windows' elements into the images that they were taken from. An image is a column of a matrix, one row a
// pixel, padding included, so that one list of rows serves every image and channel.
#include <algorithm>

#include "ops/scatter.h"
#include "ops/window.h"

namespace edgert::ops {
namespace {

/// For each element of a window, and each window: the row of the padded image that it adds to.
std::vector<std::int64_t> rows_of(const Window& window, const Dims& padded, const Dims& positions) {
  const Dims strides = ir::dense_strides(padded);
  std::vector<std::int64_t> rows;
  for (std::int64_t element = 0; element < ir::element_count(window.kernel); ++element) {
    for (std::int64_t position = 0; position < ir::element_count(positions); ++position) {
      std::int64_t row = 0;
      std::int64_t e = element;
      std::int64_t p = position;
      for (std::size_t i = window.rank(); i-- > 0; e /= window.kernel[i], p /= positions[i])
        row += (e % window.kernel[i] * window.dilation[i] + p % positions[i] * window.stride[i]) * strides[i];
      rows.push_back(row);
    }
  }
  return rows;
}

void import_col2im(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  const Dims image = known_ints(node, 1, "the shape of the image");
  const Dims block = known_ints(node, 2, "the shape of the block");
  if (dims.size() != 3 || image.empty() || image.size() != block.size() || image.size() + 2 > kMaxRank)
    node.fail("the input must have rank 3, and image and block as many dimensions as each other");
  for (const std::int64_t extent : image) to_int32(extent, 1, "the image's extent");
  const Window window = read_window(node, image, block);
  Dims padded;
  Dims positions;
  for (std::size_t i = 0; i < image.size(); ++i) {
    padded.push_back(image[i] + window.begin[i] + window.end[i]);
    positions.push_back(window_positions(padded[i], window.span(i), window.stride[i]));
  }
  const std::int64_t elements = ir::element_count(block);
  const std::int64_t windows = ir::element_count(positions);
  if (dims[1] % elements != 0 || dims[2] != windows)
    node.fail("the input " + ir::to_string(dims) + " is not a multiple of " + std::to_string(elements) + " by " +
              std::to_string(windows));
  const std::int64_t channels = dims[1] / elements;
  const std::int64_t images = ir::element_count({dims[0], channels});
  const std::int64_t count = checked_constant_size(node, {elements, windows});

  const ValueId split = reshape(node, cast_narrow(node, node.input(0)), {images, elements, windows});
  const ValueId updates = reshape(node, transpose(node, split, {1, 2, 0}), {count, images});
  const ValueId rows = int64_constant(node, {count}, rows_of(window, padded, positions));
  const ValueId zeros =
      expand(node, scalar_constant(node, dtype_of(node, updates), 0), {ir::element_count(padded), images});
  const ValueId sums = scatter_rows(node, zeros, rows, updates, cpu::ScatterReduction::Add);
  Dims pixels = padded;
  pixels.push_back(images);
  ValueId y = reshape(node, sums, pixels);
  for (std::size_t i = 0; i < image.size(); ++i) y = slice(node, y, i, window.begin[i], image[i]);
  std::vector<std::int64_t> perm = iota(static_cast<std::int64_t>(image.size()) + 1);
  std::rotate(perm.begin(), perm.end() - 1, perm.end());
  Dims out{dims[0], channels};
  out.insert(out.end(), image.begin(), image.end());
  node.set_output(0, cast(node, reshape(node, transpose(node, y, perm), out), dtype));
}

}  // namespace

void register_col2im(Registry& registry) { registry.add_onnx("Col2Im", &import_col2im, 18); }

}  // namespace edgert::ops
