// SPDX-License-Identifier: Apache-2.0
// What a session of a plan needs, found by asking every step's operator: the one place where steps are checked.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/plan.h"
#include "edgert/session_memory.h"

namespace edgert::detail {

inline void maximize(std::uint32_t& value, std::uint32_t other) noexcept {
  if (other > value) value = other;
}
inline void maximize(std::uint64_t& value, std::uint64_t other) noexcept {
  if (other > value) value = other;
}

/// The operator's own check on views without data, and the scratch it asks for.
template <class Operators>
Status check_operator(const PlanView& plan, std::uint32_t profile, const schema::Step& step, std::uint32_t index,
                      const LogSink& log, std::uint64_t& scratch) noexcept {
  const cpu::OperatorEntry* entry = Operators::find(step.op());
  if (entry == nullptr) {
    Message message;
    message << "step " << index << ": this program's operator set has no operator " << std::uint32_t{step.op()};
    message.to(log);
    return {Error::UnknownOperator, index, step.op()};
  }
  if (rules::count(step.attributes()) != entry->attribute_bytes) {
    return rules::violated(log, Rule::OperatorAttributes, entry->name, index, "attributes have the wrong size");
  }
  if (rules::count(step.bodies()) != entry->bodies) {
    return rules::violated(log, Rule::OperatorOperands, entry->name, index, "owns the wrong number of bodies");
  }
  constexpr std::uint32_t kMaxOperands = 64;
  const std::uint32_t inputs = rules::count(step.inputs());
  const std::uint32_t outputs = rules::count(step.outputs());
  if (inputs + outputs > kMaxOperands) return rules::violated(log, Rule::OperatorOperands, entry->name, index, "too many operands");
  TensorView views[kMaxOperands];
  const TensorView* pointers[kMaxOperands];
  for (std::uint32_t i = 0; i < inputs + outputs; ++i) {
    const std::uint32_t tensor = i < inputs ? step.inputs()->Get(i) : step.outputs()->Get(i - inputs);
    if (tensor != 0xffffffffu) views[i] = plan.tensor(profile, tensor);
    pointers[i] = &views[i];
  }
  cpu::Operands operands;
  operands.inputs = {pointers, inputs};
  operands.outputs = {pointers + inputs, outputs};
  operands.attributes = step.attributes() != nullptr ? step.attributes()->Data() : nullptr;
  operands.attribute_bytes = entry->attribute_bytes;
  const char* problem = entry->check(operands);
  if (problem != nullptr) return rules::violated(log, Rule::OperatorOperands, entry->name, index, problem);
  scratch = entry->scratch_bytes(operands);
  if (scratch > rules::kMaxRegionBytes) return rules::violated(log, Rule::OperatorOperands, entry->name, index, "needs too much scratch");
  scratch = align_up(scratch, 64);
  return {};
}

/// Raises `total` to what profile `p` asks for.
template <class Operators>
Status add_profile_needs(const PlanView& plan, std::uint32_t p, const LogSink& log, bool skip_launches, SessionNeeds& total) noexcept {
  const schema::Profile& profile = plan.profile(p);
  std::uint32_t operands = 0;
  std::uint32_t steps = 0;
  for (std::uint32_t l = 0; l < rules::count(profile.lists()); ++l) {
    const schema::StepList& list = *profile.lists()->Get(l);
    steps += rules::count(list.steps());
    for (std::uint32_t i = 0; i < rules::count(list.steps()); ++i) {
      const schema::Step& step = *list.steps()->Get(i);
      if (skip_launches && step.launch() != nullptr) continue;
      operands += rules::count(step.inputs()) + rules::count(step.outputs());
      std::uint64_t scratch = 0;
      EDGERT_RETURN_IF_ERROR(check_operator<Operators>(plan, p, step, i, log, scratch));
      maximize(total.scratch_bytes, scratch);
    }
  }
  // One more tensor stands for every absent operand.
  maximize(total.tensors, rules::count(profile.tensors()) + 1);
  maximize(total.operands, operands);
  maximize(total.steps, steps);
  maximize(total.lists, rules::count(profile.lists()));
  maximize(total.arena_bytes, profile.arena_bytes());
  return {};
}

/// Of the plan's largest profiles. Fails where `Operators` lacks an operator, or an operator refuses a step.
template <class Operators>
Result<SessionNeeds> session_needs(const PlanView& plan, const LogSink& log, bool skip_launches) noexcept {
  SessionNeeds total;
  total.bindings = plan.input_count() + plan.output_count();
  total.state_bytes = plan.table().state_bytes();
  for (std::uint32_t b = 0; b < total.bindings; ++b) total.io_bytes += align_up(plan.binding_bytes(b), 64);
  for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
    EDGERT_RETURN_IF_ERROR(add_profile_needs<Operators>(plan, p, log, skip_launches, total));
  }
  return total;
}

}  // namespace edgert::detail
