// SPDX-License-Identifier: Apache-2.0
// The recurrent part of ONNX RNN, GRU and LSTM (one layer, one or both directions); the products of the inputs with
// their weights are a MatMul before it. D directions, G gates (1; z r h; i o f c), H hidden elements.
// Inputs: x [T, B, D, G * H] f32, what the inputs and all biases contribute to the gates (but 5); r [D * G, H, H] f32,
//   element [., k, n] the weight of hidden element k in gate element n, in format PanelF32x16 or strided;
//   initial hidden state [D, B, H] or absent; initial cell state [D, B, H] or absent (LSTM); peepholes [D, 3 * H] for
//   gates i o f or absent (LSTM); recurrent bias of the hidden gate [D, H] or absent (GRU with linear_before_reset);
//   lengths of the sequences [B] i32 or absent. A length outside 0 .. T is Error::IndexOutOfRange.
// Outputs: y [T, D, B, H], zero past a sequence's end; last hidden state [D, B, H]; last cell state [D, B, H] (LSTM).
// Any strides. Types: f32.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/dense_operands.h"
#include "edgert/cpu/isa/epilogue_kernels.h"
#include "edgert/cpu/isa/gemm_kernels.h"
#include "edgert/cpu/isa/recurrent_kernels.h"
#include "edgert/cpu/isa/scratch_pieces.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"
#include "edgert/scalar/pointwise_functions.h"

namespace edgert::cpu {

enum class RecurrentCell : std::uint8_t { Rnn = 0, Gru = 1, Lstm = 2 };
enum class RecurrentDirection : std::uint8_t { Forward = 0, Reverse = 1, Both = 2 };

struct RecurrentActivation {
  scalar::PointwiseOp op;
  std::uint8_t reserved[3];
  float alpha, beta;
};

struct RecurrentAttributes {
  RecurrentCell cell;
  RecurrentDirection direction;
  std::uint8_t linear_before_reset;  ///< GRU: the reset gate multiplies the product with r, not the hidden state
  std::uint8_t input_forget;         ///< LSTM: the forget gate is one minus the input gate
  float clip;                        ///< bounds what enters an activation; 0: no bound
  RecurrentActivation activation[2][3];  ///< of each direction, ONNX's f, g, h
};

namespace recurrent_detail {

inline constexpr std::int64_t kBlockRows = 32;  ///< sequences that advance together and share each read of r

constexpr std::int64_t gates_of(RecurrentCell cell) noexcept {
  return cell == RecurrentCell::Rnn ? 1 : cell == RecurrentCell::Gru ? 3 : 4;
}

struct Shape {
  std::int64_t steps, batch, directions, gates, hidden, pitch;

  explicit Shape(const Operands& operands) noexcept
      : steps(operands.in(0).dims[0]), batch(operands.in(0).dims[1]), directions(operands.in(0).dims[2]),
        gates(gates_of(operands.as<RecurrentAttributes>().cell)), hidden(operands.in(1).dims[1]),
        pitch(ceil_div(hidden, kPanelColumns) * kPanelColumns) {}
  std::int64_t rows() const noexcept { return batch < kBlockRows ? batch : kBlockRows; }
};

/// A thread's scratch. Rows are `pitch` floats apart, so that vector code needs no remainders.
struct Buffers {
  float* before[4];  ///< each gate's rows before its activation, and after it
  float* after[4];
  float* h;
  float* c;
  float* peepholes;  ///< three rows
  float* bias;
  float* zeros;
  float* panels;  ///< of all gates of a direction, where the plan holds r as a plain tensor
  const float** table;

  Buffers(ScratchPieces& pieces, const Shape& shape, bool packed) noexcept {
    const std::int64_t block = shape.rows() * shape.pitch;
    for (float*& gate : before) gate = pieces.take<float>(block);
    for (float*& gate : after) gate = pieces.take<float>(block);
    h = pieces.take<float>(block);
    c = pieces.take<float>(block);
    peepholes = pieces.take<float>(3 * shape.pitch);
    bias = pieces.take<float>(shape.pitch);
    zeros = pieces.take<float>(shape.pitch);
    panels = pieces.take<float>(packed ? 0 : shape.gates * shape.hidden * shape.pitch);
    table = pieces.take<const float*>(shape.rows());
  }
};

/// to[i] = from[i * stride] for i < n, then zeros up to `pitch`.
inline void load_row(float* to, const float* from, std::int64_t stride, std::int64_t n, std::int64_t pitch) noexcept {
  for (std::int64_t i = 0; i < n; ++i) to[i] = from[i * stride];
  for (std::int64_t i = n; i < pitch; ++i) to[i] = 0.0f;
}
/// to[i * stride] = from[i]; zeros for a null `from`.
inline void store_row(float* to, std::int64_t stride, const float* from, std::int64_t n) noexcept {
  for (std::int64_t i = 0; i < n; ++i) to[i * stride] = from == nullptr ? 0.0f : from[i];
}

/// One part's sequences.
class Recurrence {
 public:
  explicit Recurrence(const Work& work) noexcept
      : work_(work), attributes_(work.as<RecurrentAttributes>()), shape_(work),
        packed_(work.in(1).format == WeightFormat::PanelF32x16), pieces_(work.scratch),
        buffers_(pieces_, shape_, packed_) {}

  Status run() noexcept {
    const PartRange range = part_range(shape_.directions * shape_.batch, work_.part, work_.parts);
    load_row(buffers_.zeros, nullptr, 0, 0, shape_.pitch);
    std::int64_t loaded = -1;
    for (std::int64_t item = range.begin; item < range.end; item += rows_) {
      direction_ = item / shape_.batch;
      first_ = item % shape_.batch;
      const std::int64_t left = range.end - item < shape_.batch - first_ ? range.end - item : shape_.batch - first_;
      rows_ = left < shape_.rows() ? left : shape_.rows();
      if (loaded != direction_) load_direction();
      loaded = direction_;
      if (!lengths_fit()) return Error::IndexOutOfRange;
      load_states();
      for (std::int64_t step = 0; step < shape_.steps; ++step) advance(step);
      store_states();
    }
    return {};
  }

 private:
  bool reverse() const noexcept {
    return attributes_.direction == RecurrentDirection::Reverse || direction_ == 1;
  }
  std::int64_t length(std::int64_t row) const noexcept {
    if (!work_.has(6)) return shape_.steps;
    const TensorView& lengths = work_.in(6);
    return lengths.as<const std::int32_t>()[(first_ + row) * lengths.strides[0]];
  }
  bool lengths_fit() const noexcept {
    for (std::int64_t row = 0; row < rows_; ++row) {
      if (length(row) < 0 || length(row) > shape_.steps) return false;
    }
    return true;
  }
  bool is_active(std::int64_t row, std::int64_t step) const noexcept { return step < length(row); }
  /// Where in time a sequence is at its `step`; past its end, time itself.
  std::int64_t time(std::int64_t row, std::int64_t step) const noexcept {
    return reverse() && is_active(row, step) ? length(row) - 1 - step : step;
  }
  float* row_of(float* rows, std::int64_t row) const noexcept { return rows + row * shape_.pitch; }
  std::int64_t block() const noexcept { return rows_ * shape_.pitch; }

  /// What belongs to the direction alone: packed weights, peepholes, the recurrent bias.
  void load_direction() noexcept {
    const std::int64_t hidden = shape_.hidden;
    const std::int64_t pitch = shape_.pitch;
    const TensorView& r = work_.in(1);
    panels_ = r.as<const float>() + (packed_ ? direction_ * shape_.gates * hidden * pitch : 0);
    if (!packed_) {
      float* to = buffers_.panels;
      for (std::int64_t gate = 0; gate < shape_.gates; ++gate) {
        const float* from = r.as<const float>() + (direction_ * shape_.gates + gate) * r.strides[0];
        for (std::int64_t column = 0; column < pitch; column += kPanelColumns) {
          const std::int64_t width = hidden - column < kPanelColumns ? hidden - column : kPanelColumns;
          for (std::int64_t k = 0; k < hidden; ++k, to += kPanelColumns) {
            load_row(to, from + k * r.strides[1] + column * r.strides[2], r.strides[2], width, kPanelColumns);
          }
        }
      }
      panels_ = buffers_.panels;
    }
    if (work_.has(4)) {
      const TensorView& p = work_.in(4);
      for (std::int64_t gate = 0; gate < 3; ++gate) {
        load_row(buffers_.peepholes + gate * pitch,
                 p.as<const float>() + direction_ * p.strides[0] + gate * hidden * p.strides[1], p.strides[1], hidden,
                 pitch);
      }
    }
    if (work_.has(5)) {
      const TensorView& b = work_.in(5);
      load_row(buffers_.bias, b.as<const float>() + direction_ * b.strides[0], b.strides[1], hidden, pitch);
    } else {
      load_row(buffers_.bias, nullptr, 0, 0, pitch);
    }
  }

  float* state(const TensorView& view, std::int64_t row) const noexcept {
    return view.as<float>() + direction_ * view.strides[0] + (first_ + row) * view.strides[1];
  }
  void load_states() noexcept {
    for (std::int64_t row = 0; row < rows_; ++row) {
      for (std::size_t i = 0; i < 2; ++i) {
        float* const to = row_of(i == 0 ? buffers_.h : buffers_.c, row);
        const bool given = work_.has(2 + i);
        load_row(to, given ? state(work_.in(2 + i), row) : nullptr, given ? work_.in(2 + i).strides[2] : 0,
                 given ? shape_.hidden : 0, shape_.pitch);
      }
    }
  }
  void store_states() noexcept {
    for (std::int64_t row = 0; row < rows_; ++row) {
      for (std::size_t i = 0; i + 1 < work_.outputs.size(); ++i) {
        const TensorView& view = work_.out(1 + i);
        store_row(state(view, row), view.strides[2], row_of(i == 0 ? buffers_.h : buffers_.c, row), shape_.hidden);
      }
    }
  }

  void advance(std::int64_t step) noexcept {
    switch (attributes_.cell) {
      case RecurrentCell::Rnn: rnn(step); break;
      case RecurrentCell::Gru: gru(step); break;
      case RecurrentCell::Lstm: lstm(step); break;
    }
    const TensorView& y = work_.out(0);
    for (std::int64_t row = 0; row < rows_; ++row) {
      float* const to = y.as<float>() + time(row, step) * y.strides[0] + direction_ * y.strides[1] +
                        (first_ + row) * y.strides[2];
      store_row(to, y.strides[3], is_active(row, step) ? row_of(buffers_.h, row) : nullptr, shape_.hidden);
    }
  }

  /// Brings what the inputs contribute to `gate` into the rows `to`.
  void load_gate(std::int64_t gate, float* to, std::int64_t step) noexcept {
    const TensorView& x = work_.in(0);
    for (std::int64_t row = 0; row < rows_; ++row) {
      const float* const from = x.as<const float>() + time(row, step) * x.strides[0] + (first_ + row) * x.strides[1] +
                                direction_ * x.strides[2] + gate * shape_.hidden * x.strides[3];
      load_row(row_of(to, row), from, x.strides[3], shape_.hidden, shape_.pitch);
    }
  }

  /// y = init + rows . r[gate] (+ what y holds)
  void multiply(float* y, const float* rows, std::int64_t gate, const float* init, bool accumulate) noexcept {
    if (shape_.hidden == 0) return;
    const GemmShape tile = gemm_shape(work_.isa);
    const std::int64_t panel_floats = shape_.hidden * kPanelColumns;
    for (std::int64_t row = 0; row < rows_; ++row) buffers_.table[row] = rows + row * shape_.pitch;
    for (std::int64_t column = 0; column < shape_.pitch;) {
      const std::int64_t left = (shape_.pitch - column) / kPanelColumns;
      const int panels = left < tile.panels ? static_cast<int>(left) : tile.panels;
      for (std::int64_t row = 0; row < rows_; row += tile.rows) {
        const int height = rows_ - row < tile.rows ? static_cast<int>(rows_ - row) : tile.rows;
        float* const to = row_of(y, row) + column;
        const GemmTile job = {buffers_.table + row, 1, shape_.hidden,
                              panels_ + gate * shape_.hidden * shape_.pitch + column / kPanelColumns * panel_floats,
                              panel_floats, init + column, to, shape_.pitch, accumulate ? to : nullptr, shape_.pitch,
                              -scalar::infinity_f32(), scalar::infinity_f32()};
        EDGERT_ISA_DISPATCH(work_.isa, gemm_tile(height, panels, false, job));
      }
      column += panels * kPanelColumns;
    }
  }

  void clip(float* rows) noexcept {
    if (attributes_.clip > 0.0f) {
      EDGERT_ISA_DISPATCH(work_.isa, limit_rows(rows, rows, attributes_.clip, block()));
    }
  }
  /// y = activation(x); not in place.
  void activate(float* y, const float* x, int which) noexcept {
    const RecurrentActivation& a = attributes_.activation[direction_][which];
    const scalar::Epilogue epilogue = {a.op, scalar::ResidualMode::None, {}, a.alpha, a.beta};
    const FinishRows job = {x, shape_.pitch, y, shape_.pitch, nullptr, 0, rows_, shape_.pitch, epilogue};
    EDGERT_ISA_DISPATCH(work_.isa, finish_rows(job));
  }
  void finish_gate(int gate, int which) noexcept {
    clip(buffers_.before[gate]);
    activate(buffers_.after[gate], buffers_.before[gate], which);
  }
  /// function(row's offset in the rows) for the sequences that are not over.
  template <class Function>
  void for_active(std::int64_t step, Function function) noexcept {
    for (std::int64_t row = 0; row < rows_; ++row) {
      if (is_active(row, step)) function(row * shape_.pitch);
    }
  }

  void rnn(std::int64_t step) noexcept {
    load_gate(0, buffers_.before[0], step);
    multiply(buffers_.before[0], buffers_.h, 0, buffers_.zeros, true);
    finish_gate(0, 0);
    for_active(step, [&](std::int64_t at) {
      load_row(buffers_.h + at, buffers_.after[0] + at, 1, shape_.pitch, shape_.pitch);
    });
  }

  void gru(std::int64_t step) noexcept {
    enum { kUpdate = 0, kReset = 1, kHidden = 2, kSpare = 3 };
    float* const* const before = buffers_.before;
    float* const* const after = buffers_.after;
    for (const int gate : {kUpdate, kReset}) {
      load_gate(gate, before[gate], step);
      multiply(before[gate], buffers_.h, gate, buffers_.zeros, true);
      finish_gate(gate, 0);
    }
    load_gate(kHidden, before[kHidden], step);
    if (attributes_.linear_before_reset != 0) {
      multiply(after[kSpare], buffers_.h, kHidden, buffers_.bias, false);
      EDGERT_ISA_DISPATCH(work_.isa, accumulate_rows(before[kHidden], after[kReset], after[kSpare], block()));
    } else {
      EDGERT_ISA_DISPATCH(work_.isa, multiply_rows(after[kSpare], after[kReset], buffers_.h, block()));
      multiply(before[kHidden], after[kSpare], kHidden, buffers_.zeros, true);
    }
    finish_gate(kHidden, 1);
    EDGERT_ISA_DISPATCH(work_.isa, complement_rows(after[kSpare], after[kUpdate], block()));
    for_active(step, [&](std::int64_t at) {
      EDGERT_ISA_DISPATCH(work_.isa, blend_rows(buffers_.h + at, after[kHidden] + at, after[kSpare] + at,
                                                after[kUpdate] + at, shape_.pitch));
    });
  }

  void add_peephole(float* gate, int which) noexcept {
    if (!work_.has(4)) return;
    for (std::int64_t row = 0; row < rows_; ++row) {
      EDGERT_ISA_DISPATCH(work_.isa, accumulate_rows(row_of(gate, row), buffers_.peepholes + which * shape_.pitch,
                                                     row_of(buffers_.c, row), shape_.pitch));
    }
  }

  void lstm(std::int64_t step) noexcept {
    enum { kInput = 0, kOutput = 1, kForget = 2, kCell = 3 };
    float* const* const before = buffers_.before;
    float* const* const after = buffers_.after;
    for (const int gate : {kInput, kOutput, kForget, kCell}) {
      load_gate(gate, before[gate], step);
      multiply(before[gate], buffers_.h, gate, buffers_.zeros, true);
    }
    add_peephole(before[kInput], kInput);
    finish_gate(kInput, 0);
    if (attributes_.input_forget != 0) {
      EDGERT_ISA_DISPATCH(work_.isa, complement_rows(after[kForget], after[kInput], block()));
    } else {
      add_peephole(before[kForget], kForget);
      finish_gate(kForget, 0);
    }
    finish_gate(kCell, 1);
    for_active(step, [&](std::int64_t at) {
      EDGERT_ISA_DISPATCH(work_.isa, blend_rows(buffers_.c + at, after[kInput] + at, after[kCell] + at,
                                                after[kForget] + at, shape_.pitch));
    });
    add_peephole(before[kOutput], kOutput);
    finish_gate(kOutput, 0);
    const float limit = attributes_.clip > 0.0f ? attributes_.clip : scalar::infinity_f32();
    EDGERT_ISA_DISPATCH(work_.isa, limit_rows(before[kCell], buffers_.c, limit, block()));
    activate(after[kCell], before[kCell], 2);
    for_active(step, [&](std::int64_t at) {
      EDGERT_ISA_DISPATCH(work_.isa,
                          multiply_rows(buffers_.h + at, after[kOutput] + at, after[kCell] + at, shape_.pitch));
    });
  }

  const Work& work_;
  const RecurrentAttributes& attributes_;
  const Shape shape_;
  const bool packed_;
  ScratchPieces pieces_;
  const Buffers buffers_;
  const float* panels_ = nullptr;
  std::int64_t direction_ = 0;
  std::int64_t first_ = 0;  ///< the block's sequences: first_ .. first_ + rows_ - 1 of the batch
  std::int64_t rows_ = 0;
};

inline bool is_state(const TensorView& view, std::int64_t a, std::int64_t b, std::int64_t c) noexcept {
  return is_f32(view, 3) && view.dims[0] == a && view.dims[1] == b && view.dims[2] == c;
}
inline bool is_matrix(const TensorView& view, std::int64_t a, std::int64_t b) noexcept {
  return is_f32(view, 2) && view.dims[0] == a && view.dims[1] == b;
}

}  // namespace recurrent_detail

struct Recurrent {
  static constexpr std::uint16_t kId = 80;
  static constexpr const char* kName = "Recurrent";
  using Attributes = RecurrentAttributes;

  static const char* check(const Operands& operands) {
    using namespace recurrent_detail;
    const RecurrentAttributes& attributes = operands.as<RecurrentAttributes>();
    if (attributes.cell > RecurrentCell::Lstm || attributes.direction > RecurrentDirection::Both) return "unknown cell";
    const bool lstm = attributes.cell == RecurrentCell::Lstm;
    if (operands.inputs.size() != 7 || operands.outputs.size() != (lstm ? 3u : 2u)) return "wrong number of operands";
    if (!is_f32(operands.in(0), 4)) return "x: not an f32 tensor of rank 4";
    const TensorView& r = operands.in(1);
    if (r.dtype != DType::F32 || r.rank != 3 ||
        (r.format != WeightFormat::Strided && r.format != WeightFormat::PanelF32x16)) {
      return "r: not an f32 tensor of rank 3";
    }
    const Shape shape(operands);
    if (shape.steps > kMaxDenseExtent || shape.batch > kMaxDenseExtent || shape.hidden > kMaxDenseExtent) {
      return "x: extent too large";
    }
    if (shape.directions != (attributes.direction == RecurrentDirection::Both ? 2 : 1)) return "x: wrong directions";
    if (operands.in(0).dims[3] != shape.gates * shape.hidden) return "x: wrong gates";
    if (r.dims[0] != shape.directions * shape.gates || r.dims[2] != shape.hidden) return "r: not [D * G, H, H]";
    for (std::size_t i = 2; i < 4; ++i) {
      if (operands.has(i) && !is_state(operands.in(i), shape.directions, shape.batch, shape.hidden)) {
        return "initial state: not [D, B, H]";
      }
    }
    if (operands.has(4) && !is_matrix(operands.in(4), shape.directions, 3 * shape.hidden)) {
      return "peepholes: not [D, 3 * H]";
    }
    if (operands.has(5) && !is_matrix(operands.in(5), shape.directions, shape.hidden)) {
      return "recurrent bias: not [D, H]";
    }
    if (operands.has(6)) {
      const TensorView& lengths = operands.in(6);
      if (!is_plain(lengths) || lengths.dtype != DType::I32 || lengths.rank != 1 || lengths.dims[0] != shape.batch) {
        return "lengths: not [B] of int32";
      }
    }
    const TensorView& y = operands.out(0);
    if (!is_f32(y, 4) || y.dims[0] != shape.steps || y.dims[1] != shape.directions || y.dims[2] != shape.batch ||
        y.dims[3] != shape.hidden || !is_writable(y)) {
      return "y: not [T, D, B, H]";
    }
    for (std::size_t i = 1; i < operands.outputs.size(); ++i) {
      if (!is_state(operands.out(i), shape.directions, shape.batch, shape.hidden) || !is_writable(operands.out(i))) {
        return "last state: not [D, B, H]";
      }
    }
    for (const auto& direction : attributes.activation) {
      for (const RecurrentActivation& activation : direction) {
        if (scalar::arity(activation.op) != 1 || !scalar::has_float_form(activation.op)) return "not an activation";
      }
    }
    return nullptr;
  }

  static std::uint64_t scratch_bytes(const Operands& operands) {
    ScratchPieces pieces(nullptr);
    static_cast<void>(recurrent_detail::Buffers(pieces, recurrent_detail::Shape(operands),
                                                operands.in(1).format == WeightFormat::PanelF32x16));
    return pieces.used();
  }

  static Status run(const Work& work) {
    if (is_empty(work.out(1))) return {};
    return recurrent_detail::Recurrence(work).run();
  }
};

}  // namespace edgert::cpu
