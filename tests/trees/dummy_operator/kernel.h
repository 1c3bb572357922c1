// SPDX-License-Identifier: Apache-2.0
// y = x + attributes.addend: an operator that exists in a test only.
#pragma once

#include "edgert/cpu/operator.h"

namespace edgert::cpu {

struct DummyAttributes {
  float addend;
};

struct Dummy {
  static constexpr std::uint16_t kId = 60000;
  static constexpr const char* kName = "Dummy";
  using Attributes = DummyAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() != 1 || operands.outputs.size() != 1) return "takes one input and one output";
    const TensorView& x = operands.in(0);
    const TensorView& y = operands.out(0);
    if (x.dtype != DType::F32 || y.dtype != DType::F32) return "takes f32";
    return same_dims(x, y) && is_dense(x) && is_dense(y) ? nullptr : "takes dense tensors of equal dims";
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }
  static Status run(const Work& work) {
    const PartRange range = part_range(work.out(0).elements(), work.part, work.parts);
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      work.out(0).as<float>()[i] = work.in(0).as<float>()[i] + work.as<DummyAttributes>().addend;
    }
    return {};
  }
};

}  // namespace edgert::cpu
