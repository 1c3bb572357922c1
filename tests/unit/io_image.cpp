// SPDX-License-Identifier: Apache-2.0
// Pictures of every format and kind of samples, damaged ones, and resizing against sums written out naively.
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "io/file.h"
#include "io/image.h"
#include "io_folder.h"
#include "io_pictures.h"
#include "ir/types.h"

using edgert::io::decode_image;
using edgert::io::Image;
using edgert::io::IoError;
using edgert::io::Placement;
using edgert::ir::BuildError;
using io_test::bytes_of;
using io_test::contains;
using io_test::message_of;

namespace {

template <std::size_t N>
std::string text_of(const unsigned char (&file)[N]) {
  return {reinterpret_cast<const char*>(file), N};
}

Image decode(const std::string& file) { return decode_image(bytes_of(file), "x.png"); }
std::string refused(const std::string& file) {
  return message_of<BuildError>([&] { decode(file); });
}

int at(const Image& image, int x, int y, int channel = 0) {
  return image.pixels.at(static_cast<std::size_t>((y * image.width + x) * image.channels + channel));
}

/// Compares with the pixels that io_pictures.h describes, give or take `tolerance`.
void check_pixels(const Image& image, int width, int height, int channels, int tolerance) {
  REQUIRE(image.width == width);
  REQUIRE(image.height == height);
  REQUIRE(image.channels == channels);
  REQUIRE(image.pixels.size() == static_cast<std::size_t>(width * height * channels));
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const int expected[3] = {40 * x, 60 * y, 20 * (x + y)};
      for (int c = 0; c < channels; ++c) CHECK(std::abs(at(image, x, y, c) - expected[c]) <= tolerance);
    }
  }
}

Image random_image(std::mt19937& random, int width, int height, int channels) {
  Image image = {width, height, channels, {}};
  for (int i = 0; i < width * height * channels; ++i) image.pixels.push_back(static_cast<std::uint8_t>(random()));
  return image;
}

/// Every output sample as one weighted sum over the whole picture, in double.
double naive_resize(const Image& image, int width, int height, int x, int y, int channel) {
  const auto weight = [](int source, int target, int out, int in) {
    const double ratio = static_cast<double>(source) / target;
    const double distance = std::fabs(in + 0.5 - (out + 0.5) * ratio) / std::max(1.0, ratio);
    return std::max(0.0, 1.0 - distance);
  };
  double sum = 0;
  double total = 0;
  for (int v = 0; v < image.height; ++v) {
    for (int u = 0; u < image.width; ++u) {
      const double w = weight(image.width, width, x, u) * weight(image.height, height, y, v);
      sum += w * at(image, u, v, channel);
      total += w;
    }
  }
  return sum / total;
}

/// Cuts the file at every length and flips bits everywhere: all must end in a picture or a BuildError.
int count_accepted(const std::string& file) {
  for (std::size_t size = 0; size < file.size(); ++size) {
    const std::vector<char> cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK_THROWS_AS(decode_image({reinterpret_cast<const std::byte*>(cut.data()), cut.size()}, "cut"), BuildError);
  }
  int accepted = 0;
  for (std::size_t byte = 0; byte < file.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = file;
      damaged[byte] = static_cast<char>(damaged[byte] ^ (1 << bit));
      try {
        const Image image = decode(damaged);
        CHECK(image.pixels.size() == static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height) *
                                         static_cast<std::size_t>(image.channels));
        ++accepted;
      } catch (const BuildError&) {
      }
    }
  }
  return accepted;
}

}  // namespace

TEST_CASE("image: PNG samples are taken as they are stored") {
  check_pixels(decode(text_of(pictures::kPngRgb)), 6, 4, 3, 0);
  check_pixels(decode(text_of(pictures::kPngRgba)), 6, 4, 3, 0);
  check_pixels(decode(text_of(pictures::kPngGrayAlpha)), 6, 4, 1, 0);
  check_pixels(decode(text_of(pictures::kPngGray16)), 6, 4, 1, 0);
  const Image interlaced = decode(text_of(pictures::kPngInterlaced));
  const Image bits = decode(text_of(pictures::kPngBits));
  const Image palette = decode(text_of(pictures::kPngPalette));
  REQUIRE(interlaced.pixels.size() == 24);
  REQUIRE(bits.pixels.size() == 8);
  REQUIRE(palette.pixels.size() == 24);
  for (int y = 0; y < 4; ++y) {
    for (int x = 0; x < 6; ++x) CHECK(at(interlaced, x, y) == 40 * x + y);
  }
  for (int y = 0; y < 2; ++y) {
    for (int x = 0; x < 4; ++x) {
      CHECK(at(bits, x, y) == ((x + y) % 2 == 0 ? 255 : 0));
      CHECK(at(palette, x, y, 0) == 40 * x);
      CHECK(at(palette, x, y, 1) == 60);
      CHECK(at(palette, x, y, 2) == 20 * (x + 1));
    }
  }
}

TEST_CASE("image: PBM, PGM and PPM") {
  const Image gray = decode("P5 # comment\n#another\n3\t2\n255\n" + std::string("\x00\x01\x02\xfd\xfe\xff", 6));
  CHECK(gray.channels == 1);
  CHECK(gray.pixels == std::vector<std::uint8_t>{0, 1, 2, 253, 254, 255});
  const Image color = decode("P6\n1 2\n255\nabcdef and more");
  CHECK(color.channels == 3);
  CHECK(color.pixels == std::vector<std::uint8_t>{'a', 'b', 'c', 'd', 'e', 'f'});
  CHECK(decode("P5 3 1 15 " + std::string("\x00\x05\x0f", 3)).pixels == std::vector<std::uint8_t>{0, 85, 255});
  CHECK(decode("P5 2 1 65535 " + std::string("\x80\x80\xff\xff", 4)).pixels == std::vector<std::uint8_t>{128, 255});
  CHECK(decode("P4 10 2\n" + std::string("\xaa\x80\x00\x40", 4)).pixels ==
        std::vector<std::uint8_t>{0, 255, 0, 255, 0, 255, 0, 255, 0, 255,  //
                                  255, 255, 255, 255, 255, 255, 255, 255, 255, 0});
  CHECK(contains(refused("P5 3 2 255\nabcde"), "cut off"));
  CHECK(contains(refused("P4 9 1\na"), "cut off"));
  CHECK(contains(refused("P5 3 2 0\nabcdef"), "header"));
  CHECK(contains(refused("P5 3 2 65536\nabcdef"), "header"));
  CHECK(contains(refused("P5 3 x 255\nabcdef"), "header"));
  CHECK(contains(refused("P5 3 2 255"), "header"));
  CHECK(contains(refused("P5 0 2 255\n"), "0x2 pixels are not supported"));
  CHECK(contains(refused("P5 9999999999 9999999999 255\nabc"), "cut off"));
  CHECK(contains(refused("P5 99999999999999999999 1 255\nabc"), "header"));
  CHECK(contains(refused("P2 1 1 255\n7"), "binary forms only"));
}

TEST_CASE("image: JPEG, where it is built in") {
  const std::string file = text_of(pictures::kJpegRgb);
  if (contains(refused(file), "reads no JPEG")) {
    MESSAGE("this build has no libjpeg");
    return;
  }
  check_pixels(decode(file), 6, 4, 3, 6);
  check_pixels(decode(text_of(pictures::kJpegProgressive)), 6, 4, 3, 6);
  check_pixels(decode(text_of(pictures::kJpegGray)), 6, 4, 1, 4);
  count_accepted(file);
  count_accepted(text_of(pictures::kJpegProgressive));
}

TEST_CASE("image: damaged PNGs are refused") {
  // Every byte of this one is under a checksum or a fixed value.
  CHECK(count_accepted(text_of(pictures::kPngGray16)) == 0);
  count_accepted(text_of(pictures::kPngRgb));
  count_accepted(text_of(pictures::kPngPalette));
  count_accepted(text_of(pictures::kPngInterlaced));
}

TEST_CASE("image: files, names and what is no picture") {
  const io_test::Folder folder;
  io_test::put(folder.file("a.jpg"), text_of(pictures::kPngRgb));
  check_pixels(edgert::io::read_image(folder.file("a.jpg")), 6, 4, 3, 0);
  CHECK(contains(message_of<IoError>([&] { edgert::io::read_image(folder.file("none.png")); }), "none.png"));
  CHECK(contains(refused(""), "x.png: not a PNG, JPEG"));
  CHECK(contains(refused("GIF89a"), "x.png: not a PNG, JPEG"));
  CHECK(contains(refused("P5 8193 8193 255\n" + std::string(8193 * 8193, 'x')), "8193x8193 pixels are not supported"));
}

TEST_CASE("image: gray and colour") {
  const Image gray = {2, 1, 1, {10, 200}};
  CHECK(edgert::io::with_channels(gray, 3).pixels == std::vector<std::uint8_t>{10, 10, 10, 200, 200, 200});
  const Image color = {4, 1, 3, {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255}};
  CHECK(edgert::io::with_channels(color, 1).pixels == std::vector<std::uint8_t>{76, 150, 29, 255});
  CHECK(edgert::io::with_channels(color, 3).pixels == color.pixels);
}

TEST_CASE("image: resizing is the weighted sum that it says") {
  std::mt19937 random(5);
  const int extents[][4] = {{7, 5, 7, 5}, {7, 5, 14, 10}, {7, 5, 3, 2}, {1, 1, 4, 3}, {9, 4, 1, 1},
                            {16, 3, 5, 11}, {2, 31, 8, 7}, {1, 40, 3, 13}};
  for (const auto& [width, height, to_width, to_height] : extents) {
    for (const int channels : {1, 3}) {
      const Image image = random_image(random, width, height, channels);
      Placement placement;
      const Image out = edgert::io::resize_stretch(image, to_width, to_height, &placement);
      REQUIRE(out.width == to_width);
      REQUIRE(out.height == to_height);
      REQUIRE(out.channels == channels);
      CHECK(placement.scale_x == doctest::Approx(static_cast<double>(to_width) / width));
      CHECK(placement.scale_y == doctest::Approx(static_cast<double>(to_height) / height));
      for (int y = 0; y < to_height; ++y) {
        for (int x = 0; x < to_width; ++x) {
          for (int c = 0; c < channels; ++c) {
            const double expected = naive_resize(image, to_width, to_height, x, y, c);
            CHECK(std::fabs(at(out, x, y, c) - expected) <= 0.501);
          }
        }
      }
    }
  }
}

TEST_CASE("image: the same extents change nothing, one colour stays one colour") {
  std::mt19937 random(6);
  const Image image = random_image(random, 13, 8, 3);
  CHECK(edgert::io::resize_stretch(image, 13, 8).pixels == image.pixels);
  CHECK(edgert::io::resize_letterbox(image, 13, 8).pixels == image.pixels);
  const Image plain = {37, 23, 1, std::vector<std::uint8_t>(37 * 23, 201)};
  CHECK(edgert::io::resize_stretch(plain, 50, 9).pixels == std::vector<std::uint8_t>(450, 201));
}

TEST_CASE("image: letterboxes keep proportions and say where boxes lie") {
  const Image white = {200, 100, 3, std::vector<std::uint8_t>(60000, 255)};
  Placement placement;
  const Image wide = edgert::io::resize_letterbox(white, 64, 64, &placement);
  CHECK(placement.scale_x == doctest::Approx(0.32));
  CHECK(placement.scale_y == doctest::Approx(0.32));
  CHECK(placement.offset_x == 0);
  CHECK(placement.offset_y == 16);
  for (int y = 0; y < 64; ++y) {
    for (int x = 0; x < 64; ++x) CHECK(at(wide, x, y, 1) == (y >= 16 && y < 48 ? 255 : 114));
  }
  const Image tall = edgert::io::resize_letterbox({3, 1000, 1, std::vector<std::uint8_t>(3000, 9)}, 10, 20, &placement);
  CHECK(placement.offset_x == 4);
  CHECK(placement.offset_y == 0);
  CHECK(placement.scale_x == doctest::Approx(1.0 / 3));  // never narrower than a pixel
  CHECK(at(tall, 4, 10) == 9);
  CHECK(at(tall, 5, 10) == 114);
}
