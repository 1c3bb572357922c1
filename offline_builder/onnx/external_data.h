// SPDX-License-Identifier: Apache-2.0
// Tensors whose bytes lie in other files. A model chooses the path, so nothing outside its folder may be reached: no
// absolute path, no "..", no symbolic or hard link, no device or pipe, nothing beyond the file's end. The class of
// holes that ONNX had in this place: CVE-2022-25882, CVE-2024-27318, CVE-2026-27489, CVE-2026-34446, CVE-2026-34447.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace edgert::onnx_import {

/// Owns a file descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// How a path below a folder is opened: by the kernel in one step, or one component after the other where the kernel
/// has no openat2.
enum class PathWalk { OneStep, ByComponent };

/// Opens the regular file `location` below the directory `folder`, and returns it with its size. Throws ir::BuildError
/// when the path leaves the folder, holds a link, or is no regular file of one name.
std::pair<FileDescriptor, std::uint64_t> open_beneath(int folder, const std::string& location,
                                                      PathWalk walk = PathWalk::OneStep);

/// The external data of one model. Keeps the last file open, since tensors of one file follow each other.
class ExternalData {
 public:
  /// An empty `folder` or `allowed` = false forbids external data. At most `max_bytes` are read in total.
  ExternalData(std::string folder, bool allowed, std::uint64_t max_bytes)
      : folder_(std::move(folder)), allowed_(allowed), bytes_left_(max_bytes) {}

  /// The bytes of a tensor that needs exactly `size` of them; `entries` are the model's keys and values. Throws
  /// ir::BuildError.
  std::vector<std::byte> read(const std::vector<std::pair<std::string, std::string>>& entries, std::uint64_t size);

 private:
  void open(const std::string& location);

  std::string folder_;
  bool allowed_;
  std::uint64_t bytes_left_;
  FileDescriptor folder_fd_;
  FileDescriptor file_;
  std::string file_location_;
  std::uint64_t file_size_ = 0;
};

}  // namespace edgert::onnx_import
