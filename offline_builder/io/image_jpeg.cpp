// SPDX-License-Identifier: Apache-2.0
// JPEG through libjpeg, where it was there at configure time.
#include "io/image_decoders.h"
#include "ir/types.h"

#if defined(EDGERT_HAVE_JPEG)

#include <csetjmp>
#include <cstdio>  // before jpeglib.h, which needs FILE

#include <jpeglib.h>

#include <jerror.h>

namespace edgert::io {
namespace {

/// A progressive picture can ask for its coefficients to be refined for ever; real ones have about ten scans.
constexpr int kMaxScans = 200;

/// libjpeg leaves by longjmp, which must not skip destructors: functions here that call it own nothing.
class JpegReader {
 public:
  JpegReader() {
    jpeg_.err = jpeg_std_error(&errors_);
    jpeg_.client_data = this;
    errors_.error_exit = &JpegReader::on_error;
    errors_.emit_message = &JpegReader::on_message;
    progress_.progress_monitor = &JpegReader::on_progress;
  }
  ~JpegReader() { jpeg_destroy_decompress(&jpeg_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  const char* message() const { return message_; }
  unsigned width() const { return jpeg_.image_width; }
  unsigned height() const { return jpeg_.image_height; }
  int channels() const { return jpeg_.num_components == 1 ? 1 : 3; }

  bool read_header(Span<const std::byte> file) {
    if (setjmp(jump_) != 0) return false;
    jpeg_create_decompress(&jpeg_);
    jpeg_.progress = &progress_;
    jpeg_mem_src(&jpeg_, reinterpret_cast<const unsigned char*>(file.data()), static_cast<unsigned long>(file.size()));
    jpeg_read_header(&jpeg_, TRUE);
    jpeg_.out_color_space = channels() == 1 ? JCS_GRAYSCALE : JCS_RGB;
    return true;
  }

  bool read_pixels(std::uint8_t* pixels) {
    if (setjmp(jump_) != 0) return false;
    jpeg_start_decompress(&jpeg_);
    const auto components = static_cast<std::size_t>(jpeg_.output_components);
    const std::size_t row = static_cast<std::size_t>(jpeg_.output_width) * components;
    while (jpeg_.output_scanline < jpeg_.output_height) {
      JSAMPROW to = pixels + jpeg_.output_scanline * row;
      jpeg_read_scanlines(&jpeg_, &to, 1);
    }
    jpeg_finish_decompress(&jpeg_);
    return true;
  }

 private:
  static JpegReader& self(j_common_ptr jpeg) { return *static_cast<JpegReader*>(jpeg->client_data); }

  [[noreturn]] static void on_error(j_common_ptr jpeg) {
    jpeg->err->format_message(jpeg, self(jpeg).message_);
    std::longjmp(self(jpeg).jump_, 1);
  }
  /// libjpeg fills what is missing with gray and warns. A network must not be fed or calibrated with that.
  static void on_message(j_common_ptr jpeg, int level) {
    const int code = jpeg->err->msg_code;
    if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE)) on_error(jpeg);
  }
  static void on_progress(j_common_ptr jpeg) {
    if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number <= kMaxScans) return;
    std::snprintf(self(jpeg).message_, sizeof(self(jpeg).message_), "more than %d scans", kMaxScans);
    std::longjmp(self(jpeg).jump_, 1);
  }

  jpeg_decompress_struct jpeg_ = {};
  jpeg_error_mgr errors_ = {};
  jpeg_progress_mgr progress_ = {};
  std::jmp_buf jump_ = {};
  char message_[JMSG_LENGTH_MAX] = {};
};

}  // namespace

Image decode_jpeg(Span<const std::byte> file, const std::string& name) {
  JpegReader reader;
  if (!reader.read_header(file)) throw ir::BuildError(name + ": damaged JPEG: " + reader.message());
  Image image;
  allocate_pixels(image, reader.width(), reader.height(), reader.channels(), name);
  if (!reader.read_pixels(image.pixels.data())) throw ir::BuildError(name + ": damaged JPEG: " + reader.message());
  return image;
}

}  // namespace edgert::io

#else

namespace edgert::io {

Image decode_jpeg(Span<const std::byte>, const std::string& name) {
  throw ir::BuildError(name + ": this build reads no JPEG (libjpeg was missing); convert it to PNG");
}

}  // namespace edgert::io

#endif
