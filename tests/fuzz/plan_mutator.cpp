// SPDX-License-Identifier: Apache-2.0
// Mutations of plans for libFuzzer: most change the table's objects, then make sizes and checksums fit again, so that the
// fuzzer gets behind the loader's first rules and into the operators' checks and kernels.
#include "support/plan_editor.h"

#include <random>

#include "support/test_session.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

using namespace edgert;
using test::PlanEditor;

/// Whether every number of eight bytes is aligned, which PlanEditor takes for granted.
bool is_aligned(const schema::Plan& plan) {
  using rules::aligned;
  const auto bindings = [](const rules::Bindings* all) {
    for (std::uint32_t i = 0; i < rules::count(all); ++i) {
      const schema::Quantization* quantization = all->Get(i)->quantization();
      if (!aligned(all->Get(i)->dims()) || (quantization != nullptr && !aligned(quantization->zero_points()))) return false;
    }
    return true;
  };
  bool good = bindings(plan.inputs()) && bindings(plan.outputs());
  for (std::uint32_t i = 0; i < rules::count(plan.golden()); ++i) {
    good = good && aligned(plan.golden()->Get(i)->input_offsets()) && aligned(plan.golden()->Get(i)->output_offsets());
  }
  for (std::uint32_t p = 0; p < rules::count(plan.profiles()); ++p) {
    const schema::Profile& profile = *plan.profiles()->Get(p);
    for (std::uint32_t t = 0; t < rules::count(profile.tensors()); ++t) {
      const schema::Tensor& tensor = *profile.tensors()->Get(t);
      const schema::Quantization* quantization = tensor.quantization();
      good = good && aligned(tensor.dims()) && aligned(tensor.strides()) &&
             (quantization == nullptr || aligned(quantization->zero_points()));
    }
    for (std::uint32_t l = 0; l < rules::count(profile.lists()); ++l) {
      const schema::StepList& list = *profile.lists()->Get(l);
      // Launches belong to CUDA plans; none is mutated here.
      for (std::uint32_t s = 0; s < rules::count(list.steps()); ++s) good = good && list.steps()->Get(s)->launch() == nullptr;
    }
  }
  return good;
}

/// Whether PlanEditor can take it apart: what a valid plan would be apart from checksums and semantic rules.
bool has_structure(const std::vector<std::byte>& bytes) {
  PlanHeader header;
  if (bytes.size() < sizeof(header)) return false;
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.section_count < 1 || header.section_count > 16) return false;
  if (!in_range(sizeof(header), header.section_count * sizeof(SectionEntry), bytes.size())) return false;
  for (std::uint32_t i = 0; i < header.section_count; ++i) {
    SectionEntry entry;
    std::memcpy(&entry, bytes.data() + sizeof(header) + i * sizeof(entry), sizeof(entry));
    if (!in_range(entry.offset, entry.size, bytes.size())) return false;
    if (i != 0) continue;
    if (entry.size < 16 || entry.offset % 16 != 0) return false;
    const std::byte* content = bytes.data() + entry.offset;
    const std::vector<std::byte> table(content, content + entry.size);
    edgert_flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(table.data()), table.size(), 8, 10000);
    if (!schema::VerifyPlanBuffer(verifier) || !is_aligned(*schema::GetPlan(table.data()))) return false;
  }
  return true;
}

class Mutator {
 public:
  Mutator(PlanEditor& editor, unsigned seed) : editor_(editor), random_(seed) {}

  void run() {
    if (editor_.table.profiles.empty()) return;
    const std::uint32_t changes = 1 + below(4);
    for (std::uint32_t i = 0; i < changes; ++i) {
      profile_ = &*pick(editor_.table.profiles);
      if (profile_->tensors.empty() || profile_->storages.empty() || profile_->lists.empty()) return;
      change();
    }
    if (below(4) == 0) return;
    for (auto& profile : editor_.table.profiles) {
      profile_ = &*profile;
      make_sizes_fit();
    }
  }

 private:
  std::uint32_t below(std::size_t limit) { return static_cast<std::uint32_t>(random_() % limit); }
  template <class Container>
  typename Container::reference pick(Container& container) {
    return container[below(container.size())];
  }
  std::int64_t number() {
    static constexpr std::int64_t kOdd[] = {-1, INT64_MAX, INT64_MIN, INT32_MAX, INT32_MIN, std::int64_t{1} << 32, 1 << 20, 4096, 255};
    return below(8) == 0 ? kOdd[below(std::size(kOdd))] : static_cast<std::int64_t>(below(20));
  }
  schema::TensorT& tensor() { return *pick(profile_->tensors); }
  schema::StorageT& storage() { return *pick(profile_->storages); }

  void change() {
    schema::StepListT& list = *pick(profile_->lists);
    schema::StepT* step = list.steps.empty() ? nullptr : &*pick(list.steps);
    switch (below(16)) {
      case 0: case 1: return change_tensor();
      case 2: return change_storage();
      case 3: return change_extent_everywhere();
      case 4: return change_type_everywhere();
      case 5:
        if (editor_.sections.size() > 1) mutate(pick(editor_.sections).content);
        return;
      case 6: profile_->arena_bytes = static_cast<std::uint64_t>(number()) * 64; return;
      case 7: return change_list(list);
      case 8: return add_rare_parts();
      default:
        if (step != nullptr) change_step(*step);
    }
  }

  void change_tensor() {
    schema::TensorT& changed = tensor();
    switch (below(8)) {
      case 0: case 1: if (!changed.dims.empty()) pick(changed.dims) = number(); return;
      case 2: case 3: if (!changed.strides.empty()) pick(changed.strides) = number(); return;
      case 4: changed.offset = static_cast<std::uint64_t>(number()); return;
      case 5: changed.dtype = static_cast<schema::DType>(below(17)); return;
      case 6: changed.storage = below(profile_->storages.size() + 1); return;
      default:
        if (below(4) == 0) changed.format = static_cast<std::uint16_t>(below(4));
        if (below(2) == 0 && !changed.dims.empty()) {
          changed.dims.pop_back();
          if (!changed.strides.empty()) changed.strides.pop_back();
        } else {
          changed.dims.insert(changed.dims.begin(), number());
          changed.strides.insert(changed.strides.begin(), number());
        }
    }
  }

  void change_storage() {
    schema::StorageT& changed = storage();
    switch (below(6)) {
      case 0: changed.region = static_cast<schema::Region>(below(6)); return;
      case 1: changed.binding = static_cast<std::uint16_t>(below(4)); return;
      case 2: changed.offset = static_cast<std::uint64_t>(number()) * (below(2) == 0 ? 64 : 1); return;
      case 3: changed.size = static_cast<std::uint64_t>(number()); return;
      case 4: changed.alignment = static_cast<std::uint32_t>(number()); return;
      default: changed.last_step = below(20);
    }
  }

  /// One extent becomes another one in all tensors, which keeps the shapes of a graph in step.
  void change_extent_everywhere() {
    const schema::TensorT& model = tensor();
    if (model.dims.empty()) return;
    const std::int64_t from = model.dims[below(model.dims.size())];
    const std::int64_t to = 1 + below(20);
    for (auto& other : profile_->tensors) {
      std::int64_t stride = 1;
      for (std::size_t i = other->dims.size(); i-- > 0;) {
        if (other->dims[i] == from) other->dims[i] = to;
        if (i < other->strides.size()) other->strides[i] = stride;
        if (!__builtin_mul_overflow(stride, other->dims[i], &stride)) continue;
        stride = 1;
      }
    }
  }

  /// One element type becomes another one in all tensors and, where a byte says that type, in attributes.
  void change_type_everywhere() {
    const schema::DType from = tensor().dtype;
    const auto to = static_cast<schema::DType>(1 + below(15));
    for (auto& other : profile_->tensors) {
      if (other->dtype == from) other->dtype = to;
    }
    if (below(2) == 0) return;
    for (auto& list : profile_->lists) {
      for (auto& step : list->steps) {
        for (std::uint8_t& byte : step->attributes) {
          if (byte == static_cast<std::uint8_t>(from)) byte = static_cast<std::uint8_t>(to);
        }
      }
    }
  }

  void change_list(schema::StepListT& list) {
    if (list.steps.empty()) return;
    const std::uint32_t at = below(list.steps.size());
    switch (below(3)) {
      case 0: list.steps.erase(list.steps.begin() + at); return;
      case 1: std::swap(list.steps[at], pick(list.steps)); return;
      default: list.steps.push_back(std::make_unique<schema::StepT>(*list.steps[at]));
    }
  }

  void change_step(schema::StepT& step) {
    const std::uint32_t tensors = static_cast<std::uint32_t>(profile_->tensors.size());
    switch (below(10)) {
      case 0: if (!step.inputs.empty()) pick(step.inputs) = below(tensors + 1) == 0 ? 0xffffffffu : below(tensors); return;
      case 1: if (!step.outputs.empty()) pick(step.outputs) = below(tensors); return;
      case 2: step.inputs.push_back(below(tensors)); return;
      case 3: if (!step.inputs.empty()) step.inputs.pop_back(); return;
      case 4: step.parts = 1 + below(8); return;
      case 5: {
        // Another operator with attributes of its size; the fuzzer works out their content.
        step.op = static_cast<std::uint16_t>(1 + below(24));
        const cpu::OperatorEntry* entry = test::CompiledOperators::find(step.op);
        if (entry != nullptr) step.attributes.resize(entry->attribute_bytes);
        return;
      }
      case 6: case 7: mutate(step.attributes); return;
      default: {
        if (step.attributes.empty()) return;
        const std::int64_t value = number();
        const std::uint32_t width = 1u << below(4);
        const std::uint32_t at = below(step.attributes.size()) / width * width;
        if (at + width <= step.attributes.size()) std::memcpy(step.attributes.data() + at, &value, width);
      }
    }
  }

  void add_rare_parts() {
    if (below(2) == 0) {
      auto state = std::make_unique<schema::StateT>();
      state->size = 64;
      state->has_initial = below(2) == 0;
      editor_.table.states.push_back(std::move(state));
      editor_.table.state_bytes = 64 * (1 + below(4));
      return;
    }
    auto extent = std::make_unique<schema::ExtentT>();
    extent->dim = static_cast<std::uint8_t>(below(4));
    extent->tensor = below(profile_->tensors.size());
    tensor().extents.push_back(std::move(extent));
  }

  /// Bytes of the same size with other content.
  template <class Byte>
  void mutate(std::vector<Byte>& bytes) {
    if (bytes.empty()) return;
    std::vector<std::uint8_t> copy(bytes.size());
    std::memcpy(copy.data(), bytes.data(), bytes.size());
    LLVMFuzzerMutate(copy.data(), copy.size(), copy.size());
    std::memcpy(bytes.data(), copy.data(), bytes.size());
  }

  /// Storages large enough for their tensors, regions for their storages, bindings of their tensors' shapes.
  void make_sizes_fit() {
    for (auto& each : profile_->tensors) {
      TensorView view;
      view.dtype = static_cast<DType>(each->dtype);
      view.format = static_cast<WeightFormat>(each->format);
      if (each->dims.size() > kMaxRank || each->strides.size() > each->dims.size()) continue;
      view.rank = static_cast<std::uint8_t>(each->dims.size());
      for (std::size_t i = 0; i < each->dims.size(); ++i) view.dims[i] = each->dims[i];
      for (std::size_t i = 0; i < each->strides.size(); ++i) view.strides[i] = each->strides[i];
      std::uint64_t bytes = 0;
      if (each->storage >= profile_->storages.size() || !span_bytes(view, bytes) || bytes > (1u << 20)) continue;
      schema::StorageT& room = *profile_->storages[each->storage];
      if (each->offset > (1u << 20) || room.offset > (1u << 20)) continue;
      grow(room, each->offset + bytes);
    }
    bind(profile_->inputs, editor_.table.inputs);
    bind(profile_->outputs, editor_.table.outputs);
  }

  void grow(schema::StorageT& room, std::uint64_t size) {
    if (room.size < size) room.size = size;
    if (room.size > (1u << 21)) return;
    const std::uint64_t end = room.offset + room.size;
    if (room.region == schema::Region::Arena && profile_->arena_bytes < end) profile_->arena_bytes = end;
    if (room.region == schema::Region::State && editor_.table.state_bytes < end) editor_.table.state_bytes = end;
    if (room.region != schema::Region::Weights) return;
    for (test::EditedSection& section : editor_.sections) {
      if (section.entry.kind == SectionKind::Weights && section.content.size() < end) section.content.resize(end);
    }
  }

  void bind(const std::vector<std::uint32_t>& tensors, std::vector<std::unique_ptr<schema::BindingT>>& bindings) {
    for (std::size_t i = 0; i < tensors.size() && i < bindings.size(); ++i) {
      if (tensors[i] >= profile_->tensors.size()) continue;
      const schema::TensorT& bound = *profile_->tensors[tensors[i]];
      bindings[i]->dtype = bound.dtype;
      bindings[i]->dims.assign(bound.dims.size(), -1);
      std::uint64_t elements = 1;
      for (const std::int64_t extent : bound.dims) elements *= static_cast<std::uint64_t>(extent);
      if (bound.storage >= profile_->storages.size() || elements > (1u << 20)) continue;
      profile_->storages[bound.storage]->size = (elements * bits_of(static_cast<DType>(bound.dtype)) + 7) / 8;
    }
  }

  PlanEditor& editor_;
  std::minstd_rand random_;
  schema::ProfileT* profile_ = nullptr;
};

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned seed) {
  const auto* begin = reinterpret_cast<const std::byte*>(data);
  const std::vector<std::byte> plan(begin, begin + size);
  if (seed % 16 == 0 || !has_structure(plan)) return LLVMFuzzerMutate(data, size, max_size);
  PlanEditor editor(plan);
  Mutator(editor, seed).run();
  const std::vector<std::byte> mutated = editor.bytes();
  if (mutated.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, mutated.data(), mutated.size());
  return mutated.size();
}
