// SPDX-License-Identifier: Apache-2.0
// Pictures to another number of channels and other extents.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "io/image.h"

namespace edgert::io {
namespace {

constexpr std::uint8_t kLetterboxGray = 114;

/// The source samples of one output coordinate: a triangle as wide as the output pixel covers, at least one source
/// pixel to each side.
struct Taps {
  int first = 0;
  std::vector<float> weights;
};

Taps make_taps(int source, double ratio, int output) {
  const double centre = (output + 0.5) * ratio - 0.5;
  const double support = std::max(1.0, ratio);
  const int high = std::min(source - 1, static_cast<int>(std::floor(centre + support)));
  Taps taps;
  taps.first = std::clamp(static_cast<int>(std::ceil(centre - support)), 0, high);
  std::vector<double> weights;
  double sum = 0;
  for (int i = taps.first; i <= high; ++i) {
    weights.push_back(std::max(0.0, 1.0 - std::fabs(i - centre) / support));
    sum += weights.back();
  }
  for (const double weight : weights) taps.weights.push_back(static_cast<float>(weight / sum));
  return taps;
}

std::size_t row_size(const Image& image) {
  return static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.channels);
}

Image make_image(int width, int height, int channels, std::uint8_t value) {
  Image image = {width, height, channels, {}};
  image.pixels.assign(static_cast<std::size_t>(height) * row_size(image), value);
  return image;
}

}  // namespace

Image with_channels(const Image& image, int channels) {
  if (image.channels == channels) return image;
  Image out = make_image(image.width, image.height, channels, 0);
  const std::size_t count = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height);
  for (std::size_t i = 0; i < count; ++i) {
    if (channels == 3) {
      std::memset(out.pixels.data() + 3 * i, image.pixels[i], 3);
    } else {
      const std::uint8_t* rgb = image.pixels.data() + 3 * i;
      out.pixels[i] = static_cast<std::uint8_t>((299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000);
    }
  }
  return out;
}

Image resize_stretch(const Image& image, int width, int height, Placement* placement) {
  if (placement != nullptr) {
    *placement = {static_cast<double>(width) / image.width, static_cast<double>(height) / image.height, 0, 0};
  }
  const auto channels = static_cast<std::size_t>(image.channels);
  const double ratio_x = static_cast<double>(image.width) / width;
  const double ratio_y = static_cast<double>(image.height) / height;
  std::vector<Taps> columns;
  for (int x = 0; x < width; ++x) columns.push_back(make_taps(image.width, ratio_x, x));
  Image out = make_image(width, height, image.channels, 0);
  std::uint8_t* to = out.pixels.data();
  // One output row at a time, first over the rows, then over the columns: rounding happens once and memory for one row
  // is enough, whatever the proportions are.
  std::vector<float> row(row_size(image));
  for (int y = 0; y < height; ++y) {
    const Taps rows = make_taps(image.height, ratio_y, y);
    std::fill(row.begin(), row.end(), 0.0f);
    for (std::size_t k = 0; k < rows.weights.size(); ++k) {
      const std::uint8_t* from = image.pixels.data() + (static_cast<std::size_t>(rows.first) + k) * row.size();
      for (std::size_t i = 0; i < row.size(); ++i) row[i] += rows.weights[k] * static_cast<float>(from[i]);
    }
    for (const Taps& taps : columns) {
      for (std::size_t c = 0; c < channels; ++c) {
        float sum = 0;
        const float* from = row.data() + static_cast<std::size_t>(taps.first) * channels + c;
        for (std::size_t k = 0; k < taps.weights.size(); ++k) sum += taps.weights[k] * from[k * channels];
        *to++ = static_cast<std::uint8_t>(std::clamp(std::lround(sum), 0L, 255L));
      }
    }
  }
  return out;
}

Image resize_letterbox(const Image& image, int width, int height, Placement* placement) {
  const double scale = std::min(static_cast<double>(width) / image.width, static_cast<double>(height) / image.height);
  const int inner_width = std::clamp(static_cast<int>(std::lround(image.width * scale)), 1, width);
  const int inner_height = std::clamp(static_cast<int>(std::lround(image.height * scale)), 1, height);
  const int left = (width - inner_width) / 2;
  const int top = (height - inner_height) / 2;
  const Image inner = resize_stretch(image, inner_width, inner_height, placement);
  if (placement != nullptr) {
    placement->offset_x = left;
    placement->offset_y = top;
  }
  Image out = make_image(width, height, image.channels, kLetterboxGray);
  const std::uint8_t* from = inner.pixels.data();
  for (int y = 0; y < inner_height; ++y, from += row_size(inner)) {
    const std::size_t to = static_cast<std::size_t>(top + y) * row_size(out) +
                           static_cast<std::size_t>(left) * static_cast<std::size_t>(image.channels);
    std::memcpy(out.pixels.data() + to, from, row_size(inner));
  }
  return out;
}

}  // namespace edgert::io
