// SPDX-License-Identifier: Apache-2.0
// Chooses the decoder by the file's first bytes.
#include "io/image.h"

#include <cstring>

#include "io/file.h"
#include "io/image_decoders.h"
#include "ir/types.h"

namespace edgert::io {
namespace {

constexpr std::uint64_t kMaxPixels = std::uint64_t{64} << 20;

template <std::size_t N>
bool begins_with(Span<const std::byte> file, const unsigned char (&magic)[N]) {
  return file.size() >= N && std::memcmp(file.data(), magic, N) == 0;
}

}  // namespace

void allocate_pixels(Image& image, std::uint64_t width, std::uint64_t height, int channels, const std::string& name) {
  if (width == 0 || height == 0 || width > kMaxPixels || height > kMaxPixels || width * height > kMaxPixels) {
    throw ir::BuildError(name + ": pictures of " + std::to_string(width) + "x" + std::to_string(height) +
                         " pixels are not supported");
  }
  image.width = static_cast<int>(width);
  image.height = static_cast<int>(height);
  image.channels = channels;
  image.pixels.assign(static_cast<std::size_t>(width * height) * static_cast<std::size_t>(channels), 0);
}

Image decode_image(Span<const std::byte> file, const std::string& name) {
  static constexpr unsigned char kPng[] = {0x89, 'P', 'N', 'G', 0x0d, 0x0a, 0x1a, 0x0a};
  static constexpr unsigned char kJpeg[] = {0xff, 0xd8, 0xff};
  if (begins_with(file, kPng)) return decode_png(file, name);
  if (begins_with(file, kJpeg)) return decode_jpeg(file, name);
  if (file.size() >= 2 && file[0] == std::byte{'P'} && file[1] >= std::byte{'1'} && file[1] <= std::byte{'6'}) {
    return decode_netpbm(file, name);
  }
  throw ir::BuildError(name + ": not a PNG, JPEG, PBM, PGM or PPM picture");
}

Image read_image(const std::string& path) {
  const MappedFile file(path);
  return decode_image(file.bytes(), path);
}

}  // namespace edgert::io
