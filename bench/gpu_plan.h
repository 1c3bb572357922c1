// SPDX-License-Identifier: Apache-2.0
// A network of the GPU benchmarks as a plan file, so that the runtime, not the benchmark, runs it: the same kernels,
// weights and launch records, each tensor in a place of its own.
#pragma once

#include <cstring>
#include <vector>

#include "bench/gpu_networks.h"
#include "codegen/compiler.h"
#include "edgert/crc32c.h"
#include "edgert/plan.h"
#include "edgert/sha256.h"

namespace edgert::bench {

/// One step of the network and all that its launch needs.
struct PlanStep {
  const Layer* layer;
  codegen::KernelSpec spec;
  std::vector<std::byte> cubin;
  std::vector<std::uint16_t> weights;
  std::vector<float> bias;
  std::uint64_t output_bytes;
  std::uint32_t shared_bytes;
};

class PlanBuilder {
 public:
  std::vector<std::byte> build(const std::vector<PlanStep>& steps, std::uint64_t input_bytes, std::uint32_t arch, std::uint32_t prefetch) {
    using namespace schema;
    add_storage(Region::Input, 0, input_bytes);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const bool last = i + 1 == steps.size();
      tensors_.push_back(last ? add_storage(Region::Output, 0, steps[i].output_bytes) : add_arena(steps[i].output_bytes));
    }
    for (const PlanStep& step : steps) {
      weight_storages_.push_back(add_weights(step.weights.data(), step.weights.size() * 2));
      bias_storages_.push_back(add_weights(step.bias.data(), step.bias.size() * 4));
    }
    for (std::size_t i = 0; i < steps.size(); ++i) add_step(steps, i, arch, prefetch);
    const std::vector<std::int64_t> dims[2] = {{static_cast<std::int64_t>(input_bytes / 4)}, {static_cast<std::int64_t>(steps.back().output_bytes / 4)}};
    const std::vector<std::int64_t> strides = {1};
    std::vector<edgert_flatbuffers::Offset<Tensor>> tensors;
    std::vector<edgert_flatbuffers::Offset<Binding>> bindings;
    for (std::uint32_t i = 0; i < 2; ++i) {
      tensors.push_back(CreateTensorDirect(fbb_, schema::DType::F32, 0, i == 0 ? 0 : tensors_.back(), 0, &dims[i], &strides));
      bindings.push_back(CreateBindingDirect(fbb_, i == 0 ? "image" : "logits", schema::DType::F32, schema::Layout::Plain, &dims[i]));
    }
    const std::vector<std::uint32_t> inputs = {0}, outputs = {1};
    const std::vector<edgert_flatbuffers::Offset<StepList>> lists = {CreateStepListDirect(fbb_, true, &steps_)};
    const std::vector<edgert_flatbuffers::Offset<Profile>> profiles = {
        CreateProfileDirect(fbb_, "", &tensors, &storages_, &lists, nullptr, &inputs, &outputs, arena_bytes_)};
    const std::vector<edgert_flatbuffers::Offset<Binding>> in = {bindings[0]}, out = {bindings[1]};
    const std::string target = "sm_" + std::to_string(arch);
    FinishPlanBuffer(fbb_, CreatePlanDirect(fbb_, "gpu_kernels", target.c_str(), "", &in, &out, &profiles, nullptr, state_bytes_, &modules_));
    return assemble();
  }

 private:
  std::uint32_t add_storage(schema::Region region, std::uint64_t offset, std::uint64_t size) {
    storages_.push_back(schema::CreateStorage(fbb_, region, 0, offset, size, 4, 0, 0));
    return static_cast<std::uint32_t>(storages_.size()) - 1;
  }
  std::uint32_t add_arena(std::uint64_t size) {
    const std::uint64_t offset = arena_bytes_;
    arena_bytes_ += align_up(size, 256);
    return add_storage(schema::Region::Arena, offset, size);
  }
  std::uint32_t add_weights(const void* data, std::uint64_t size) {
    const std::uint64_t offset = align_up(weights_.size(), 256);
    weights_.resize(offset + size);
    std::memcpy(weights_.data() + offset, data, size);
    return add_storage(schema::Region::Weights, offset, size);
  }

  edgert_flatbuffers::Offset<schema::LaunchArgument> address(std::uint32_t storage) {
    return schema::CreateLaunchArgumentDirect(fbb_, schema::ArgumentKind::Address, 8, 0, storage);
  }
  edgert_flatbuffers::Offset<schema::LaunchArgument> immediate(std::uint8_t bytes, std::uint64_t value) {
    return schema::CreateLaunchArgumentDirect(fbb_, schema::ArgumentKind::Immediate, bytes, value);
  }
  std::uint32_t tensor(int number) const { return number == 0 ? 0 : tensors_[static_cast<std::size_t>(number) - 1]; }

  void add_step(const std::vector<PlanStep>& steps, std::size_t i, std::uint32_t arch, std::uint32_t prefetch) {
    const PlanStep& step = steps[i];
    std::vector<edgert_flatbuffers::Offset<schema::LaunchArgument>> arguments = {address(tensor(step.layer->input)), address(weight_storages_[i]),
                                                                              address(bias_storages_[i])};
    if (step.layer->kind == LayerKind::Conv) arguments.push_back(step.layer->residual >= 0 ? address(tensor(step.layer->residual)) : immediate(8, 0));
    arguments.push_back(address(tensors_[i]));
    if (step.layer->kind == LayerKind::Conv) {
      arguments.push_back(step.spec.workspace_bytes > 0 ? address(add_arena(step.spec.workspace_bytes)) : immediate(8, 0));
      if (step.spec.counters > 0) {
        arguments.push_back(address(add_storage(schema::Region::State, state_bytes_, step.spec.counters * 4)));
        state_bytes_ += align_up(step.spec.counters * 4, 256);
      } else {
        arguments.push_back(immediate(8, 0));
      }
      const bool later = i + prefetch < steps.size();
      arguments.push_back(later ? address(weight_storages_[i + prefetch]) : immediate(8, 0));
      arguments.push_back(immediate(4, later ? steps[i + prefetch].weights.size() * 2 : 0));
    }
    const std::vector<std::uint32_t> grid(step.spec.grid, step.spec.grid + 3), block(step.spec.block, step.spec.block + 3);
    const std::vector<std::uint32_t> cluster = {step.spec.cluster, 1, 1};
    const auto launch = schema::CreateLaunchDirect(fbb_, static_cast<std::uint16_t>(modules_.size()), 0, &grid, &block,
                                                   step.spec.cluster > 1 ? &cluster : nullptr, step.shared_bytes, i > 0, &arguments);
    steps_.push_back(schema::CreateStepDirect(fbb_, 0, nullptr, nullptr, nullptr, 1, nullptr, nullptr, launch));
    const std::vector<edgert_flatbuffers::Offset<edgert_flatbuffers::String>> entries = {fbb_.CreateString(step.spec.entry)};
    modules_.push_back(schema::CreateModuleDirect(fbb_, static_cast<std::uint16_t>(2 + modules_.size()), arch, &entries));
    cubins_.push_back(step.cubin);
  }

  std::vector<std::byte> assemble() const {
    std::vector<std::pair<SectionKind, std::vector<std::byte>>> sections;
    const auto* table = reinterpret_cast<const std::byte*>(fbb_.GetBufferPointer());
    sections.emplace_back(SectionKind::Table, std::vector<std::byte>(table, table + fbb_.GetSize()));
    sections.emplace_back(SectionKind::Weights, weights_);
    for (const auto& cubin : cubins_) sections.emplace_back(SectionKind::Module, cubin);
    std::vector<std::byte> out(sizeof(PlanHeader) + sections.size() * sizeof(SectionEntry));
    std::vector<SectionEntry> entries;
    for (const auto& [kind, content] : sections) {
      out.resize(align_up(out.size(), 64));
      SectionEntry entry = {};
      entry.kind = kind;
      entry.offset = out.size();
      entry.size = content.size();
      entry.alignment = 64;
      entry.crc32c = crc32c(content.data(), content.size());
      Sha256 hash;
      hash.update(content.data(), content.size());
      hash.finish(entry.sha256);
      entries.push_back(entry);
      out.insert(out.end(), content.begin(), content.end());
    }
    PlanHeader header = {};
    std::memcpy(header.magic, kPlanMagic, sizeof(kPlanMagic));
    header.major = kPlanMajor;
    header.minor = kPlanMinor;
    header.header_bytes = sizeof(PlanHeader);
    header.file_bytes = out.size();
    header.section_count = static_cast<std::uint32_t>(entries.size());
    header.section_entry_bytes = sizeof(SectionEntry);
    header.section_table_crc = crc32c(entries.data(), entries.size() * sizeof(SectionEntry));
    header.header_crc = crc32c(&header, offsetof(PlanHeader, header_crc));
    std::memcpy(out.data(), &header, sizeof(header));
    std::memcpy(out.data() + sizeof(header), entries.data(), entries.size() * sizeof(SectionEntry));
    return out;
  }

  edgert_flatbuffers::FlatBufferBuilder fbb_;
  std::vector<edgert_flatbuffers::Offset<schema::Storage>> storages_;
  std::vector<edgert_flatbuffers::Offset<schema::Step>> steps_;
  std::vector<edgert_flatbuffers::Offset<schema::Module>> modules_;
  std::vector<std::vector<std::byte>> cubins_;
  std::vector<std::uint32_t> tensors_, weight_storages_, bias_storages_;
  std::vector<std::byte> weights_;
  std::uint64_t arena_bytes_ = 0, state_bytes_ = 0;
};

}  // namespace edgert::bench
