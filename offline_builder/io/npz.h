// SPDX-License-Identifier: Apache-2.0
// numpy's .npz: named arrays in a zip file.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "edgert/types.h"
#include "ir/types.h"

namespace edgert::io {

/// Dense, row-major.
struct Array {
  DType dtype = DType::Undefined;
  ir::Dims dims;
  std::vector<std::byte> bytes;
};
using Arrays = std::map<std::string, Array>;

/// Reads bool, (u)int8..64 and float16/32/64 arrays, in C or Fortran order, stored or deflated. Throws IoError when the
/// file cannot be read and ir::BuildError, naming file and array, when its content is wrong or above 4 GiB in all.
Arrays read_npz(const std::string& path);

/// Writes an uncompressed .npz that numpy reads, atomically. bfloat16 and 4-bit types throw ir::BuildError.
void write_npz(const std::string& path, const Arrays& arrays);

}  // namespace edgert::io
