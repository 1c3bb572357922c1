// SPDX-License-Identifier: Apache-2.0
// The semantic rules of a plan: what FlatBuffers' verifier cannot know. A plan that passes them can be run without any
// further check of an index, an offset or an extent. Rule numbers never change; tests break each one by itself.
//
// All arithmetic on numbers from the plan goes through checked.h. The cost is linear in the size of the table, nothing
// is allocated.
#pragma once

#include "edgert/checked.h"
#include "edgert/log.h"
#include "edgert/plan_format.h"
#include "edgert/plan_schema.h"
#include "edgert/span.h"
#include "edgert/status.h"
#include "edgert/types.h"

namespace edgert {

enum class Rule : std::uint16_t {
  // The file
  SectionLayout = 1,    ///< sections ascend, lie inside the file, are aligned to a power of two from 64 to 4096
  SectionPadding = 2,   ///< bytes between sections and after the last are zero
  SectionKinds = 3,     ///< known kinds; exactly one Table; at most one Weights, Golden and Signature
  // Bindings and profiles
  BindingName = 10,     ///< names are not empty and differ among the inputs and among the outputs; at most 4096 each
  BindingType = 11,     ///< known element type and layout, rank <= 8, extents >= -1
  ProfileCount = 12,    ///< 1 to 64 profiles
  ProfileBinding = 13,  ///< one tensor per binding, in that binding's own storage, of its type, rank and fixed extents
  BindingDense = 14,    ///< a bound tensor starts at its storage's first byte and spans all of it
  // Storages
  StorageRegion = 20,     ///< known region; Input and Output storages name a binding and start at 0
  StorageAlignment = 21,  ///< power of two up to 4096, and the offset is a multiple
  StorageBounds = 22,     ///< inside the region
  StorageLifetime = 23,   ///< first_step <= last_step < steps of list 0
  RegionSize = 24,        ///< arena and state are at most 2^40 bytes
  // Tensors
  TensorType = 30,       ///< known element type
  TensorRank = 31,       ///< rank <= 8, as many strides as extents (none for a packed format), aligned numbers
  TensorExtents = 32,    ///< no negative extent or stride, no overflow, a format that fits
  TensorStorage = 33,    ///< names a storage and lies inside it
  TensorAlignment = 34,  ///< the first element is aligned to its type
  TensorBound = 35,      ///< a bounded extent names one of its dimensions and a one-element int64 tensor
  TensorQuantization = 36,  ///< as many scales as zero points (or none of these), axis inside the rank
  TensorPacked = 37,     ///< packed formats only in the weights
  // Steps
  ListCount = 40,      ///< 1 to 4096 step lists, at most 2^20 steps each
  StepOperands = 41,   ///< operands name tensors of the profile; only inputs may be absent; at most 4096
  StepWrites = 42,     ///< nothing writes to weights or inputs
  StepParts = 43,      ///< 1 to 4096 parts; one for a step with bodies
  StepBodies = 44,     ///< a body is a later list, so lists cannot call each other in circles, and of one step only
  StepOrder = 45,      ///< depends_on names earlier steps
  StepKind = 46,       ///< an operator id or a launch, not both; no launch in a plan for the CPU
  StepAttributes = 47, ///< attribute bytes are aligned to 16
  SegmentCover = 48,   ///< segments follow each other and cover list 0, or there are none
  BodyDepth = 49,      ///< bodies are nested at most 8 deep
  // The rest
  StateRange = 50,    ///< inside the state memory; the initial value inside the weights
  GoldenRange = 51,   ///< profile exists; one offset per binding, inside the golden section
  ModuleSection = 52, ///< names a Module section
  Strings = 53,       ///< provenance indices name strings; metadata keys are not empty
  // Checked when a session is prepared, since they need the program's operators
  OperatorAttributes = 60,  ///< the attributes have the operator's size
  OperatorOperands = 61,    ///< the operator's own check of its operands
};

namespace rules {

template <class Vector>
constexpr std::uint32_t count(const Vector* vector) noexcept {
  return vector == nullptr ? 0u : static_cast<std::uint32_t>(vector->size());
}

/// Whether a vector's numbers lie at multiples of their size: FlatBuffers' verifier only looks at the vector's length field.
template <class T>
bool aligned(const edgert_flatbuffers::Vector<T>* vector) noexcept {
  return count(vector) == 0 || reinterpret_cast<std::uintptr_t>(vector->Data()) % sizeof(T) == 0;
}

/// Element `i` of a vector of tables, or null.
template <class T>
const T* at(const edgert_flatbuffers::Vector<edgert_flatbuffers::Offset<T>>* vector, std::uint32_t i) noexcept {
  return i < count(vector) ? vector->Get(i) : nullptr;
}

inline Status violated(const LogSink& log, Rule rule, const char* what, std::uint32_t index, const char* why) noexcept {
  Message message;
  message << "plan rule " << static_cast<std::uint32_t>(rule) << ": " << what << " " << index << ": " << why;
  message.to(log);
  return Status::violation(static_cast<std::uint16_t>(rule), index);
}

/// The view that a tensor entry describes, without data. Only meaningful for a checked tensor; `ok` is false when rank
/// or vector lengths don't fit.
inline bool describe(const schema::Tensor& tensor, TensorView& view) noexcept {
  view = TensorView{};
  const std::uint32_t rank = count(tensor.dims());
  view.dtype = static_cast<DType>(tensor.dtype());
  view.format = static_cast<WeightFormat>(tensor.format());
  if (rank > kMaxRank || !aligned(tensor.dims()) || !aligned(tensor.strides())) return false;
  if (count(tensor.strides()) != (view.format == WeightFormat::Strided ? rank : 0u)) return false;
  view.rank = static_cast<std::uint8_t>(rank);
  for (std::uint32_t i = 0; i < rank; ++i) {
    view.dims[i] = tensor.dims()->Get(i);
    if (view.format == WeightFormat::Strided) view.strides[i] = tensor.strides()->Get(i);
  }
  return true;
}

/// What rules about one profile need of the rest of the plan.
struct Context {
  const schema::Plan& plan;
  std::uint64_t weights_bytes;
  std::uint64_t golden_bytes;
  Span<const SectionEntry> sections;
  const LogSink& log;
};

inline constexpr std::uint64_t kMaxRegionBytes = std::uint64_t{1} << 40;
inline constexpr std::uint32_t kMaxLists = 4096;
inline constexpr std::uint8_t kMaxBodyDepth = 8;

inline Status check_quantization(const Context& context, const schema::Quantization* quantization, std::uint32_t rank,
                                 std::uint32_t index) noexcept {
  if (quantization == nullptr) return {};
  const std::uint32_t points = count(quantization->zero_points());
  if (!aligned(quantization->zero_points()) || (points != 0 && points != count(quantization->scales())) ||
      quantization->axis() < -1 ||
      quantization->axis() >= static_cast<std::int32_t>(rank)) {
    return violated(context.log, Rule::TensorQuantization, "tensor", index, "quantisation does not fit");
  }
  return {};
}

using Bindings = edgert_flatbuffers::Vector<edgert_flatbuffers::Offset<schema::Binding>>;

inline Status check_bindings(const Context& context, const Bindings* bindings, const char* what) noexcept {
  if (count(bindings) > 4096) return violated(context.log, Rule::BindingName, what, count(bindings), "too many bindings");
  for (std::uint32_t i = 0; i < count(bindings); ++i) {
    const schema::Binding& binding = *bindings->Get(i);
    if (binding.name()->size() == 0) return violated(context.log, Rule::BindingName, what, i, "has no name");
    for (std::uint32_t k = 0; k < i; ++k) {
      const auto* other = bindings->Get(k)->name();
      if (other->size() == binding.name()->size() && std::memcmp(other->Data(), binding.name()->Data(), other->size()) == 0) {
        return violated(context.log, Rule::BindingName, what, i, "has the name of an earlier one");
      }
    }
    const bool known = bits_of(static_cast<DType>(binding.dtype())) != 0 &&
                       static_cast<std::uint8_t>(binding.layout()) <= static_cast<std::uint8_t>(schema::Layout::NHWC);
    bool extents = count(binding.dims()) <= kMaxRank && aligned(binding.dims());
    for (std::uint32_t d = 0; extents && d < count(binding.dims()); ++d) extents = binding.dims()->Get(d) >= -1;
    if (!known || !extents) return violated(context.log, Rule::BindingType, what, i, "type, layout or extents are invalid");
    EDGERT_RETURN_IF_ERROR(check_quantization(context, binding.quantization(), count(binding.dims()), i));
  }
  return {};
}

inline Status check_storage(const Context& context, const schema::Profile& profile, std::uint32_t index) noexcept {
  const schema::Storage& storage = *profile.storages()->Get(index);
  std::uint64_t limit = 0;
  bool region_ok = true;
  switch (storage.region()) {
    case schema::Region::Arena: limit = profile.arena_bytes(); break;
    case schema::Region::Weights: limit = context.weights_bytes; break;
    case schema::Region::State: limit = context.plan.state_bytes(); break;
    case schema::Region::Input:
      limit = kMaxRegionBytes;
      region_ok = storage.binding() < count(context.plan.inputs()) && storage.offset() == 0;
      break;
    case schema::Region::Output:
      limit = kMaxRegionBytes;
      region_ok = storage.binding() < count(context.plan.outputs()) && storage.offset() == 0;
      break;
    default: region_ok = false;
  }
  if (!region_ok) return violated(context.log, Rule::StorageRegion, "storage", index, "region or binding is invalid");
  if (!is_power_of_two(storage.alignment()) || storage.alignment() > 4096 || storage.offset() % storage.alignment() != 0) {
    return violated(context.log, Rule::StorageAlignment, "storage", index, "alignment is invalid");
  }
  if (!in_range(storage.offset(), storage.size(), limit)) {
    return violated(context.log, Rule::StorageBounds, "storage", index, "reaches outside its region");
  }
  const std::uint32_t steps = count(profile.lists()->Get(0)->steps());
  if (storage.first_step() > storage.last_step() || (storage.last_step() >= steps && storage.last_step() != 0)) {
    return violated(context.log, Rule::StorageLifetime, "storage", index, "lifetime is invalid");
  }
  return {};
}

inline Status check_tensor(const Context& context, const schema::Profile& profile, std::uint32_t index) noexcept {
  const schema::Tensor& tensor = *profile.tensors()->Get(index);
  const std::uint32_t bits = bits_of(static_cast<DType>(tensor.dtype()));
  if (bits == 0) return violated(context.log, Rule::TensorType, "tensor", index, "element type is unknown");
  TensorView view;
  if (!describe(tensor, view)) return violated(context.log, Rule::TensorRank, "tensor", index, "rank or strides are invalid");
  std::uint64_t span = 0;
  if (!span_bytes(view, span)) {
    return violated(context.log, Rule::TensorExtents, "tensor", index, "extents, strides or format are invalid");
  }
  const schema::Storage* storage = at(profile.storages(), tensor.storage());
  if (storage == nullptr || !in_range(tensor.offset(), span, storage->size())) {
    return violated(context.log, Rule::TensorStorage, "tensor", index, "reaches outside its storage");
  }
  const std::uint32_t element = bits < 8 ? 1u : bits / 8;
  // Kernels that vectorise read packed weights and the like from any element on; only the element itself is aligned.
  if (storage->alignment() < element || tensor.offset() % element != 0) {
    return violated(context.log, Rule::TensorAlignment, "tensor", index, "is not aligned to its element type");
  }
  if (view.format != WeightFormat::Strided && storage->region() != schema::Region::Weights) {
    return violated(context.log, Rule::TensorPacked, "tensor", index, "is packed but no weight");
  }
  for (std::uint32_t i = 0; i < count(tensor.extents()); ++i) {
    const schema::Extent& extent = *tensor.extents()->Get(i);
    const schema::Tensor* actual = at(profile.tensors(), extent.tensor());
    TensorView actual_view;
    const bool fits = extent.dim() < view.rank && actual != nullptr && describe(*actual, actual_view) &&
                      actual_view.dtype == DType::I64 && actual_view.rank <= 1 &&
                      (actual_view.rank == 0 || actual_view.dims[0] == 1);
    if (!fits) return violated(context.log, Rule::TensorBound, "tensor", index, "bounded extent is invalid");
  }
  return check_quantization(context, tensor.quantization(), view.rank, index);
}

inline Status check_profile_bindings(const Context& context, const schema::Profile& profile, bool input) noexcept {
  const Bindings* bindings = input ? context.plan.inputs() : context.plan.outputs();
  const auto* bound = input ? profile.inputs() : profile.outputs();
  const char* what = input ? "input" : "output";
  if (count(bound) != count(bindings)) {
    return violated(context.log, Rule::ProfileBinding, what, count(bound), "profile and plan have different counts");
  }
  for (std::uint32_t i = 0; i < count(bound); ++i) {
    const schema::Binding& binding = *bindings->Get(i);
    const schema::Tensor* tensor = at(profile.tensors(), bound->Get(i));
    if (tensor == nullptr) return violated(context.log, Rule::ProfileBinding, what, i, "names no tensor");
    const schema::Storage& storage = *profile.storages()->Get(tensor->storage());
    bool fits = storage.region() == (input ? schema::Region::Input : schema::Region::Output) && storage.binding() == i &&
                tensor->dtype() == binding.dtype() && count(tensor->dims()) == count(binding.dims());
    for (std::uint32_t d = 0; fits && d < count(binding.dims()); ++d) {
      fits = binding.dims()->Get(d) == -1 || binding.dims()->Get(d) == tensor->dims()->Get(d);
    }
    if (!fits) return violated(context.log, Rule::ProfileBinding, what, i, "tensor and binding do not agree");
    TensorView view;
    std::uint64_t span = 0;
    std::uint64_t bits = 0;
    const bool dense = describe(*tensor, view) && span_bytes(view, span) && tensor->offset() == 0 &&
                       checked_mul(static_cast<std::uint64_t>(view.elements()), bits_of(view.dtype), bits) &&
                       span == (bits + 7) / 8 && span == storage.size();
    if (!dense) return violated(context.log, Rule::BindingDense, what, i, "is not dense");
  }
  return {};
}

/// A binding has memory for its bound tensor's storage, so no other storage of that binding may be larger.
inline Status check_bound_storage(const Context& context, const schema::Profile& profile, std::uint32_t index) noexcept {
  const schema::Storage& storage = *profile.storages()->Get(index);
  const bool input = storage.region() == schema::Region::Input;
  if (!input && storage.region() != schema::Region::Output) return {};
  const std::uint32_t tensor = (input ? profile.inputs() : profile.outputs())->Get(storage.binding());
  const schema::Storage& bound = *profile.storages()->Get(profile.tensors()->Get(tensor)->storage());
  if (storage.size() > bound.size()) {
    return violated(context.log, Rule::StorageBounds, "storage", index, "is larger than its input or output");
  }
  return {};
}

inline Status check_operands(const Context& context, const schema::Profile& profile, const schema::Step& step,
                             std::uint32_t index) noexcept {
  if (count(step.inputs()) > 4096 || count(step.outputs()) > 4096) {
    return violated(context.log, Rule::StepOperands, "step", index, "has too many operands");
  }
  for (std::uint32_t i = 0; i < count(step.inputs()); ++i) {
    const std::uint32_t tensor = step.inputs()->Get(i);
    if (tensor != 0xffffffffu && tensor >= count(profile.tensors())) {
      return violated(context.log, Rule::StepOperands, "step", index, "an input names no tensor");
    }
  }
  for (std::uint32_t i = 0; i < count(step.outputs()); ++i) {
    const schema::Tensor* tensor = at(profile.tensors(), step.outputs()->Get(i));
    if (tensor == nullptr) return violated(context.log, Rule::StepOperands, "step", index, "an output names no tensor");
    const schema::Region region = profile.storages()->Get(tensor->storage())->region();
    if (region == schema::Region::Weights || region == schema::Region::Input) {
      return violated(context.log, Rule::StepWrites, "step", index, "writes to weights or to an input");
    }
  }
  return {};
}

inline Status check_step(const Context& context, const schema::Profile& profile, std::uint32_t list, bool sequential,
                         const schema::Step& step, std::uint32_t index, std::uint8_t* depths) noexcept {
  if ((step.op() != 0) == (step.launch() != nullptr)) {
    return violated(context.log, Rule::StepKind, "step", index, "is neither an operator nor a launch, or both");
  }
  if (step.launch() != nullptr && step.launch()->call() == nullptr && count(context.plan.modules()) == 0) {
    return violated(context.log, Rule::StepKind, "step", index, "is a launch in a plan without modules");
  }
  EDGERT_RETURN_IF_ERROR(check_operands(context, profile, step, index));
  const bool whole = count(step.bodies()) == 0 || step.parts() == 1;
  if (step.parts() < 1 || step.parts() > 4096 || !whole) {
    return violated(context.log, Rule::StepParts, "step", index, "parts are invalid");
  }
  for (std::uint32_t i = 0; i < count(step.bodies()); ++i) {
    const std::uint32_t body = step.bodies()->Get(i);
    if (body <= list || body >= count(profile.lists()) || depths[body] != 0) {
      return violated(context.log, Rule::StepBodies, "step", index, "a body is no later list, or another step's body too");
    }
    if (depths[list] == kMaxBodyDepth) return violated(context.log, Rule::BodyDepth, "step", index, "is nested too deep");
    depths[body] = static_cast<std::uint8_t>(depths[list] + 1);
  }
  for (std::uint32_t i = 0; i < count(step.depends_on()); ++i) {
    if (sequential || step.depends_on()->Get(i) >= index) {
      return violated(context.log, Rule::StepOrder, "step", index, "depends on no earlier step");
    }
  }
  for (std::uint32_t i = 0; i < count(step.nodes()); ++i) {
    if (step.nodes()->Get(i) >= count(context.plan.strings())) {
      return violated(context.log, Rule::Strings, "step", index, "provenance names no string");
    }
  }
  if (step.attributes() != nullptr && reinterpret_cast<std::uintptr_t>(step.attributes()->Data()) % 16 != 0) {
    return violated(context.log, Rule::StepAttributes, "step", index, "attributes are not aligned");
  }
  return {};
}

inline Status check_lists(const Context& context, const schema::Profile& profile) noexcept {
  // How deep each list is nested; 0 for list 0, and for those that no step has been seen to own. A body is a later list,
  // so its own depth is known before its steps are looked at.
  std::uint8_t depths[kMaxLists] = {};
  for (std::uint32_t list = 0; list < count(profile.lists()); ++list) {
    if (list != 0 && depths[list] == 0) {
      return violated(context.log, Rule::StepBodies, "list", list, "is no step's body");
    }
    const schema::StepList& steps = *profile.lists()->Get(list);
    for (std::uint32_t i = 0; i < count(steps.steps()); ++i) {
      EDGERT_RETURN_IF_ERROR(check_step(context, profile, list, steps.sequential(), *steps.steps()->Get(i), i, depths));
    }
  }
  std::uint64_t covered = 0;
  for (std::uint32_t i = 0; i < count(profile.segments()); ++i) {
    const schema::Segment& segment = *profile.segments()->Get(i);
    if (segment.first_step() != covered || segment.step_count() == 0 || segment.kind() > schema::SegmentKind::Graph) {
      return violated(context.log, Rule::SegmentCover, "segment", i, "is empty or does not follow the one before");
    }
    covered += segment.step_count();
  }
  if (count(profile.segments()) != 0 && covered != count(profile.lists()->Get(0)->steps())) {
    return violated(context.log, Rule::SegmentCover, "segment", 0, "segments do not cover the steps");
  }
  return {};
}

inline Status check_profile(const Context& context, std::uint32_t index) noexcept {
  const schema::Profile& profile = *context.plan.profiles()->Get(index);
  if (profile.arena_bytes() > kMaxRegionBytes) {
    return violated(context.log, Rule::RegionSize, "profile", index, "arena is too large");
  }
  const std::uint32_t lists = count(profile.lists());
  if (lists < 1 || lists > kMaxLists) return violated(context.log, Rule::ListCount, "profile", index, "has no step list or too many");
  for (std::uint32_t i = 0; i < lists; ++i) {
    if (count(profile.lists()->Get(i)->steps()) > (1u << 20)) {
      return violated(context.log, Rule::ListCount, "list", i, "has too many steps");
    }
  }
  for (std::uint32_t i = 0; i < count(profile.storages()); ++i) EDGERT_RETURN_IF_ERROR(check_storage(context, profile, i));
  for (std::uint32_t i = 0; i < count(profile.tensors()); ++i) EDGERT_RETURN_IF_ERROR(check_tensor(context, profile, i));
  EDGERT_RETURN_IF_ERROR(check_profile_bindings(context, profile, true));
  EDGERT_RETURN_IF_ERROR(check_profile_bindings(context, profile, false));
  for (std::uint32_t i = 0; i < count(profile.storages()); ++i) EDGERT_RETURN_IF_ERROR(check_bound_storage(context, profile, i));
  return check_lists(context, profile);
}

inline Status check_golden(const Context& context, std::uint32_t index) noexcept {
  const schema::Golden& golden = *context.plan.golden()->Get(index);
  const schema::Profile* profile = at(context.plan.profiles(), golden.profile());
  bool fits = profile != nullptr && count(golden.input_offsets()) == count(context.plan.inputs()) &&
              count(golden.output_offsets()) == count(context.plan.outputs()) && aligned(golden.input_offsets()) &&
              aligned(golden.output_offsets());
  const auto inside = [&](std::uint32_t tensor, std::uint64_t offset) {
    const schema::Tensor& bound = *profile->tensors()->Get(tensor);
    return offset % 64 == 0 && in_range(offset, profile->storages()->Get(bound.storage())->size(), context.golden_bytes);
  };
  for (std::uint32_t i = 0; fits && i < count(golden.input_offsets()); ++i) {
    fits = inside(profile->inputs()->Get(i), golden.input_offsets()->Get(i));
  }
  for (std::uint32_t i = 0; fits && i < count(golden.output_offsets()); ++i) {
    fits = inside(profile->outputs()->Get(i), golden.output_offsets()->Get(i));
  }
  return fits ? Status{} : violated(context.log, Rule::GoldenRange, "golden vector", index, "does not fit its profile");
}

/// All rules about the table of a plan.
inline Status check_plan(const Context& context) noexcept {
  const schema::Plan& plan = context.plan;
  if (plan.state_bytes() > kMaxRegionBytes) return violated(context.log, Rule::RegionSize, "state", 0, "is too large");
  EDGERT_RETURN_IF_ERROR(check_bindings(context, plan.inputs(), "input"));
  EDGERT_RETURN_IF_ERROR(check_bindings(context, plan.outputs(), "output"));
  const std::uint32_t profiles = count(plan.profiles());
  if (profiles < 1 || profiles > 64) return violated(context.log, Rule::ProfileCount, "plan", profiles, "profile count is invalid");
  for (std::uint32_t i = 0; i < profiles; ++i) EDGERT_RETURN_IF_ERROR(check_profile(context, i));
  for (std::uint32_t i = 0; i < count(plan.states()); ++i) {
    const schema::State& state = *plan.states()->Get(i);
    const bool fits = in_range(state.offset(), state.size(), plan.state_bytes()) &&
                      (!state.has_initial() || in_range(state.initial_offset(), state.size(), context.weights_bytes));
    if (!fits) return violated(context.log, Rule::StateRange, "state", i, "reaches outside its memory");
  }
  for (std::uint32_t i = 0; i < count(plan.golden()); ++i) EDGERT_RETURN_IF_ERROR(check_golden(context, i));
  for (std::uint32_t i = 0; i < count(plan.modules()); ++i) {
    const std::uint32_t section = plan.modules()->Get(i)->section();
    if (section >= context.sections.size() || context.sections[section].kind != SectionKind::Module) {
      return violated(context.log, Rule::ModuleSection, "module", i, "names no module section");
    }
  }
  for (std::uint32_t i = 0; i < count(plan.metadata()); ++i) {
    if (plan.metadata()->Get(i)->key()->size() == 0) return violated(context.log, Rule::Strings, "metadata", i, "key is empty");
  }
  return {};
}

}  // namespace rules
}  // namespace edgert
