// SPDX-License-Identifier: Apache-2.0
// y = (x - mean) / sqrt(variance + epsilon) * scale + bias, mean and biased variance over `axes` (LayerNormalization,
// InstanceNormalization, GroupNormalization by their views); with rms: y = x / sqrt(mean(x * x) + epsilon) * scale.
// Inputs: x; scale or absent; bias or absent, both with x's dims (broadcast by stride 0). Outputs: y. Any strides, fast
// when the axes are the last ones and dense. y may lie exactly on x.
// Types: f32, f16 and bf16 (computed in float), f64; scale and bias have x's type. The variance is that of the
// differences from the mean, in a second pass.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/reduction_kernels.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/ops/reduce.h"
#include "edgert/cpu/strided.h"
#include "edgert/cpu/strip_io.h"
#include "edgert/scalar/math.h"

namespace edgert::cpu {

struct NormalizeAttributes {
  std::uint32_t axes;  ///< bit i: statistics run over axis i
  float epsilon;
  std::uint8_t rms;
  std::uint8_t reserved[3];
};

namespace normalize_detail {

enum { kOutput = 0, kInput = 1, kScale = 2, kBias = 3, kOperands = 4 };

/// One part's normalisations.
class Normalizer {
 public:
  explicit Normalizer(const Work& work) noexcept
      : work_(work), attributes_(work.as<NormalizeAttributes>()), y_(work.out(0)) {
    views_[kInput] = &work.in(0);
    views_[kScale] = work.has(1) ? &work.in(1) : nullptr;
    views_[kBias] = work.has(2) ? &work.in(2) : nullptr;
    arithmetic_ = arithmetic_of(y_.dtype);
    for (std::uint32_t d = 0; d < y_.rank; ++d) {
      const std::int64_t strides[kOperands] = {y_.strides[d], views_[kInput]->strides[d],
                                               views_[kScale] != nullptr ? views_[kScale]->strides[d] : 0,
                                               views_[kBias] != nullptr ? views_[kBias]->strides[d] : 0};
      (has_axis(attributes_.axes, d) ? group_ : groups_).append(y_.dims[d], strides);
    }
    group_.sort();
    group_.merge();
    groups_.sort();
    groups_.merge();
    // Statistics read only x, whose own dimensions may merge further.
    for (std::uint32_t d = 0; d < group_.rank; ++d) statistics_.append(group_.dims[d], {group_.strides[kInput][d]});
    statistics_.merge();
  }

  void run() noexcept {
    const PartRange range = part_range(groups_.count, work_.part, work_.parts);
    Cursor<kOperands> cursor(groups_, groups_.rank, range.begin);
    for (std::int64_t item = range.begin; item < range.end; ++item, cursor.advance()) normalize(cursor);
  }

 private:
  double fold(Fold fold, std::int64_t base, double shift) noexcept {
    StripReader<1> strips(statistics_, {views_[kInput]}, {base}, work_.scratch, work_.isa);
    double sum = 0.0;
    while (strips.next()) {
      sum += reduce_detail::fold_strip(arithmetic_, fold, strips.values(0), strips.size(), shift, work_.isa);
    }
    return sum;
  }

  void normalize(const Cursor<kOperands>& at) noexcept {
    const double count = static_cast<double>(group_.count);
    const bool rms = attributes_.rms != 0;
    const double mean = rms ? 0.0 : fold(Fold::Sum, at.offset(kInput), 0.0) / count;
    const double variance = fold(rms ? Fold::Square : Fold::SquareDifference, at.offset(kInput), mean) / count;
    const double factor = 1.0 / scalar::sqrt(variance + static_cast<double>(attributes_.epsilon));
    StripReader<kOperands> strips(group_, views_,
                                  {at.offset(kOutput), at.offset(kInput), at.offset(kScale), at.offset(kBias)},
                                  work_.scratch, work_.isa);
    while (strips.next()) {
      void* const to = strips.target(kOutput, y_);
      if (arithmetic_ == Arithmetic::F64) {
        normalize_doubles(strips, static_cast<double*>(to), mean, factor);
      } else {
        EDGERT_ISA_DISPATCH(work_.isa,
                            normalize_run(static_cast<float*>(to), static_cast<const float*>(strips.values(kInput)),
                                          static_cast<float>(mean), static_cast<float>(factor),
                                          static_cast<const float*>(strips.values(kScale)),
                                          static_cast<const float*>(strips.values(kBias)), strips.size()));
      }
      strips.write(kOutput, y_, to);
    }
  }

  static void normalize_doubles(const StripReader<kOperands>& strips, double* y, double mean, double factor) noexcept {
    const double* const x = static_cast<const double*>(strips.values(kInput));
    const double* const scale = static_cast<const double*>(strips.values(kScale));
    const double* const bias = static_cast<const double*>(strips.values(kBias));
    for (std::int64_t i = 0; i < strips.size(); ++i) {
      double value = (x[i] - mean) * factor;
      if (scale != nullptr) value *= scale[i];
      if (bias != nullptr) value += bias[i];
      y[i] = value;
    }
  }

  const Work& work_;
  const NormalizeAttributes& attributes_;
  const TensorView& y_;
  const TensorView* views_[kOperands] = {};
  Arithmetic arithmetic_ = Arithmetic::None;
  Nest<kOperands> groups_;  ///< over the dimensions that are not normalised: one position per group
  Nest<kOperands> group_;   ///< over those that are
  Nest<1> statistics_;      ///< the same for x alone
};

}  // namespace normalize_detail

struct Normalize {
  static constexpr std::uint16_t kId = 11;
  static constexpr const char* kName = "Normalize";
  using Attributes = NormalizeAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() != 3 || operands.outputs.size() != 1) return "wrong number of operands";
    const TensorView& y = operands.out(0);
    if (!is_plain(y) || !is_writable(y)) return "output is absent, packed, narrower than a byte or overlaps itself";
    const Arithmetic arithmetic = arithmetic_of(y.dtype);
    if (arithmetic != Arithmetic::F32 && arithmetic != Arithmetic::F64) return "type is not supported";
    for (std::size_t i = 0; i < 3; ++i) {
      if (i > 0 && !operands.has(i)) continue;
      const TensorView& view = operands.in(i);
      if (!is_plain(view)) return "input is absent, packed or narrower than a byte";
      if (view.dtype != y.dtype) return "operands differ in type";
      if (!same_dims(view, y)) return "operands differ in dims";
    }
    const NormalizeAttributes& attributes = operands.as<NormalizeAttributes>();
    if (attributes.axes >> y.rank != 0) return "axis is outside the input's rank";
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return normalize_detail::kOperands * 8 * kStrip; }
  static Status run(const Work& work) {
    if (!is_empty(work.out(0))) normalize_detail::Normalizer(work).run();
    return {};
  }
};

}  // namespace edgert::cpu
