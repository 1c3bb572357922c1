// SPDX-License-Identifier: Apache-2.0
// Whole files: mapped for reading, replaced atomically for writing.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

#include "edgert/span.h"

namespace edgert::io {

/// A file that cannot be read or written; the message names the path and the system's reason.
class IoError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A file's bytes, mapped read-only for the object's life. The first byte is page-aligned. Throws IoError when the path
/// is no regular file or cannot be opened. An empty file has no bytes.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  Span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A file written piece by piece that appears whole or not at all: a temporary file in the same folder, flushed to the
/// disk and renamed by commit(). Without commit() the destructor removes it and what was at the path stays. A symbolic
/// link keeps its place, its target is replaced; a device or a pipe is written to directly. Every function throws
/// IoError, for a full disk, a missing folder or missing rights.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(Span<const std::byte> bytes);
  /// Last call.
  void commit();

 private:
  void open_temporary();

  std::string path_;       ///< as the caller says it, for messages
  std::string target_;     ///< with symbolic links resolved
  std::string temporary_;  ///< empty for devices and once renamed
  int descriptor_ = -1;
};

/// Writes the whole file through an AtomicFile.
void write_file(const std::string& path, Span<const std::byte> bytes);

}  // namespace edgert::io
