// SPDX-License-Identifier: Apache-2.0
// From bytes to a verified plan.
#pragma once

#include <cstring>

#include "edgert/crc32c.h"
#include "edgert/log.h"
#include "edgert/plan_format.h"
#include "edgert/plan_rules.h"
#include "edgert/sha256.h"
#include "edgert/span.h"
#include "edgert/status.h"

namespace edgert {

/// Checks the signature of a plan, for example with Ed25519: `digest` is what was signed (plan_format.h), `signature` the
/// content of the Signature section. Returns whether it is good.
struct SignatureVerifier {
  bool (*verify)(void* user, const std::uint8_t (&digest)[kSignedDigestBytes], Span<const std::byte> signature) = nullptr;
  void* user = nullptr;
};

struct LoadOptions {
  LogSink log;
  /// With a verifier, a plan without a good signature is refused, and the SHA-256 of every section is checked.
  SignatureVerifier signature;
};

/// A plan that passed every check, in the bytes that the caller keeps (flash, a mapped file, a buffer) for as long as
/// this view and every session on it lives; they must not change. A small value: copy it freely. Reading it from several
/// threads is safe.
class PlanView {
 public:
  PlanView() = default;

  /// The one way to a PlanView: size, alignment, header, section checksums, signature, table, rules; the first failure is
  /// logged and returned. `bytes` must be aligned to kPlanAlignment; bytes after the plan's end are an error.
  static Result<PlanView> load(Span<const std::byte> bytes, const LoadOptions& options = {}) noexcept {
    PlanView view;
    view.bytes_ = bytes;
    EDGERT_RETURN_IF_ERROR(view.check_header(options.log));
    EDGERT_RETURN_IF_ERROR(view.check_sections(options.log));
    EDGERT_RETURN_IF_ERROR(view.check_signature(options));
    EDGERT_RETURN_IF_ERROR(view.check_table(options.log));
    return view;
  }

  const schema::Plan& table() const noexcept { return *table_; }
  Span<const std::byte> bytes() const noexcept { return bytes_; }
  Span<const std::byte> weights() const noexcept { return weights_; }
  Span<const std::byte> golden() const noexcept { return golden_; }
  Span<const SectionEntry> sections() const noexcept { return {entries(), header().section_count}; }
  Span<const std::byte> section(std::uint32_t index) const noexcept {
    return {bytes_.data() + entries()[index].offset, static_cast<std::size_t>(entries()[index].size)};
  }

  /// Whether the steps are launches on a GPU (edgert/cuda/session.h runs them); else edgert/session.h runs the plan.
  bool is_cuda() const noexcept {
    if (rules::count(table_->modules()) != 0) return true;
    // A vendor's library needs no module.
    for (std::uint32_t p = 0; p < profile_count(); ++p) {
      const auto* steps = profile(p).lists()->Get(0)->steps();
      for (std::uint32_t i = 0; i < rules::count(steps); ++i) {
        if (steps->Get(i)->launch() != nullptr) return true;
      }
    }
    return false;
  }

  std::uint32_t profile_count() const noexcept { return rules::count(table_->profiles()); }
  const schema::Profile& profile(std::uint32_t index) const noexcept { return *table_->profiles()->Get(index); }
  std::uint32_t input_count() const noexcept { return rules::count(table_->inputs()); }
  std::uint32_t output_count() const noexcept { return rules::count(table_->outputs()); }
  const char* input_name(std::uint32_t i) const noexcept { return table_->inputs()->Get(i)->name()->c_str(); }
  const char* output_name(std::uint32_t i) const noexcept { return table_->outputs()->Get(i)->name()->c_str(); }
  /// Type and shape of a binding in a profile, without data.
  TensorView input(std::uint32_t profile_index, std::uint32_t i) const noexcept {
    return tensor(profile_index, profile(profile_index).inputs()->Get(i));
  }
  TensorView output(std::uint32_t profile_index, std::uint32_t i) const noexcept {
    return tensor(profile_index, profile(profile_index).outputs()->Get(i));
  }
  /// Bytes of input b, or of output b - input_count(), in its largest profile.
  std::uint64_t binding_bytes(std::uint32_t binding) const noexcept {
    std::uint64_t largest = 0;
    for (std::uint32_t p = 0; p < profile_count(); ++p) {
      const auto* of = binding < input_count() ? profile(p).inputs() : profile(p).outputs();
      const std::uint32_t tensor = of->Get(binding < input_count() ? binding : binding - input_count());
      const std::uint64_t size = profile(p).storages()->Get(profile(p).tensors()->Get(tensor)->storage())->size();
      if (size > largest) largest = size;
    }
    return largest;
  }
  TensorView tensor(std::uint32_t profile_index, std::uint32_t index) const noexcept {
    TensorView view;
    (void)rules::describe(*profile(profile_index).tensors()->Get(index), view);
    return view;
  }
  /// Value of a metadata key, or null.
  const char* metadata(const char* key) const noexcept {
    for (std::uint32_t i = 0; i < rules::count(table_->metadata()); ++i) {
      const schema::KeyValue& entry = *table_->metadata()->Get(i);
      if (std::strcmp(entry.key()->c_str(), key) == 0) return entry.value() != nullptr ? entry.value()->c_str() : "";
    }
    return nullptr;
  }

 private:
  const PlanHeader& header() const noexcept { return *reinterpret_cast<const PlanHeader*>(bytes_.data()); }
  const SectionEntry* entries() const noexcept {
    return reinterpret_cast<const SectionEntry*>(bytes_.data() + sizeof(PlanHeader));
  }

  static Status refuse(const LogSink& log, Error error, const char* text, std::uint32_t index = 0) noexcept {
    Message message;
    message << "plan refused: " << text;
    if (error == Error::SectionCorrupt || error == Error::HashMismatch) message << " (section " << index << ")";
    message.to(log);
    return {error, index};
  }

  Status check_header(const LogSink& log) const noexcept {
    if (bytes_.size() < sizeof(PlanHeader)) return refuse(log, Error::PlanTruncated, "shorter than its header");
    if (reinterpret_cast<std::uintptr_t>(bytes_.data()) % kPlanAlignment != 0) {
      return refuse(log, Error::PlanMisaligned, "its first byte is not aligned to 64");
    }
    const PlanHeader& head = header();
    if (std::memcmp(head.magic, kPlanMagic, sizeof(kPlanMagic)) != 0) return refuse(log, Error::BadMagic, "not an EdgeRT plan");
    if (head.major != kPlanMajor || head.minor > kPlanMinor) {
      Message message;
      message << "plan refused: format " << std::uint32_t{head.major} << "." << std::uint32_t{head.minor} << ", this runtime reads "
              << std::uint32_t{kPlanMajor} << ".0 to " << std::uint32_t{kPlanMajor} << "." << std::uint32_t{kPlanMinor};
      message.to(log);
      return {Error::UnsupportedVersion, head.major, head.minor};
    }
    if (crc32c(&head, offsetof(PlanHeader, header_crc)) != head.header_crc) {
      return refuse(log, Error::HeaderCorrupt, "header checksum is wrong");
    }
    bool sane = head.header_bytes == sizeof(PlanHeader) && head.section_entry_bytes == sizeof(SectionEntry) &&
                head.section_count >= 1 && head.section_count <= kMaxSections;
    for (const std::uint8_t byte : head.reserved) sane = sane && byte == 0;
    if (!sane) return refuse(log, Error::HeaderCorrupt, "header fields are invalid");
    if (head.file_bytes != bytes_.size()) return refuse(log, Error::PlanTruncated, "file size and header do not agree");
    const std::uint64_t table_bytes = std::uint64_t{head.section_count} * sizeof(SectionEntry);
    if (!in_range(sizeof(PlanHeader), table_bytes, bytes_.size())) {
      return refuse(log, Error::PlanTruncated, "ends inside the section table");
    }
    if (crc32c(entries(), static_cast<std::size_t>(table_bytes)) != head.section_table_crc) {
      return refuse(log, Error::HeaderCorrupt, "section table checksum is wrong");
    }
    return {};
  }

  bool all_zero(std::uint64_t begin, std::uint64_t end) const noexcept {
    for (std::uint64_t i = begin; i < end; ++i) {
      if (bytes_[static_cast<std::size_t>(i)] != std::byte{0}) return false;
    }
    return true;
  }

  Status check_sections(const LogSink& log) noexcept {
    std::uint64_t end = sizeof(PlanHeader) + std::uint64_t{header().section_count} * sizeof(SectionEntry);
    std::uint32_t seen[6] = {};
    for (std::uint32_t i = 0; i < header().section_count; ++i) {
      const SectionEntry& entry = entries()[i];
      const auto kind = static_cast<std::uint32_t>(entry.kind);
      const bool laid_out = entry.reserved == 0 && is_power_of_two(entry.alignment) && entry.alignment >= kPlanAlignment &&
                            entry.alignment <= 4096 && entry.offset % entry.alignment == 0 && entry.offset >= end &&
                            in_range(entry.offset, entry.size, bytes_.size());
      if (!laid_out) return rules::violated(log, Rule::SectionLayout, "section", i, "offset, size or alignment is invalid");
      if (!all_zero(end, entry.offset)) {
        return rules::violated(log, Rule::SectionPadding, "section", i, "bytes before it are not zero");
      }
      end = entry.offset + entry.size;
      if (kind < 1 || kind > 5 || (++seen[kind] > 1 && entry.kind != SectionKind::Module)) {
        return rules::violated(log, Rule::SectionKinds, "section", i, "kind is unknown or there twice");
      }
      const Span<const std::byte> content = section(i);
      if (crc32c(content.data(), content.size()) != entry.crc32c) {
        return refuse(log, Error::SectionCorrupt, "section checksum is wrong", i);
      }
      if (entry.kind == SectionKind::Table) table_section_ = i;
      if (entry.kind == SectionKind::Weights) weights_ = content;
      if (entry.kind == SectionKind::Golden) golden_ = content;
    }
    if (!all_zero(end, bytes_.size())) {
      return rules::violated(log, Rule::SectionPadding, "section", header().section_count, "bytes after the last are not zero");
    }
    if (seen[static_cast<std::uint32_t>(SectionKind::Table)] != 1) {
      return rules::violated(log, Rule::SectionKinds, "section", 0, "there is no table");
    }
    return {};
  }

  Status check_signature(const LoadOptions& options) const noexcept {
    if (options.signature.verify == nullptr) return {};
    Sha256 signed_hash;
    PlanHeader head = header();
    head.header_crc = 0;
    head.section_table_crc = 0;
    signed_hash.update(&head, sizeof(head));
    Span<const std::byte> signature;
    for (std::uint32_t i = 0; i < header().section_count; ++i) {
      SectionEntry entry = entries()[i];
      if (entry.kind == SectionKind::Signature) {
        signature = section(i);
        entry.crc32c = 0;
        std::memset(entry.sha256, 0, sizeof(entry.sha256));
      }
      signed_hash.update(&entry, sizeof(entry));
    }
    std::uint8_t digest[kSignedDigestBytes];
    signed_hash.finish(digest);
    if (!options.signature.verify(options.signature.user, digest, signature)) {
      return refuse(options.log, Error::SignatureInvalid, "there is no good signature");
    }
    for (std::uint32_t i = 0; i < header().section_count; ++i) {
      if (entries()[i].kind == SectionKind::Signature) continue;
      Sha256 hash;
      const Span<const std::byte> content = section(i);
      hash.update(content.data(), content.size());
      hash.finish(digest);
      if (std::memcmp(digest, entries()[i].sha256, sizeof(digest)) != 0) {
        return refuse(options.log, Error::HashMismatch, "section hash is wrong", i);
      }
    }
    return {};
  }

  Status check_table(const LogSink& log) noexcept {
    const Span<const std::byte> content = section(table_section_);
    const auto* data = reinterpret_cast<const std::uint8_t*>(content.data());
    // FlatBuffers asserts instead of refusing beyond 2 GiB, and reads an identifier that may not be there.
    if (content.size() < 16 || content.size() > 0x7fffffffu) return refuse(log, Error::TableInvalid, "table size is invalid");
    constexpr std::uint32_t kMaxDepth = 8;
    constexpr std::uint32_t kMaxTables = 1u << 22;
    edgert_flatbuffers::Verifier verifier(data, content.size(), kMaxDepth, kMaxTables);
    if (!schema::VerifyPlanBuffer(verifier)) return refuse(log, Error::TableInvalid, "the table is no valid FlatBuffer");
    table_ = schema::GetPlan(data);
    return rules::check_plan({*table_, weights_.size(), golden_.size(), sections(), log});
  }

  Span<const std::byte> bytes_;
  Span<const std::byte> weights_;
  Span<const std::byte> golden_;
  const schema::Plan* table_ = nullptr;
  std::uint32_t table_section_ = 0;
};

}  // namespace edgert
