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

/// The CPU operator in one part, its operands checked first.
template <class Op>
void run_on_cpu(const std::vector<TensorView>& inputs, const std::vector<TensorView>& outputs, const typename Op::Attributes& attributes) {
  alignas(16) const typename Op::Attributes aligned = attributes;
  const Call call(inputs, outputs, &aligned);
  const char* wrong = Op::check(call.operands());
  REQUIRE_MESSAGE(wrong == nullptr, (wrong == nullptr ? "" : wrong));
  const std::size_t scratch = static_cast<std::size_t>(Op::scratch_bytes(call.operands()));
  const std::shared_ptr<void> memory(std::aligned_alloc(64, (scratch + 127) / 64 * 64), std::free);
  cpu::Work work;
  call.fill(work);
  work.scratch = memory.get();
  REQUIRE(Op::run(work).ok());
}

/// The CPU operator and the kernel that `make` gives for the same operands; an input may be null for absent. The outputs
/// say their layouts.
template <class Op, class Make>
void compare_all(Make make, const std::vector<const Tensor*>& inputs, const std::vector<Tensor*>& outputs,
                 const typename Op::Attributes& attributes, Tolerance tolerance, std::uint32_t alignment = 16) {
  std::vector<TensorView> views, expected_views, output_views;
  std::vector<const Tensor*> present;
  for (const Tensor* input : inputs) {
    views.push_back(input == nullptr ? absent() : input->view());
    if (input != nullptr) present.push_back(input);
  }
  std::vector<Tensor> expected;
  for (const Tensor* output : outputs) {
    expected.push_back(output->clone());
    expected_views.push_back(expected.back().view());
    output_views.push_back(output->view());
  }
  run_on_cpu<Op>(views, expected_views, attributes);
  alignas(16) const typename Op::Attributes aligned = attributes;
  const Call call(views, output_views, &aligned);
  codegen::GenericCall generic;
  generic.operands = call.operands();
  generic.alignment = alignment;
  generic.arch = 90;
  const codegen::KernelSpec spec = make(generic);
  CAPTURE(spec.job.name);
  emulate(spec, present, outputs);
  for (std::size_t i = 0; i < outputs.size(); ++i) check_equal(*outputs[i], expected[i], tolerance);
}
template <class Op, class Make>
void compare(Make make, const std::vector<const Tensor*>& inputs, Tensor& y, const typename Op::Attributes& attributes,
             Tolerance tolerance, std::uint32_t alignment = 16) {
  compare_all<Op>(make, inputs, {&y}, attributes, tolerance, alignment);
}

}  // namespace edgert::test
