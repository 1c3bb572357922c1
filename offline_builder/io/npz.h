// SPDX-License-Identifier: Apache-2.0
// numpy's files: .npy holds one array, .npz named ones in a zip file.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "edgert/span.h"
#include "edgert/types.h"
#include "ir/types.h"

namespace edgert::io {

/// Dense, row-major. Booleans are 0 or 1.
struct Array {
  DType dtype = DType::Undefined;
  ir::Dims dims;
  std::vector<std::byte> bytes;
};
using Arrays = std::map<std::string, Array>;

/// Reads bool, (u)int8..64 and float16/32/64 arrays, in C or Fortran order, stored or deflated. Throws IoError when the
/// file cannot be read and ir::BuildError, naming file and array, when its content is wrong or above 4 GiB in all.
Arrays read_npz(const std::string& path);
Array read_npy(const std::string& path);

/// The same from memory; `name` stands for the path in messages.
Arrays parse_npz(Span<const std::byte> file, const std::string& name);
Array parse_npy(Span<const std::byte> file, const std::string& name);

/// Write what numpy reads, atomically: an uncompressed .npz, or a .npy. Equal arrays give equal bytes. bfloat16 and
/// 4-bit types throw ir::BuildError, IoError is thrown as by AtomicFile, and std::logic_error when an array's bytes are
/// not as many as its type and shape say.
void write_npz(const std::string& path, const Arrays& arrays);
void write_npy(const std::string& path, const Array& array);

}  // namespace edgert::io
