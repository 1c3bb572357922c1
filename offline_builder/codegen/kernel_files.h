// SPDX-License-Identifier: Apache-2.0
// The device sources that the builder carries: kernels/ and the scalar headers, embedded by cmake/EmbedKernels.cmake.
#pragma once

#include <string_view>

#include "edgert/span.h"

namespace edgert::codegen {

/// One file by the name under which sources include it: "kernels/conv.cu", "edgert/scalar/math.h".
struct KernelFile {
  std::string_view name;
  std::string_view text;
};

/// All of them. The memory is static.
Span<const KernelFile> kernel_files();

}  // namespace edgert::codegen
