// SPDX-License-Identifier: Apache-2.0
// Files through the system's own calls, since neither streams nor std::filesystem map, flush to the disk or say why a
// write failed.
#include "io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <system_error>
#include <utility>

namespace edgert::io {
namespace {

[[noreturn]] void fail(const std::string& path, const char* doing, int error) {
  throw IoError(path + ": cannot " + doing + ": " + std::generic_category().message(error));
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

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// Where a symbolic link leads; the path itself where nothing is.
std::string resolved(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), &std::free);
  return real ? real.get() : path;
}

/// The rename is on the disk once the folder is. Not every file system can flush folders: then it comes with time.
void flush_folder(const std::string& folder) {
  const Descriptor descriptor(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.get() >= 0) static_cast<void>(fsync(descriptor.get()));
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  // Not blocking, so that a named pipe without a writer is refused and not waited for.
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

AtomicFile::AtomicFile(const std::string& path) : path_(path), target_(resolved(path)) {
  struct stat info {};
  if (stat(target_.c_str(), &info) != 0 || S_ISREG(info.st_mode)) {
    open_temporary();
    return;
  }
  if (S_ISDIR(info.st_mode)) throw IoError(path_ + ": cannot write: it is a folder");
  // Renaming over a device or a pipe would put a file in its place.
  descriptor_ = open(target_.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor_ < 0) fail(path_, "open", errno);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

/// Not mkstemp: this way the file gets the rights that the umask says, which cannot be asked for safely among threads.
void AtomicFile::open_temporary() {
  static std::atomic<unsigned> counter{0};
  const std::string stem = folder_of(target_) + "/.edgert-" + std::to_string(getpid()) + "-";
  for (int attempt = 0; attempt < 100; ++attempt) {
    const std::string name = stem + std::to_string(counter++) + ".tmp";
    descriptor_ = open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ >= 0) {
      temporary_ = name;
      return;
    }
    if (errno != EEXIST) break;
  }
  fail(path_, "write (no temporary file beside it)", errno);
}

void AtomicFile::write(Span<const std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::write(descriptor_, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail(path_, "write", count == 0 ? ENOSPC : errno);
    done += static_cast<std::size_t>(count);
  }
}

void AtomicFile::commit() {
  // What cannot be flushed, such as a pipe, says EINVAL.
  if (fsync(descriptor_) != 0 && errno != EINVAL && errno != EROFS) fail(path_, "write", errno);
  // Some file systems report a full disk or an exceeded quota only now.
  if (close(std::exchange(descriptor_, -1)) != 0) fail(path_, "write", errno);
  if (temporary_.empty()) return;
  if (rename(temporary_.c_str(), target_.c_str()) != 0) fail(path_, "replace", errno);
  temporary_.clear();
  flush_folder(folder_of(target_));
}

void write_file(const std::string& path, Span<const std::byte> bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace edgert::io
