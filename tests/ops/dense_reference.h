// SPDX-License-Identifier: Apache-2.0
// What the tests of the dense kernels share: tensors with any strides in exactly sized memory (so that a sanitizer sees
// every stray access), the epilogue in double precision, and running an operator as the runtime does.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "edgert/cpu/isa/detect.h"
#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace dense_test {

using edgert::DType;
using edgert::TensorView;
using edgert::WeightFormat;
using edgert::cpu::Isa;
using edgert::scalar::Epilogue;
using edgert::scalar::PointwiseOp;
using edgert::scalar::ResidualMode;
using Index = std::vector<std::int64_t>;

/// Deterministic numbers in [-1, 1).
class Random {
 public:
  explicit Random(std::uint32_t seed) : state_(seed * 2654435761u + 1u) {}
  float next() {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<float>(state_ >> 8) * (2.0f / 16777216.0f) - 1.0f;
  }

 private:
  std::uint32_t state_;
};

struct Tensor {
  Index dims, strides;
  WeightFormat format = WeightFormat::Strided;
  std::vector<float> data;

  TensorView view(bool with_data = true) {
    TensorView v;
    v.data = with_data ? data.data() : nullptr;
    v.dtype = DType::F32;
    v.format = format;
    v.rank = static_cast<std::uint8_t>(dims.size());
    for (std::size_t i = 0; i < dims.size(); ++i) {
      v.dims[i] = dims[i];
      v.strides[i] = strides[i];
    }
    return v;
  }
  std::size_t at(const Index& index) const {
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < index.size(); ++i) offset += index[i] * strides[i];
    return static_cast<std::size_t>(offset);
  }
};

/// Fills a tensor whose last element ends the memory.
inline Tensor strided(const Index& dims, const Index& strides, std::uint32_t seed) {
  Tensor t{dims, strides, WeightFormat::Strided, {}};
  std::int64_t last = 0;
  bool empty = false;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    empty = empty || dims[i] == 0;
    last += (dims[i] - 1) * strides[i];
  }
  t.data.resize(empty ? 0 : static_cast<std::size_t>(last + 1));
  Random random(seed);
  for (float& value : t.data) value = random.next();
  return t;
}

inline Tensor dense(const Index& dims, std::uint32_t seed) {
  Index strides(dims.size());
  std::int64_t step = 1;
  for (std::size_t i = dims.size(); i-- > 0; step *= dims[i]) strides[i] = step;
  return strided(dims, strides, seed);
}

/// [N, C, H, W], channels last, each pixel `pitch` floats after the one before it.
inline Tensor image(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t pitch,
                    std::uint32_t seed, std::int64_t row_gap = 0) {
  const std::int64_t row = w * pitch + row_gap;
  return strided({n, c, h, w}, {h * row, 1, row, pitch}, seed);
}

/// Packs element(group, k, column) as WeightFormat::PanelF32x16.
inline Tensor panels(std::int64_t groups, std::int64_t depth, std::int64_t columns,
                     const std::function<float(std::int64_t, std::int64_t, std::int64_t)>& element) {
  Tensor t{{groups, depth, columns}, {0, 0, 0}, WeightFormat::PanelF32x16, {}};
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t first = 0; first < columns; first += 16) {
      for (std::int64_t k = 0; k < depth; ++k) {
        for (std::int64_t c = first; c < first + 16; ++c) t.data.push_back(c < columns ? element(g, k, c) : 0.0f);
      }
    }
  }
  return t;
}

inline double activation(PointwiseOp op, double x, double alpha, double beta) {
  const auto clamp = [](double v, double low, double high) { return v < low ? low : v > high ? high : v; };
  switch (op) {
    case PointwiseOp::Identity: return x;
    case PointwiseOp::Relu: return x < 0 ? 0 : x;
    case PointwiseOp::Clip: return clamp(x, alpha, beta);
    case PointwiseOp::LeakyRelu: return x < 0 ? alpha * x : x;
    case PointwiseOp::HardSigmoid: return clamp(alpha * x + beta, 0, 1);
    case PointwiseOp::HardSwish: return x * clamp(x / 6 + 0.5, 0, 1);
    case PointwiseOp::Sigmoid: return 1 / (1 + std::exp(-x));
    case PointwiseOp::Tanh: return std::tanh(x);
    case PointwiseOp::Silu: return x / (1 + std::exp(-x));
    case PointwiseOp::Elu: return x < 0 ? alpha * std::expm1(x) : x;
    case PointwiseOp::Gelu: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case PointwiseOp::GeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case PointwiseOp::Softplus: return std::log1p(std::exp(x));
    case PointwiseOp::Mish: return x * std::tanh(std::log1p(std::exp(x)));
    default: FAIL("no reference for this activation"); return 0;
  }
}

inline double finished(const Epilogue& epilogue, double sum, double residual) {
  if (epilogue.residual == ResidualMode::BeforeActivation) sum += residual;
  const double value =
      activation(epilogue.activation, sum, static_cast<double>(epilogue.alpha), static_cast<double>(epilogue.beta));
  return epilogue.residual == ResidualMode::AfterActivation ? value + residual : value;
}

inline std::vector<Epilogue> all_epilogues() {
  std::vector<Epilogue> list;
  const auto add = [&](PointwiseOp op, float alpha, float beta) {
    for (const ResidualMode mode :
         {ResidualMode::None, ResidualMode::BeforeActivation, ResidualMode::AfterActivation}) {
      list.push_back({op, mode, {0, 0}, alpha, beta});
    }
  };
  add(PointwiseOp::Identity, 0, 0);
  add(PointwiseOp::Relu, 0, 0);
  add(PointwiseOp::Clip, -0.5f, 0.75f);
  add(PointwiseOp::LeakyRelu, 0.1f, 0);
  add(PointwiseOp::HardSigmoid, 0.2f, 0.5f);
  add(PointwiseOp::HardSwish, 0, 0);
  add(PointwiseOp::Sigmoid, 0, 0);
  add(PointwiseOp::Tanh, 0, 0);
  add(PointwiseOp::Silu, 0, 0);
  add(PointwiseOp::Elu, 0.7f, 0);
  add(PointwiseOp::Gelu, 0, 0);
  add(PointwiseOp::GeluTanh, 0, 0);
  add(PointwiseOp::Softplus, 0, 0);
  add(PointwiseOp::Mish, 0, 0);
  return list;
}

inline constexpr Epilogue kNoEpilogue = {PointwiseOp::Identity, ResidualMode::None, {0, 0}, 0.0f, 0.0f};

/// The instruction sets that this machine runs.
inline std::vector<Isa> isas() {
  std::vector<Isa> list = {Isa::Baseline};
  const Isa best = edgert::cpu::detect_isa();
  if (best >= Isa::Avx2) list.push_back(Isa::Avx2);
  if (best >= Isa::Avx512) list.push_back(Isa::Avx512);
  return list;
}

/// Operands that own their list of views. A null tensor is an absent operand.
class Call {
 public:
  Call(const std::vector<Tensor*>& inputs, Tensor& output, bool with_data = true) {
    for (Tensor* t : inputs) views_.push_back(t == nullptr ? TensorView{} : t->view(with_data));
    views_.push_back(output.view(with_data));
  }
  TensorView& input(std::size_t i) { return views_[i]; }
  TensorView& output() { return views_.back(); }

  template <class Attributes>
  edgert::cpu::Work work(const Attributes& attributes) {
    pointers_.clear();
    for (const TensorView& v : views_) pointers_.push_back(&v);
    edgert::cpu::Work work;
    work.inputs = {pointers_.data(), pointers_.size() - 1};
    work.outputs = {pointers_.data() + pointers_.size() - 1, 1};
    work.attributes = &attributes;
    work.attribute_bytes = sizeof(Attributes);
    return work;
  }

 private:
  std::vector<TensorView> views_;
  std::vector<const TensorView*> pointers_;
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

/// Checks, then runs every part, the last one first, with exactly the scratch that the operator asked for, full of NaN.
template <class Op>
void run(const std::vector<Tensor*>& inputs, Tensor& output, const typename Op::Attributes& attributes, Isa isa,
         std::uint32_t parts) {
  Call checked(inputs, output, false);
  const char* reason = Op::check(checked.work(attributes));
  REQUIRE_MESSAGE(reason == nullptr, reason);
  const std::size_t bytes = Op::scratch_bytes(checked.work(attributes));
  Call call(inputs, output);
  edgert::cpu::Work work = call.work(attributes);
  work.parts = parts;
  work.isa = isa;
  for (std::uint32_t part = parts; part-- > 0;) {
    std::unique_ptr<void, Free> scratch(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
    if (bytes != 0) std::memset(scratch.get(), 0xff, bytes);
    work.part = part;
    work.scratch = scratch.get();
    REQUIRE(Op::run(work).ok());
  }
}

/// Runs `Op` on every instruction set, in one part and in five, and compares with `expected(index)`; `magnitude` bounds
/// the sum of the absolute products of an element. What lies between the elements of y must stay as it was. In place,
/// y's memory starts with the residual's values.
template <class Op>
void compare(const std::vector<Tensor*>& inputs, const Tensor& y, const typename Op::Attributes& attributes,
             const std::function<double(const Index&)>& expected, double magnitude, bool in_place = false) {
  std::vector<double> reference(y.data.size(), 0.0);
  std::vector<char> written(y.data.size(), 0);
  Index index(y.dims.size(), 0);
  bool more = !y.data.empty();
  while (more) {
    const std::size_t at = y.at(index);
    reference[at] = expected(index);
    written[at] = 1;
    more = false;
    for (std::size_t i = index.size(); i-- > 0 && !more;) {
      more = ++index[i] < y.dims[i];
      if (!more) index[i] = 0;
    }
  }
  for (const Isa isa : isas()) {
    std::vector<float> first;
    for (const std::uint32_t parts : {1u, 5u}) {
      Tensor result = y;
      std::vector<Tensor*> used = inputs;
      if (in_place) used.back() = &result;
      run<Op>(used, result, attributes, isa, parts);
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < result.data.size(); ++i) {
        const double got = static_cast<double>(result.data[i]);
        if (written[i] == 0) {
          wrong += result.data[i] == y.data[i] ? 0 : 1;
        } else {
          const double tolerance = 1e-6 * (magnitude + 4) + 2e-6 * std::fabs(reference[i]);
          wrong += std::fabs(got - reference[i]) <= tolerance ? 0 : 1;
        }
      }
      CHECK_MESSAGE(wrong == 0, wrong << " wrong elements, isa " << int(isa) << ", parts " << parts);
      if (parts == 1) {
        first = result.data;
      } else if (!first.empty()) {
        CHECK(std::memcmp(first.data(), result.data.data(), first.size() * sizeof(float)) == 0);
      }
    }
  }
}

/// Changes a few numbers of a valid call, as a hostile plan could, and runs whatever check() still accepts in exactly
/// sized memory: a sanitizer sees if that leaves an operand. `spoil` may change the attributes.
template <class Op>
void run_hostile(const std::vector<Tensor*>& inputs, Tensor& output, const typename Op::Attributes& attributes,
                 const std::function<void(typename Op::Attributes&, const std::function<std::int64_t()>&)>& spoil) {
  Random random(7);
  const auto below = [&](std::int64_t limit) {
    return static_cast<std::int64_t>((static_cast<double>(random.next()) + 1.0) * 0.5 * static_cast<double>(limit));
  };
  const auto number = [&] {
    constexpr std::int64_t kNumbers[] = {0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 33, 36, 72, 288};
    return kNumbers[below(16)];
  };
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    Call call(inputs, output, false);
    typename Op::Attributes spoiled = attributes;
    for (std::int64_t change = below(4); change >= 0; --change) {
      const std::int64_t which = below(static_cast<std::int64_t>(inputs.size()) + 2);
      if (which == static_cast<std::int64_t>(inputs.size()) + 1) {
        spoil(spoiled, number);
        continue;
      }
      TensorView& view = call.input(static_cast<std::size_t>(which));  // the last one is the output
      const std::int64_t dim = below(4);
      (below(2) == 0 ? view.dims : view.strides)[dim] = number();
    }
    std::vector<std::unique_ptr<void, Free>> memory;
    const auto allocate = [&](std::uint64_t bytes) {
      memory.emplace_back(std::malloc(bytes == 0 ? 1 : bytes));
      std::memset(memory.back().get(), 0, bytes);
      return memory.back().get();
    };
    bool valid = true;  // what the plan's rules guarantee
    std::uint64_t bytes[16] = {};
    for (std::size_t i = 0; i <= inputs.size(); ++i) {
      valid = valid && edgert::span_bytes(call.input(i), bytes[i]) && bytes[i] < 1 << 22;
    }
    edgert::cpu::Work work = call.work(spoiled);
    if (!valid || Op::check(work) != nullptr) continue;
    ++accepted;
    for (std::size_t i = 0; i <= inputs.size(); ++i) call.input(i).data = allocate(bytes[i]);
    const std::uint64_t scratch = Op::scratch_bytes(work);
    std::unique_ptr<void, Free> aligned(std::aligned_alloc(64, (scratch + 63) / 64 * 64));
    work.scratch = aligned.get();
    work.parts = 2;
    const std::vector<Isa> available = isas();
    work.isa = available[static_cast<std::size_t>(below(static_cast<std::int64_t>(available.size())))];
    for (work.part = 0; work.part < 2; ++work.part) REQUIRE(Op::run(work).ok());
  }
  CHECK(accepted > 500);
}

}  // namespace dense_test
