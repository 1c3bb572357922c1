// SPDX-License-Identifier: Apache-2.0
// Every numbered rule of a plan, broken by itself, and every bit of a plan, flipped.
#include "support/plan_editor.h"

#include <doctest/doctest.h>

#include <functional>
#include <set>

#include "support/small_plan.h"
#include "support/test_session.h"

using namespace edgert;
using test::PlanEditor;
using test::load_status;
using test::TestSession;

namespace {

const std::vector<std::byte>& plan_bytes() {
  static const std::vector<std::byte> bytes = test::small_plan();
  return bytes;
}

Rule broken_rule(const std::function<void(PlanEditor&)>& change) {
  PlanEditor editor(plan_bytes());
  change(editor);
  const Status status = load_status(editor.bytes());
  CHECK(status.error() == Error::RuleViolated);
  return static_cast<Rule>(status.rule());
}

schema::ProfileT& profile(PlanEditor& editor) { return *editor.table.profiles[0]; }
schema::StepT& step(PlanEditor& editor, std::size_t i = 0) { return *profile(editor).lists[0]->steps[i]; }

/// The first tensor in a region.
schema::TensorT& tensor_in(PlanEditor& editor, schema::Region region) {
  for (auto& tensor : profile(editor).tensors) {
    if (profile(editor).storages[tensor->storage]->region == region) return *tensor;
  }
  throw std::logic_error("no tensor in that region");
}
schema::StorageT& storage_in(PlanEditor& editor, schema::Region region) {
  return *profile(editor).storages[tensor_in(editor, region).storage];
}

/// Appends lists of one step each, which is the first step of list 0.
void add_lists(PlanEditor& editor, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    profile(editor).lists.push_back(std::make_unique<schema::StepListT>());
    profile(editor).lists.back()->steps.push_back(std::make_unique<schema::StepT>(step(editor)));
  }
}

struct Breakage {
  Rule rule;
  const char* what;
  std::function<void(PlanEditor&)> change;
};

const std::vector<Breakage>& breakages() {
  using schema::Region;
  static const std::vector<Breakage> all{
      {Rule::SectionLayout, "section not aligned", [](PlanEditor& e) { e.edit_entries = [](auto& s) { s[1].alignment = 3; }; }},
      {Rule::SectionLayout, "section past the end", [](PlanEditor& e) { e.edit_entries = [](auto& s) { s[1].size += 64; }; }},
      {Rule::SectionLayout, "sections overlap", [](PlanEditor& e) { e.edit_entries = [](auto& s) { s[1].offset = s[0].offset; }; }},
      {Rule::SectionPadding, "junk behind the last section", [](PlanEditor& e) { e.edit_bytes = [](auto& b) { b.resize(b.size() + 64, std::byte{1}); }; }},
      {Rule::SectionKinds, "unknown kind", [](PlanEditor& e) { e.sections[1].entry.kind = static_cast<SectionKind>(9); }},
      {Rule::SectionKinds, "two tables", [](PlanEditor& e) { e.sections[1].entry.kind = SectionKind::Table; }},
      {Rule::SectionKinds, "no table", [](PlanEditor& e) { e.sections[0].entry.kind = SectionKind::Golden; }},
      {Rule::BindingName, "empty name", [](PlanEditor& e) { e.table.inputs[0]->name = ""; }},
      {Rule::BindingType, "unknown type", [](PlanEditor& e) { e.table.inputs[0]->dtype = static_cast<schema::DType>(77); }},
      {Rule::BindingType, "extent below -1", [](PlanEditor& e) { e.table.inputs[0]->dims[0] = -2; }},
      {Rule::ProfileCount, "no profile", [](PlanEditor& e) { e.table.profiles.clear(); }},
      {Rule::ProfileBinding, "input without tensor", [](PlanEditor& e) { profile(e).inputs[0] = 1000; }},
      {Rule::ProfileBinding, "missing output", [](PlanEditor& e) { profile(e).outputs.clear(); }},
      {Rule::ProfileBinding, "binding of another shape", [](PlanEditor& e) { e.table.inputs[0]->dims[1] = 5; }},
      {Rule::BindingDense, "input with a gap", [](PlanEditor& e) { storage_in(e, Region::Input).size += 64; }},
      {Rule::StorageRegion, "unknown region", [](PlanEditor& e) { storage_in(e, Region::Arena).region = static_cast<Region>(9); }},
      {Rule::StorageRegion, "input storage with an offset", [](PlanEditor& e) { storage_in(e, Region::Input).offset = 64; }},
      {Rule::StorageAlignment, "alignment 3", [](PlanEditor& e) { storage_in(e, Region::Weights).alignment = 3; }},
      {Rule::StorageAlignment, "offset off its alignment", [](PlanEditor& e) { storage_in(e, Region::Weights).offset += 4; }},
      {Rule::StorageBounds, "outside the weights", [](PlanEditor& e) { storage_in(e, Region::Weights).offset = 1u << 20; }},
      {Rule::StorageBounds, "size that wraps", [](PlanEditor& e) { storage_in(e, Region::Weights).size = ~std::uint64_t{0}; }},
      {Rule::StorageBounds, "a second storage of an input, larger than its buffer",
       [](PlanEditor& e) {
         auto second = std::make_unique<schema::StorageT>(storage_in(e, Region::Input));
         second->size += 64;
         profile(e).storages.push_back(std::move(second));
       }},
      {Rule::StorageLifetime, "ends before it begins",
       [](PlanEditor& e) { storage_in(e, Region::Arena).first_step = 1; storage_in(e, Region::Arena).last_step = 0; }},
      {Rule::RegionSize, "huge arena", [](PlanEditor& e) { profile(e).arena_bytes = std::uint64_t{1} << 50; }},
      {Rule::RegionSize, "huge state", [](PlanEditor& e) { e.table.state_bytes = std::uint64_t{1} << 50; }},
      {Rule::TensorType, "unknown type", [](PlanEditor& e) { tensor_in(e, Region::Arena).dtype = static_cast<schema::DType>(99); }},
      {Rule::TensorRank, "rank 9",
       [](PlanEditor& e) { tensor_in(e, Region::Arena).dims.assign(9, 1); tensor_in(e, Region::Arena).strides.assign(9, 1); }},
      {Rule::TensorRank, "a stride too few", [](PlanEditor& e) { tensor_in(e, Region::Arena).strides.pop_back(); }},
      {Rule::TensorExtents, "negative extent", [](PlanEditor& e) { tensor_in(e, Region::Arena).dims[0] = -1; }},
      {Rule::TensorExtents, "negative stride", [](PlanEditor& e) { tensor_in(e, Region::Arena).strides[0] = -4; }},
      {Rule::TensorExtents, "extents that overflow",
       [](PlanEditor& e) { tensor_in(e, Region::Arena).dims.assign(2, std::int64_t{1} << 40); }},
      {Rule::TensorStorage, "past its storage", [](PlanEditor& e) { tensor_in(e, Region::Arena).offset += 4; }},
      {Rule::TensorStorage, "no storage", [](PlanEditor& e) { tensor_in(e, Region::Arena).storage = 1000; }},
      {Rule::TensorAlignment, "odd address",
       [](PlanEditor& e) { tensor_in(e, Region::Arena).offset = 1; tensor_in(e, Region::Arena).dims[0] = 1; }},
      {Rule::TensorBound, "bound by no tensor",
       [](PlanEditor& e) {
         auto extent = std::make_unique<schema::ExtentT>();
         extent->tensor = 1000;
         tensor_in(e, Region::Arena).extents.push_back(std::move(extent));
       }},
      {Rule::TensorQuantization, "scales and zero points differ",
       [](PlanEditor& e) {
         auto quantization = std::make_unique<schema::QuantizationT>();
         quantization->scales = {1.f};
         quantization->zero_points = {1, 2};
         tensor_in(e, Region::Arena).quantization = std::move(quantization);
       }},
      {Rule::TensorPacked, "packed activations",
       [](PlanEditor& e) {
         schema::TensorT& tensor = tensor_in(e, Region::Arena);
         tensor.format = 1;
         tensor.dims = {0, 0, 0};
         tensor.strides.clear();
       }},
      {Rule::ListCount, "no list", [](PlanEditor& e) { profile(e).lists.clear(); }},
      {Rule::StepOperands, "input of no tensor", [](PlanEditor& e) { step(e).inputs[0] = 1000; }},
      {Rule::StepOperands, "absent output", [](PlanEditor& e) { step(e).outputs[0] = 0xffffffffu; }},
      {Rule::StepWrites, "writes to weights", [](PlanEditor& e) { step(e).outputs[0] = step(e).inputs[1]; }},
      {Rule::StepWrites, "writes to an input", [](PlanEditor& e) { step(e).outputs[0] = step(e).inputs[0]; }},
      {Rule::StepParts, "no parts", [](PlanEditor& e) { step(e).parts = 0; }},
      {Rule::StepParts, "bodies in several parts",
       [](PlanEditor& e) { add_lists(e, 1); step(e).bodies = {1}; step(e).parts = 2; }},
      {Rule::StepBodies, "its own list as body", [](PlanEditor& e) { step(e).bodies.push_back(0); }},
      {Rule::StepBodies, "a body that is no list", [](PlanEditor& e) { step(e).bodies.push_back(1); }},
      {Rule::StepBodies, "a list that is nobody's body", [](PlanEditor& e) { add_lists(e, 1); }},
      {Rule::StepBodies, "one list as two bodies", [](PlanEditor& e) { add_lists(e, 1); step(e).bodies = {1, 1}; }},
      {Rule::StepBodies, "one list as body of two steps",
       [](PlanEditor& e) { add_lists(e, 1); step(e, 0).bodies = {1}; step(e, 1).bodies = {1}; }},
      {Rule::StepBodies, "an earlier list as body",
       [](PlanEditor& e) {
         add_lists(e, 2);
         step(e).bodies = {2};
         profile(e).lists[2]->steps[0]->bodies = {1};
       }},
      {Rule::BodyDepth, "nested nine deep",
       [](PlanEditor& e) {
         add_lists(e, 9);
         for (std::uint16_t i = 0; i < 9; ++i) profile(e).lists[i]->steps[0]->bodies = {static_cast<std::uint16_t>(i + 1)};
       }},
      {Rule::StepOrder, "depends on itself",
       [](PlanEditor& e) { profile(e).lists[0]->sequential = false; step(e, 1).depends_on.push_back(1); }},
      {Rule::StepKind, "neither operator nor launch", [](PlanEditor& e) { step(e).op = 0; }},
      {Rule::StepKind, "operator and launch", [](PlanEditor& e) { step(e).launch = std::make_unique<schema::LaunchT>(); }},
      {Rule::SegmentCover, "segments leave steps out",
       [](PlanEditor& e) {
         auto segment = std::make_unique<schema::SegmentT>();
         segment->step_count = 1;
         profile(e).segments.push_back(std::move(segment));
       }},
      {Rule::SegmentCover, "an empty segment",
       [](PlanEditor& e) {
         for (const std::size_t steps : {std::size_t{0}, profile(e).lists[0]->steps.size()}) {
           profile(e).segments.push_back(std::make_unique<schema::SegmentT>());
           profile(e).segments.back()->step_count = static_cast<std::uint32_t>(steps);
         }
       }},
      {Rule::StateRange, "state outside its memory",
       [](PlanEditor& e) {
         auto state = std::make_unique<schema::StateT>();
         state->size = 8;
         e.table.states.push_back(std::move(state));
       }},
      {Rule::GoldenRange, "golden vectors without section",
       [](PlanEditor& e) {
         auto golden = std::make_unique<schema::GoldenT>();
         golden->input_offsets = {0};
         golden->output_offsets = {0};
         e.table.golden.push_back(std::move(golden));
       }},
      {Rule::ModuleSection, "module in the weights",
       [](PlanEditor& e) {
         auto module = std::make_unique<schema::ModuleT>();
         module->section = 1;
         e.table.modules.push_back(std::move(module));
       }},
      {Rule::Strings, "provenance without string", [](PlanEditor& e) { step(e).nodes.push_back(1000); }},
      {Rule::Strings, "empty metadata key", [](PlanEditor& e) { e.table.metadata[0]->key = ""; }},
  };
  return all;
}

}  // namespace

TEST_CASE("the plan loads as it is, and after being taken apart") {
  CHECK(load_status(plan_bytes()).ok());
  CHECK(load_status(PlanEditor(plan_bytes()).bytes()).ok());
}

TEST_CASE("each rule refuses what breaks it") {
  for (const Breakage& breakage : breakages()) {
    CAPTURE(breakage.what);
    CHECK(static_cast<int>(broken_rule(breakage.change)) == static_cast<int>(breakage.rule));
  }
}

TEST_CASE("every loading rule has a breakage") {
  std::set<Rule> broken{Rule::StepAttributes};  // FlatBuffers writes no misaligned vector; the next test does by hand
  for (const Breakage& breakage : breakages()) broken.insert(breakage.rule);
  for (const Rule rule :
       {Rule::SectionLayout, Rule::SectionPadding, Rule::SectionKinds, Rule::BindingName, Rule::BindingType, Rule::ProfileCount,
        Rule::ProfileBinding, Rule::BindingDense, Rule::StorageRegion, Rule::StorageAlignment, Rule::StorageBounds,
        Rule::StorageLifetime, Rule::RegionSize, Rule::TensorType, Rule::TensorRank, Rule::TensorExtents, Rule::TensorStorage,
        Rule::TensorAlignment, Rule::TensorBound, Rule::TensorQuantization, Rule::TensorPacked, Rule::ListCount,
        Rule::StepOperands, Rule::StepWrites, Rule::StepParts, Rule::StepBodies, Rule::StepOrder, Rule::StepKind,
        Rule::StepAttributes, Rule::SegmentCover, Rule::BodyDepth, Rule::StateRange, Rule::GoldenRange, Rule::ModuleSection, Rule::Strings}) {
    CHECK(broken.count(rule) == 1);
  }
}

TEST_CASE("attributes off their alignment are refused") {
  // Eight bytes before the whole table move everything in it: still a valid FlatBuffer, whose own alignment is eight at
  // most, but no longer aligned to sixteen.
  PlanEditor editor(plan_bytes());
  editor.pack_table = false;
  std::vector<std::byte>& content = editor.sections[0].content;
  std::uint32_t root = 0;
  std::memcpy(&root, content.data(), 4);
  content.insert(content.begin() + 8, 8, std::byte{0});
  root += 8;
  std::memcpy(content.data(), &root, 4);
  CHECK(load_status(editor.bytes()).rule() == static_cast<std::uint16_t>(Rule::StepAttributes));
}

TEST_CASE("numbers off their alignment are refused") {
  // A copy of the first tensor's extents, four bytes off, at the table's end: FlatBuffers' verifier takes it.
  PlanEditor editor(plan_bytes());
  editor.pack_table = false;
  std::vector<std::byte>& content = editor.sections[0].content;
  const schema::Tensor* tensor = schema::GetPlan(content.data())->profiles()->Get(0)->tensors()->Get(0);
  const std::size_t bytes = 4 + tensor->dims()->size() * 8;
  const auto* vector = reinterpret_cast<const std::byte*>(tensor->dims());
  const std::vector<std::byte> copy(vector, vector + bytes);
  const auto field = static_cast<std::size_t>(
      reinterpret_cast<const std::byte*>(
          reinterpret_cast<const edgert_flatbuffers::Table*>(tensor)->GetAddressOf(schema::Tensor::VT_DIMS)) -
      content.data());
  content.resize(align_up(content.size(), 8));
  const auto offset = static_cast<std::uint32_t>(content.size() - field);
  content.insert(content.end(), copy.begin(), copy.end());
  content.resize(align_up(content.size() + 8, 8));
  std::memcpy(content.data() + field, &offset, sizeof(offset));
  CHECK(load_status(editor.bytes()).rule() == static_cast<std::uint16_t>(Rule::TensorRank));
}

TEST_CASE("operators refuse operands and attributes that don't fit") {
  const auto needs = [](const std::function<void(PlanEditor&)>& change) {
    PlanEditor editor(plan_bytes());
    change(editor);
    const edgert::plan::Bytes64 bytes(editor.bytes());
    const Result<PlanView> view = PlanView::load(bytes.span());
    REQUIRE(view.ok());
    return TestSession::needs(*view).status();
  };
  CHECK(needs([](PlanEditor& e) { step(e).attributes.pop_back(); }).rule() == static_cast<std::uint16_t>(Rule::OperatorAttributes));
  CHECK(needs([](PlanEditor& e) { step(e).inputs.pop_back(); step(e).inputs.pop_back(); step(e).inputs.pop_back(); }).rule() ==
        static_cast<std::uint16_t>(Rule::OperatorOperands));
  CHECK(needs([](PlanEditor& e) { step(e).op = 60000; }).error() == Error::UnknownOperator);
  // Bodies nested eight deep pass the rules, but no operator of this plan asks for any.
  CHECK(needs([](PlanEditor& e) {
          add_lists(e, 8);
          for (std::uint16_t i = 0; i < 8; ++i) profile(e).lists[i]->steps[0]->bodies = {static_cast<std::uint16_t>(i + 1)};
        }).rule() == static_cast<std::uint16_t>(Rule::OperatorOperands));
}

TEST_CASE("a flipped bit anywhere is refused") {
  edgert::plan::Bytes64 bytes(plan_bytes());
  const Span<std::byte> span = bytes.mutable_span();
  std::size_t accepted = 0;
  for (std::size_t i = 0; i < span.size() * 8; ++i) {
    const auto mask = static_cast<std::byte>(1u << (i % 8));
    span[i / 8] ^= mask;
    accepted += PlanView::load(bytes.span()).ok() ? 1 : 0;
    span[i / 8] ^= mask;
  }
  CHECK(accepted == 0);
}

TEST_CASE("a plan cut off anywhere is refused") {
  const edgert::plan::Bytes64 bytes(plan_bytes());
  std::size_t accepted = 0;
  for (std::size_t size = 0; size < plan_bytes().size(); ++size) {
    accepted += PlanView::load({bytes.span().data(), size}).ok() ? 1 : 0;
  }
  CHECK(accepted == 0);
}

TEST_CASE("a flipped bit behind right checksums is refused by a rule or runs harmlessly") {
  // The sanitizer build runs this too: "harmlessly" is then checked byte by byte, on memory of exactly the right size.
  std::size_t ran = 0;
  std::size_t refused = 0;
  const std::size_t header = sizeof(PlanHeader) + 2 * sizeof(SectionEntry);
  for (std::size_t i = header * 8; i < plan_bytes().size() * 8; ++i) {
    PlanEditor editor(plan_bytes());
    editor.pack_table = false;
    editor.edit_bytes = [i](std::vector<std::byte>& file) { file[i / 8] ^= static_cast<std::byte>(1u << (i % 8)); };
    const edgert::plan::Bytes64 bytes(editor.bytes());
    const Result<PlanView> view = PlanView::load(bytes.span());
    if (!view.ok()) {
      ++refused;
      continue;
    }
    const Result<std::uint64_t> needed = TestSession::memory_bytes(*view);
    if (!needed.ok() || *needed > (1u << 24)) {
      ++refused;
      continue;
    }
    struct alignas(64) Line {
      std::byte bytes[64];
    };
    std::vector<Line> memory((*needed + 63) / 64);
    TestSession session;
    if (session.prepare(*view, {memory.data()->bytes, *needed}).ok()) session.run().ok() ? ++ran : ++refused;
  }
  CHECK(ran > 0);
  CHECK(refused > 0);
  MESSAGE(ran << " mutants ran, " << refused << " were refused");
}

TEST_CASE("versions") {
  PlanEditor editor(plan_bytes());
  std::vector<std::byte> bytes = editor.bytes();
  const std::uint16_t newer = kPlanMinor + 1;
  std::memcpy(bytes.data() + offsetof(PlanHeader, minor), &newer, sizeof(newer));
  CHECK(load_status(bytes).error() == Error::UnsupportedVersion);
  bytes[0] ^= std::byte{1};
  CHECK(load_status(bytes).error() == Error::BadMagic);
}

TEST_CASE("signatures") {
  struct Verdict {
    bool answer;
    int calls;
  } verdict{true, 0};
  LoadOptions options;
  options.signature.user = &verdict;
  options.signature.verify = [](void* user, const std::uint8_t (&)[kSignedDigestBytes], Span<const std::byte>) {
    auto& asked = *static_cast<Verdict*>(user);
    ++asked.calls;
    return asked.answer;
  };
  CHECK(load_status(plan_bytes(), options).ok());
  CHECK(verdict.calls == 1);
  verdict.answer = false;
  CHECK(load_status(plan_bytes(), options).error() == Error::SignatureInvalid);
}

TEST_CASE("a signed plan's section hashes are checked") {
  // CRC32C can be forged by anybody; the SHA-256 in the signed section table cannot.
  PlanEditor editor(plan_bytes());
  std::vector<std::byte> bytes = editor.bytes();
  std::vector<SectionEntry> entries(2);
  std::memcpy(entries.data(), bytes.data() + sizeof(PlanHeader), 2 * sizeof(SectionEntry));
  const std::vector<SectionEntry> genuine = entries;
  bytes[entries[1].offset] ^= std::byte{1};
  PlanEditor::seal(bytes, entries);
  std::memcpy(entries[1].sha256, genuine[1].sha256, 32);
  PlanHeader header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  header.section_table_crc = crc32c(entries.data(), entries.size() * sizeof(SectionEntry));
  header.header_crc = crc32c(&header, offsetof(PlanHeader, header_crc));
  std::memcpy(bytes.data(), &header, sizeof(header));
  std::memcpy(bytes.data() + sizeof(PlanHeader), entries.data(), entries.size() * sizeof(SectionEntry));
  CHECK(load_status(bytes).ok());
  LoadOptions options;
  options.signature.verify = [](void*, const std::uint8_t (&)[kSignedDigestBytes], Span<const std::byte>) { return true; };
  CHECK(load_status(bytes, options).error() == Error::HashMismatch);
}
