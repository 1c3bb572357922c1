// SPDX-License-Identifier: Apache-2.0
// What a CUDA plan must satisfy beyond plan_rules.h before anything of it reaches the driver: its launch records name
// modules, entries and storages that exist, and stay inside the limits of every CUDA device.
#pragma once

#include "edgert/cuda/library_call.h"

namespace edgert::cuda {

inline constexpr std::uint32_t kMaxLaunchArguments = 64;
inline constexpr std::uint32_t kMaxTensorMaps = 8;
inline constexpr std::uint32_t kDeviceAlignment = 256;  ///< of every region; what cuMemAlloc guarantees

/// A profile's list 0 is one graph where it names no segments.
inline std::uint32_t segment_count(const schema::Profile& profile) noexcept {
  return rules::count(profile.segments()) == 0 ? 1 : rules::count(profile.segments());
}
inline bool is_graph(const schema::Profile& profile, std::uint32_t segment) noexcept {
  return rules::count(profile.segments()) == 0 || profile.segments()->Get(segment)->kind() == schema::SegmentKind::Graph;
}
/// Segments of the profile that has the most.
inline std::uint32_t most_segments(const PlanView& plan) noexcept {
  std::uint32_t most = 1;
  for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
    if (segment_count(plan.profile(p)) > most) most = segment_count(plan.profile(p));
  }
  return most;
}

namespace detail {

inline Status bad_launch(const LogSink& log, std::uint32_t profile, std::uint32_t step, const char* why) noexcept {
  Message message;
  message << "CUDA plan: profile " << profile << ", step " << step << ": " << why;
  message.to(log);
  return {Error::TableInvalid, step, profile};
}

inline const char* check_dims(const schema::Launch& launch) noexcept {
  const auto* grid = launch.grid();
  const auto* block = launch.block();
  const auto* cluster = launch.cluster();
  if (rules::count(grid) != 3 || rules::count(block) != 3 || (rules::count(cluster) != 0 && rules::count(cluster) != 3)) {
    return "grid, block and cluster have three extents";
  }
  std::uint64_t threads = 1;
  std::uint64_t blocks = 1;
  for (std::uint32_t d = 0; d < 3; ++d) {
    const std::uint32_t grid_limit = d == 0 ? 0x7fffffffu : 65535u;
    if (grid->Get(d) == 0 || grid->Get(d) > grid_limit || block->Get(d) == 0 || block->Get(d) > 1024) return "grid or block too large";
    threads *= block->Get(d);
    if (rules::count(cluster) == 0) continue;
    if (cluster->Get(d) == 0 || cluster->Get(d) > 16 || grid->Get(d) % cluster->Get(d) != 0) return "the cluster does not divide the grid";
    blocks *= cluster->Get(d);
  }
  if (threads > 1024 || blocks > 16) return "block or cluster too large";
  if (launch.dynamic_shared_bytes() > 256 * 1024) return "too much shared memory";
  return nullptr;
}

inline const char* check_tensor_map(const schema::LaunchArgument& argument) noexcept {
  const std::uint32_t rank = rules::count(argument.dims());
  if (argument.bytes() != 128) return "a tensor map has 128 bytes";
  if (rank < 1 || rank > 5 || rules::count(argument.box()) != rank || rules::count(argument.strides()) != rank - 1) {
    return "a tensor map has one to five dimensions";
  }
  if (argument.dtype() < schema::DType::F32 || argument.dtype() > schema::DType::U64 || argument.swizzle() > 3) {
    return "a tensor map's type or swizzle is unknown";
  }
  return nullptr;
}

inline const char* check_arguments(const schema::Profile& profile, const schema::Launch& launch) noexcept {
  if (rules::count(launch.arguments()) > kMaxLaunchArguments) return "too many arguments";
  std::uint32_t maps = 0;
  for (std::uint32_t i = 0; i < rules::count(launch.arguments()); ++i) {
    const schema::LaunchArgument& argument = *launch.arguments()->Get(i);
    const std::uint32_t bytes = argument.bytes();
    if (argument.kind() == schema::ArgumentKind::Immediate) {
      if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) return "an immediate has 1, 2, 4 or 8 bytes";
      continue;
    }
    if (argument.kind() != schema::ArgumentKind::Address && argument.kind() != schema::ArgumentKind::TensorMap) return "unknown argument";
    if (argument.storage() >= rules::count(profile.storages())) return "an argument names no storage";
    if (argument.value() > profile.storages()->Get(argument.storage())->size()) return "an argument lies outside its storage";
    if (argument.kind() == schema::ArgumentKind::Address) {
      if (bytes != 8) return "an address has 8 bytes";
      continue;
    }
    if (++maps > kMaxTensorMaps) return "too many tensor maps";
    const char* why = check_tensor_map(argument);
    if (why != nullptr) return why;
  }
  return nullptr;
}

inline const char* check_launch(const PlanView& plan, const schema::Profile& profile, const schema::Step& step, bool in_graph) noexcept {
  const schema::Launch* launch = step.launch();
  if (launch == nullptr) return in_graph ? "runs on the CPU, but is in no segment of CPU steps" : nullptr;
  if (!in_graph) return "is a launch in a segment of CPU steps";
  if (launch->call() != nullptr) {
    const char* problem = check_arguments(profile, *launch);
    return problem != nullptr ? problem : check_library_call(profile, *launch);
  }
  if (launch->module_() >= rules::count(plan.table().modules())) return "names no module";
  if (launch->entry() >= rules::count(plan.table().modules()->Get(launch->module_())->entries())) return "names no entry of its module";
  const char* why = check_dims(*launch);
  return why != nullptr ? why : check_arguments(profile, *launch);
}

}  // namespace detail

/// Every launch record of the plan. TableInvalid with the step as index() and the profile as value().
inline Status check_launches(const PlanView& plan, const LogSink& log) noexcept {
  for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
    const schema::Profile& profile = plan.profile(p);
    for (std::uint32_t s = 0; s < rules::count(profile.storages()); ++s) {
      if (profile.storages()->Get(s)->alignment() > kDeviceAlignment) return detail::bad_launch(log, p, s, "a storage's alignment is too large");
    }
    if (rules::count(profile.lists()) != 1) return detail::bad_launch(log, p, 0, "nested step lists do not run on a GPU");
    const auto* steps = profile.lists()->Get(0)->steps();
    std::uint32_t segment = 0;
    for (std::uint32_t i = 0; i < rules::count(steps); ++i) {
      // That segments follow each other and cover the list is a rule of every plan.
      while (rules::count(profile.segments()) != 0 &&
             i - profile.segments()->Get(segment)->first_step() >= profile.segments()->Get(segment)->step_count()) {
        ++segment;
      }
      const char* why = detail::check_launch(plan, profile, *steps->Get(i), is_graph(profile, segment));
      if (why != nullptr) return detail::bad_launch(log, p, i, why);
    }
  }
  return {};
}

}  // namespace edgert::cuda
