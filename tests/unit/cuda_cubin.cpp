// SPDX-License-Identifier: Apache-2.0
// The cubin checker on a small image made here, on every truncation of it and on every flipped bit: it may accept or
// refuse a damaged image, but never reads outside it (each case runs in an allocation of exactly the image's size, for
// the address sanitizer), and damage to what it promises to check is refused.
#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "edgert/cuda/cubin.h"

namespace {

using edgert::Error;
using edgert::Span;
using edgert::cuda::Cubin;
namespace elf = edgert::cuda::elf;

template <class T>
void append(std::vector<std::byte>& to, const T& value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  to.insert(to.end(), bytes, bytes + sizeof(T));
}

/// null, strings, symbols, code: the least that a cubin with one kernel "scale" needs.
std::vector<std::byte> image(unsigned char abi, std::uint32_t flags) {
  static constexpr char kStrings[] = "\0scale\0.text";
  std::vector<std::byte> strings(reinterpret_cast<const std::byte*>(kStrings), reinterpret_cast<const std::byte*>(kStrings) + sizeof(kStrings));
  strings.resize(16);
  elf::Header header = {};
  const unsigned char ident[9] = {0x7f, 'E', 'L', 'F', 2, 1, 1, abi, 8};
  std::memcpy(header.ident, ident, sizeof(ident));
  header.type = 2;
  header.machine = 190;
  header.version = 1;
  header.flags = flags;
  header.header_bytes = sizeof(elf::Header);
  header.program_bytes = sizeof(elf::Program);
  header.section_bytes = sizeof(elf::Section);
  header.section_count = 4;
  header.names_section = 1;
  const std::uint64_t strings_at = sizeof(elf::Header);
  const std::uint64_t symbols_at = strings_at + 16;
  const std::uint64_t code_at = symbols_at + 2 * sizeof(elf::Symbol);
  header.section_offset = code_at + 16;
  std::vector<std::byte> out;
  append(out, header);
  out.insert(out.end(), strings.begin(), strings.end());
  append(out, elf::Symbol{});
  append(out, elf::Symbol{1, 0x12, 0, 3, 0, 16});
  append(out, std::uint64_t{0});
  append(out, std::uint64_t{0});
  append(out, elf::Section{});
  append(out, elf::Section{0, 3, 0, 0, strings_at, 16, 0, 0, 1, 0});
  append(out, elf::Section{0, 2, 0, 0, symbols_at, 2 * sizeof(elf::Symbol), 1, 1, 8, sizeof(elf::Symbol)});
  append(out, elf::Section{7, 1, 6, 0, code_at, 16, 0, 0, 16, 0});
  return out;
}

struct Verdict {
  Error error;
  bool has_kernel;
};

Verdict judge(const std::vector<std::byte>& bytes, std::size_t size, std::uint32_t arch) {
  const std::unique_ptr<std::byte[]> exact(new std::byte[size]);
  std::memcpy(exact.get(), bytes.data(), size);
  const edgert::Result<Cubin> cubin = Cubin::check({exact.get(), size}, arch);
  return {cubin.status().error(), cubin.ok() && cubin->has_kernel("scale")};
}

TEST_CASE("both ABIs give the SM and the kernel") {
  for (const auto& bytes : {image(0x33, 87u | 87u << 16), image(0x41, 87u << 8 | 0x02000004u)}) {
    const auto cubin = Cubin::check({bytes.data(), bytes.size()}, 87);
    REQUIRE(cubin.ok());
    CHECK(cubin->arch() == 87);
    CHECK(cubin->has_kernel("scale"));
    CHECK_FALSE(cubin->has_kernel("scal"));
    CHECK_FALSE(cubin->has_kernel("scale2"));
    CHECK_FALSE(cubin->has_kernel(""));
    CHECK(Cubin::check({bytes.data(), bytes.size()}, 90).status().error() == Error::DeviceMismatch);
    CHECK(Cubin::check({bytes.data(), bytes.size()}, 0).ok());
  }
}

TEST_CASE("other images are refused") {
  const auto refuse = [](auto change) {
    auto bytes = image(0x33, 87);
    change(*reinterpret_cast<elf::Header*>(bytes.data()));
    return Cubin::check({bytes.data(), bytes.size()}, 0).status().error() == Error::SectionCorrupt;
  };
  CHECK(refuse([](elf::Header& h) { h.ident[7] = 0; }));
  CHECK(refuse([](elf::Header& h) { h.ident[4] = 1; }));
  CHECK(refuse([](elf::Header& h) { h.machine = 62; }));
  CHECK(refuse([](elf::Header& h) { h.type = 1; }));
  CHECK(refuse([](elf::Header& h) { h.section_offset = ~std::uint64_t{0} - 8; }));
  CHECK(refuse([](elf::Header& h) { h.section_count = 5; }));
  CHECK(refuse([](elf::Header& h) { h.section_count = 0; }));
  CHECK(refuse([](elf::Header& h) { h.program_count = 1; h.program_offset = 1u << 20; }));
  CHECK(refuse([](elf::Header& h) { h.names_section = 4; }));
  CHECK(refuse([](elf::Header& h) { h.names_section = 3; }));
}

TEST_CASE("every truncation is refused") {
  const auto bytes = image(0x41, 90u << 8);
  REQUIRE(judge(bytes, bytes.size(), 90).error == Error::Ok);
  for (std::size_t size = 0; size < bytes.size(); ++size) CHECK(judge(bytes, size, 90).error == Error::SectionCorrupt);
}

TEST_CASE("flipped bits never lead outside the image") {
  const auto bytes = image(0x41, 90u << 8);
  std::size_t refused = 0;
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    auto damaged = bytes;
    damaged[bit / 8] ^= std::byte{static_cast<unsigned char>(1u << bit % 8)};
    refused += judge(damaged, damaged.size(), 90).error != Error::Ok;
  }
  CHECK(refused > 8 * bytes.size() / 8);
}

}  // namespace
