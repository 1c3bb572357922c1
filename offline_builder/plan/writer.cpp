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

constexpr std::size_t kZeroBytes = 64 * 1024;
constexpr std::byte kZeros[kZeroBytes] = {};

/// Golden vectors in the order in which write_golden() gave them offsets.
std::vector<PlanFile::Piece> golden_pieces(const PlanSpec& spec, std::uint64_t& size) {
  std::vector<PlanFile::Piece> pieces;
  const auto take = [&](const ir::Bytes& bytes) {
    pieces.push_back({size, bytes});
    size = align_up(size + bytes.size(), 64);
  };
  for (const GoldenSpec& golden : spec.golden) {
    for (const ir::Bytes& bytes : golden.inputs) take(bytes);
    for (const ir::Bytes& bytes : golden.outputs) take(bytes);
  }
  return pieces;
}

}  // namespace

PlanFile::PlanFile(PlanSpec spec) {
  std::vector<std::byte> table = TableWriter(spec).run();
  if (table.size() > 0x7fffffffu) throw ir::BuildError("the plan's table is larger than 2 GiB");
  if (spec.modules.size() > kMaxSections - 3) {
    throw ir::BuildError("the plan has " + std::to_string(spec.modules.size()) + " different kernels, more than a plan can carry");
  }
  const auto add = [this](SectionKind kind, std::uint64_t size, std::vector<Piece> pieces) {
    sections_.push_back({kind, 0, size, std::move(pieces)});
  };
  const auto add_whole = [&add](SectionKind kind, std::vector<std::byte>&& bytes) {
    const std::size_t size = bytes.size();
    add(kind, size, {{0, ir::Bytes::adopt(std::move(bytes))}});
  };
  add_whole(SectionKind::Table, std::move(table));
  const std::uint64_t weight_bytes = spec.weights.size();
  std::vector<Piece> weights;
  for (WeightStore::Piece& piece : spec.weights.take_pieces()) weights.push_back({piece.offset, std::move(piece.bytes)});
  add(SectionKind::Weights, weight_bytes, std::move(weights));
  for (ModuleSpec& module : spec.modules) add_whole(SectionKind::Module, std::move(module.cubin));
  std::uint64_t golden_bytes = 0;
  std::vector<Piece> golden = golden_pieces(spec, golden_bytes);
  if (!golden.empty()) add(SectionKind::Golden, golden_bytes, std::move(golden));
  size_ = sizeof(PlanHeader) + sections_.size() * sizeof(SectionEntry);
  for (Section& section : sections_) {
    section.offset = align_up(size_, kPlanAlignment);
    size_ = section.offset + section.size;
  }
}

void PlanFile::visit(Section& section, Weights weights, const Sink& sink) {
  std::uint64_t at = 0;
  for (Piece& piece : section.pieces) {
    if (weights == Weights::Zeros && section.kind == SectionKind::Weights) break;
    if (piece.offset != at) sink(nullptr, piece.offset - at);
    if (piece.bytes.size() != 0) sink(piece.bytes.data(), piece.bytes.size());
    at = piece.offset + piece.bytes.size();
    piece.bytes.drop_pages();
    if (weights == Weights::Release) piece.bytes = {};
  }
  if (at != section.size) sink(nullptr, section.size - at);
}

void PlanFile::write_start(Weights weights, const Sink& sink) {
  std::vector<SectionEntry> entries(sections_.size());
  for (std::size_t i = 0; i < sections_.size(); ++i) {
    Section& section = sections_[i];
    SectionEntry& entry = entries[i];
    entry.kind = section.kind;
    entry.offset = section.offset;
    entry.size = section.size;
    entry.alignment = kPlanAlignment;
    Sha256 hash;
    visit(section, weights, [&](const std::byte* data, std::uint64_t size) {
      for (std::uint64_t count; size != 0; size -= count, data += data == nullptr ? 0 : count) {
        count = data != nullptr || size < kZeroBytes ? size : kZeroBytes;
        entry.crc32c = crc32c(data == nullptr ? kZeros : data, count, entry.crc32c);
        if (weights != Weights::Zeros) hash.update(data == nullptr ? kZeros : data, count);
      }
    });
    hash.finish(entry.sha256);
  }
  PlanHeader header{};
  std::memcpy(header.magic, kPlanMagic, sizeof(kPlanMagic));
  header.major = kPlanMajor;
  header.minor = kPlanMinor;
  header.header_bytes = sizeof(PlanHeader);
  header.file_bytes = size_;
  header.section_count = static_cast<std::uint32_t>(entries.size());
  header.section_entry_bytes = sizeof(SectionEntry);
  header.section_table_crc = crc32c(entries.data(), entries.size() * sizeof(SectionEntry));
  header.header_crc = crc32c(&header, offsetof(PlanHeader, header_crc));
  sink(reinterpret_cast<const std::byte*>(&header), sizeof(header));
  sink(reinterpret_cast<const std::byte*>(entries.data()), entries.size() * sizeof(SectionEntry));
}

void PlanFile::write_sections(Weights weights, const Sink& sink) {
  std::uint64_t at = sizeof(PlanHeader) + sections_.size() * sizeof(SectionEntry);
  for (Section& section : sections_) {
    if (section.offset != at) sink(nullptr, section.offset - at);
    visit(section, weights, sink);
    at = section.offset + section.size;
  }
}

void PlanFile::write(const Sink& sink) {
  const auto without_null = [&](const std::byte* data, std::uint64_t size) {
    if (data != nullptr) return sink(data, size);
    for (std::uint64_t count; size != 0; size -= count) {
      count = size < kZeroBytes ? size : kZeroBytes;
      sink(kZeros, count);
    }
  };
  write_start(Weights::Keep, without_null);
  write_sections(Weights::Release, without_null);
}

void PlanFile::write_without_weights(const Sink& sink) {
  write_start(Weights::Zeros, sink);
  write_sections(Weights::Zeros, sink);
}

std::vector<std::byte> PlanFile::in_memory() {
  std::vector<std::byte> bytes;
  bytes.reserve(size_);
  write([&](const std::byte* data, std::uint64_t size) { bytes.insert(bytes.end(), data, data + size); });
  return bytes;
}

std::vector<std::byte> write(PlanSpec spec) { return PlanFile(std::move(spec)).in_memory(); }

}  // namespace edgert::plan
