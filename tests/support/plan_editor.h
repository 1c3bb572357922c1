// SPDX-License-Identifier: Apache-2.0
// Takes a plan apart, lets a test change anything, and puts it together again with right checksums: so that a test can
// break exactly one rule.
#pragma once

#define EDGERT_FLATBUFFERS_ASSERT(condition) static_cast<void>(0)  // as plan_schema.h has it
#include "plan_objects_generated.h"  // first: the same schema with an object API
#undef EDGERT_FLATBUFFERS_ASSERT

#include <cstring>
#include <functional>
#include <vector>

#include "edgert/plan.h"
#include "plan/aligned_bytes.h"

namespace edgert::test {

struct EditedSection {
  SectionEntry entry;
  std::vector<std::byte> content;
};

class PlanEditor {
 public:
  explicit PlanEditor(const std::vector<std::byte>& plan) {
    PlanHeader header;
    std::memcpy(&header, plan.data(), sizeof(header));
    for (std::uint32_t i = 0; i < header.section_count; ++i) {
      EditedSection section;
      std::memcpy(&section.entry, plan.data() + sizeof(header) + i * sizeof(SectionEntry), sizeof(SectionEntry));
      const std::byte* content = plan.data() + section.entry.offset;
      section.content.assign(content, content + section.entry.size);
      sections.push_back(section);
    }
    schema::GetPlan(sections[0].content.data())->UnPackTo(&table);
  }

  /// The table's object form; sections[0] is replaced by it.
  schema::PlanT table;
  std::vector<EditedSection> sections;
  /// Changes the laid-out entries before checksums are made.
  std::function<void(std::vector<SectionEntry>&)> edit_entries = [](std::vector<SectionEntry>&) {};
  /// Changes the finished file; checksums of header, section table and sections are made anew if `reseal` says so.
  std::function<void(std::vector<std::byte>&)> edit_bytes = [](std::vector<std::byte>&) {};
  bool pack_table = true;

  std::vector<std::byte> bytes() {
    if (pack_table) {
      edgert_flatbuffers::FlatBufferBuilder builder;
      schema::FinishPlanBuffer(builder, schema::CreatePlan(builder, &table));
      const auto* data = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
      sections[0].content.assign(data, data + builder.GetSize());
    }
    std::vector<std::byte> out(sizeof(PlanHeader) + sections.size() * sizeof(SectionEntry));
    std::vector<SectionEntry> entries;
    for (const EditedSection& section : sections) {
      out.resize(align_up(out.size(), 64));
      SectionEntry entry = section.entry;
      entry.offset = out.size();
      entry.size = section.content.size();
      entries.push_back(entry);
      out.insert(out.end(), section.content.begin(), section.content.end());
    }
    edit_entries(entries);
    edit_bytes(out);
    seal(out, entries);
    return out;
  }

  /// Makes every checksum right for what the file holds now.
  static void seal(std::vector<std::byte>& file, std::vector<SectionEntry>& entries) {
    for (SectionEntry& entry : entries) {
      if (!in_range(entry.offset, entry.size, file.size())) continue;
      entry.crc32c = crc32c(file.data() + entry.offset, entry.size);
      Sha256 hash;
      hash.update(file.data() + entry.offset, entry.size);
      hash.finish(entry.sha256);
    }
    PlanHeader header{};
    std::memcpy(header.magic, kPlanMagic, sizeof(kPlanMagic));
    header.major = kPlanMajor;
    header.minor = kPlanMinor;
    header.header_bytes = sizeof(PlanHeader);
    header.file_bytes = file.size();
    header.section_count = static_cast<std::uint32_t>(entries.size());
    header.section_entry_bytes = sizeof(SectionEntry);
    header.section_table_crc = crc32c(entries.data(), entries.size() * sizeof(SectionEntry));
    header.header_crc = crc32c(&header, offsetof(PlanHeader, header_crc));
    std::memcpy(file.data(), &header, sizeof(header));
    std::memcpy(file.data() + sizeof(header), entries.data(), entries.size() * sizeof(SectionEntry));
  }
};

/// The status of loading these bytes.
inline Status load_status(const std::vector<std::byte>& bytes, const LoadOptions& options = {}) {
  const plan::Bytes64 aligned(bytes);
  return PlanView::load(aligned.span(), options).status();
}

}  // namespace edgert::test
