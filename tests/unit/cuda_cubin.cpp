// SPDX-License-Identifier: Apache-2.0
// The cubin checker on a small image made here, on every truncation of it and on every flipped bit: it may accept or
// refuse a damaged image, but never reads outside it (each case runs in an allocation of exactly the image's size, for
// the address sanitizer), and damage to what it promises to check is refused.
#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../fake_cuda/small_cubin.h"
#include "edgert/cuda/cubin.h"

namespace {

using edgert::Error;
using edgert::cuda::Cubin;
namespace elf = edgert::cuda::elf;

std::vector<std::byte> image(unsigned char abi, std::uint32_t flags) {
  return edgert::fake_cuda::small_cubin(abi, flags, {"scale"});
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
