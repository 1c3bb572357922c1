// SPDX-License-Identifier: Apache-2.0
// A cubin is code that the driver trusts: before it sees one from a plan, this checks that the bytes are an ELF image
// for the right processor whose every table lies inside the image, and finds the kernels in it.
//
// Two ABIs are known: OS/ABI 0x33 (CUDA up to 12) with the SM number in bits 0-7 of e_flags, and 0x41 (CUDA 13) with it
// in bits 8-15. Nothing else is accepted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "edgert/checked.h"
#include "edgert/log.h"
#include "edgert/span.h"
#include "edgert/status.h"

namespace edgert::cuda {

namespace elf {

struct Header {
  unsigned char ident[16];
  std::uint16_t type, machine;
  std::uint32_t version;
  std::uint64_t entry, program_offset, section_offset;
  std::uint32_t flags;
  std::uint16_t header_bytes, program_bytes, program_count, section_bytes, section_count, names_section;
};
struct Section {
  std::uint32_t name, type;
  std::uint64_t flags, address, offset, size;
  std::uint32_t link, info;
  std::uint64_t alignment, entry_bytes;
};
struct Program {
  std::uint32_t type, flags;
  std::uint64_t offset, address, physical, file_bytes, memory_bytes, alignment;
};
struct Symbol {
  std::uint32_t name;
  unsigned char info, other;
  std::uint16_t section;
  std::uint64_t value, size;
};
static_assert(sizeof(Header) == 64 && sizeof(Section) == 64 && sizeof(Program) == 56 && sizeof(Symbol) == 24);

inline constexpr std::uint16_t kMachineCuda = 190;
inline constexpr std::uint16_t kTypeExecutable = 2;
inline constexpr std::uint32_t kSectionSymbols = 2;
inline constexpr std::uint32_t kSectionStrings = 3;
inline constexpr std::uint32_t kSectionNoBits = 8;
inline constexpr std::uint32_t kMaxImageBytes = 1u << 30;

}  // namespace elf

/// A checked image. Reads the bytes in place; they must stay as they are while it is used.
class Cubin {
 public:
  /// SectionCorrupt when the bytes are no well-formed cubin, DeviceMismatch when it is for another SM than `arch` (87
  /// for sm_87; 0 takes any). `bytes` need not be aligned.
  static Result<Cubin> check(Span<const std::byte> bytes, std::uint32_t arch, const LogSink& log = {}) noexcept {
    Cubin cubin;
    cubin.bytes_ = bytes;
    const char* why = cubin.check_header();
    if (why == nullptr) why = cubin.check_tables();
    if (why != nullptr) {
      Message message;
      message << "cubin of " << static_cast<std::uint64_t>(bytes.size()) << " bytes: " << why;
      message.to(log);
      return Error::SectionCorrupt;
    }
    if (arch != 0 && cubin.arch_ != arch) {
      Message message;
      message << "cubin is for sm_" << cubin.arch_ << ", wanted sm_" << arch;
      message.to(log);
      return Status(Error::DeviceMismatch, 0, cubin.arch_);
    }
    return cubin;
  }

  std::uint32_t arch() const noexcept { return arch_; }

  /// Whether the image defines a kernel of this name: a global function symbol with code of its own.
  bool has_kernel(const char* name) const noexcept { return has_kernel(name, std::strlen(name)); }
  bool has_kernel(const char* name, std::size_t length) const noexcept {
    for (std::uint32_t i = 0; i < header_.section_count; ++i) {
      const elf::Section symbols = section(i);
      if (symbols.type != elf::kSectionSymbols) continue;
      const elf::Section strings = section(symbols.link);
      for (std::uint64_t k = 0; k < symbols.size / sizeof(elf::Symbol); ++k) {
        const auto symbol = read<elf::Symbol>(symbols.offset + k * sizeof(elf::Symbol));
        constexpr unsigned char kGlobalFunction = 0x12;
        if (symbol.info == kGlobalFunction && symbol.section != 0 && symbol.section < header_.section_count &&
            equals(strings, symbol.name, name, length)) {
          return true;
        }
      }
    }
    return false;
  }

 private:
  template <class T>
  T read(std::uint64_t offset) const noexcept {
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }
  elf::Section section(std::uint32_t index) const noexcept {
    return read<elf::Section>(header_.section_offset + std::uint64_t{index} * sizeof(elf::Section));
  }

  /// Whether the string at `at` of a string section is `name`. The section was found to end with a zero byte.
  bool equals(const elf::Section& strings, std::uint32_t at, const char* name, std::size_t length) const noexcept {
    if (length >= strings.size || !in_range(at, length + 1, strings.size)) return false;
    const std::byte* there = bytes_.data() + strings.offset + at;
    return std::memcmp(there, name, length) == 0 && there[length] == std::byte{0};
  }

  const char* check_header() noexcept {
    if (bytes_.size() < sizeof(elf::Header)) return "shorter than an ELF header";
    if (bytes_.size() > elf::kMaxImageBytes) return "larger than 1 GiB";
    header_ = read<elf::Header>(0);
    static constexpr unsigned char kIdent[7] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
    if (std::memcmp(header_.ident, kIdent, sizeof(kIdent)) != 0) return "not a 64-bit little-endian ELF image";
    if (header_.machine != elf::kMachineCuda) return "not for a CUDA device";
    if (header_.type != elf::kTypeExecutable) return "not an executable image";
    const unsigned char abi = header_.ident[7];
    if (abi == 0x33) arch_ = header_.flags & 0xffu;
    else if (abi == 0x41) arch_ = header_.flags >> 8 & 0xffu;
    else return "unknown OS/ABI";
    if (header_.header_bytes != sizeof(elf::Header)) return "unexpected size of the ELF header";
    if (header_.section_bytes != sizeof(elf::Section)) return "unexpected size of section headers";
    if (header_.program_count != 0 && header_.program_bytes != sizeof(elf::Program)) {
      return "unexpected size of program headers";
    }
    return nullptr;
  }

  const char* check_tables() const noexcept {
    const std::uint64_t limit = bytes_.size();
    if (header_.section_count == 0) return "no sections";
    if (!in_range(header_.section_offset, std::uint64_t{header_.section_count} * sizeof(elf::Section), limit)) {
      return "section headers outside the image";
    }
    if (!in_range(header_.program_offset, std::uint64_t{header_.program_count} * sizeof(elf::Program), limit)) {
      return "program headers outside the image";
    }
    if (header_.names_section >= header_.section_count) return "no section names";
    if (section(header_.names_section).type != elf::kSectionStrings) return "section names are not strings";
    for (std::uint32_t i = 0; i < header_.section_count; ++i) {
      const char* why = check_section(i, limit);
      if (why != nullptr) return why;
    }
    for (std::uint32_t i = 0; i < header_.program_count; ++i) {
      const auto program = read<elf::Program>(header_.program_offset + std::uint64_t{i} * sizeof(elf::Program));
      if (!in_range(program.offset, program.file_bytes, limit)) return "a segment outside the image";
    }
    return nullptr;
  }

  const char* check_section(std::uint32_t index, std::uint64_t limit) const noexcept {
    const elf::Section entry = section(index);
    if (entry.type == 0) return nullptr;
    if (entry.type != elf::kSectionNoBits && !in_range(entry.offset, entry.size, limit)) return "a section outside the image";
    if (entry.name >= section(header_.names_section).size) return "a section name outside the names";
    if (entry.type == elf::kSectionStrings) {
      if (entry.size == 0 || bytes_[entry.offset + entry.size - 1] != std::byte{0}) return "unterminated strings";
    }
    if (entry.type == elf::kSectionSymbols) {
      if (entry.entry_bytes != sizeof(elf::Symbol) || entry.size % sizeof(elf::Symbol) != 0) return "unexpected symbol size";
      if (entry.link >= header_.section_count) return "symbols without strings";
      const elf::Section strings = section(entry.link);
      if (strings.type != elf::kSectionStrings || !in_range(strings.offset, strings.size, limit)) return "symbols without strings";
    }
    return nullptr;
  }

  Span<const std::byte> bytes_;
  elf::Header header_ = {};
  std::uint32_t arch_ = 0;
};

}  // namespace edgert::cuda
