// SPDX-License-Identifier: Apache-2.0
// Help for the tests of single operators: tensors in any memory layout, in storage of exactly their size (so that
// AddressSanitizer sees a step outside), and a call that runs an operator as a session would, on every instruction set
// and both in one part and in several, demanding the same bits.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "edgert/cpu/isa/detect.h"
#include "edgert/cpu/operator.h"
#include "edgert/scalar/convert.h"
#include "edgert/types.h"

namespace edgert::test {

using Dims = std::vector<std::int64_t>;

enum class Order { RowMajor, ChannelsLast, Reversed };

/// A tensor and the bytes that it lies in.
class Tensor {
 public:
  /// `gap` elements are left free after each innermost row; dimensions in the set `broadcast` get stride 0.
  explicit Tensor(DType dtype, const Dims& dims, Order order = Order::RowMajor, std::int64_t gap = 0,
                  unsigned broadcast = 0) {
    view_.dtype = dtype;
    view_.rank = static_cast<std::uint8_t>(dims.size());
    std::vector<std::size_t> memory;  // innermost first
    for (std::size_t i = dims.size(); i-- > 0;) memory.push_back(i);
    if (order == Order::Reversed) memory = std::vector<std::size_t>(memory.rbegin(), memory.rend());
    if (order == Order::ChannelsLast && dims.size() >= 2) {
      for (std::size_t k = memory.size() - 2; k > 0; --k) std::swap(memory[k], memory[k - 1]);
    }
    std::int64_t stride = 1;
    for (std::size_t k = 0; k < memory.size(); ++k) {
      const std::size_t i = memory[k];
      view_.dims[i] = dims[i];
      view_.strides[i] = (broadcast >> i & 1u) != 0 ? 0 : stride;
      if ((broadcast >> i & 1u) == 0) stride *= dims[i];
      if (k == 0) stride += gap;
    }
    std::uint64_t bytes = 0;
    REQUIRE(span_bytes(view_, bytes));
    bytes_ = static_cast<std::size_t>(bytes);
    storage_ = std::shared_ptr<void>(std::malloc(bytes_ == 0 ? 1 : bytes_), std::free);
    std::memset(storage_.get(), 0x5a, bytes_);
    view_.data = storage_.get();
  }

  const TensorView& view() const { return view_; }
  TensorView& view() { return view_; }
  std::size_t bytes() const { return bytes_; }
  std::int64_t elements() const { return view_.elements(); }

  /// Element offset of the element with row-major number `i`.
  std::int64_t offset(std::int64_t i) const {
    std::int64_t offset = 0;
    for (std::uint32_t d = view_.rank; d-- > 0;) {
      offset += i % view_.dims[d] * view_.strides[d];
      i /= view_.dims[d];
    }
    return offset;
  }

  double get(std::int64_t i) const {
    switch (view_.dtype) {
      case DType::F32: return static_cast<double>(load<float>(i));
      case DType::F64: return load<double>(i);
      case DType::F16: return static_cast<double>(scalar::to_float(load<scalar::Half>(i)));
      case DType::BF16: return static_cast<double>(scalar::to_float(load<scalar::BFloat16>(i)));
      case DType::U64: return static_cast<double>(load<std::uint64_t>(i));
      default: return static_cast<double>(get_int(i));
    }
  }
  /// The integer, or the bits of a floating-point element.
  std::int64_t get_int(std::int64_t i) const {
    switch (view_.dtype) {
      case DType::I8: return load<std::int8_t>(i);
      case DType::U8: case DType::Bool: return load<std::uint8_t>(i);
      case DType::I16: return load<std::int16_t>(i);
      case DType::U16: case DType::F16: case DType::BF16: return load<std::uint16_t>(i);
      case DType::I32: return load<std::int32_t>(i);
      case DType::U32: case DType::F32: return load<std::uint32_t>(i);
      default: return load<std::int64_t>(i);
    }
  }
  void set(std::int64_t i, double value) {
    switch (view_.dtype) {
      case DType::F32: return store(i, static_cast<float>(value));
      case DType::F64: return store(i, value);
      case DType::F16: return store(i, scalar::to_half(static_cast<float>(value)));
      case DType::BF16: return store(i, scalar::to_bfloat16(static_cast<float>(value)));
      default: return set_int(i, static_cast<std::int64_t>(value));
    }
  }
  void set_int(std::int64_t i, std::int64_t value) {
    switch (bits_of(view_.dtype)) {
      case 8: return store(i, static_cast<std::uint8_t>(value));
      case 16: return store(i, static_cast<std::uint16_t>(value));
      case 32: return store(i, static_cast<std::uint32_t>(value));
      default: return store(i, value);
    }
  }
  /// Uniform random values; whole numbers for integer types.
  Tensor& fill(std::mt19937& random, double low, double high) {
    std::uniform_real_distribution<double> uniform(low, high);
    for (std::int64_t i = 0; i < elements(); ++i) set(i, uniform(random));
    return *this;
  }
  /// Every bit random.
  Tensor& fill_bits(std::mt19937& random) {
    unsigned char* const bytes = static_cast<unsigned char*>(storage_.get());
    for (std::size_t i = 0; i < bytes_; ++i) bytes[i] = static_cast<unsigned char>(random());
    return *this;
  }
  /// A copy with its own storage.
  Tensor clone() const {
    Tensor copy = *this;
    copy.storage_ = std::shared_ptr<void>(std::malloc(bytes_ == 0 ? 1 : bytes_), std::free);
    std::memcpy(copy.storage_.get(), storage_.get(), bytes_);
    copy.view_.data = copy.storage_.get();
    return copy;
  }
  bool same_bytes(const Tensor& other) const {
    return bytes_ == other.bytes_ && std::memcmp(storage_.get(), other.storage_.get(), bytes_) == 0;
  }

 private:
  template <class T>
  T load(std::int64_t i) const {
    T value;
    std::memcpy(&value, static_cast<const T*>(view_.data) + offset(i), sizeof(T));
    return value;
  }
  template <class T>
  void store(std::int64_t i, T value) {
    std::memcpy(static_cast<T*>(view_.data) + offset(i), &value, sizeof(T));
  }

  TensorView view_;
  std::shared_ptr<void> storage_;
  std::size_t bytes_ = 0;
};

/// An absent optional input.
inline TensorView absent() { return TensorView{}; }

/// Operands on views that outlive the call.
class Call {
 public:
  Call(std::vector<TensorView> inputs, std::vector<TensorView> outputs, const void* attributes)
      : inputs_(std::move(inputs)), outputs_(std::move(outputs)), attributes_(attributes) {
    for (const TensorView& view : inputs_) input_pointers_.push_back(&view);
    for (const TensorView& view : outputs_) output_pointers_.push_back(&view);
  }
  Call(const Call&) = delete;
  cpu::Operands operands() const {
    cpu::Operands operands;
    fill(operands);
    return operands;
  }
  void fill(cpu::Operands& operands) const {
    operands.inputs = {input_pointers_.data(), input_pointers_.size()};
    operands.outputs = {output_pointers_.data(), output_pointers_.size()};
    operands.attributes = attributes_;
  }

 private:
  std::vector<TensorView> inputs_;
  std::vector<TensorView> outputs_;
  std::vector<const TensorView*> input_pointers_;
  std::vector<const TensorView*> output_pointers_;
  const void* attributes_;
};

template <class Op>
const char* check(const std::vector<TensorView>& inputs, const TensorView& output,
                  const typename Op::Attributes& attributes) {
  const Call call(inputs, {output}, &attributes);
  return Op::check(call.operands());
}

/// One run in `parts` parts; the first error of any part.
template <class Op>
Status run_parts(const std::vector<TensorView>& inputs, const std::vector<TensorView>& outputs,
                 const typename Op::Attributes& attributes, cpu::Isa isa, std::uint32_t parts) {
  alignas(16) const typename Op::Attributes aligned = attributes;
  const Call call(inputs, outputs, &aligned);
  const char* wrong = Op::check(call.operands());
  REQUIRE_MESSAGE(wrong == nullptr, (wrong == nullptr ? "" : wrong));
  const std::size_t scratch = static_cast<std::size_t>(Op::scratch_bytes(call.operands()));
  Status first;
  for (std::uint32_t part = 0; part < parts; ++part) {
    const std::shared_ptr<void> memory(std::aligned_alloc(64, (scratch + 127) / 64 * 64), std::free);
    std::memset(memory.get(), 0xa5, (scratch + 127) / 64 * 64);
    cpu::Work work;
    call.fill(work);
    work.part = part;
    work.parts = parts;
    work.isa = isa;
    work.scratch = memory.get();
    const Status status = Op::run(work);
    if (first.ok()) first = status;
  }
  return first;
}
template <class Op>
Status run(const std::vector<TensorView>& inputs, const TensorView& output, const typename Op::Attributes& attributes,
           cpu::Isa isa, std::uint32_t parts) {
  return run_parts<Op>(inputs, {output}, attributes, isa, parts);
}

inline std::vector<cpu::Isa> supported_isas() {
  std::vector<cpu::Isa> isas = {cpu::Isa::Baseline};
  if (cpu::detect_isa() >= cpu::Isa::Avx2) isas.push_back(cpu::Isa::Avx2);
  if (cpu::detect_isa() >= cpu::Isa::Avx512) isas.push_back(cpu::Isa::Avx512);
  return isas;
}

/// Runs on every instruction set, in 1, 4 and 7 parts, and calls `verify()` after each; the parts must not matter.
template <class Op, class Verify>
void run_everywhere(const std::vector<TensorView>& inputs, Tensor& output, const typename Op::Attributes& attributes,
                    Verify verify) {
  const Tensor untouched = output.clone();
  for (const cpu::Isa isa : supported_isas()) {
    Tensor whole = output;
    for (const std::uint32_t parts : {1u, 4u, 7u}) {
      std::memcpy(output.view().data, untouched.view().data, output.bytes());
      CAPTURE(static_cast<int>(isa));
      CAPTURE(parts);
      REQUIRE(run<Op>(inputs, output.view(), attributes, isa, parts).ok());
      if (parts == 1) {
        whole = output.clone();
        verify();
      } else {
        CHECK(output.same_bytes(whole));
      }
    }
  }
}

/// |got - expected| <= absolute + relative * |expected|, with equal infinities and NaNs.
inline bool close(double got, double expected, double absolute, double relative) {
  if (std::isnan(expected) || std::isnan(got)) return std::isnan(expected) && std::isnan(got);
  if (std::isinf(expected) || std::isinf(got)) return got == expected;
  return std::abs(got - expected) <= absolute + relative * std::abs(expected);
}

/// Row-major index of element `i` of `dims`.
inline Dims unravel(std::int64_t i, const Dims& dims) {
  Dims index(dims.size());
  for (std::size_t d = dims.size(); d-- > 0;) {
    index[d] = i % dims[d];
    i /= dims[d];
  }
  return index;
}
inline std::int64_t ravel(const Dims& index, const Dims& dims) {
  std::int64_t i = 0;
  for (std::size_t d = 0; d < dims.size(); ++d) i = i * dims[d] + index[d];
  return i;
}

/// A view with any dims, strides and type that the loader would let through, in storage of exactly its size.
inline std::shared_ptr<void> random_view(std::mt19937& random, const TensorView* like, TensorView& view) {
  const auto pick = [&](auto... values) {
    const std::int64_t all[] = {static_cast<std::int64_t>(values)...};
    return all[random() % (sizeof...(values))];
  };
  for (;;) {
    const bool alike = like != nullptr && random() % 4 != 0;
    view = alike ? *like : TensorView{};
    if (!alike || random() % 8 == 0) view.dtype = static_cast<DType>(pick(1, 1, 1, 1, 5, 11, 13, 2, 4, random() % 17));
    if (!alike) view.rank = static_cast<std::uint8_t>(pick(4, 4, 3, 2, 1, 0, random() % 9));
    std::int64_t dense = 1;
    for (std::uint32_t d = view.rank; d-- > 0;) {
      if (!alike || random() % 4 == 0) view.dims[d] = pick(0, 1, 1, 2, 3, 4, 5, 9);
      const std::int64_t huge = view.dims[d] == 1 ? INT64_MAX : 2;
      view.strides[d] = random() % 3 != 0 ? dense : pick(0, 1, 2, 3, 7, dense, huge);
      dense *= view.dims[d] == 0 ? 1 : view.dims[d];
    }
    if (is_empty(view) && view.rank > 0) view.strides[random() % view.rank] = pick(0, INT64_MAX, INT64_MAX / 3);
    view.format = static_cast<WeightFormat>(random() % 40 == 0 ? random() % 4 : 0);
    std::uint64_t bytes = 0;
    if (!span_bytes(view, bytes) || bytes > (1u << 16)) continue;
    std::shared_ptr<void> storage(std::malloc(bytes == 0 ? 1 : static_cast<std::size_t>(bytes)), std::free);
    unsigned char* const contents = static_cast<unsigned char*>(storage.get());
    for (std::uint64_t i = 0; i < bytes; ++i) contents[i] = static_cast<unsigned char>(random() % 5);
    view.data = storage.get();
    return storage;
  }
}

/// Runs whatever check() lets through of random operands and of `valid` attributes with random bytes changed. The
/// sanitizers judge; the count makes sure that something ran.
template <class Op>
void survive_random_operands(std::size_t inputs, const typename Op::Attributes& valid, int trials) {
  std::mt19937 random(1234);
  int ran = 0;
  for (int trial = 0; trial < trials; ++trial) {
    alignas(16) typename Op::Attributes attributes = valid;
    unsigned char* const bytes = reinterpret_cast<unsigned char*>(&attributes);
    for (unsigned change = static_cast<unsigned>(random() % 4); change > 0; --change) {
      const std::size_t at = random() % sizeof attributes;
      const unsigned char values[] = {0, 1, 2, 3, 127, 128, 255, static_cast<unsigned char>(random())};
      bytes[at] = values[random() % 8];
    }
    std::vector<std::shared_ptr<void>> storages;
    std::vector<TensorView> views(inputs + (random() % 50 == 0 ? 1 : 0));
    for (TensorView& view : views) {
      storages.push_back(random_view(random, &view == &views[0] ? nullptr : &views[0], view));
    }
    TensorView output;
    storages.push_back(random_view(random, views.empty() ? nullptr : &views[0], output));
    if (check<Op>(views, output, attributes) != nullptr) continue;
    ++ran;
    const std::uint32_t parts = 1 + static_cast<std::uint32_t>(random() % 3);
    for (const cpu::Isa isa : supported_isas()) static_cast<void>(run<Op>(views, output, attributes, isa, parts));
  }
  CHECK(ran > trials / 500);
}

/// Like survive_random_operands, for operators whose operands seldom fit by chance: starts from operands that fit,
/// changes an extent, a stride or a byte of the attributes, and gives every tensor storage of exactly its size. Returns
/// how many changed calls check() let through.
template <class Op>
int survive_changed_operands(std::mt19937& random, std::vector<TensorView> inputs, std::vector<TensorView> outputs,
                             typename Op::Attributes attributes, int trials) {
  const std::size_t input_count = inputs.size();
  std::vector<TensorView> fitting = std::move(inputs);
  fitting.insert(fitting.end(), outputs.begin(), outputs.end());
  int ran = 0;
  for (int trial = 0; trial < trials; ++trial) {
    std::vector<TensorView> views = fitting;
    TensorView& changed = views[random() % views.size()];
    if (changed.present() && changed.rank != 0) {
      const std::uint32_t d = static_cast<std::uint32_t>(random()) % changed.rank;
      const std::int64_t values[] = {0, 1, 2, 3, changed.dims[d] + 1};
      (random() % 2 == 0 ? changed.dims : changed.strides)[d] = values[random() % 5];
    }
    alignas(16) typename Op::Attributes other = attributes;
    unsigned char* const bytes = reinterpret_cast<unsigned char*>(&other);
    if (random() % 2 == 0) bytes[random() % sizeof other] = static_cast<unsigned char>(random() % 2 == 0 ? random() : 1);
    std::vector<std::shared_ptr<void>> storages;
    for (TensorView& view : views) {
      std::uint64_t size = 0;
      if (!view.present() || !span_bytes(view, size)) continue;
      storages.emplace_back(std::malloc(size == 0 ? 1 : static_cast<std::size_t>(size)), std::free);
      std::memset(storages.back().get(), static_cast<int>(random() % 3), static_cast<std::size_t>(size));
      view.data = storages.back().get();
    }
    const auto split = views.begin() + static_cast<std::ptrdiff_t>(input_count);
    const std::vector<TensorView> in(views.begin(), split), out(split, views.end());
    if (Op::check(Call(in, out, &other).operands()) != nullptr) continue;
    ++ran;
    const std::uint32_t parts = 1 + static_cast<std::uint32_t>(random() % 3);
    for (const cpu::Isa isa : supported_isas()) static_cast<void>(run_parts<Op>(in, out, other, isa, parts));
  }
  return ran;
}

}  // namespace edgert::test
