// SPDX-License-Identifier: Apache-2.0
#include "plan/emit.h"

#include <elf.h>

#include <cctype>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <sstream>

#include "plan/session_needs.h"
#include "ir/types.h"

namespace edgert::plan {
namespace {

struct OperatorRow {
  const char* type;
  const char* header;
};

const std::map<std::uint16_t, OperatorRow>& operator_rows() {
  static const std::map<std::uint16_t, OperatorRow> rows{
#define EDGERT_OPERATOR(id, type, header) {id, {#type, #header}},
#include "edgert/cpu/operators.def"
#undef EDGERT_OPERATOR
  };
  return rows;
}

std::set<std::uint16_t> operators_of(const PlanView& plan) {
  std::set<std::uint16_t> ids;
  for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
    const schema::Profile& profile = plan.profile(p);
    for (std::uint32_t l = 0; l < rules::count(profile.lists()); ++l) {
      const auto* steps = profile.lists()->Get(l)->steps();
      for (std::uint32_t s = 0; s < rules::count(steps); ++s) ids.insert(steps->Get(s)->op());
    }
  }
  return ids;
}

std::string quoted(const char* text) {
  std::string out = "\"";
  for (; *text != '\0'; ++text) {
    const auto c = static_cast<unsigned char>(*text);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += *text;
    } else if (c < 0x20 || c >= 0x7f) {
      char code[5];
      std::snprintf(code, sizeof(code), "\\%03o", c);
      out += code;
    } else {
      out += *text;
    }
  }
  return out + "\"";
}

const char* dtype_name(DType dtype) {
  static const char* const kNames[kDTypeCount] = {
      "Undefined", "F32", "F16",  "BF16", "F64", "I8",       "U8",         "I16",    "U16",        "I32",    "U32",    "I64",
      "U64",       "Bool", "I4",  "U4",   "F8E4M3FN", "F8E4M3FNUZ", "F8E5M2", "F8E5M2FNUZ", "F8E8M0", "F4E2M1", "I2", "U2"};
  return kNames[static_cast<std::size_t>(dtype)];
}

void emit_bindings(std::ostringstream& out, const PlanView& plan, bool input) {
  const std::uint32_t count = input ? plan.input_count() : plan.output_count();
  for (std::uint32_t i = 0; i < count; ++i) {
    const TensorView view = input ? plan.input(0, i) : plan.output(0, i);
    out << "/// " << (input ? "Input " : "Output ") << i << "; shape of profile 0.\n"
        << "struct " << (input ? "Input" : "Output") << i << " {\n"
        << "  static constexpr std::uint32_t kIndex = " << i << ";\n"
        << "  static constexpr const char* kName = " << quoted(input ? plan.input_name(i) : plan.output_name(i)) << ";\n"
        << "  static constexpr edgert::DType kType = edgert::DType::" << dtype_name(view.dtype) << ";\n"
        << "  static constexpr std::uint32_t kRank = " << int{view.rank} << ";\n"
        << "  static constexpr std::int64_t kDims[" << (view.rank == 0 ? 1 : int{view.rank}) << "] = {";
    for (std::uint32_t d = 0; d < view.rank; ++d) out << (d != 0 ? ", " : "") << view.dims[d];
    out << "};\n  static constexpr std::int64_t kElements = " << view.elements() << ";\n};\n\n";
  }
}

}  // namespace

std::string identifier_from(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  std::string stem = slash == std::string::npos ? path : path.substr(slash + 1);
  if (const std::size_t dot = stem.find('.'); dot != std::string::npos && dot != 0) stem.resize(dot);
  std::string out;
  for (const char c : stem) out += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  if (out.empty() || std::isdigit(static_cast<unsigned char>(out[0])) != 0) out = "model_" + out;
  return out;
}

std::string emit_header(const PlanView& plan, const std::string& name) {
  const Result<SessionNeeds> found = session_needs(plan);
  if (!found.ok()) throw ir::BuildError("the plan does not run with this version's operators");
  const SessionNeeds& needs = *found;
  std::ostringstream out;
  out << "// Made by `edgert build --emit-header`: everything about one plan that is constant. Goes with that plan only.\n"
      << "#pragma once\n\n#include \"edgert/session.h\"\n\nnamespace " << name << " {\n\n"
      << "/// The operators that the plan uses; a program that names them carries no others.\nusing Operators = "
      << "edgert::cpu::OperatorSet<";
  bool first = true;
  for (const std::uint16_t id : operators_of(plan)) {
    out << (first ? "" : ", ") << "edgert::cpu::" << operator_rows().at(id).type;
    first = false;
  }
  out << ">;\nusing Session = edgert::Session<Operators>;\n\n"
      << "inline constexpr edgert::SessionNeeds kNeeds{" << needs.tensors << ", " << needs.operands << ", " << needs.steps
      << ", " << needs.lists << ", " << needs.bindings << ", " << needs.arena_bytes << ", " << needs.state_bytes << ", "
      << needs.io_bytes << ", " << needs.scratch_bytes << "};\n"
      << "/// What prepare() needs for that many threads, exactly; alignment 64.\n"
      << "constexpr std::uint64_t memory_bytes(std::uint32_t threads = 1) { return edgert::session_bytes(kNeeds, threads); }\n"
      << "inline constexpr std::uint64_t kPlanBytes = " << plan.bytes().size() << ";\n"
      << "inline constexpr std::uint32_t kProfiles = " << plan.profile_count() << ";\n\n";
  emit_bindings(out, plan, true);
  emit_bindings(out, plan, false);
  out << "/// The plan's bytes, from `edgert build --emit-object`.\nextern \"C\" const unsigned char " << name
      << "_plan[kPlanBytes];\n\n}  // namespace " << name << "\n";
  return out.str();
}

std::string emit_assembly(Span<const std::byte> plan, const std::string& name) {
  std::string out = "# Made by `edgert build --emit-object`: the bytes of a plan.\n  .section .rodata." + name +
                    "_plan,\"a\",%progbits\n  .balign 64\n  .global " + name + "_plan\n  .type " + name +
                    "_plan, %object\n" + name + "_plan:\n";
  char line[80];
  std::size_t i = 0;
  for (; i + 8 <= plan.size(); i += 8) {
    std::uint64_t word;
    std::memcpy(&word, plan.data() + i, sizeof(word));
    std::snprintf(line, sizeof(line), "  .quad 0x%016llx\n", static_cast<unsigned long long>(word));
    out += line;
  }
  for (; i < plan.size(); ++i) {
    std::snprintf(line, sizeof(line), "  .byte 0x%02x\n", static_cast<unsigned>(plan[i]));
    out += line;
  }
  out += "  .global " + name + "_plan_end\n" + name + "_plan_end:\n  .size " + name + "_plan, . - " + name +
         "_plan\n  .section .note.GNU-stack,\"\",%progbits\n";
  return out;
}

std::vector<std::byte> emit_object(Span<const std::byte> plan, const std::string& name, Machine machine) {
  // Layout: ELF header, data, symbols, their names, section names, section headers.
  static const char kSectionNames[] = "\0.rodata\0.symtab\0.strtab\0.shstrtab\0.note.GNU-stack";
  const std::string strings = std::string(1, '\0') + name + "_plan" + '\0' + name + "_plan_end" + '\0';
  Elf64_Sym symbols[3] = {};
  symbols[1].st_name = 1;
  symbols[1].st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT);
  symbols[1].st_shndx = 1;
  symbols[1].st_size = plan.size();
  symbols[2].st_name = static_cast<Elf64_Word>(1 + name.size() + 6);
  symbols[2].st_info = ELF64_ST_INFO(STB_GLOBAL, STT_NOTYPE);
  symbols[2].st_shndx = 1;
  symbols[2].st_value = plan.size();

  Elf64_Shdr sections[6] = {};
  std::vector<std::byte> out(64);
  const auto append = [&](int index, Elf64_Word name_offset, Elf64_Word type, const void* data, std::size_t size,
                          Elf64_Xword alignment) {
    out.resize(align_up(out.size(), alignment));
    sections[index].sh_name = name_offset;
    sections[index].sh_type = type;
    sections[index].sh_offset = out.size();
    sections[index].sh_size = size;
    sections[index].sh_addralign = alignment;
    const auto* bytes = static_cast<const std::byte*>(data);
    out.insert(out.end(), bytes, bytes + size);
  };
  append(1, 1, SHT_PROGBITS, plan.data(), plan.size(), 64);
  sections[1].sh_flags = SHF_ALLOC;
  append(2, 9, SHT_SYMTAB, symbols, sizeof(symbols), 8);
  sections[2].sh_link = 3;
  sections[2].sh_info = 1;
  sections[2].sh_entsize = sizeof(Elf64_Sym);
  append(3, 17, SHT_STRTAB, strings.data(), strings.size(), 1);
  append(4, 25, SHT_STRTAB, kSectionNames, sizeof(kSectionNames), 1);
  append(5, 35, SHT_PROGBITS, nullptr, 0, 1);
  out.resize(align_up(out.size(), 8));

  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_REL;
  header.e_machine = machine == Machine::AArch64 ? EM_AARCH64 : EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_shoff = out.size();
  header.e_ehsize = sizeof(Elf64_Ehdr);
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 6;
  header.e_shstrndx = 4;
  std::memcpy(out.data(), &header, sizeof(header));
  const auto* table = reinterpret_cast<const std::byte*>(sections);
  out.insert(out.end(), table, table + sizeof(sections));
  return out;
}

}  // namespace edgert::plan
