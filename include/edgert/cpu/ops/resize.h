// SPDX-License-Identifier: Apache-2.0
// ONNX Resize, modes nearest and linear (any number of axes) and cubic, without antialiasing.
// Inputs: x f32 (nearest: any type of whole bytes). Outputs: y. Any strides; fast when only the last two of four
// dimensions change and both have stride 1 along dimension 1.
// At most 64 input elements make one output element: linear on six axes, cubic on three. A scale that equals the ratio
// of the extents in float is taken as that ratio exactly. TfCropAndResize takes f32 only.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/window_kernels.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/ops/copy.h"
#include "edgert/cpu/strided.h"
#include "edgert/scalar/math.h"

namespace edgert::cpu {

enum class ResizeMode : std::uint8_t { Nearest = 0, Linear = 1, Cubic = 2 };
enum class ResizeCoordinates : std::uint8_t {
  HalfPixel = 0, Asymmetric = 1, AlignCorners = 2, PytorchHalfPixel = 3, HalfPixelSymmetric = 4, TfCropAndResize = 5
};
enum class ResizeNearest : std::uint8_t { RoundPreferFloor = 0, RoundPreferCeil = 1, Floor = 2, Ceil = 3 };
struct ResizeAttributes {
  float scale[kMaxRank];      ///< output extent / input extent as ONNX defines it; 1 for an axis that stays
  float roi_begin[kMaxRank];  ///< TfCropAndResize only
  float roi_end[kMaxRank];
  float cubic_coefficient;
  float extrapolation_value;
  ResizeMode mode;
  ResizeCoordinates coordinates;
  ResizeNearest nearest;
  std::uint8_t exclude_outside;
  std::uint8_t reserved[4];
  std::int64_t size[kMaxRank];  ///< y's extents: only the builder's shape rule reads it
};

namespace resize_detail {

inline constexpr int kMaxTerms = 64;
inline constexpr int kMaxTaps = 4;

/// One input index that an output index draws from; -1 where TfCropAndResize looks outside the image.
struct Tap {
  std::int32_t index;
  float weight;
};

constexpr int taps_of(ResizeMode mode) noexcept {
  return mode == ResizeMode::Nearest ? 1 : mode == ResizeMode::Linear ? 2 : kMaxTaps;
}
/// Whether output indices along the axis are not simply the input's.
inline bool is_active(const Operands& operands, std::uint32_t axis) noexcept {
  const ResizeAttributes& attributes = operands.as<ResizeAttributes>();
  const bool crops = attributes.coordinates == ResizeCoordinates::TfCropAndResize &&
                     (attributes.roi_begin[axis] != 0.0f || attributes.roi_end[axis] != 1.0f);
  return crops || attributes.scale[axis] != 1.0f || operands.in(0).dims[axis] != operands.out(0).dims[axis];
}

/// Where output index `out` lies on the input's axis.
inline double coordinate(const ResizeAttributes& attributes, std::uint32_t axis, std::int64_t out, std::int64_t extent,
                         std::int64_t outputs) noexcept {
  const double inputs = static_cast<double>(extent);
  const double count = static_cast<double>(outputs);
  const double o = static_cast<double>(out);
  const double scale = static_cast<double>(attributes.scale[axis]);
  const bool is_ratio = static_cast<float>(count / inputs) == attributes.scale[axis];
  const auto unscale = [&](double value) { return is_ratio ? value * inputs / count : value / scale; };
  switch (attributes.coordinates) {
    case ResizeCoordinates::HalfPixel: return unscale(o + 0.5) - 0.5;
    case ResizeCoordinates::Asymmetric: return unscale(o);
    case ResizeCoordinates::AlignCorners: return outputs == 1 ? 0.0 : o * (inputs - 1.0) / (count - 1.0);
    case ResizeCoordinates::PytorchHalfPixel: return outputs == 1 ? 0.0 : unscale(o + 0.5) - 0.5;
    case ResizeCoordinates::HalfPixelSymmetric: {
      const double adjustment = is_ratio ? 1.0 : count / (scale * inputs);
      return 0.5 * inputs * (1.0 - adjustment) + unscale(o + 0.5) - 0.5;
    }
    case ResizeCoordinates::TfCropAndResize: break;
  }
  const double begin = static_cast<double>(attributes.roi_begin[axis]);
  const double end = static_cast<double>(attributes.roi_end[axis]);
  if (outputs == 1) return 0.5 * (begin + end) * (inputs - 1.0);
  return begin * (inputs - 1.0) + o * (end - begin) * (inputs - 1.0) / (count - 1.0);
}

inline double nearest(double x, ResizeNearest rounding) noexcept {
  switch (rounding) {
    case ResizeNearest::RoundPreferFloor: return scalar::ceil(x - 0.5);
    case ResizeNearest::RoundPreferCeil: return scalar::floor(x + 0.5);
    case ResizeNearest::Floor: return scalar::floor(x);
    case ResizeNearest::Ceil: break;
  }
  return scalar::ceil(x);
}

/// Keys' cubic convolution for distances t + 1, t, 1 - t and 2 - t.
inline void cubic_weights(double t, double a, double (&weights)[kMaxTaps]) noexcept {
  const auto inner = [a](double d) { return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0; };
  const auto outer = [a](double d) { return ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a; };
  weights[0] = outer(t + 1.0);
  weights[1] = inner(t);
  weights[2] = inner(1.0 - t);
  weights[3] = outer(2.0 - t);
}

/// The taps of one output index.
inline void make_taps(const ResizeAttributes& attributes, std::uint32_t axis, std::int64_t out, std::int64_t extent,
                      std::int64_t outputs, Tap* taps) noexcept {
  const int count = taps_of(attributes.mode);
  double x = coordinate(attributes, axis, out, extent, outputs);
  const double last = static_cast<double>(extent - 1);
  if (attributes.coordinates == ResizeCoordinates::TfCropAndResize && !(x >= 0.0 && x <= last)) {
    for (int k = 0; k < count; ++k) taps[k] = {-1, 0.0f};
    return;
  }
  // Further out nothing changes any more; this also takes NaN and numbers that no index holds.
  x = !(x > -4.0) ? -4.0 : x > last + 4.0 ? last + 4.0 : x;
  const double base = scalar::floor(x);
  double weights[kMaxTaps] = {1.0};
  double first = base;
  if (attributes.mode == ResizeMode::Nearest) {
    first = nearest(x, attributes.nearest);
  } else if (attributes.mode == ResizeMode::Linear) {
    weights[0] = 1.0 - (x - base);
    weights[1] = x - base;
  } else {
    cubic_weights(x - base, static_cast<double>(attributes.cubic_coefficient), weights);
    first = base - 1.0;
  }
  double sum = 0.0;
  for (int k = 0; k < count; ++k) {
    const double index = first + k;
    if (attributes.exclude_outside != 0 && count > 1 && (index < 0.0 || index > last)) weights[k] = 0.0;
    sum += weights[k];
    taps[k].index = static_cast<std::int32_t>(index < 0.0 ? 0.0 : index > last ? last : index);
  }
  const bool renormalise = attributes.exclude_outside != 0 && sum != 0.0;
  for (int k = 0; k < count; ++k) taps[k].weight = static_cast<float>(renormalise ? weights[k] / sum : weights[k]);
}

/// One axis of the loops, which run in the output's memory order.
struct Axis {
  std::int64_t extent;  ///< of the output
  std::int64_t to_stride;
  std::int64_t from_stride;
  const Tap* taps;  ///< null where output index and input index are the same
};

/// The input elements that an output row draws from, as offsets with weights.
struct Terms {
  int count;
  bool outside;
  std::int64_t offset[kMaxTerms];
  float weight[kMaxTerms];
};

/// One part's resizing.
class Resizer {
 public:
  explicit Resizer(const Work& work) noexcept
      : work_(work), attributes_(work.as<ResizeAttributes>()), taps_(taps_of(attributes_.mode)) {
    const TensorView& x = work.in(0);
    const TensorView& y = work.out(0);
    Tap* table = static_cast<Tap*>(work.scratch);
    for (std::uint32_t d = 0; d < y.rank; ++d) {
      Axis axis = {y.dims[d], y.strides[d], x.strides[d], nullptr};
      if (is_active(work, d)) {
        axis.taps = table;
        for (std::int64_t o = 0; o < axis.extent; ++o, table += taps_) {
          make_taps(attributes_, d, o, x.dims[d], y.dims[d], table);
        }
      }
      if (axis.extent == 1 && axis.taps == nullptr) continue;
      std::uint32_t place = rank_++;
      for (; place > 0 && axis_[place - 1].to_stride < axis.to_stride; --place) axis_[place] = axis_[place - 1];
      axis_[place] = axis;
    }
    if (rank_ == 0) axis_[rank_++] = {1, 1, 1, nullptr};
    for (std::uint32_t d = 0; d + 1 < rank_; ++d) rows_ *= axis_[d].extent;
  }

  /// function(row's offset in y, terms) for each row along the innermost axis.
  template <class Function>
  void for_each_row(Function function) const noexcept {
    const PartRange range = part_range(rows_, work_.part, work_.parts);
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      Terms terms;
      terms.count = 1;
      terms.outside = false;
      terms.offset[0] = 0;
      terms.weight[0] = 1.0f;
      std::int64_t to = 0;
      std::int64_t rest = row;
      for (std::uint32_t d = rank_ - 1; d-- > 0;) {
        const std::int64_t index = rest % axis_[d].extent;
        rest /= axis_[d].extent;
        to += index * axis_[d].to_stride;
        multiply(terms, axis_[d], index);
      }
      function(to, terms);
    }
  }

  template <class T>
  void nearest_rows() const noexcept {
    T* const y = static_cast<T*>(work_.out(0).data);
    const T* const x = static_cast<const T*>(work_.in(0).data);
    const Axis& inner = axis_[rank_ - 1];
    T outside{};
    if constexpr (sizeof(T) == 4) std::memcpy(&outside, &attributes_.extrapolation_value, sizeof(T));
    for_each_row([&](std::int64_t to, const Terms& terms) {
      const T* const from = x + terms.offset[0];
      if (terms.outside) {
        copy_detail::copy_row(y + to, inner.to_stride, &outside, 0, inner.extent);
      } else if (inner.taps == nullptr) {
        copy_detail::copy_row(y + to, inner.to_stride, from, inner.from_stride, inner.extent);
      } else {
        for (std::int64_t i = 0; i < inner.extent; ++i) {
          const std::int32_t index = inner.taps[i].index;
          y[to + i * inner.to_stride] = index < 0 ? outside : from[index * inner.from_stride];
        }
      }
    });
  }

  void weighted_rows() const noexcept {
    float* const y = work_.out(0).as<float>();
    const float* const x = work_.in(0).as<const float>();
    const Axis& inner = axis_[rank_ - 1];
    for_each_row([&](std::int64_t to, const Terms& terms) {
      if (terms.outside) {
        copy_detail::copy_row(y + to, inner.to_stride, &attributes_.extrapolation_value, 0, inner.extent);
      } else if (inner.taps == nullptr && inner.to_stride == 1 && inner.from_stride == 1) {
        const float* rows[kMaxTerms];
        for (int k = 0; k < terms.count; ++k) rows[k] = x + terms.offset[k];
        EDGERT_ISA_DISPATCH(work_.isa, weighted_sum(y + to, rows, terms.weight, terms.count, inner.extent));
      } else {
        for (std::int64_t i = 0; i < inner.extent; ++i)
          y[to + i * inner.to_stride] = weighted_element(x, terms, inner, i);
      }
    });
  }

 private:
  /// Each term so far times each tap of the axis.
  void multiply(Terms& terms, const Axis& axis, std::int64_t index) const noexcept {
    if (axis.taps == nullptr) {
      for (int k = 0; k < terms.count; ++k) terms.offset[k] += index * axis.from_stride;
      return;
    }
    const Tap* const taps = axis.taps + index * taps_;
    if (taps[0].index < 0) {
      terms.outside = true;
      return;
    }
    const int before = terms.count;
    for (int t = taps_ - 1; t >= 0; --t) {  // the first tap last, in place
      for (int k = 0; k < before; ++k) {
        terms.offset[t * before + k] = terms.offset[k] + taps[t].index * axis.from_stride;
        terms.weight[t * before + k] = terms.weight[k] * taps[t].weight;
      }
    }
    terms.count = before * taps_;
  }

  float weighted_element(const float* x, const Terms& terms, const Axis& inner, std::int64_t i) const noexcept {
    float sum = 0.0f;
    if (inner.taps == nullptr) {
      for (int k = 0; k < terms.count; ++k) sum += terms.weight[k] * x[terms.offset[k] + i * inner.from_stride];
      return sum;
    }
    const Tap* const taps = inner.taps + i * taps_;
    if (taps[0].index < 0) return attributes_.extrapolation_value;
    for (int k = 0; k < terms.count; ++k) {
      const float* const from = x + terms.offset[k];
      float along = 0.0f;
      for (int t = 0; t < taps_; ++t) along += taps[t].weight * from[taps[t].index * inner.from_stride];
      sum += terms.weight[k] * along;
    }
    return sum;
  }

  const Work& work_;
  const ResizeAttributes& attributes_;
  int taps_;
  std::uint32_t rank_ = 0;
  std::int64_t rows_ = 1;
  Axis axis_[kMaxRank + 1] = {};
};

}  // namespace resize_detail

struct Resize {
  static constexpr std::uint16_t kId = 14;
  static constexpr const char* kName = "Resize";
  using Attributes = ResizeAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 1)) return wrong;
    const TensorView& x = operands.in(0);
    const TensorView& y = operands.out(0);
    const ResizeAttributes& attributes = operands.as<ResizeAttributes>();
    if (x.dtype != y.dtype) return "input and output differ in type";
    if (x.rank != y.rank) return "input and output differ in rank";
    if (attributes.mode > ResizeMode::Cubic || attributes.nearest > ResizeNearest::Ceil ||
        attributes.coordinates > ResizeCoordinates::TfCropAndResize) {
      return "unknown mode";
    }
    const bool any_type =
        attributes.mode == ResizeMode::Nearest && attributes.coordinates != ResizeCoordinates::TfCropAndResize;
    if (!any_type && x.dtype != DType::F32) return "this mode takes f32 only";
    if (is_empty(x) && !is_empty(y)) return "no element to repeat";
    int terms = 1;
    for (std::uint32_t d = 0; d < x.rank; ++d) {
      if (x.dims[d] > INT32_MAX || y.dims[d] > INT32_MAX) return "extents are too large";
      if (!(attributes.scale[d] > 0.0f) || attributes.scale[d] > 1e9f) return "scale is not positive and finite";
      if (!resize_detail::is_active(operands, d)) continue;
      terms *= resize_detail::taps_of(attributes.mode);
      if (terms > resize_detail::kMaxTerms) return "too many axes for this mode";
    }
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands& operands) {
    const int taps = resize_detail::taps_of(operands.as<ResizeAttributes>().mode);
    std::uint64_t count = 0;
    for (std::uint32_t d = 0; d < operands.out(0).rank; ++d) {
      if (resize_detail::is_active(operands, d)) count += static_cast<std::uint64_t>(operands.out(0).dims[d]);
    }
    return is_empty(operands.out(0)) ? 0 : count * static_cast<std::uint64_t>(taps) * sizeof(resize_detail::Tap);
  }
  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    const resize_detail::Resizer resizer(work);
    if (work.as<ResizeAttributes>().mode != ResizeMode::Nearest) {
      resizer.weighted_rows();
      return {};
    }
    switch (bytes_of(work.out(0).dtype)) {
      case 1: resizer.nearest_rows<Raw<std::uint8_t>>(); break;
      case 2: resizer.nearest_rows<Raw<std::uint16_t>>(); break;
      case 4: resizer.nearest_rows<Raw<std::uint32_t>>(); break;
      default: resizer.nearest_rows<Raw<std::uint64_t>>(); break;
    }
    return {};
  }
};

}  // namespace edgert::cpu
