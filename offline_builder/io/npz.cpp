// SPDX-License-Identifier: Apache-2.0
// The zip side of .npz, by libzip, and the files around it.
#include "io/npz.h"

#include <zip.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "edgert/checked.h"
#include "io/file.h"
#include "io/npy_format.h"

namespace edgert::io {
namespace {

constexpr std::uint64_t kMaxTotalBytes = std::uint64_t{4} << 30;
constexpr zip_int64_t kMaxMembers = 1 << 16;
constexpr std::size_t kChunk = 1 << 20;

struct Discard {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct Close {
  void operator()(zip_file_t* member) const { zip_fclose(member); }
};
struct Release {
  void operator()(zip_source_t* source) const { zip_source_free(source); }
};
using Archive = std::unique_ptr<zip_t, Discard>;
using Source = std::unique_ptr<zip_source_t, Release>;

/// libzip's error record, freed at the end.
struct ZipError {
  ZipError() { zip_error_init(&error); }
  ~ZipError() { zip_error_fini(&error); }
  ZipError(const ZipError&) = delete;
  ZipError& operator=(const ZipError&) = delete;
  zip_error_t error;
};

/// Opens an archive that holds its own reference to `source`. Null on failure.
Archive open_archive(const Source& source, int flags, ZipError& error) {
  zip_source_keep(source.get());
  Archive archive(zip_open_from_source(source.get(), flags, &error.error));
  if (!archive) zip_source_free(source.get());
  return archive;
}

std::vector<std::byte> read_member(zip_t* archive, zip_uint64_t index, std::uint64_t size, const std::string& where) {
  const std::unique_ptr<zip_file_t, Close> member(zip_fopen_index(archive, index, 0));
  if (!member) throw ir::BuildError(where + ": " + zip_strerror(archive));
  // Grown as data comes, since a small archive may claim any size. libzip compares the checksum at the end, so that
  // reading goes on until it says that there is nothing left.
  std::vector<std::byte> bytes;
  for (;;) {
    const std::size_t had = bytes.size();
    const std::size_t wanted = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, size - had + 1));
    bytes.resize(had + wanted);
    const zip_int64_t count = zip_fread(member.get(), bytes.data() + had, wanted);
    if (count < 0) throw ir::BuildError(where + ": " + zip_error_strerror(zip_file_get_error(member.get())));
    bytes.resize(had + static_cast<std::size_t>(count));
    if (bytes.size() > size) throw ir::BuildError(where + ": the zip member is longer than it says");
    if (count == 0) break;
  }
  if (bytes.size() != size) throw ir::BuildError(where + ": the zip member is shorter than it says");
  return bytes;
}

/// What the archive's members are made of: libzip reads it only when the archive is closed.
struct Member {
  std::string header;
  zip_buffer_fragment_t fragments[2];
};

void add_member(zip_t* archive, Member& member, const std::string& name, const Array& array, const std::string& path) {
  member.header = npy_header(array, path + ": array '" + name + "'");
  member.fragments[0] = {reinterpret_cast<zip_uint8_t*>(member.header.data()), member.header.size()};
  // libzip's interface lacks a const; it only reads.
  auto* data = const_cast<std::byte*>(array.bytes.data());
  member.fragments[1] = {reinterpret_cast<zip_uint8_t*>(data), array.bytes.size()};
  const zip_uint64_t count = array.bytes.empty() ? 1 : 2;
  zip_source_t* source = zip_source_buffer_fragment(archive, member.fragments, count, 0);
  if (source == nullptr) throw IoError(path + ": " + zip_strerror(archive));
  const zip_int64_t index = zip_file_add(archive, (name + ".npy").c_str(), source, ZIP_FL_ENC_UTF_8);
  if (index < 0) {
    zip_source_free(source);
    throw IoError(path + ": array '" + name + "': " + zip_strerror(archive));
  }
  zip_set_file_compression(archive, static_cast<zip_uint64_t>(index), ZIP_CM_STORE, 0);
  // 1 January 1980, zip's first day: no clock in the file.
  zip_file_set_dostime(archive, static_cast<zip_uint64_t>(index), 0, 0x21, 0);
}

void copy_to_file(zip_source_t* source, const std::string& path) {
  AtomicFile file(path);
  const auto fail = [&] { throw IoError(path + ": " + zip_error_strerror(zip_source_error(source))); };
  if (zip_source_open(source) != 0) fail();
  std::vector<std::byte> chunk(kChunk);
  for (;;) {
    const zip_int64_t count = zip_source_read(source, chunk.data(), chunk.size());
    if (count < 0) fail();
    if (count == 0) break;
    file.write({chunk.data(), static_cast<std::size_t>(count)});
  }
  zip_source_close(source);
  file.commit();
}

}  // namespace

Arrays parse_npz(Span<const std::byte> file, const std::string& name) {
  // To libzip that would be an archive without members.
  if (file.empty()) throw ir::BuildError(name + ": not an npz file: it is empty");
  ZipError error;
  const Source source(zip_source_buffer_create(file.data(), file.size(), 0, &error.error));
  if (!source) throw IoError(name + ": " + zip_error_strerror(&error.error));
  const Archive archive = open_archive(source, ZIP_RDONLY, error);
  if (!archive) throw ir::BuildError(name + ": not an npz file: " + zip_error_strerror(&error.error));
  const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
  if (count < 0 || count > kMaxMembers) throw ir::BuildError(name + ": too many arrays");
  Arrays arrays;
  std::uint64_t total = 0;
  for (zip_uint64_t i = 0; i < static_cast<zip_uint64_t>(count); ++i) {
    zip_stat_t info;
    constexpr zip_uint64_t kNeeded = ZIP_STAT_NAME | ZIP_STAT_SIZE;
    if (zip_stat_index(archive.get(), i, 0, &info) != 0 || (info.valid & kNeeded) != kNeeded) {
      throw ir::BuildError(name + ": damaged zip directory");
    }
    std::string array = info.name;
    if (array.size() < 4 || array.compare(array.size() - 4, 4, ".npy") != 0) {
      throw ir::BuildError(name + ": '" + array + "' is no .npy array");
    }
    array.resize(array.size() - 4);
    const std::string where = name + ": array '" + array + "'";
    if (!checked_add(total, info.size, total) || total > kMaxTotalBytes) {
      throw ir::BuildError(where + ": more than 4 GiB in all");
    }
    if (arrays.count(array) != 0) throw ir::BuildError(where + " is there twice");
    const std::vector<std::byte> bytes = read_member(archive.get(), i, info.size, where);
    arrays.emplace(array, parse_npy({bytes.data(), bytes.size()}, where));
  }
  return arrays;
}

Arrays read_npz(const std::string& path) {
  const MappedFile file(path);
  return parse_npz(file.bytes(), path);
}

Array read_npy(const std::string& path) {
  const MappedFile file(path);
  return parse_npy(file.bytes(), path);
}

void write_npz(const std::string& path, const Arrays& arrays) {
  if (arrays.empty()) {
    // libzip would rather delete an archive than leave it empty; this is the end-of-directory record alone.
    std::byte end[22] = {};
    std::memcpy(end, "PK\x05\x06", 4);
    write_file(path, end);
    return;
  }
  // libzip goes back and forth in what it writes: it gets memory, and the file receives the result in one sweep.
  ZipError error;
  const Source target(zip_source_buffer_create(nullptr, 0, 0, &error.error));
  if (!target) throw IoError(path + ": " + zip_error_strerror(&error.error));
  std::vector<Member> members(arrays.size());
  Archive archive = open_archive(target, ZIP_TRUNCATE, error);
  if (!archive) throw IoError(path + ": " + zip_error_strerror(&error.error));
  std::size_t next = 0;
  for (const auto& [name, array] : arrays) add_member(archive.get(), members[next++], name, array, path);
  if (zip_close(archive.get()) != 0) throw IoError(path + ": " + zip_strerror(archive.get()));
  static_cast<void>(archive.release());
  copy_to_file(target.get(), path);
}

void write_npy(const std::string& path, const Array& array) {
  const std::string header = npy_header(array, path);
  AtomicFile file(path);
  file.write({reinterpret_cast<const std::byte*>(header.data()), header.size()});
  file.write({array.bytes.data(), array.bytes.size()});
  file.commit();
}

}  // namespace edgert::io
