// SPDX-License-Identifier: Apache-2.0
// Any bytes as an .npz or .npy file: they end in arrays whose bytes fit their shapes, or in a BuildError.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "io/npz.h"

namespace io = edgert::io;

namespace {

void require_sound(const io::Array& array) {
  if (array.bytes.size() != edgert::ir::dense_bytes({array.dtype, array.dims})) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const edgert::Span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  try {
    for (const auto& [name, array] : io::parse_npz(file, "input")) require_sound(array);
  } catch (const edgert::ir::BuildError&) {
  }
  try {
    require_sound(io::parse_npy(file, "input"));
  } catch (const edgert::ir::BuildError&) {
  }
  return 0;
}
