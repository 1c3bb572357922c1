// SPDX-License-Identifier: Apache-2.0
// Arrays from and to the bytes of a .npy file. Nothing in the bytes is trusted.
#include "io/npy_format.h"

#include <cstring>
#include <stdexcept>
#include <utility>

#include "edgert/checked.h"

namespace edgert::io {
namespace {

constexpr std::size_t kMaxHeader = 1 << 16;

struct TypeName {
  const char* descr;
  DType dtype;
};
constexpr TypeName kTypes[] = {{"|b1", DType::Bool}, {"|i1", DType::I8},  {"|u1", DType::U8},  {"<i2", DType::I16},
                               {"<u2", DType::U16},  {"<i4", DType::I32}, {"<u4", DType::U32}, {"<i8", DType::I64},
                               {"<u8", DType::U64},  {"<f2", DType::F16}, {"<f4", DType::F32}, {"<f8", DType::F64}};

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// Parses the dictionary: the three keys that numpy writes, each once, in any order.
class HeaderParser {
 public:
  HeaderParser(std::string text, const std::string& where) : text_(std::move(text)), where_(where) {}

  std::string descr;
  bool fortran = false;
  ir::Dims dims;

  void run() {
    bool seen_descr = false;
    bool seen_order = false;
    bool seen_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !std::exchange(seen_descr, true)) {
        if (peek() == '[') fail("structured types are not supported");
        descr = quoted();
      } else if (key == "fortran_order" && !std::exchange(seen_order, true)) {
        fortran = boolean();
      } else if (key == "shape" && !std::exchange(seen_shape, true)) {
        dims = tuple();
      } else {
        fail("unknown or repeated key '" + key + "' in the header");
      }
      if (accept(',')) continue;
      expect('}');
      break;
    }
    peek();
    if (at_ != text_.size() || !seen_descr || !seen_order || !seen_shape) fail("malformed header");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw ir::BuildError(where_ + ": " + what); }

  /// The next character that is no space; 0 at the end.
  char peek() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(char c) {
    if (peek() != c || at_ >= text_.size()) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail("malformed header");
  }
  std::string quoted() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') fail("malformed header");
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string::npos) fail("malformed header");
    std::string result = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return result;
  }
  bool boolean() {
    std::string word;
    for (peek(); at_ < text_.size() && is_letter(text_[at_]); ++at_) word += text_[at_];
    if (word != "True" && word != "False") fail("malformed header");
    return word == "True";
  }
  ir::Dims tuple() {
    ir::Dims result;
    expect('(');
    while (!accept(')')) {
      std::int64_t value = 0;
      if (!is_digit(peek())) fail("malformed shape");
      for (; at_ < text_.size() && is_digit(text_[at_]); ++at_) {
        if (value > (INT64_MAX - 9) / 10) fail("extent is too large");
        value = value * 10 + (text_[at_] - '0');
      }
      result.push_back(value);
      if (result.size() > kMaxRank) fail("more than " + std::to_string(kMaxRank) + " dimensions");
      if (accept(',')) continue;
      expect(')');
      break;
    }
    return result;
  }

  const std::string text_;
  const std::string& where_;
  std::size_t at_ = 0;
};

DType type_of(const std::string& descr, const std::string& where) {
  for (const TypeName& type : kTypes) {
    if (descr == type.descr) return type.dtype;
    // The order of bytes means nothing for one byte; numpy writes '|' but reads any.
    if (bits_of(type.dtype) == 8 && descr.size() == 3 && descr.compare(1, 2, type.descr + 1) == 0) return type.dtype;
  }
  if (!descr.empty() && descr[0] == '>') {
    throw ir::BuildError(where + ": big-endian arrays ('" + descr + "') are not supported; convert with .astype('<" +
                         descr.substr(1) + "')");
  }
  throw ir::BuildError(where + ": arrays of type '" + descr + "' are not supported");
}

std::vector<std::byte> to_row_major(const std::byte* column_major, const ir::Dims& dims, std::size_t element) {
  const auto count = static_cast<std::size_t>(ir::element_count(dims));
  std::vector<std::byte> result(count * element);
  std::vector<std::int64_t> steps(dims.size());
  std::int64_t step = 1;
  for (std::size_t d = 0; d < dims.size(); ++d) {
    steps[d] = step;
    step *= dims[d];
  }
  std::vector<std::int64_t> index(dims.size());
  std::int64_t from = 0;
  for (std::size_t to = 0; to < count; ++to) {
    std::memcpy(result.data() + to * element, column_major + static_cast<std::size_t>(from) * element, element);
    for (std::size_t d = dims.size(); d-- > 0;) {
      from += steps[d];
      if (++index[d] < dims[d]) break;
      from -= steps[d] * dims[d];
      index[d] = 0;
    }
  }
  return result;
}

}  // namespace

Array parse_npy(Span<const std::byte> file, const std::string& name) {
  static constexpr unsigned char kMagic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
  if (file.size() < 10 || std::memcmp(file.data(), kMagic, sizeof(kMagic)) != 0) {
    throw ir::BuildError(name + ": not a numpy array");
  }
  const auto byte = [&file](std::size_t i) { return std::to_integer<std::size_t>(file[i]); };
  const std::size_t version = byte(6);
  if (version < 1 || version > 3) throw ir::BuildError(name + ": unknown version of numpy's format");
  const std::size_t start = version == 1 ? 10 : 12;
  if (file.size() < start) throw ir::BuildError(name + ": cut off in the header");
  std::size_t length = byte(8) | byte(9) << 8;
  if (version > 1) length |= byte(10) << 16 | byte(11) << 24;
  if (length > kMaxHeader) throw ir::BuildError(name + ": header of " + std::to_string(length) + " bytes is too long");
  if (!in_range(start, length, file.size())) throw ir::BuildError(name + ": cut off in the header");
  HeaderParser header(std::string(reinterpret_cast<const char*>(file.data()) + start, length), name);
  header.run();

  Array array;
  array.dtype = type_of(header.descr, name);
  array.dims = header.dims;
  std::size_t size = 0;
  try {
    size = ir::dense_bytes({array.dtype, array.dims});
  } catch (const ir::BuildError& error) {
    throw ir::BuildError(name + ": " + error.what());
  }
  const Span<const std::byte> data(file.data() + start + length, file.size() - start - length);
  if (data.size() != size) {
    throw ir::BuildError(name + ": shape " + ir::to_string(array.dims) + " needs " + std::to_string(size) +
                         " bytes of data, the file has " + std::to_string(data.size()));
  }
  if (header.fortran && array.dims.size() > 1) {
    array.bytes = to_row_major(data.data(), array.dims, bits_of(array.dtype) / 8);
  } else {
    array.bytes.assign(data.begin(), data.end());
  }
  if (array.dtype == DType::Bool) {
    for (std::byte& value : array.bytes) value = value == std::byte{0} ? std::byte{0} : std::byte{1};
  }
  return array;
}

std::string npy_header(const Array& array, const std::string& name) {
  const char* descr = nullptr;
  for (const TypeName& type : kTypes) {
    if (type.dtype == array.dtype) descr = type.descr;
  }
  if (descr == nullptr) throw ir::BuildError(name + ": numpy has no type " + edgert::to_string(array.dtype));
  if (array.bytes.size() != ir::dense_bytes({array.dtype, array.dims})) {
    throw std::logic_error(name + ": bytes don't fit type and shape");
  }
  std::string shape;
  for (const std::int64_t extent : array.dims) shape += std::to_string(extent) + ",";
  std::string text = std::string("{'descr': '") + descr + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  constexpr std::size_t kPrefix = 10;
  text.append(63 - (kPrefix + text.size()) % 64, ' ');
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

}  // namespace edgert::io
