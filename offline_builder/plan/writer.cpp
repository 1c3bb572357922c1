// SPDX-License-Identifier: Apache-2.0
#include "plan/writer.h"

#include <algorithm>
#include <map>
#include <stdexcept>

#include "edgert/crc32c.h"
#include "edgert/plan_format.h"
#include "edgert/plan_schema.h"
#include "edgert/sha256.h"
#include "ops/operator.h"
#include "plan/version.h"

namespace edgert::plan {
namespace {

using edgert_flatbuffers::FlatBufferBuilder;
using edgert_flatbuffers::Offset;

class TableWriter {
 public:
  explicit TableWriter(const PlanSpec& spec) : spec_(spec) {}

  std::vector<std::byte> run() {
    std::vector<Offset<schema::Profile>> profiles;
    for (const ProfileSpec& profile : spec_.profiles) profiles.push_back(write_profile(profile));
    const auto inputs = write_bindings(spec_.inputs);
    const auto outputs = write_bindings(spec_.outputs);
    std::vector<Offset<schema::KeyValue>> metadata;
    for (const auto& [key, value] : spec_.metadata) {
      metadata.push_back(schema::CreateKeyValueDirect(builder_, key.c_str(), value.c_str()));
    }
    const std::vector<Offset<schema::Golden>> golden = write_golden();
    const std::vector<Offset<schema::Module>> modules = write_modules();
    std::vector<Offset<edgert_flatbuffers::String>> strings;
    for (const std::string& text : strings_) strings.push_back(builder_.CreateString(text));
    const std::vector<Offset<schema::State>> states = write_states();
    const auto plan = schema::CreatePlanDirect(builder_, kProducer, spec_.target.c_str(), spec_.model_name.c_str(), &inputs,
                                               &outputs, &profiles, states.empty() ? nullptr : &states, state_bytes(),
                                               modules.empty() ? nullptr : &modules, golden.empty() ? nullptr : &golden,
                                               &metadata, &strings);
    schema::FinishPlanBuffer(builder_, plan);
    const auto* data = reinterpret_cast<const std::byte*>(builder_.GetBufferPointer());
    return {data, data + builder_.GetSize()};
  }

  /// Golden vectors in the order in which write_golden() gave them offsets.
  static std::vector<const ir::Bytes*> golden_pieces(const PlanSpec& spec) {
    std::vector<const ir::Bytes*> pieces;
    for (const GoldenSpec& golden : spec.golden) {
      for (const ir::Bytes& bytes : golden.inputs) pieces.push_back(&bytes);
      for (const ir::Bytes& bytes : golden.outputs) pieces.push_back(&bytes);
    }
    return pieces;
  }

 private:
  std::uint32_t string_index(const std::string& text) {
    const auto [it, added] = string_index_.emplace(text, static_cast<std::uint32_t>(strings_.size()));
    if (added) strings_.push_back(text);
    return it->second;
  }

  std::vector<Offset<schema::Binding>> write_bindings(const std::vector<BindingSpec>& bindings) {
    std::vector<Offset<schema::Binding>> out;
    for (const BindingSpec& binding : bindings) {
      std::vector<Offset<edgert_flatbuffers::String>> names;
      for (const std::string& name : binding.dim_names) names.push_back(builder_.CreateString(name));
      out.push_back(schema::CreateBindingDirect(builder_, binding.name.c_str(), static_cast<schema::DType>(binding.dtype),
                                                schema::Layout::Plain, &binding.dims, &names));
    }
    return out;
  }

  /// Profiles run one at a time and leave their counters at zero, so they share the state memory.
  std::uint64_t state_bytes() const {
    std::uint64_t bytes = 0;
    for (const ProfileSpec& profile : spec_.profiles) bytes = std::max(bytes, profile.state_bytes);
    return bytes;
  }

  /// Module i is in section 2 + i: behind table and weights.
  std::vector<Offset<schema::Module>> write_modules() {
    std::vector<Offset<schema::Module>> out;
    for (const ModuleSpec& module : spec_.modules) {
      const std::vector<Offset<edgert_flatbuffers::String>> entries{builder_.CreateString(module.entry)};
      out.push_back(schema::CreateModuleDirect(builder_, static_cast<std::uint16_t>(2 + out.size()), module.arch, &entries));
    }
    return out;
  }

  Offset<schema::Launch> write_launch(const LaunchSpec& launch) {
    std::vector<Offset<schema::LaunchArgument>> arguments;
    for (const LaunchArgumentSpec& argument : launch.arguments) {
      arguments.push_back(schema::CreateLaunchArgumentDirect(builder_, static_cast<schema::ArgumentKind>(argument.kind), argument.bytes,
                                                             argument.value, argument.storage));
    }
    if (launch.call) {
      const auto call = schema::CreateLibraryCallDirect(builder_, launch.call->library, &launch.call->problem);
      return schema::CreateLaunchDirect(builder_, 0, 0, nullptr, nullptr, nullptr, 0, false, &arguments, call);
    }
    const std::vector<std::uint32_t> grid(launch.grid, launch.grid + 3);
    const std::vector<std::uint32_t> block(launch.block, launch.block + 3);
    const std::vector<std::uint32_t> cluster{launch.cluster, 1, 1};
    return schema::CreateLaunchDirect(builder_, launch.module, 0, &grid, &block, launch.cluster > 1 ? &cluster : nullptr,
                                      launch.shared_bytes, launch.programmatic, &arguments);
  }

  Offset<schema::Step> write_step(const StepSpec& step) {
    std::vector<std::uint8_t> attributes(step.attributes.size());
    if (!attributes.empty()) std::memcpy(attributes.data(), step.attributes.data(), attributes.size());
    if (step.launch) {
      attributes.resize(sizeof(LaunchWork));
      std::memcpy(attributes.data(), &step.work, sizeof(LaunchWork));
    }
    std::vector<std::uint32_t> nodes;
    for (const std::string& node : step.nodes) nodes.push_back(string_index(node));
    const Offset<schema::Launch> launch = step.launch ? write_launch(*step.launch) : 0;
    const std::uint16_t id = step.launch ? std::uint16_t{0} : step.op->kernel->id;
    return schema::CreateStepDirect(builder_, id, &step.inputs, &step.outputs, &attributes, step.parts,
                                    step.bodies.empty() ? nullptr : &step.bodies, nullptr, launch,
                                    static_cast<schema::DType>(step.compute),
                                    nodes.empty() ? nullptr : &nodes);
  }

  Offset<schema::StepList> write_list(const std::vector<StepSpec>& list) {
    std::vector<Offset<schema::Step>> steps;
    for (const StepSpec& step : list) steps.push_back(write_step(step));
    return schema::CreateStepListDirect(builder_, true, &steps);
  }

  /// All profiles have the same states.
  std::vector<Offset<schema::State>> write_states() {
    std::vector<Offset<schema::State>> states;
    for (const StateSpec& state : spec_.profiles.at(0).states) {
      states.push_back(schema::CreateStateDirect(builder_, state.name.c_str(), state.offset, state.size, state.has_initial,
                                                 state.initial_offset));
    }
    return states;
  }

  /// Of a plan for a GPU: runs of launches and runs of CPU steps. None where all steps are launches.
  std::vector<Offset<schema::Segment>> write_segments(const std::vector<StepSpec>& steps) {
    std::vector<Offset<schema::Segment>> segments;
    std::uint32_t first = 0;
    for (std::uint32_t i = 1; i <= steps.size() && !spec_.modules.empty(); ++i) {
      if (i < steps.size() && steps[i].launch.has_value() == steps[first].launch.has_value()) continue;
      if (i == steps.size() && segments.empty() && steps[first].launch) break;
      segments.push_back(schema::CreateSegment(builder_, steps[first].launch ? schema::SegmentKind::Graph : schema::SegmentKind::Cpu, first, i - first));
      first = i;
    }
    return segments;
  }

  Offset<schema::Profile> write_profile(const ProfileSpec& profile) {
    std::vector<Offset<schema::Storage>> storages;
    for (const StorageSpec& storage : profile.storages) {
      storages.push_back(schema::CreateStorage(builder_, static_cast<schema::Region>(storage.region), storage.binding,
                                               storage.offset, storage.size, storage.alignment, storage.first_step,
                                               storage.last_step));
    }
    std::vector<Offset<schema::Tensor>> tensors;
    for (const TensorSpec& tensor : profile.tensors) {
      std::vector<Offset<schema::Extent>> extents;
      for (const auto& [dim, actual] : tensor.extents) {
        extents.push_back(schema::CreateExtent(builder_, static_cast<std::uint8_t>(dim), actual));
      }
      tensors.push_back(schema::CreateTensorDirect(builder_, static_cast<schema::DType>(tensor.type.dtype),
                                                   static_cast<std::uint16_t>(tensor.format), tensor.storage, tensor.offset,
                                                   &tensor.type.dims, &tensor.strides,
                                                   extents.empty() ? nullptr : &extents, 0, tensor.name.c_str()));
    }
    std::vector<Offset<schema::StepList>> lists{write_list(profile.steps)};
    for (const std::vector<StepSpec>& body : profile.bodies) lists.push_back(write_list(body));
    const std::vector<Offset<schema::Segment>> segments = write_segments(profile.steps);
    return schema::CreateProfileDirect(builder_, profile.name.c_str(), &tensors, &storages, &lists, segments.empty() ? nullptr : &segments, &profile.inputs,
                                       &profile.outputs, profile.arena.bytes, profile.arena.lower_bound,
                                       profile.arena.optimal, profile.arena.heuristic.c_str());
  }

  std::vector<Offset<schema::Golden>> write_golden() {
    std::vector<Offset<schema::Golden>> out;
    std::uint64_t offset = 0;
    const auto take = [&offset](const std::vector<ir::Bytes>& pieces) {
      std::vector<std::uint64_t> offsets;
      for (const ir::Bytes& bytes : pieces) {
        offsets.push_back(offset);
        offset = align_up(offset + bytes.size(), 64);
      }
      return offsets;
    };
    for (const GoldenSpec& golden : spec_.golden) {
      const std::vector<std::uint64_t> inputs = take(golden.inputs);
      const std::vector<std::uint64_t> outputs = take(golden.outputs);
      out.push_back(schema::CreateGoldenDirect(builder_, golden.profile, &inputs, &outputs, golden.abs_tolerance,
                                               golden.rel_tolerance));
    }
    return out;
  }

  const PlanSpec& spec_;
  FlatBufferBuilder builder_;
  std::vector<std::string> strings_;
  std::map<std::string, std::uint32_t> string_index_;
};

/// The file being put together: header and section table first, then sections.
class FileWriter {
 public:
  explicit FileWriter(std::uint32_t sections) : entries_(sections) {
    bytes_.resize(sizeof(PlanHeader) + sections * sizeof(SectionEntry));
  }

  /// Begins the next section, of `size` bytes at most; add() them, then close_section().
  void open_section(SectionKind kind, std::size_t size) {
    const std::size_t begin = align_up(bytes_.size(), kPlanAlignment);
    bytes_.reserve(begin + size + kPlanAlignment);  // and room to align the whole plan, should this be the last section
    bytes_.resize(begin);
    SectionEntry& entry = entries_.at(next_);
    entry.kind = kind;
    entry.offset = begin;
    entry.alignment = kPlanAlignment;
  }

  /// Appends bytes at `offset` in the section, behind what was added before; zeros fill the gap.
  void add(std::size_t offset, const void* data, std::size_t size) {
    bytes_.resize(entries_[next_].offset + offset);
    const auto* from = static_cast<const std::byte*>(data);
    if (size != 0) bytes_.insert(bytes_.end(), from, from + size);
  }

  void close_section() {
    SectionEntry& entry = entries_[next_++];
    entry.size = bytes_.size() - entry.offset;
    const std::byte* data = bytes_.data() + entry.offset;
    entry.crc32c = crc32c(data, entry.size);
    Sha256 hash;
    hash.update(data, entry.size);
    hash.finish(entry.sha256);
  }

  std::vector<std::byte> finish() {
    PlanHeader header{};
    std::memcpy(header.magic, kPlanMagic, sizeof(kPlanMagic));
    header.major = kPlanMajor;
    header.minor = kPlanMinor;
    header.header_bytes = sizeof(PlanHeader);
    header.file_bytes = bytes_.size();
    header.section_count = static_cast<std::uint32_t>(entries_.size());
    header.section_entry_bytes = sizeof(SectionEntry);
    header.section_table_crc = crc32c(entries_.data(), entries_.size() * sizeof(SectionEntry));
    header.header_crc = crc32c(&header, offsetof(PlanHeader, header_crc));
    std::memcpy(bytes_.data(), &header, sizeof(header));
    std::memcpy(bytes_.data() + sizeof(header), entries_.data(), entries_.size() * sizeof(SectionEntry));
    return std::move(bytes_);
  }

 private:
  std::vector<std::byte> bytes_;
  std::vector<SectionEntry> entries_;
  std::size_t next_ = 0;
};

}  // namespace

std::vector<std::byte> write(PlanSpec spec) {
  const std::vector<std::byte> table = TableWriter(spec).run();
  if (table.size() > 0x7fffffffu) throw ir::BuildError("the plan's table is larger than 2 GiB");
  const std::vector<const ir::Bytes*> golden = TableWriter::golden_pieces(spec);
  if (spec.modules.size() > kMaxSections - 3) {
    throw ir::BuildError("the plan has " + std::to_string(spec.modules.size()) + " different kernels, more than a plan can carry");
  }
  FileWriter file(static_cast<std::uint32_t>(2 + spec.modules.size() + (golden.empty() ? 0 : 1)));
  file.open_section(SectionKind::Table, table.size());
  file.add(0, table.data(), table.size());
  file.close_section();
  const std::size_t weight_bytes = spec.weights.size();
  file.open_section(SectionKind::Weights, weight_bytes);
  for (WeightStore::Piece& piece : spec.weights.take_pieces()) {
    const ir::Bytes bytes = std::move(piece.bytes);
    file.add(piece.offset, bytes.data(), bytes.size());
  }
  file.add(weight_bytes, nullptr, 0);
  file.close_section();
  for (const ModuleSpec& module : spec.modules) {
    file.open_section(SectionKind::Module, module.cubin.size());
    file.add(0, module.cubin.data(), module.cubin.size());
    file.close_section();
  }
  if (!golden.empty()) {
    std::uint64_t size = 0;
    for (const ir::Bytes* bytes : golden) size = align_up(size + bytes->size(), 64);
    file.open_section(SectionKind::Golden, size);
    std::uint64_t offset = 0;
    for (const ir::Bytes* bytes : golden) {
      file.add(offset, bytes->data(), bytes->size());
      offset = align_up(offset + bytes->size(), 64);
    }
    file.add(size, nullptr, 0);
    file.close_section();
  }
  return file.finish();
}

}  // namespace edgert::plan
