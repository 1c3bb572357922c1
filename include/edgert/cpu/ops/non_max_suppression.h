// SPDX-License-Identifier: Apache-2.0
// ONNX NonMaxSuppression: for each batch and class the boxes of the highest scores (of equal ones the first), without
// those whose intersection over union with one already chosen is above a threshold.
// Inputs: boxes f32 [batches, boxes, 4]; scores f32 [batches, classes, boxes]; optionally, one element each: most boxes
// a class int64 (absent: 0), IoU threshold f32 (absent: 0), score threshold f32 (absent: none; a score must be above it).
// Outputs: selected int64 [most, 3] = batch, class, box, of which `count` rows are written; count int64, one element.
// More than `most` rows are Error::ExtentMismatch. Any strides. Runs in one part.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/ordered_elements.h"
#include "edgert/cpu/strided.h"

namespace edgert::cpu {

struct NonMaxSuppressionAttributes {
  std::uint32_t center_point_box;  ///< 0: y1, x1, y2, x2 of two opposite corners; 1: x, y of the centre, width, height
  std::uint32_t reserved;
  std::int64_t most;  ///< boxes a class that the builder made room for; the run is held to the output's extent
};

namespace nms_detail {

struct Box {
  float low[2];
  float high[2];

  float area() const noexcept { return (high[0] - low[0]) * (high[1] - low[1]); }
};

inline Box read_box(const TensorView& boxes, std::int64_t batch, std::int64_t index, bool center) noexcept {
  const float* const at = boxes.as<const float>() + batch * boxes.strides[0] + index * boxes.strides[1];
  float value[4];
  for (int i = 0; i < 4; ++i) value[i] = at[i * boxes.strides[2]];
  Box box;
  for (int i = 0; i < 2; ++i) {
    const float a = center ? value[i] - value[i + 2] / 2 : value[i];
    const float b = center ? value[i] + value[i + 2] / 2 : value[i + 2];
    box.low[i] = a < b ? a : b;
    box.high[i] = a < b ? b : a;
  }
  return box;
}

/// Boxes without area suppress nothing and are not suppressed.
inline bool overlap(const Box& a, const Box& b, float threshold) noexcept {
  float common = 1;
  for (int i = 0; i < 2; ++i) {
    const float low = a.low[i] > b.low[i] ? a.low[i] : b.low[i];
    const float high = a.high[i] < b.high[i] ? a.high[i] : b.high[i];
    common *= high > low ? high - low : 0;
  }
  const float whole = a.area() + b.area() - common;
  return a.area() > 0 && b.area() > 0 && whole > 0 && common / whole > threshold;
}

/// A box that may be chosen.
struct Candidate {
  float score;
  std::int64_t index;
};

/// Whether b is to be looked at before a.
inline bool comes_after(const Candidate& a, const Candidate& b) noexcept {
  const int order = compare_numbers(a.score, b.score);
  return order != 0 ? order < 0 : a.index > b.index;
}

/// What the operator keeps for each box: candidates of a class, and those of it that were chosen.
struct Scratch {
  Candidate* candidates;
  Box* chosen;
};

/// The selection so far, a row each.
class Selection {
 public:
  explicit Selection(const TensorView& out) noexcept : out_(out) {}
  std::int64_t count() const noexcept { return count_; }
  bool full() const noexcept { return count_ == out_.dims[0]; }
  void add(std::int64_t batch, std::int64_t category, std::int64_t index) noexcept {
    at(count_, 0) = batch;
    at(count_, 1) = category;
    at(count_++, 2) = index;
  }

 private:
  std::int64_t& at(std::int64_t row, std::int64_t column) const noexcept {
    return out_.as<std::int64_t>()[row * out_.strides[0] + column * out_.strides[1]];
  }
  const TensorView& out_;
  std::int64_t count_ = 0;
};

template <class T>
T scalar_or(const Work& work, std::size_t i, T fallback) noexcept {
  return work.has(i) ? *work.in(i).as<const T>() : fallback;
}

/// The boxes of one batch and class; false when the output is full.
inline bool select(const Work& work, std::int64_t batch, std::int64_t category, Selection& selection,
                   const Scratch& scratch) noexcept {
  const TensorView& boxes = work.in(0);
  const TensorView& scores = work.in(1);
  const bool center = work.as<NonMaxSuppressionAttributes>().center_point_box != 0;
  const std::int64_t most = scalar_or<std::int64_t>(work, 2, 0);
  const float threshold = scalar_or<float>(work, 3, 0);
  const float* const score = scores.as<const float>() + batch * scores.strides[0] + category * scores.strides[1];
  const std::int64_t stride = scores.strides[2];
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < scores.dims[2]; ++i) {
    if (!work.has(4) || score[i * stride] > *work.in(4).as<const float>()) scratch.candidates[count++] = {score[i * stride], i};
  }
  // A heap gives as many of the best as are asked for: often a few of thousands.
  auto ranked = heap_of(scratch.candidates, count, comes_after);
  ranked.build();
  for (std::int64_t chosen = 0; ranked.count > 0 && chosen < most;) {
    const std::int64_t index = ranked.take_last().index;
    const Box box = read_box(boxes, batch, index, center);
    bool suppressed = false;
    for (std::int64_t i = 0; !suppressed && i < chosen; ++i) suppressed = overlap(box, scratch.chosen[i], threshold);
    if (suppressed) continue;
    if (selection.full()) return false;
    selection.add(batch, category, index);
    scratch.chosen[chosen++] = box;
  }
  return true;
}

inline bool is_scalar(const Operands& operands, std::size_t i, DType dtype) noexcept {
  if (!operands.has(i)) return true;
  const TensorView& view = operands.in(i);
  return is_plain(view) && view.dtype == dtype && !is_empty(view) && view.elements() == 1;
}

}  // namespace nms_detail

struct NonMaxSuppression {
  static constexpr std::uint16_t kId = 43;
  static constexpr const char* kName = "NonMaxSuppression";
  using Attributes = NonMaxSuppressionAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() < 2 || operands.inputs.size() > 5) return "two to five inputs expected";
    if (operands.outputs.size() != 2) return "two outputs expected";
    const TensorView& boxes = operands.in(0);
    const TensorView& scores = operands.in(1);
    const TensorView& selected = operands.out(0);
    if (!is_plain(boxes) || boxes.dtype != DType::F32 || boxes.rank != 3 || boxes.dims[2] != 4) return "boxes are not f32 [.., .., 4]";
    if (!is_plain(scores) || scores.dtype != DType::F32 || scores.rank != 3) return "scores are not f32 of rank 3";
    if (scores.dims[0] != boxes.dims[0] || scores.dims[2] != boxes.dims[1]) return "boxes and scores differ in dims";
    if (boxes.dims[1] > (std::int64_t{1} << 40)) return "there are too many boxes";
    for (std::size_t i = 2; i < 5; ++i) {
      if (!nms_detail::is_scalar(operands, i, i == 2 ? DType::I64 : DType::F32)) return "a limit is no scalar of its type";
    }
    if (!is_plain(selected) || selected.dtype != DType::I64 || selected.rank != 2 || selected.dims[1] != 3 ||
        !is_writable(selected)) {
      return "the first output is not int64 [.., 3]";
    }
    return is_int64_scalar(operands.out(1)) ? nullptr : "the second output is no int64 scalar";
  }
  static std::uint64_t scratch_bytes(const Operands& operands) {
    return (sizeof(nms_detail::Candidate) + sizeof(nms_detail::Box)) * static_cast<std::uint64_t>(operands.in(0).dims[1]);
  }
  static Status run(const Work& work) {
    if (work.part != 0) return {};
    const TensorView& scores = work.in(1);
    nms_detail::Selection selection(work.out(0));
    const std::int64_t boxes = work.in(0).dims[1];
    const nms_detail::Scratch scratch = {static_cast<nms_detail::Candidate*>(work.scratch),
                                         reinterpret_cast<nms_detail::Box*>(static_cast<nms_detail::Candidate*>(work.scratch) + boxes)};
    if (!is_empty(scores)) {
      for (std::int64_t batch = 0; batch < scores.dims[0]; ++batch) {
        for (std::int64_t category = 0; category < scores.dims[1]; ++category) {
          if (!nms_detail::select(work, batch, category, selection, scratch)) return Error::ExtentMismatch;
        }
      }
    }
    *work.out(1).as<std::int64_t>() = selection.count();
    return {};
  }
};

}  // namespace edgert::cpu
