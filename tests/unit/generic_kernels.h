// SPDX-License-Identifier: Apache-2.0
// Generic kernels against the CPU's: the same operands go through the operator's CPU kernel and, in the host emulation,
// through the CUDA kernel made for them.
#pragma once

#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "../fake_cuda/emulate.h"
#include "../ops/operator_test.h"
#include "codegen/generic_kernel.h"

namespace edgert::test {

/// Runs a kernel on tensors as the step would: arguments are the present inputs and then the outputs.
inline void emulate(const codegen::KernelSpec& spec, const std::vector<const Tensor*>& inputs, const std::vector<Tensor*>& outputs) {
  const fake_cuda::EmulatedKernel kernel(spec);
  std::vector<void*> pointers;
  std::vector<fake_cuda::Region> regions;
  const auto add = [&](const Tensor& tensor) {
    pointers.push_back(tensor.view().data);
    regions.push_back({tensor.view().data, tensor.bytes()});
  };
  for (const Tensor* input : inputs) add(*input);
  for (Tensor* output : outputs) add(*output);
  std::vector<void*> parameters;
  for (void*& pointer : pointers) parameters.push_back(&pointer);
  kernel.run(parameters.data(), regions, 1);
}

/// How far results may differ.
struct Tolerance {
  double absolute = 0;
  double relative = 0;
};

inline void check_equal(const Tensor& got, const Tensor& expected, Tolerance tolerance) {
  std::int64_t wrong = 0;
  const DType type = got.view().dtype;
  const bool floating = type == DType::F32 || type == DType::F16 || type == DType::BF16 || type == DType::F64;
  for (std::int64_t i = 0; i < got.elements(); ++i) {
    const bool same = floating ? close(got.get(i), expected.get(i), tolerance.absolute, tolerance.relative)
                               : got.get_int(i) == expected.get_int(i);
    if (!same && ++wrong <= 3) {
      MESSAGE("element " << i << ": " << got.get(i) << " instead of " << expected.get(i));
    }
  }
  CHECK(wrong == 0);
}

/// The CPU operator and the kernel that `make` gives for the same operands; `y` is the output and says its layout.
template <class Op, class Make>
void compare(Make make, const std::vector<const Tensor*>& inputs, Tensor& y, const typename Op::Attributes& attributes,
             Tolerance tolerance, std::uint32_t alignment = 16, std::uint32_t arch = 90) {
  std::vector<TensorView> views;
  std::vector<const Tensor*> present;
  for (const Tensor* input : inputs) {
    views.push_back(input == nullptr ? absent() : input->view());
    if (input != nullptr) present.push_back(input);
  }
  Tensor expected = y.clone();
  REQUIRE(run<Op>(views, expected.view(), attributes, cpu::Isa::Baseline, 1).ok());
  alignas(16) const typename Op::Attributes aligned = attributes;
  const Call call(views, {y.view()}, &aligned);
  codegen::GenericCall generic;
  generic.operands = call.operands();
  generic.alignment = alignment;
  generic.arch = arch;
  const codegen::KernelSpec spec = make(generic);
  CAPTURE(spec.job.name);
  emulate(spec, present, {&y});
  check_equal(y, expected, tolerance);
}

}  // namespace edgert::test
