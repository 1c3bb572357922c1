// SPDX-License-Identifier: Apache-2.0
// One decoder a picture format, behind decode_image.
#pragma once

#include <string>

#include "io/image.h"

namespace edgert::io {

/// Gives `image` its extents and zeroed pixels; ir::BuildError for none or more than 64 megapixels.
void allocate_pixels(Image& image, std::uint64_t width, std::uint64_t height, int channels, const std::string& name);

/// The file begins as the format's files do. Throw ir::BuildError.
Image decode_png(Span<const std::byte> file, const std::string& name);
Image decode_jpeg(Span<const std::byte> file, const std::string& name);
Image decode_netpbm(Span<const std::byte> file, const std::string& name);

}  // namespace edgert::io
