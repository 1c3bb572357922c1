// SPDX-License-Identifier: Apache-2.0
// Nodes as the generic kernels of codegen/ take them: the CPU operators' operands.
#pragma once

#include <vector>

#include "codegen/generic_kernel.h"
#include "families/family.h"

namespace edgert::families {

/// A node's operands as views. Lives as long as what call() returns is used.
class GeneralCall {
 public:
  /// `inputs` is how many operands the CPU operator has; those that the node lacks are absent.
  GeneralCall(const Context& context, const ir::Node& node, std::size_t inputs);
  GeneralCall(const GeneralCall&) = delete;

  const codegen::GenericCall& call() const { return call_; }
  const Operand& input(std::size_t i) const { return inputs_[i]; }
  const Operand& output(std::size_t i = 0) const { return outputs_[i]; }
  /// Takes the candidate's weights[0], of this type, these extents and strides, in place of input `i`.
  void pack(std::size_t i, DType dtype, const ir::Dims& dims, const ir::Dims& strides);
  /// The kernel reads the extents that only a run knows: those of the inputs.
  void read_extents();
  const std::vector<Argument>& extent_arguments() const { return extents_; }
  /// The present inputs, then the outputs, then the extents that are read.
  std::vector<Argument> arguments() const;
  /// What the node's arithmetic runs in.
  DType compute() const;

 private:
  std::vector<Operand> inputs_, outputs_;
  std::vector<TensorView> input_views_, output_views_;
  std::vector<const TensorView*> input_pointers_, output_pointers_;
  std::vector<Argument> extents_;
  std::size_t packed_ = ~std::size_t{0};
  const Context& context_;
  codegen::GenericCall call_;
};

}  // namespace edgert::families
