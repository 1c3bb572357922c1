// SPDX-License-Identifier: Apache-2.0
#include "onnx/external_data.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>

#include "edgert/checked.h"
#include "ir/types.h"
#include "onnx/text.h"

namespace edgert::onnx_import {
namespace {

constexpr std::size_t kMaxLocationBytes = 4096;
// A pipe or a terminal must neither block nor become ours before fstat() tells what it is.
constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;

[[noreturn]] void refuse(const std::string& location, const std::string& reason) {
  throw ir::BuildError("external data " + quoted(location) + ": " + reason);
}

[[noreturn]] void refuse_errno(const std::string& location, int error) {
  if (error == ELOOP) refuse(location, "symbolic links are not followed; put the file itself beside the model");
  if (error == EXDEV) refuse(location, "the path leaves the model's folder");
  if (error == ENOTDIR) refuse(location, "a part of the path is not a directory; symbolic links are not followed");
  if (error == ENOENT) refuse(location, "there is no such file in the model's folder");
  refuse(location, std::generic_category().message(error));
}

/// The path's components. Refuses everything that could name something outside the folder.
std::vector<std::string> components_of(const std::string& location) {
  if (location.empty()) refuse(location, "the location is empty");
  if (location.size() > kMaxLocationBytes) refuse(location, "the location is too long");
  if (location.find('\0') != std::string::npos) refuse(location, "the location holds a zero byte");
  if (location.front() == '/') refuse(location, "absolute paths are not allowed");
  std::vector<std::string> components;
  std::size_t begin = 0;
  while (begin <= location.size()) {
    const std::size_t end = std::min(location.find('/', begin), location.size());
    std::string component = location.substr(begin, end - begin);
    if (component == "..") refuse(location, "'..' is not allowed");
    if (!component.empty() && component != ".") components.push_back(std::move(component));
    begin = end + 1;
  }
  if (components.empty()) refuse(location, "the location names no file");
  return components;
}

/// Empty when the kernel or a sandbox does not offer openat2.
std::optional<FileDescriptor> open_in_one_step(int folder, const std::string& location) {
#ifdef SYS_openat2
  open_how how{};
  how.flags = kOpenFlags;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const long fd = syscall(SYS_openat2, folder, location.c_str(), &how, sizeof(how));
  if (fd >= 0) return FileDescriptor(static_cast<int>(fd));
  constexpr int kNotOffered[] = {ENOSYS, EPERM, EINVAL, E2BIG, EAGAIN};
  if (std::find(std::begin(kNotOffered), std::end(kNotOffered), errno) == std::end(kNotOffered)) {
    refuse_errno(location, errno);
  }
#else
  static_cast<void>(folder);
  static_cast<void>(location);
#endif
  return std::nullopt;
}

FileDescriptor open_by_component(int folder, const std::string& location, const std::vector<std::string>& components) {
  FileDescriptor parent;
  for (std::size_t i = 0; i + 1 < components.size(); ++i) {
    const int from = i == 0 ? folder : parent.get();
    FileDescriptor next(openat(from, components[i].c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next.valid()) refuse_errno(location, errno);
    parent = std::move(next);
  }
  FileDescriptor file(openat(components.size() == 1 ? folder : parent.get(), components.back().c_str(), kOpenFlags));
  if (!file.valid()) refuse_errno(location, errno);
  return file;
}

std::uint64_t parse_number(const std::string& location, const std::string& key, const std::string& text) {
  std::uint64_t number = 0;
  bool good = !text.empty() && text.size() <= 20;
  for (const char c : text) {
    good = good && c >= '0' && c <= '9' && checked_mul(number, 10, number) &&
           checked_add(number, static_cast<std::uint64_t>(c - '0'), number);
  }
  if (!good) refuse(location, key + " is " + quoted(text) + ", which is not a number of bytes");
  return number;
}

struct Region {
  std::string location;
  std::uint64_t offset = 0;
  std::optional<std::uint64_t> length;
};

Region parse_entries(const std::vector<std::pair<std::string, std::string>>& entries) {
  Region region;
  std::vector<std::string> seen;
  for (const auto& [key, value] : entries) {
    if (key == "location") region.location = value;
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) {
      throw ir::BuildError("external data: key " + quoted(key) + " is given twice");
    }
    // Nothing else may take effect, so nothing else is accepted; this bounds the list too.
    if (key != "location" && key != "offset" && key != "length" && key != "checksum") {
      throw ir::BuildError("external data: unknown key " + quoted(key));
    }
    seen.push_back(key);
  }
  for (const auto& [key, value] : entries) {
    if (key == "offset") region.offset = parse_number(region.location, key, value);
    if (key == "length") region.length = parse_number(region.location, key, value);
  }
  return region;
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

std::pair<FileDescriptor, std::uint64_t> open_beneath(int folder, const std::string& location, PathWalk walk) {
  const std::vector<std::string> components = components_of(location);
  std::optional<FileDescriptor> opened;
  if (walk == PathWalk::OneStep) opened = open_in_one_step(folder, location);
  if (!opened) opened = open_by_component(folder, location, components);
  struct stat info {};
  if (fstat(opened->get(), &info) != 0) refuse_errno(location, errno);
  if (!S_ISREG(info.st_mode)) refuse(location, "it is not a regular file");
  if (info.st_nlink != 1) refuse(location, "the file has several names (hard links); make a copy of its own");
  return {std::move(*opened), static_cast<std::uint64_t>(info.st_size)};
}

void ExternalData::open(const std::string& location) {
  if (file_.valid() && location == file_location_) return;
  if (!folder_fd_.valid()) {
    folder_fd_ = FileDescriptor(::open(folder_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder_fd_.valid())
      refuse(location, "cannot open the model's folder: " + std::generic_category().message(errno));
  }
  auto [file, size] = open_beneath(folder_fd_.get(), location);
  file_ = std::move(file);
  file_size_ = size;
  file_location_ = location;
}

std::vector<std::byte> ExternalData::read(const std::vector<std::pair<std::string, std::string>>& entries,
                                          std::uint64_t size) {
  const Region region = parse_entries(entries);
  if (!allowed_) refuse(region.location, "external data is switched off");
  if (folder_.empty()) refuse(region.location, "a model in memory has no folder to look in");
  if (region.length && *region.length != size) {
    refuse(region.location, "the length is " + std::to_string(*region.length) +
                                " bytes where the tensor's type needs " + std::to_string(size));
  }
  open(region.location);
  if (!in_range(region.offset, size, file_size_)) {
    refuse(region.location, std::to_string(size) + " bytes at offset " + std::to_string(region.offset) +
                                " lie beyond the end of the file of " + std::to_string(file_size_) + " bytes");
  }
  if (size > bytes_left_) refuse(region.location, "the model reads more external data than the limit allows");
  bytes_left_ -= size;

  std::vector<std::byte> bytes(size);
  std::uint64_t done = 0;
  while (done < size) {
    const ssize_t count =
        pread(file_.get(), bytes.data() + done, size - done, static_cast<off_t>(region.offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) refuse_errno(region.location, errno);
    if (count == 0) refuse(region.location, "the file shrank while it was read");
    done += static_cast<std::uint64_t>(count);
  }
  return bytes;
}

}  // namespace edgert::onnx_import
