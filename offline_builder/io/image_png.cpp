// SPDX-License-Identifier: Apache-2.0
// PNG through libpng's full interface: its simplified one would apply gamma, treat 16-bit samples as linear light and
// blend transparency, so that networks would see other values than those in the file.
#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "io/image_decoders.h"
#include "ir/types.h"

namespace edgert::io {
namespace {

/// libpng leaves by longjmp, which must not skip destructors: functions here that call it own nothing.
class PngReader {
 public:
  explicit PngReader(Span<const std::byte> file) : file_(file) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, &PngReader::on_error, &PngReader::on_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  const char* message() const { return message_; }
  std::uint32_t width() const { return png_get_image_width(png_, info_); }
  std::uint32_t height() const { return png_get_image_height(png_, info_); }
  int channels() const { return png_get_channels(png_, info_); }

  /// Afterwards rows are 8-bit gray or RGB.
  bool read_header() {
    if (info_ == nullptr) return false;
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_set_read_fn(png_, this, &PngReader::on_read);
    // A text or profile of gigabytes is nothing that a picture needs.
    png_set_chunk_malloc_max(png_, 8u << 20);
    png_read_info(png_, info_);
    png_set_expand(png_);
    png_set_scale_16(png_);
    png_set_strip_alpha(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    const std::size_t row = static_cast<std::size_t>(width()) * static_cast<std::size_t>(channels());
    const bool known = channels() == 1 || channels() == 3;
    if (!known || png_get_rowbytes(png_, info_) != row) png_error(png_, "unknown kind of samples");
    return true;
  }

  /// `rows` points at each row's pixels.
  bool read_rows(png_bytepp rows) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
    return true;
  }

 private:
  [[noreturn]] static void on_error(png_structp png, png_const_charp message) {
    auto* self = static_cast<PngReader*>(png_get_error_ptr(png));
    std::snprintf(self->message_, sizeof(self->message_), "%s", message);
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}
  static void on_read(png_structp png, png_bytep data, std::size_t size) {
    auto* self = static_cast<PngReader*>(png_get_io_ptr(png));
    if (size > self->file_.size() - self->at_) png_error(png, "cut off");
    std::memcpy(data, self->file_.data() + self->at_, size);
    self->at_ += size;
  }

  Span<const std::byte> file_;
  std::size_t at_ = 0;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  char message_[128] = "out of memory";
};

}  // namespace

Image decode_png(Span<const std::byte> file, const std::string& name) {
  PngReader reader(file);
  if (!reader.read_header()) throw ir::BuildError(name + ": damaged PNG: " + reader.message());
  Image image;
  allocate_pixels(image, reader.width(), reader.height(), reader.channels(), name);
  std::vector<png_bytep> rows(reader.height());
  const std::size_t row = image.pixels.size() / rows.size();
  for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = image.pixels.data() + y * row;
  if (!reader.read_rows(rows.data())) throw ir::BuildError(name + ": damaged PNG: " + reader.message());
  return image;
}

}  // namespace edgert::io
