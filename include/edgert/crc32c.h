// SPDX-License-Identifier: Apache-2.0
// CRC32C (Castagnoli, reflected polynomial 0x82f63b78, as in RFC 3720), eight bytes a step by table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace edgert {
namespace detail {

struct Crc32cTables {
  std::uint32_t table[8][256];
};

constexpr Crc32cTables make_crc32c_tables() noexcept {
  Crc32cTables tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82f63b78u : 0u);
    tables.table[0][i] = crc;
  }
  for (std::uint32_t i = 0; i < 256; ++i) {
    for (int slice = 1; slice < 8; ++slice) {
      const std::uint32_t previous = tables.table[slice - 1][i];
      tables.table[slice][i] = (previous >> 8) ^ tables.table[0][previous & 0xffu];
    }
  }
  return tables;
}

inline constexpr Crc32cTables kCrc32cTables = make_crc32c_tables();

}  // namespace detail

/// CRC32C of `size` bytes; `seed` is the CRC of the bytes before, so that pieces can be chained.
inline std::uint32_t crc32c(const void* data, std::size_t size, std::uint32_t seed = 0) noexcept {
  const auto& table = detail::kCrc32cTables.table;
  const auto* bytes = static_cast<const unsigned char*>(data);
  std::uint32_t crc = ~seed;
  for (; size >= 8; size -= 8, bytes += 8) {
    std::uint32_t low;
    std::uint32_t high;
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + 4, 4);
    low ^= crc;
    crc = table[7][low & 0xffu] ^ table[6][(low >> 8) & 0xffu] ^ table[5][(low >> 16) & 0xffu] ^ table[4][low >> 24] ^
          table[3][high & 0xffu] ^ table[2][(high >> 8) & 0xffu] ^ table[1][(high >> 16) & 0xffu] ^ table[0][high >> 24];
  }
  for (; size > 0; --size, ++bytes) crc = (crc >> 8) ^ table[0][(crc ^ *bytes) & 0xffu];
  return ~crc;
}

}  // namespace edgert
