// SPDX-License-Identifier: Apache-2.0
// ONNX LinearAttention: per head a state S [Dk, Dv] that every token updates and every query reads,
//   S = exp(decay) S;  v' = beta (v - Sᵀ k), or v' = v without beta;  S = S + k v'ᵀ;  y = scale Sᵀ q.
// Inputs: q [B, T, Hq, Dk]; k [B, T, H, Dk]; v [B, T, H, Dv]; past state [B, H, Dk, Dv] or absent (zeros); decay
//   [B, T, H, Dk] or absent (none); beta [B, T, H] or absent. Outputs: y [B, T, Hq, Dv]; state [B, H, Dk, Dv].
// Hq is a multiple of H: neighbouring query heads share a state. Any strides. Types: f32.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/dense_operands.h"
#include "edgert/cpu/isa/recurrent_kernels.h"
#include "edgert/cpu/isa/scratch_pieces.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"
#include "edgert/scalar/math.h"

namespace edgert::cpu {

struct LinearAttentionAttributes {
  float scale;
};

namespace linear_attention_detail {

/// A thread's scratch; rows of the state are `pitch` floats apart, so that vector code needs no remainders.
struct Buffers {
  std::int64_t pitch;
  float* state;
  float* value;  ///< one row each
  float* result;

  Buffers(ScratchPieces& pieces, std::int64_t key_size, std::int64_t value_size) noexcept
      : pitch(ceil_div(value_size, 16) * 16) {
    state = pieces.take<float>(key_size * pitch);
    value = pieces.take<float>(pitch);
    result = pieces.take<float>(pitch);
  }
};

/// One head of one sequence.
class Head {
 public:
  Head(const Work& work, const Buffers& buffers, std::int64_t batch, std::int64_t head) noexcept
      : work_(work), buffers_(buffers), keys_(work.in(1).dims[3]), values_(work.in(2).dims[3]), batch_(batch),
        head_(head) {}

  void run() noexcept {
    for (std::int64_t i = 0; i < keys_; ++i) {
      load_row(row(i), work_.has(3) ? &work_.in(3) : nullptr, i);
    }
    for (std::int64_t t = 0; t < work_.in(1).dims[1]; ++t) {
      update(t);
      read(t);
    }
    const TensorView& state = work_.out(1);
    for (std::int64_t i = 0; i < keys_; ++i) {
      float* const to = at<float>(state, head_, i);
      for (std::int64_t n = 0; n < values_; ++n) to[n * state.strides[3]] = row(i)[n];
    }
  }

 private:
  float* row(std::int64_t i) const noexcept { return buffers_.state + i * buffers_.pitch; }
  template <class T>
  T* at(const TensorView& view, std::int64_t second, std::int64_t third) const noexcept {
    return view.as<T>() + batch_ * view.strides[0] + second * view.strides[1] + third * view.strides[2];
  }
  /// to = view[batch, head, i, :], or zeros, and zeros up to the pitch.
  void load_row(float* to, const TensorView* view, std::int64_t i) const noexcept {
    for (std::int64_t n = 0; n < buffers_.pitch; ++n) to[n] = 0.0f;
    if (view == nullptr) return;
    const float* const from = at<const float>(*view, head_, i);
    for (std::int64_t n = 0; n < values_; ++n) to[n] = from[n * view->strides[3]];
  }

  void update(std::int64_t t) noexcept {
    const TensorView& k = work_.in(1);
    const TensorView& v = work_.in(2);
    const float* const key = at<const float>(k, t, head_);
    if (work_.has(4)) {
      const TensorView& decay = work_.in(4);
      const float* const rate = at<const float>(decay, t, head_);
      for (std::int64_t i = 0; i < keys_; ++i) {
        EDGERT_ISA_DISPATCH(work_.isa, scale_row(row(i), scalar::exp(rate[i * decay.strides[3]]), buffers_.pitch));
      }
    }
    float* const value = buffers_.value;
    const float* const from = at<const float>(v, t, head_);
    for (std::int64_t n = 0; n < buffers_.pitch; ++n) value[n] = n < values_ ? from[n * v.strides[3]] : 0.0f;
    if (work_.has(5)) {
      for (std::int64_t i = 0; i < keys_; ++i) {
        EDGERT_ISA_DISPATCH(work_.isa, add_scaled_row(value, row(i), -key[i * k.strides[3]], buffers_.pitch));
      }
      EDGERT_ISA_DISPATCH(work_.isa, scale_row(value, *at<const float>(work_.in(5), t, head_), buffers_.pitch));
    }
    for (std::int64_t i = 0; i < keys_; ++i) {
      EDGERT_ISA_DISPATCH(work_.isa, add_scaled_row(row(i), value, key[i * k.strides[3]], buffers_.pitch));
    }
  }

  void read(std::int64_t t) noexcept {
    const TensorView& q = work_.in(0);
    const TensorView& y = work_.out(0);
    const std::int64_t group = q.dims[2] / work_.in(1).dims[2];
    for (std::int64_t head = head_ * group; head < (head_ + 1) * group; ++head) {
      const float* const query = at<const float>(q, t, head);
      for (std::int64_t n = 0; n < buffers_.pitch; ++n) buffers_.result[n] = 0.0f;
      for (std::int64_t i = 0; i < keys_; ++i) {
        EDGERT_ISA_DISPATCH(work_.isa,
                            add_scaled_row(buffers_.result, row(i), query[i * q.strides[3]], buffers_.pitch));
      }
      float* const to = at<float>(y, t, head);
      const float scale = work_.as<LinearAttentionAttributes>().scale;
      for (std::int64_t n = 0; n < values_; ++n) to[n * y.strides[3]] = scale * buffers_.result[n];
    }
  }

  const Work& work_;
  const Buffers& buffers_;
  const std::int64_t keys_, values_;
  const std::int64_t batch_, head_;
};

inline bool has_dims(const TensorView& view, std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) noexcept {
  return is_f32(view, 4) && view.dims[0] == a && view.dims[1] == b && view.dims[2] == c && view.dims[3] == d;
}

}  // namespace linear_attention_detail

struct LinearAttention {
  static constexpr std::uint16_t kId = 83;
  static constexpr const char* kName = "LinearAttention";
  using Attributes = LinearAttentionAttributes;

  static const char* check(const Operands& operands) {
    using linear_attention_detail::has_dims;
    if (operands.inputs.size() != 6 || operands.outputs.size() != 2) return "wrong number of operands";
    const TensorView& q = operands.in(0);
    const TensorView& k = operands.in(1);
    const TensorView& v = operands.in(2);
    if (!is_f32(q, 4) || !is_f32(k, 4) || !is_f32(v, 4)) return "q, k, v: not f32 tensors of rank 4";
    for (std::uint32_t i = 0; i < 4; ++i) {
      if (k.dims[i] > kMaxDenseExtent || v.dims[i] > kMaxDenseExtent) return "k, v: extent too large";
    }
    const std::int64_t batch = k.dims[0], steps = k.dims[1], heads = k.dims[2], keys = k.dims[3], values = v.dims[3];
    if (heads < 1 || q.dims[2] % heads != 0) return "q: its heads are no multiple of k's";
    if (!has_dims(q, batch, steps, q.dims[2], keys) || !has_dims(v, batch, steps, heads, values)) {
      return "q, k, v: dims differ";
    }
    if (operands.has(3) && !has_dims(operands.in(3), batch, heads, keys, values)) return "past state: wrong dims";
    if (operands.has(4) && !has_dims(operands.in(4), batch, steps, heads, keys)) return "decay: wrong dims";
    if (operands.has(5)) {
      const TensorView& beta = operands.in(5);
      if (!is_f32(beta, 3) || beta.dims[0] != batch || beta.dims[1] != steps || beta.dims[2] != heads) {
        return "beta: wrong dims";
      }
    }
    if (!has_dims(operands.out(0), batch, steps, q.dims[2], values) || !is_writable(operands.out(0))) {
      return "y: wrong dims";
    }
    if (!has_dims(operands.out(1), batch, heads, keys, values) || !is_writable(operands.out(1))) {
      return "state: wrong dims";
    }
    return nullptr;
  }

  static std::uint64_t scratch_bytes(const Operands& operands) {
    ScratchPieces pieces(nullptr);
    static_cast<void>(linear_attention_detail::Buffers(pieces, operands.in(1).dims[3], operands.in(2).dims[3]));
    return pieces.used();
  }

  static Status run(const Work& work) {
    if (is_empty(work.out(0)) && is_empty(work.out(1))) return {};
    const TensorView& k = work.in(1);
    ScratchPieces pieces(work.scratch);
    const linear_attention_detail::Buffers buffers(pieces, k.dims[3], work.in(2).dims[3]);
    const PartRange range = part_range(k.dims[0] * k.dims[2], work.part, work.parts);
    for (std::int64_t item = range.begin; item < range.end; ++item) {
      linear_attention_detail::Head(work, buffers, item / k.dims[2], item % k.dims[2]).run();
    }
    return {};
  }
};

}  // namespace edgert::cpu
