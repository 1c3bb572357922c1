// SPDX-License-Identifier: Apache-2.0
#include "families/scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "edgert/scalar/pointwise.h"
#include "ir/windows.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using ir::kNone;
using ir::ValueId;
using scalar::PointwiseOp;
using scalar::PointwiseProgram;
using scalar::PointwiseStep;

/// Adding less than this hides a key beside any other.
constexpr float kHides = -1e4f;

/// What an operand of the program is as far as scores go.
struct Term {
  enum class Kind : std::uint8_t { Other, Scores, Number, Tensor, Choice };
  Kind kind = Kind::Other;
  Scores scores;               ///< Scores; of Choice, which adds 0 or a number by a boolean tensor, the mask
  float number = 0;
  ValueId value = kNone;       ///< Tensor
  bool negated = false;        ///< a boolean tensor's opposite

  bool is_unmasked() const { return kind == Kind::Scores && scores.kind == Scores::Kind::None; }
};

/// The number that a constant repeats along all its dimensions.
std::optional<float> number_of(const Context& context, ValueId value) {
  const std::optional<ir::Window> window = ir::Windows(context.graph()).find(value);
  if (!window) return std::nullopt;
  const ir::Value& root = context.graph().value(window->root);
  if (!root.is_constant() || root.type.dtype != DType::F32) return std::nullopt;
  for (std::size_t d = 0; d < window->view.dims.size(); ++d) {
    if (window->view.dims[d] != 1 && window->view.strides[d] != 0) return std::nullopt;
  }
  return root.constant.as<float>()[window->view.offset];
}

Term input_term(const Context& context, ValueId value, ValueId raw) {
  Term term;
  if (value == raw) {
    term.kind = Term::Kind::Scores;
  } else if (const std::optional<float> number = number_of(context, value)) {
    term.kind = Term::Kind::Number;
    term.number = *number;
  } else {
    term.kind = Term::Kind::Tensor;
    term.value = value;
  }
  return term;
}

/// Hides what `condition` says (or its opposite) by `hidden`; nothing when that hides too little.
std::optional<Scores> hide(Scores scores, const Term& condition, bool keeps, float hidden) {
  if (condition.kind != Term::Kind::Tensor || !(hidden <= kHides)) return std::nullopt;
  scores.kind = keeps != condition.negated ? Scores::Kind::Keep : Scores::Kind::Hide;
  scores.mask = condition.value;
  scores.hidden = std::isinf(hidden) ? hidden : std::max(hidden, kLowestScore);
  return scores;
}

Term of_scores(const std::optional<Scores>& scores, Term::Kind kind = Term::Kind::Scores) {
  Term term;
  if (!scores) return term;
  term.kind = kind;
  term.scores = *scores;
  return term;
}

Term scaled(const Term& x, float factor) {
  Scores scores = x.scores;
  scores.scale *= factor;
  return of_scores(scores);
}

Term added(const Term& x, const Term& mask) {
  Scores scores = x.scores;
  if (mask.kind == Term::Kind::Tensor) {
    scores.kind = Scores::Kind::Added;
    scores.mask = mask.value;
  } else if (mask.kind == Term::Kind::Choice) {
    scores.kind = mask.scores.kind, scores.mask = mask.scores.mask, scores.hidden = mask.scores.hidden;
  } else {
    return {};
  }
  return of_scores(scores);
}

/// What to add to a score in whose place the choice puts a number: with a finite one, a query without keys gives a mean.
float replacement(float number) { return std::isfinite(number) && number <= kHides ? kLowestScore : number; }

Term chosen(const Term& condition, const Term& yes, const Term& no) {
  using Kind = Term::Kind;
  if (yes.is_unmasked() && no.kind == Kind::Number) return of_scores(hide(yes.scores, condition, true, replacement(no.number)));
  if (no.is_unmasked() && yes.kind == Kind::Number) return of_scores(hide(no.scores, condition, false, replacement(yes.number)));
  if (yes.kind != Kind::Number || no.kind != Kind::Number) return {};
  if (yes.number == 0) return of_scores(hide({}, condition, true, no.number), Kind::Choice);
  if (no.number == 0) return of_scores(hide({}, condition, false, yes.number), Kind::Choice);
  return {};
}

Term step_term(const PointwiseStep& step, const Term& a, const Term& b, const Term& c) {
  using Kind = Term::Kind;
  if (step.op == PointwiseOp::Not && a.kind == Kind::Tensor) {
    Term term = a;
    term.negated = !a.negated;
    return term;
  }
  if (static_cast<DType>(step.type) != DType::F32) return {};
  switch (step.op) {
    case PointwiseOp::Mul:
      if (a.is_unmasked() && b.kind == Kind::Number) return scaled(a, b.number);
      return b.is_unmasked() && a.kind == Kind::Number ? scaled(b, a.number) : Term{};
    case PointwiseOp::Div:
      return a.is_unmasked() && b.kind == Kind::Number && b.number != 0 ? scaled(a, 1.0f / b.number) : Term{};
    case PointwiseOp::Add:
      if (a.is_unmasked()) return added(a, b);
      return b.is_unmasked() ? added(b, a) : Term{};
    case PointwiseOp::Where: return chosen(a, b, c);
    default: return {};
  }
}

}  // namespace

std::optional<Scores> scores_of(const Context& context, const ir::Node& pointwise, ValueId raw) {
  const auto& program = pointwise.as<PointwiseProgram>();
  std::vector<Term> terms;
  for (const ValueId input : pointwise.inputs) terms.push_back(input_term(context, input, raw));
  for (unsigned i = 0; i < program.steps; ++i) {
    const PointwiseStep& step = program.step[i];
    terms.push_back(step_term(step, terms.at(step.a), terms.at(step.b), terms.at(step.c)));
  }
  const Term& result = terms.back();
  if (result.kind != Term::Kind::Scores || !std::isfinite(result.scores.scale)) return std::nullopt;
  return result.scores;
}

std::optional<Scaled> scaled_input(const Context& context, const ir::Node& pointwise) {
  for (const ValueId input : pointwise.inputs) {
    const std::optional<Scores> scores = scores_of(context, pointwise, input);
    if (scores && scores->kind == Scores::Kind::None) return Scaled{input, scores->scale};
  }
  return std::nullopt;
}

std::optional<std::int64_t> causal_offset(const Context& context, const Scores& scores) {
  const std::optional<ir::Window> window = ir::Windows(context.graph()).find(scores.mask);
  const ir::Value* root = window ? &context.graph().value(window->root) : nullptr;
  if (root == nullptr || !root->is_constant() || window->view.dims.size() < 2) return std::nullopt;
  const bool added = scores.kind == Scores::Kind::Added;
  if (root->type.dtype != (added ? DType::F32 : DType::Bool)) return std::nullopt;
  const ops::StridedView& view = window->view;
  const std::size_t rows = view.dims.size() - 2, keys = rows + 1;
  for (std::size_t d = 0; d < rows; ++d) {
    if (view.dims[d] != 1 && view.strides[d] != 0) return std::nullopt;
  }
  const auto hides = [&](std::int64_t at) -> std::optional<bool> {
    if (!added) return (root->constant.as<std::uint8_t>()[at] == 0) == (scores.kind == Scores::Kind::Keep);
    const float x = root->constant.as<float>()[at];
    return x == 0 ? std::optional<bool>(false) : x <= kHides ? std::optional<bool>(true) : std::nullopt;
  };
  std::int64_t offset = -1;
  for (std::int64_t i = 0; i < view.dims[rows]; ++i) {
    for (std::int64_t j = 0; j < view.dims[keys]; ++j) {
      const std::optional<bool> hidden = hides(view.offset + i * view.strides[rows] + j * view.strides[keys]);
      if (!hidden) return std::nullopt;
      if (i == 0 && !*hidden && j == offset + 1) offset = j;
      if (*hidden == (j <= i + offset)) return std::nullopt;
    }
  }
  return offset < 0 ? std::nullopt : std::optional<std::int64_t>(offset);
}

}  // namespace edgert::families
