// SPDX-License-Identifier: Apache-2.0
#include "io/npz.h"

#include <zip.h>

#include <cctype>
#include <cstring>
#include <memory>

#include "edgert/checked.h"
#include "io/file.h"

namespace edgert::io {
namespace {

constexpr std::uint64_t kMaxTotalBytes = std::uint64_t{4} << 30;
constexpr std::size_t kMaxHeader = 1 << 16;
constexpr std::size_t kMaxMembers = 1 << 16;

struct TypeName {
  const char* descr;
  DType dtype;
};
constexpr TypeName kTypes[] = {{"|b1", DType::Bool}, {"|i1", DType::I8},  {"|u1", DType::U8},  {"<i2", DType::I16},
                               {"<u2", DType::U16},  {"<i4", DType::I32}, {"<u4", DType::U32}, {"<i8", DType::I64},
                               {"<u8", DType::U64},  {"<f2", DType::F16}, {"<f4", DType::F32}, {"<f8", DType::F64}};

struct CloseZip {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct CloseMember {
  void operator()(zip_file_t* member) const { zip_fclose(member); }
};

/// The Python dictionary at the start of a .npy: only the three keys that numpy writes, in any order.
class HeaderParser {
 public:
  HeaderParser(const std::string& text, const std::string& where) : text_(text), where_(where) {}

  void run(std::string& descr, bool& fortran, ir::Dims& dims) {
    bool seen[3] = {};
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr") {
        descr = quoted();
        seen[0] = true;
      } else if (key == "fortran_order") {
        fortran = word() == "True";
        seen[1] = true;
      } else if (key == "shape") {
        dims = tuple();
        seen[2] = true;
      } else {
        fail("unknown header key '" + key + "'");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    if (!seen[0] || !seen[1] || !seen[2]) fail("incomplete header");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw ir::BuildError(where_ + ": " + what); }
  void skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  bool accept(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail("malformed header");
  }
  std::string quoted() {
    skip();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) fail("malformed header");
    const char quote = text_[at_++];
    const std::size_t end = text_.find(quote, at_);
    if (end == std::string::npos) fail("malformed header");
    const std::string out = text_.substr(at_, end - at_);
    at_ = end + 1;
    return out;
  }
  std::string word() {
    skip();
    std::string out;
    while (at_ < text_.size() && std::isalpha(static_cast<unsigned char>(text_[at_])) != 0) out += text_[at_++];
    if (out != "True" && out != "False") fail("malformed header");
    return out;
  }
  ir::Dims tuple() {
    ir::Dims dims;
    expect('(');
    while (!accept(')')) {
      skip();
      std::int64_t value = 0;
      const std::size_t start = at_;
      while (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])) != 0) {
        if (value > (INT64_MAX - 9) / 10) fail("extent is too large");
        value = value * 10 + (text_[at_++] - '0');
      }
      if (at_ == start) fail("malformed shape");
      dims.push_back(value);
      if (dims.size() > kMaxRank) fail("more than 8 dimensions");
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return dims;
  }

  const std::string& text_;
  const std::string& where_;
  std::size_t at_ = 0;
};

/// Reads to the end of a member, `limit` bytes at most.
std::vector<std::byte> read_member(zip_t* archive, zip_uint64_t index, std::uint64_t size, const std::string& where) {
  const std::unique_ptr<zip_file_t, CloseMember> member(zip_fopen_index(archive, index, 0));
  if (!member) throw ir::BuildError(where + ": " + zip_strerror(archive));
  // Grown as data comes: a small archive may claim any size.
  std::vector<std::byte> bytes;
  std::byte chunk[1 << 16];
  for (;;) {
    const zip_int64_t count = zip_fread(member.get(), chunk, sizeof(chunk));
    if (count < 0) throw ir::BuildError(where + ": damaged zip member");
    if (count == 0) break;
    bytes.insert(bytes.end(), chunk, chunk + count);
    if (bytes.size() > size) throw ir::BuildError(where + ": zip member is longer than it says");
  }
  if (bytes.size() != size) throw ir::BuildError(where + ": zip member is shorter than it says");
  return bytes;
}

std::vector<std::byte> to_row_major(const std::vector<std::byte>& column_major, const ir::Dims& dims, std::size_t element) {
  std::vector<std::byte> out(column_major.size());
  const std::int64_t count = ir::element_count(dims);
  std::vector<std::int64_t> index(dims.size());
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t offset = 0;
    for (std::size_t d = dims.size(); d-- > 0;) offset = offset * dims[d] + index[d];
    std::memcpy(out.data() + static_cast<std::size_t>(i) * element, column_major.data() + static_cast<std::size_t>(offset) * element, element);
    for (std::size_t d = dims.size(); d-- > 0 && ++index[d] == dims[d];) index[d] = 0;
  }
  return out;
}

Array parse_npy(std::vector<std::byte> bytes, const std::string& where) {
  static const unsigned char kMagic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
  if (bytes.size() < 10 || std::memcmp(bytes.data(), kMagic, sizeof(kMagic)) != 0) throw ir::BuildError(where + ": not a numpy array");
  const auto byte = [&bytes](std::size_t i) { return std::to_integer<std::size_t>(bytes[i]); };
  const std::size_t version = byte(6);
  if (version < 1 || version > 3) throw ir::BuildError(where + ": unknown version of numpy's format");
  if (version > 1 && bytes.size() < 12) throw ir::BuildError(where + ": truncated");
  const std::size_t start = version == 1 ? 10 : 12;
  const std::size_t length = version == 1 ? byte(8) | byte(9) << 8 : byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24;
  if (length > kMaxHeader || !in_range(start, length, bytes.size())) throw ir::BuildError(where + ": header reaches past the end");
  std::string descr;
  bool fortran = false;
  Array array;
  HeaderParser(std::string(reinterpret_cast<const char*>(bytes.data()) + start, length), where).run(descr, fortran, array.dims);
  for (const TypeName& type : kTypes) {
    const bool byte_wide = bits_of(type.dtype) == 8;
    if (descr == type.descr || (byte_wide && descr.size() == 3 && descr.compare(1, 2, type.descr + 1) == 0)) array.dtype = type.dtype;
  }
  if (array.dtype == DType::Undefined) throw ir::BuildError(where + ": arrays of type '" + descr + "' are not supported");
  const std::size_t size = ir::dense_bytes({array.dtype, array.dims});
  if (bytes.size() - start - length != size) {
    throw ir::BuildError(where + ": shape " + ir::to_string(array.dims) + " needs " + std::to_string(size) + " bytes, the file has " +
                         std::to_string(bytes.size() - start - length));
  }
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(start + length));
  array.bytes = fortran && array.dims.size() > 1 ? to_row_major(bytes, array.dims, bits_of(array.dtype) / 8) : std::move(bytes);
  return array;
}

std::string npy_header(const Array& array, const std::string& name) {
  const char* descr = nullptr;
  for (const TypeName& type : kTypes) {
    if (type.dtype == array.dtype) descr = type.descr;
  }
  if (descr == nullptr) throw ir::BuildError("'" + name + "': numpy has no type " + edgert::to_string(array.dtype));
  std::string shape;
  for (const std::int64_t extent : array.dims) shape += std::to_string(extent) + ",";
  std::string text = std::string("{'descr': '") + descr + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  // The data starts at a multiple of 64.
  while ((10 + text.size() + 1) % 64 != 0) text += ' ';
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

}  // namespace

Arrays read_npz(const std::string& path) {
  const MappedFile file(path);
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_buffer_create(file.bytes().data(), file.bytes().size(), 0, &error);
  if (source == nullptr) throw IoError(path + ": " + zip_error_strerror(&error));
  const std::unique_ptr<zip_t, CloseZip> archive(zip_open_from_source(source, ZIP_RDONLY, &error));
  if (!archive) {
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    zip_source_free(source);
    throw ir::BuildError(path + ": not an npz file: " + reason);
  }
  const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
  if (count < 0 || static_cast<std::size_t>(count) > kMaxMembers) throw ir::BuildError(path + ": too many arrays");
  Arrays arrays;
  std::uint64_t total = 0;
  for (zip_uint64_t i = 0; i < static_cast<zip_uint64_t>(count); ++i) {
    zip_stat_t info;
    if (zip_stat_index(archive.get(), i, 0, &info) != 0 || (info.valid & ZIP_STAT_NAME) == 0 || (info.valid & ZIP_STAT_SIZE) == 0) {
      throw ir::BuildError(path + ": damaged zip directory");
    }
    std::string name = info.name;
    if (name.size() < 4 || name.compare(name.size() - 4, 4, ".npy") != 0) throw ir::BuildError(path + ": '" + name + "' is no array");
    name.resize(name.size() - 4);
    const std::string where = path + ": array '" + name + "'";
    if (!checked_add(total, info.size, total) || total > kMaxTotalBytes) throw ir::BuildError(where + ": more than 4 GiB in all");
    if (!arrays.emplace(name, parse_npy(read_member(archive.get(), i, info.size, where), where)).second) {
      throw ir::BuildError(where + " is there twice");
    }
  }
  return arrays;
}

void write_npz(const std::string& path, const Arrays& arrays) {
  zip_error_t error;
  zip_error_init(&error);
  // The archive is made in memory, so that the file appears whole or not at all.
  zip_source_t* target = zip_source_buffer_create(nullptr, 0, 0, &error);
  if (target == nullptr) throw IoError(path + ": " + zip_error_strerror(&error));
  zip_source_keep(target);
  const std::unique_ptr<zip_source_t, void (*)(zip_source_t*)> keep(target, &zip_source_free);
  std::unique_ptr<zip_t, CloseZip> archive(zip_open_from_source(target, ZIP_TRUNCATE, &error));
  if (!archive) throw IoError(path + ": " + zip_error_strerror(&error));
  std::vector<std::string> members;
  members.reserve(arrays.size());
  for (const auto& [name, array] : arrays) {
    members.push_back(npy_header(array, name) + std::string(reinterpret_cast<const char*>(array.bytes.data()), array.bytes.size()));
    zip_source_t* member = zip_source_buffer(archive.get(), members.back().data(), members.back().size(), 0);
    const zip_int64_t index = member == nullptr ? -1 : zip_file_add(archive.get(), (name + ".npy").c_str(), member, ZIP_FL_ENC_UTF_8);
    if (index < 0) throw IoError(path + ": " + zip_strerror(archive.get()));
    zip_set_file_compression(archive.get(), static_cast<zip_uint64_t>(index), ZIP_CM_STORE, 0);
    // No clock in the file: equal arrays give equal bytes.
    zip_file_set_dostime(archive.get(), static_cast<zip_uint64_t>(index), 0, 0x21, 0);
  }
  if (zip_close(archive.get()) != 0) throw IoError(path + ": " + zip_strerror(archive.get()));
  archive.release();
  zip_stat_t info;
  if (zip_source_stat(target, &info) != 0 || zip_source_open(target) != 0) throw IoError(path + ": cannot finish the archive");
  std::vector<std::byte> bytes(info.size);
  const zip_int64_t got = zip_source_read(target, bytes.data(), bytes.size());
  zip_source_close(target);
  if (got != static_cast<zip_int64_t>(bytes.size())) throw IoError(path + ": cannot finish the archive");
  write_file(path, {bytes.data(), bytes.size()});
}

}  // namespace edgert::io
