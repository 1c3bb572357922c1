// SPDX-License-Identifier: Apache-2.0
// Running the golden vectors that a plan carries on the GPU: after prepare(), before the first input that matters.
#pragma once

#include "edgert/cuda/session.h"
#include "edgert/golden.h"

namespace edgert::cuda {

/// Host memory, aligned to 64, that self_test() needs: the largest output.
inline std::uint64_t self_test_bytes(const PlanView& plan) noexcept {
  std::uint64_t largest = 0;
  for (std::uint32_t i = 0; i < plan.output_count(); ++i) {
    const std::uint64_t bytes = plan.binding_bytes(plan.input_count() + i);
    if (bytes > largest) largest = bytes;
  }
  return largest;
}

namespace self_test_detail {

inline Status run_golden(Session& session, const PlanView& plan, std::uint32_t index, Span<std::byte> host, const LogSink& log) noexcept {
  const schema::Golden& golden = *plan.table().golden()->Get(index);
  const std::byte* const data = plan.golden().data();
  const schema::Profile& profile = plan.profile(golden.profile());
  const auto bytes_of = [&](std::uint32_t tensor) { return profile.storages()->Get(profile.tensors()->Get(tensor)->storage())->size(); };
  EDGERT_RETURN_IF_ERROR(session.reset());
  EDGERT_RETURN_IF_ERROR(session.select(golden.profile()));
  for (std::uint32_t i = 0; i < plan.input_count(); ++i) {
    EDGERT_RETURN_IF_ERROR(session.write_input(i, data + golden.input_offsets()->Get(i), static_cast<std::size_t>(bytes_of(profile.inputs()->Get(i)))));
  }
  EDGERT_RETURN_IF_ERROR(session.run());
  for (std::uint32_t i = 0; i < plan.output_count(); ++i) {
    EDGERT_RETURN_IF_ERROR(session.read_output(i, host.data(), static_cast<std::size_t>(bytes_of(profile.outputs()->Get(i)))));
    const Result<Shape> shape = session.output_shape(i);
    EDGERT_RETURN_IF_ERROR(shape.status());
    const TensorView largest = plan.output(golden.profile(), i);
    TensorView actual = largest;
    actual.data = host.data();
    for (std::uint32_t d = 0; d < actual.rank; ++d) actual.dims[d] = shape->dims[d];
    if (agrees_with_golden(actual, largest, data + golden.output_offsets()->Get(i), golden.abs_tolerance(), golden.rel_tolerance())) continue;
    Message message;
    message << "self-test: golden vector " << index << ", output " << plan.output_name(i) << " differs";
    message.to(log);
    return {Error::ResultMismatch, index, i};
  }
  return {};
}

}  // namespace self_test_detail

/// Runs the plan's golden vectors in the selected set of bindings and compares the outputs with what they say, within their
/// tolerances. NameNotFound when there are none, ResultMismatch (index: golden vector, value: output) at the first
/// difference. States are reset, before and after; the outputs hold what the last vector gave. Waits; never allocates.
inline Status self_test(Session& session, const PlanView& plan, Span<std::byte> host, const LogSink& log = {}) noexcept {
  const std::uint32_t vectors = rules::count(plan.table().golden());
  if (vectors == 0) return Error::NameNotFound;
  if (host.size() < self_test_bytes(plan)) return {Error::ArenaTooSmall, 0, self_test_bytes(plan)};
  if (reinterpret_cast<std::uintptr_t>(host.data()) % 64 != 0) return {Error::ArenaMisaligned, 0, 64};
  const std::uint32_t profile = session.profile(), set = session.set();
  Status status;
  for (std::uint32_t g = 0; status.ok() && g < vectors; ++g) {
    status = self_test_detail::run_golden(session, plan, g, host, log);
    if (status.ok()) status = session.select(profile, set);
  }
  EDGERT_RETURN_IF_ERROR(status);
  return session.reset();
}

}  // namespace edgert::cuda
