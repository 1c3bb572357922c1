// SPDX-License-Identifier: Apache-2.0
#include "io/image.h"

#include <png.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <csetjmp>
#include <cstring>

#include "io/file.h"
#include "ir/types.h"

#if defined(EDGERT_HAVE_JPEG)
#include <cstdio>  // before jpeglib.h, which needs FILE

#include <jpeglib.h>
#endif

namespace edgert::io {
namespace {

constexpr std::uint64_t kMaxPixels = std::uint64_t{64} << 20;

void allocate(Image& image, std::uint64_t width, std::uint64_t height, int channels, const std::string& path) {
  if (width == 0 || height == 0 || width > kMaxPixels || height > kMaxPixels || width * height > kMaxPixels) {
    throw ir::BuildError(path + ": pictures of " + std::to_string(width) + "x" + std::to_string(height) + " pixels are not supported");
  }
  image.width = static_cast<int>(width);
  image.height = static_cast<int>(height);
  image.channels = channels;
  image.pixels.resize(width * height * static_cast<std::uint64_t>(channels));
}

Image read_png(Span<const std::byte> bytes, const std::string& path) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()) == 0) {
    throw ir::BuildError(path + ": damaged PNG: " + png.message);
  }
  const bool gray = (png.format & PNG_FORMAT_FLAG_COLOR) == 0;
  png.format = gray ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  Image image;
  try {
    allocate(image, png.width, png.height, gray ? 1 : 3, path);
  } catch (...) {
    png_image_free(&png);
    throw;
  }
  // Transparent pixels lie on black.
  const png_color background{0, 0, 0};
  if (png_image_finish_read(&png, &background, image.pixels.data(), 0, nullptr) == 0) {
    const std::string reason = png.message;
    png_image_free(&png);
    throw ir::BuildError(path + ": damaged PNG: " + reason);
  }
  return image;
}

/// Binary PGM (P5) and PPM (P6) with up to 8 bits a sample.
Image read_pnm(Span<const std::byte> bytes, const std::string& path) {
  std::size_t at = 2;
  const auto character = [&] { return at < bytes.size() ? std::to_integer<int>(bytes[at]) : -1; };
  const auto number = [&]() -> std::uint64_t {
    for (;;) {
      while (character() >= 0 && std::isspace(character()) != 0) ++at;
      if (character() != '#') break;
      while (character() >= 0 && character() != '\n') ++at;
    }
    std::uint64_t value = 0;
    const std::size_t start = at;
    while (character() >= '0' && character() <= '9' && value < (1u << 30)) {
      value = value * 10 + static_cast<std::uint64_t>(character() - '0');
      ++at;
    }
    if (at == start) throw ir::BuildError(path + ": damaged PGM or PPM header");
    return value;
  };
  const int channels = std::to_integer<char>(bytes[1]) == '6' ? 3 : 1;
  const std::uint64_t width = number();
  const std::uint64_t height = number();
  const std::uint64_t maximum = number();
  if (maximum < 1 || maximum > 255 || character() < 0) throw ir::BuildError(path + ": only PGM and PPM with 8 bits a sample are supported");
  ++at;
  Image image;
  allocate(image, width, height, channels, path);
  if (bytes.size() - at < image.pixels.size()) throw ir::BuildError(path + ": PGM or PPM is cut off");
  std::memcpy(image.pixels.data(), bytes.data() + at, image.pixels.size());
  for (std::uint8_t& sample : image.pixels) {
    sample = static_cast<std::uint8_t>((std::min<std::uint64_t>(sample, maximum) * 255 + maximum / 2) / maximum);
  }
  return image;
}

#if defined(EDGERT_HAVE_JPEG)
struct JpegError {
  jpeg_error_mgr manager;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

void jpeg_failed(j_common_ptr jpeg) {
  auto* error = reinterpret_cast<JpegError*>(jpeg->err);
  jpeg->err->format_message(jpeg, error->message);
  std::longjmp(error->jump, 1);
}

/// C only between setjmp and longjmp: no object with a destructor lives here. Decodes into `image`, whose pixels
/// `prepare` sizes once the header is read; false with a message otherwise.
bool decode_jpeg(Span<const std::byte> bytes, Image& image, JpegError& error, bool (*prepare)(Image&, unsigned, unsigned, int)) {
  jpeg_decompress_struct jpeg;
  jpeg.err = jpeg_std_error(&error.manager);
  error.manager.error_exit = &jpeg_failed;
  error.manager.output_message = [](j_common_ptr) {};
  jpeg_create_decompress(&jpeg);
  if (setjmp(error.jump) != 0) {
    jpeg_destroy_decompress(&jpeg);
    return false;
  }
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&jpeg, TRUE);
  jpeg.out_color_space = jpeg.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_start_decompress(&jpeg);
  const bool fits = prepare(image, jpeg.output_width, jpeg.output_height, jpeg.output_components);
  while (fits && jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = image.pixels.data() + static_cast<std::size_t>(jpeg.output_scanline) * jpeg.output_width *
                                             static_cast<std::size_t>(jpeg.output_components);
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  if (fits) jpeg_finish_decompress(&jpeg);
  jpeg_destroy_decompress(&jpeg);
  if (!fits) std::strcpy(error.message, "too large");
  return fits;
}

Image read_jpeg(Span<const std::byte> bytes, const std::string& path) {
  Image image;
  JpegError error{};
  const auto prepare = [](Image& target, unsigned width, unsigned height, int channels) {
    try {
      allocate(target, width, height, channels, "");
      return true;
    } catch (...) {
      return false;
    }
  };
  if (!decode_jpeg(bytes, image, error, prepare)) throw ir::BuildError(path + ": damaged JPEG: " + error.message);
  return image;
}
#endif

/// Weights of source samples for one output coordinate: a triangle as wide as the output pixel covers, at least one
/// source pixel to each side.
struct Taps {
  int first = 0;
  std::vector<float> weights;
};

std::vector<Taps> make_taps(int source, int target) {
  std::vector<Taps> taps(static_cast<std::size_t>(target));
  const double ratio = static_cast<double>(source) / target;
  const double support = std::max(1.0, ratio);
  for (int i = 0; i < target; ++i) {
    const double center = (i + 0.5) * ratio - 0.5;
    const int low = std::max(0, static_cast<int>(std::ceil(center - support)));
    const int high = std::min(source - 1, static_cast<int>(std::floor(center + support)));
    Taps& tap = taps[static_cast<std::size_t>(i)];
    tap.first = std::min(low, high);
    double sum = 0;
    for (int k = tap.first; k <= high; ++k) {
      const double weight = std::max(0.0, 1.0 - std::fabs(k - center) / support);
      tap.weights.push_back(static_cast<float>(weight));
      sum += weight;
    }
    if (sum <= 0) {
      // Beyond the edge: the edge itself.
      tap.weights.assign(1, 1.f);
      tap.first = std::clamp(static_cast<int>(std::lround(center)), 0, source - 1);
      continue;
    }
    for (float& weight : tap.weights) weight = static_cast<float>(weight / sum);
  }
  return taps;
}

}  // namespace

Image read_image(const std::string& path) {
  const MappedFile file(path);
  const Span<const std::byte> bytes = file.bytes();
  static const unsigned char kPng[8] = {0x89, 'P', 'N', 'G', 0x0d, 0x0a, 0x1a, 0x0a};
  if (bytes.size() >= 8 && std::memcmp(bytes.data(), kPng, 8) == 0) return read_png(bytes, path);
  if (bytes.size() >= 3 && std::to_integer<char>(bytes[0]) == 'P' &&
      (std::to_integer<char>(bytes[1]) == '5' || std::to_integer<char>(bytes[1]) == '6')) {
    return read_pnm(bytes, path);
  }
  if (bytes.size() >= 3 && std::to_integer<int>(bytes[0]) == 0xff && std::to_integer<int>(bytes[1]) == 0xd8) {
#if defined(EDGERT_HAVE_JPEG)
    return read_jpeg(bytes, path);
#else
    throw ir::BuildError(path + ": this build reads no JPEG (libjpeg was missing); convert it to PNG");
#endif
  }
  throw ir::BuildError(path + ": not a PNG, PGM, PPM or JPEG picture");
}

Image with_channels(const Image& image, int channels) {
  if (image.channels == channels) return image;
  Image out;
  out.width = image.width;
  out.height = image.height;
  out.channels = channels;
  const std::size_t count = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height);
  out.pixels.resize(count * static_cast<std::size_t>(channels));
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
  const std::vector<Taps> columns = make_taps(image.width, width);
  const std::vector<Taps> rows = make_taps(image.height, height);
  const auto channels = static_cast<std::size_t>(image.channels);
  // Rows first to the new width, kept in float so that rounding happens once.
  std::vector<float> wide(static_cast<std::size_t>(image.height) * static_cast<std::size_t>(width) * channels);
  for (int y = 0; y < image.height; ++y) {
    const std::uint8_t* source = image.pixels.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(image.width) * channels;
    for (int x = 0; x < width; ++x) {
      const Taps& tap = columns[static_cast<std::size_t>(x)];
      for (std::size_t c = 0; c < channels; ++c) {
        float sum = 0;
        for (std::size_t k = 0; k < tap.weights.size(); ++k) {
          sum += tap.weights[k] * static_cast<float>(source[(static_cast<std::size_t>(tap.first) + k) * channels + c]);
        }
        wide[(static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)) * channels + c] = sum;
      }
    }
  }
  Image out;
  out.width = width;
  out.height = height;
  out.channels = image.channels;
  const std::size_t row = static_cast<std::size_t>(width) * channels;
  out.pixels.resize(static_cast<std::size_t>(height) * row);
  for (int y = 0; y < height; ++y) {
    const Taps& tap = rows[static_cast<std::size_t>(y)];
    for (std::size_t i = 0; i < row; ++i) {
      float sum = 0;
      for (std::size_t k = 0; k < tap.weights.size(); ++k) sum += tap.weights[k] * wide[(static_cast<std::size_t>(tap.first) + k) * row + i];
      out.pixels[static_cast<std::size_t>(y) * row + i] = static_cast<std::uint8_t>(std::clamp(std::lround(sum), 0L, 255L));
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
  Image inner = resize_stretch(image, inner_width, inner_height, placement);
  if (placement != nullptr) {
    placement->offset_x = left;
    placement->offset_y = top;
  }
  Image out;
  out.width = width;
  out.height = height;
  out.channels = image.channels;
  const auto channels = static_cast<std::size_t>(image.channels);
  out.pixels.assign(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * channels, 114);
  for (int y = 0; y < inner_height; ++y) {
    std::memcpy(out.pixels.data() + (static_cast<std::size_t>(top + y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(left)) * channels,
                inner.pixels.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(inner_width) * channels,
                static_cast<std::size_t>(inner_width) * channels);
  }
  return out;
}

}  // namespace edgert::io
