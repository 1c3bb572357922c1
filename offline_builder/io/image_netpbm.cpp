// SPDX-License-Identifier: Apache-2.0
// Binary PBM, PGM and PPM: https://netpbm.sourceforge.net/doc/pnm.html
#include <algorithm>

#include "io/image_decoders.h"
#include "ir/types.h"

namespace edgert::io {
namespace {

class Netpbm {
 public:
  Netpbm(Span<const std::byte> file, const std::string& name) : file_(file), name_(name) {}

  Image decode() {
    const int kind = byte(1);
    if (kind < '4') throw ir::BuildError(name_ + ": PBM, PGM and PPM are read in their binary forms only");
    at_ = 2;
    const std::uint64_t width = number();
    const std::uint64_t height = number();
    const std::uint64_t maximum = kind == '4' ? 1 : number();
    if (maximum < 1 || maximum > 65535 || !is_space(byte(at_))) fail("damaged PBM, PGM or PPM header");
    ++at_;
    Image image;
    check_length(kind, width, height, maximum);
    allocate_pixels(image, width, height, kind == '6' ? 3 : 1, name_);
    if (kind == '4') {
      read_bits(image);
    } else {
      read_samples(image, static_cast<int>(maximum));
    }
    return image;
  }

 private:
  [[noreturn]] void fail(const char* what) const { throw ir::BuildError(name_ + ": " + what); }
  /// -1 past the end.
  int byte(std::size_t index) const { return index < file_.size() ? std::to_integer<int>(file_[index]) : -1; }
  static bool is_space(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

  std::uint64_t number() {
    while (is_space(byte(at_)) || byte(at_) == '#') {
      if (byte(at_) == '#') {
        while (byte(at_) >= 0 && byte(at_) != '\n') ++at_;
      } else {
        ++at_;
      }
    }
    std::uint64_t value = 0;
    const std::size_t start = at_;
    for (; byte(at_) >= '0' && byte(at_) <= '9' && at_ - start < 10; ++at_) {
      value = value * 10 + static_cast<std::uint64_t>(byte(at_) - '0');
    }
    const bool longer = byte(at_) >= '0' && byte(at_) <= '9';
    if (at_ == start || longer) fail("damaged PBM, PGM or PPM header");
    return value;
  }

  /// Before memory is taken for the picture. Numbers of ten digits cannot wrap.
  void check_length(int kind, std::uint64_t width, std::uint64_t height, std::uint64_t maximum) const {
    const std::uint64_t row = kind == '4' ? (width + 7) / 8 : width * (kind == '6' ? 3 : 1) * (maximum > 255 ? 2 : 1);
    if (row != 0 && (file_.size() - at_) / row < height) fail("PBM, PGM or PPM is cut off");
  }

  void read_bits(Image& image) {
    std::size_t to = 0;
    for (int y = 0; y < image.height; ++y) {
      for (int x = 0; x < image.width; ++x) {
        const bool black = ((byte(at_ + static_cast<std::size_t>(x / 8)) >> (7 - x % 8)) & 1) != 0;
        image.pixels[to++] = black ? 0 : 255;
      }
      at_ += static_cast<std::size_t>(image.width + 7) / 8;
    }
  }

  void read_samples(Image& image, int maximum) {
    for (std::uint8_t& pixel : image.pixels) {
      int sample = byte(at_++);
      if (maximum > 255) sample = sample * 256 + byte(at_++);
      pixel = static_cast<std::uint8_t>((std::min(sample, maximum) * 255 + maximum / 2) / maximum);
    }
  }

  Span<const std::byte> file_;
  const std::string& name_;
  std::size_t at_ = 0;
};

}  // namespace

Image decode_netpbm(Span<const std::byte> file, const std::string& name) { return Netpbm(file, name).decode(); }

}  // namespace edgert::io
