// SPDX-License-Identifier: Apache-2.0
// The least that passes for a cubin: an ELF image with a symbol for each of its kernels and no code worth running.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "edgert/cuda/cubin.h"

namespace edgert::fake_cuda {

/// Sections: none, strings, symbols, code. `abi` and `flags` as cubin.h says.
inline std::vector<std::byte> small_cubin(unsigned char abi, std::uint32_t flags, const std::vector<std::string>& kernels) {
  namespace elf = cuda::elf;
  std::string strings(1, '\0');
  std::vector<elf::Symbol> symbols(1);
  for (const std::string& kernel : kernels) {
    symbols.push_back({static_cast<std::uint32_t>(strings.size()), 0x12, 0, 3, 0, 16});
    strings += kernel + '\0';
  }
  strings.resize((strings.size() + 15) / 16 * 16);
  const std::uint64_t strings_at = sizeof(elf::Header);
  const std::uint64_t symbols_at = strings_at + strings.size();
  const std::uint64_t symbol_bytes = symbols.size() * sizeof(elf::Symbol);
  const std::uint64_t code_at = (symbols_at + symbol_bytes + 15) / 16 * 16;
  elf::Header header = {};
  const unsigned char ident[9] = {0x7f, 'E', 'L', 'F', 2, 1, 1, abi, 8};
  std::memcpy(header.ident, ident, sizeof(ident));
  header.type = elf::kTypeExecutable;
  header.machine = elf::kMachineCuda;
  header.version = 1;
  header.flags = flags;
  header.header_bytes = sizeof(elf::Header);
  header.program_bytes = sizeof(elf::Program);
  header.section_bytes = sizeof(elf::Section);
  header.section_count = 4;
  header.names_section = 1;
  header.section_offset = code_at + 16;
  const elf::Section sections[4] = {
      {},
      {0, elf::kSectionStrings, 0, 0, strings_at, strings.size(), 0, 0, 1, 0},
      {0, elf::kSectionSymbols, 0, 0, symbols_at, symbol_bytes, 1, 1, 8, sizeof(elf::Symbol)},
      {0, 1, 6, 0, code_at, 16, 0, 0, 16, 0},
  };
  std::vector<std::byte> out(header.section_offset + sizeof(sections));
  std::memcpy(out.data(), &header, sizeof(header));
  std::memcpy(out.data() + strings_at, strings.data(), strings.size());
  std::memcpy(out.data() + symbols_at, symbols.data(), symbol_bytes);
  std::memcpy(out.data() + header.section_offset, sections, sizeof(sections));
  return out;
}

}  // namespace edgert::fake_cuda
