// SPDX-License-Identifier: Apache-2.0
// Bytes in a temporary file: Winograd's weights are four times as large as the model's, and nobody reads them until the plan
// is written.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "ir/types.h"

namespace edgert::ir {
namespace {

constexpr std::size_t kFewestSpilled = 1 << 20;

/// A file that is gone once its descriptor is closed and its mappings are, or -1.
int open_nameless() {
  std::error_code error;
  std::string path = (std::filesystem::temp_directory_path(error) / "edgert-XXXXXX").string();
  if (error) return -1;
  const int file = mkostemp(path.data(), O_CLOEXEC);
  if (file >= 0) unlink(path.c_str());
  return file;
}

bool write_all(int file, const std::byte* data, std::size_t size) {
  while (size > 0) {
    const ssize_t count = write(file, data, size);
    if (count <= 0) return false;
    data += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}

/// A mapping of a file with these bytes; null where that cannot be.
std::shared_ptr<const void> map_copy(const std::vector<std::byte>& bytes) {
  const int file = open_nameless();
  if (file < 0) return nullptr;
  void* const mapped = write_all(file, bytes.data(), bytes.size())
                           ? mmap(nullptr, bytes.size(), PROT_READ, MAP_SHARED, file, 0)
                           : MAP_FAILED;
  close(file);
  if (mapped == MAP_FAILED) return nullptr;
  return {mapped, [size = bytes.size()](void* memory) { munmap(memory, size); }};
}

}  // namespace

Bytes Bytes::spill(std::vector<std::byte>&& bytes) {
  if (bytes.size() < kFewestSpilled) return adopt(std::move(bytes));
  const std::shared_ptr<const void> mapped = map_copy(bytes);
  if (mapped == nullptr) return adopt(std::move(bytes));
  Bytes spilled = shared(mapped, static_cast<const std::byte*>(mapped.get()), bytes.size());
  spilled.spilled_ = true;
  std::vector<std::byte>().swap(bytes);
  return spilled;
}

void Bytes::drop_pages() const {
  if (spilled_) madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

}  // namespace edgert::ir
