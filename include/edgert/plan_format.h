// SPDX-License-Identifier: Apache-2.0
// The plan file around the table: header, section table, sections. All numbers are little-endian.
//
//   offset 0    Header (64 bytes)
//   64          section_count x SectionEntry (64 bytes each)
//   ...         sections in ascending order, each at a multiple of its alignment, zero bytes between them
//
// Exactly one section is the table (schema/plan.fbs). Every byte of the file is covered by a checksum or must be zero,
// so any flipped bit is found. CRC32C finds damage; SHA-256 and the signature are for malice.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgert {

inline constexpr char kPlanMagic[8] = {'E', 'd', 'g', 'e', 'R', 'T', '\r', '\n'};
/// A runtime loads plans of its own major version and of any minor version up to its own.
inline constexpr std::uint16_t kPlanMajor = 1;
inline constexpr std::uint16_t kPlanMinor = 1;
/// Every section, and so the plan's first byte, is aligned to this at least.
inline constexpr std::uint32_t kPlanAlignment = 64;
inline constexpr std::uint32_t kMaxSections = 1024;

enum class SectionKind : std::uint32_t { Table = 1, Weights = 2, Module = 3, Golden = 4, Signature = 5 };

struct PlanHeader {
  char magic[8];
  std::uint16_t major;
  std::uint16_t minor;
  std::uint32_t header_bytes;   ///< 64
  std::uint64_t file_bytes;
  std::uint32_t section_count;
  std::uint32_t section_entry_bytes;  ///< 64
  std::uint8_t reserved[24];          ///< zero
  std::uint32_t section_table_crc;    ///< CRC32C of the section table
  std::uint32_t header_crc;           ///< CRC32C of the 60 bytes before
};
static_assert(sizeof(PlanHeader) == 64);

struct SectionEntry {
  SectionKind kind;
  std::uint32_t reserved;  ///< zero
  std::uint64_t offset;
  std::uint64_t size;
  std::uint32_t alignment;
  std::uint32_t crc32c;
  std::uint8_t sha256[32];
};
static_assert(sizeof(SectionEntry) == 64);

/// What a signature signs is the SHA-256 of: the header with both CRCs zero, then the section table with crc32c and
/// sha256 of the Signature entry zero. The section's content is the caller's business (64 bytes for Ed25519).
inline constexpr std::size_t kSignedDigestBytes = 32;

}  // namespace edgert
