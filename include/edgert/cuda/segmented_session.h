// SPDX-License-Identifier: Apache-2.0
// A plan for a GPU some of whose steps run on the CPU: an ordered list of segments, each a graph or a run of CPU steps.
// Between them the tensors that CPU steps read and write are copied; the CPU's memory is laid out as the device's.
//
//   cuda::SegmentedSession<edgert::Session<>> session;
//   session.prepare(program, host_memory)       ->  session.write_input(0, data, bytes)  ->  session.run()
#pragma once

#include "edgert/cuda/session.h"
#include "edgert/session.h"

namespace edgert::cuda {

/// One caller at a time. `HostSession` is an edgert::Session with the operators that the plan's CPU steps need.
template <class HostSession>
class SegmentedSession {
 public:
  SegmentedSession() = default;
  SegmentedSession(const SegmentedSession&) = delete;
  SegmentedSession& operator=(const SegmentedSession&) = delete;

  /// Whether a plan has CPU steps; one that has none needs no more than a cuda::Session.
  static bool needed(const PlanView& plan) noexcept {
    for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
      if (segment_count(plan.profile(p)) > 1 || !is_graph(plan.profile(p), 0)) return true;
    }
    return false;
  }

  /// Host memory, aligned to 64, that prepare() needs: both sessions', with a copy of the device's arena.
  static Result<std::uint64_t> host_bytes(const PlanView& plan, const SessionOptions& options = {}) noexcept {
    const Result<std::uint64_t> host = HostSession::memory_bytes(plan, host_options(options));
    if (!host.ok()) return host.status();
    return align_up(Session::host_bytes(plan), 64) + *host;
  }

  Status prepare(const Program& program, Span<std::byte> memory, const SessionOptions& options = {}) noexcept {
    const PlanView& plan = program.plan();
    const Result<std::uint64_t> bytes = host_bytes(plan, options);
    if (!bytes.ok()) return bytes.status();
    if (memory.size() < *bytes) return {Error::ArenaTooSmall, 0, *bytes};
    const std::uint64_t device_part = align_up(Session::host_bytes(plan), 64);
    EDGERT_RETURN_IF_ERROR(device_.prepare(program, {memory.data(), static_cast<std::size_t>(device_part)}, options));
    const Status status = host_.prepare(plan, {memory.data() + device_part, static_cast<std::size_t>(*bytes - device_part)}, host_options(options));
    if (!status.ok()) device_.close();
    return status;
  }
  void close() noexcept { device_.close(); }

  Status select(std::uint32_t profile) noexcept {
    EDGERT_RETURN_IF_ERROR(device_.select(profile));
    return host_.set_profile(profile);
  }

  /// Runs all segments in order and waits. After an error of a CPU step the outputs are undefined, the session stays usable.
  Status run() noexcept {
    const schema::Profile& profile = plan().profile(device_.profile());
    for (std::uint32_t s = 0; s < segment_count(profile); ++s) {
      if (is_graph(profile, s)) {
        EDGERT_RETURN_IF_ERROR(device_.enqueue_segment(s, device_.stream()));
        continue;
      }
      const schema::Segment& segment = *profile.segments()->Get(s);
      for (std::uint32_t i = 0; i < segment.step_count(); ++i) EDGERT_RETURN_IF_ERROR(run_on_host(segment.first_step() + i));
    }
    return device_.synchronize();
  }

  /// Step by step, for profilers and comparison: waits for the step.
  Status run_step(std::uint32_t step) noexcept {
    const auto* steps = plan().profile(device_.profile()).lists()->Get(0)->steps();
    if (step >= rules::count(steps)) return {Error::InvalidArgument, step};
    return steps->Get(step)->launch() != nullptr ? device_.run_step(step) : run_on_host(step);
  }

  /// Inputs, outputs, storages and states are the device's.
  Session& device() noexcept { return device_; }

 private:
  static edgert::SessionOptions host_options(const SessionOptions& options) noexcept {
    edgert::SessionOptions host;
    host.log = options.log;
    host.skip_launches = true;
    return host;
  }
  const PlanView& plan() const noexcept { return host_.plan(); }

  /// The operands of one step, in whole storages: what other steps wrote into an output's storage must survive.
  Status run_on_host(std::uint32_t index) noexcept {
    const schema::Profile& profile = plan().profile(device_.profile());
    const schema::Step& step = *profile.lists()->Get(0)->steps()->Get(index);
    for (std::uint32_t i = 0; i < rules::count(step.inputs()); ++i) EDGERT_RETURN_IF_ERROR(fetch(profile, step.inputs()->Get(i)));
    for (std::uint32_t i = 0; i < rules::count(step.outputs()); ++i) EDGERT_RETURN_IF_ERROR(fetch(profile, step.outputs()->Get(i)));
    EDGERT_RETURN_IF_ERROR(host_.run_step(index));
    for (std::uint32_t i = 0; i < rules::count(step.outputs()); ++i) {
      const schema::Tensor& tensor = *profile.tensors()->Get(step.outputs()->Get(i));
      EDGERT_RETURN_IF_ERROR(device_.write_storage(tensor.storage(), storage_of(tensor, step.outputs()->Get(i))));
    }
    return {};
  }

  /// Copies a tensor's storage, and those of the numbers that say its extents, from the device.
  Status fetch(const schema::Profile& profile, std::uint32_t index) noexcept {
    if (index == 0xffffffffu) return {};
    const schema::Tensor& tensor = *profile.tensors()->Get(index);
    for (std::uint32_t e = 0; e < rules::count(tensor.extents()); ++e) {
      // A number that says an extent has none of its own: the rules want it to be one element.
      const std::uint32_t actual = tensor.extents()->Get(e)->tensor();
      EDGERT_RETURN_IF_ERROR(fetch_storage(profile, *profile.tensors()->Get(actual), actual));
    }
    return fetch_storage(profile, tensor, index);
  }
  Status fetch_storage(const schema::Profile& profile, const schema::Tensor& tensor, std::uint32_t index) noexcept {
    if (profile.storages()->Get(tensor.storage())->region() == schema::Region::Weights) return {};
    return device_.read_storage(tensor.storage(), storage_of(tensor, index));
  }
  /// Where a tensor's storage begins in the CPU's memory.
  std::byte* storage_of(const schema::Tensor& tensor, std::uint32_t index) noexcept {
    return static_cast<std::byte*>(const_cast<void*>(static_cast<const void*>(host_.tensor(index).data))) - tensor.offset();
  }

  Session device_;
  HostSession host_;
};

}  // namespace edgert::cuda
