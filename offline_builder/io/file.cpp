// SPDX-License-Identifier: Apache-2.0
#include "io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace edgert::io {
namespace {

[[noreturn]] void fail(const std::string& path, const char* doing, int error) {
  throw IoError(path + ": cannot " + doing + ": " + std::strerror(error));
}

/// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return number_; }

 private:
  int number_;
};

/// Removes the temporary file unless it has become the real one.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& target) : path_(target + ".XXXXXX") {
    descriptor_ = mkstemp(path_.data());
    if (descriptor_ < 0) fail(target, "write (no temporary file beside it)", errno);
  }
  ~TemporaryFile() {
    if (descriptor_ >= 0) close(descriptor_);
    if (!path_.empty()) unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(const std::string& target, Span<const std::byte> bytes) {
    std::size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t count = ::write(descriptor_, bytes.data() + done, bytes.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) fail(target, "write", count == 0 ? ENOSPC : errno);
      done += static_cast<std::size_t>(count);
    }
  }

  void become(const std::string& target) {
    // mkstemp makes it private; the finished file has the usual rights.
    const mode_t mask = umask(0);
    umask(mask);
    if (fchmod(descriptor_, 0666 & ~mask) != 0 || fsync(descriptor_) != 0) fail(target, "write", errno);
    if (close(std::exchange(descriptor_, -1)) != 0) fail(target, "write", errno);
    if (rename(path_.c_str(), target.c_str()) != 0) fail(target, "replace", errno);
    path_.clear();
  }

 private:
  std::string path_;
  int descriptor_;
};

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) fail(path, "open", errno);
  struct stat info {};
  if (fstat(file.get(), &info) != 0) fail(path, "examine", errno);
  if (!S_ISREG(info.st_mode)) throw IoError(path + ": not a regular file");
  size_ = static_cast<std::size_t>(info.st_size);
  if (size_ == 0) return;
  void* mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (mapped == MAP_FAILED) fail(path, "map", errno);
  data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

void write_file(const std::string& path, Span<const std::byte> bytes) {
  // A device or a pipe is written to, not replaced by a file.
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    if (S_ISDIR(info.st_mode)) throw IoError(path + ": cannot write: it is a folder");
    const Descriptor device(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (device.get() < 0) fail(path, "open", errno);
    std::size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t count = ::write(device.get(), bytes.data() + done, bytes.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) fail(path, "write", count == 0 ? ENOSPC : errno);
      done += static_cast<std::size_t>(count);
    }
    return;
  }
  TemporaryFile temporary(path);
  temporary.write(path, bytes);
  temporary.become(path);
}

}  // namespace edgert::io
