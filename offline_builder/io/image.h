// SPDX-License-Identifier: Apache-2.0
// Pictures from files, resized and laid out for a network.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "edgert/span.h"

namespace edgert::io {

/// Interleaved bytes, rows from the top, no padding.
struct Image {
  int width = 0;
  int height = 0;
  int channels = 0;  ///< 1: gray, 3: RGB
  std::vector<std::uint8_t> pixels;
};

/// Reads PNG, binary PBM/PGM/PPM and, where libjpeg was there at build time, JPEG; by content, not by name. Samples are
/// taken as they are stored: 16 bits are scaled to 8, transparency, gamma, colour profiles and EXIF rotation are left
/// aside. Throws IoError when the file cannot be read and ir::BuildError when it is none of these, damaged, cut off, or
/// above 64 megapixels.
Image read_image(const std::string& path);

/// The same from memory; `name` stands for the path in messages.
Image decode_image(Span<const std::byte> file, const std::string& name);

/// Gray from RGB by BT.601 luma weights; RGB from gray by repetition.
Image with_channels(const Image& image, int channels);

/// How a resized picture lies in its frame: x_out = x_in * scale_x + offset_x, and y alike.
struct Placement {
  double scale_x = 1;
  double scale_y = 1;
  double offset_x = 0;
  double offset_y = 0;
};

/// Bilinear to exactly width x height (pixel centres at half, edges clamped). When shrinking, every source pixel that
/// an output pixel covers is averaged. The picture and the frame have at least one pixel.
Image resize_stretch(const Image& image, int width, int height, Placement* placement = nullptr);
/// Keeps the proportions; the rest of the frame is gray (114).
Image resize_letterbox(const Image& image, int width, int height, Placement* placement = nullptr);

}  // namespace edgert::io
