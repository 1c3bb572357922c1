// SPDX-License-Identifier: Apache-2.0
// The generic kernels: one for each operator of the CPU backend, for whatever no other family takes.
#include "families/general.h"

#include <algorithm>

#include "codegen/move_kernel.h"
#include "codegen/pointwise_kernel.h"
#include "codegen/reduce_kernel.h"
#include "edgert/cpu/strip_io.h"
#include "ops/definitions.h"

namespace edgert::families {

namespace {

TensorView view_of(const Operand& operand) {
  TensorView view;
  view.dtype = operand.dtype;
  view.rank = static_cast<std::uint8_t>(operand.dims.size());
  std::copy(operand.dims.begin(), operand.dims.end(), view.dims);
  std::copy(operand.strides.begin(), operand.strides.end(), view.strides);
  return view;
}

}  // namespace

GeneralCall::GeneralCall(const Context& context, const ir::Node& node, std::size_t inputs) {
  for (std::size_t i = 0; i < std::max(inputs, node.inputs.size()); ++i) inputs_.push_back(context.input(node, i));
  for (const ir::ValueId output : node.outputs) outputs_.push_back(context.operand(output));
  for (const Operand& operand : inputs_) input_views_.push_back(view_of(operand));
  for (const Operand& operand : outputs_) output_views_.push_back(view_of(operand));
  for (const TensorView& view : input_views_) input_pointers_.push_back(&view);
  for (const TensorView& view : output_views_) output_pointers_.push_back(&view);
  call_.operands.inputs = {input_pointers_.data(), input_pointers_.size()};
  call_.operands.outputs = {output_pointers_.data(), output_pointers_.size()};
  call_.operands.attributes = node.attributes.bytes().data();
  call_.operands.attribute_bytes = static_cast<std::uint32_t>(node.attributes.bytes().size());
  call_.arch = context.target().arch;
  call_.multiprocessors = context.target().multiprocessors;
  call_.attribute_type = context.graph().value(node.outputs[0]).type.dtype;
  call_.alignment = 16;
  for (const std::vector<Operand>* operands : {&inputs_, &outputs_}) {
    for (const Operand& operand : *operands) {
      if (operand.present()) call_.alignment = std::min(call_.alignment, operand.alignment);
    }
  }
}

std::vector<Argument> GeneralCall::arguments() const {
  std::vector<Argument> arguments;
  for (const Operand& operand : inputs_) {
    if (operand.present()) arguments.push_back(Argument::read(operand));
  }
  for (const Operand& operand : outputs_) arguments.push_back(Argument::write(operand));
  return arguments;
}

DType GeneralCall::compute() const {
  const DType dtype = inputs_.empty() ? outputs_[0].dtype : inputs_.back().present() ? inputs_.back().dtype : inputs_[0].dtype;
  return cpu::arithmetic_of(dtype) == scalar::Arithmetic::F32 ? DType::F32 : dtype;
}

namespace {

struct Row {
  const ir::OperatorDef* op;
  std::size_t inputs;
  codegen::KernelSpec (*make)(const codegen::GenericCall&);
};
const Row kRows[] = {
    {&ops::kPointwise, 0, &codegen::make_pointwise}, {&ops::kCast, 1, &codegen::make_cast},
    {&ops::kCopy, 1, &codegen::make_copy},           {&ops::kReduce, 1, &codegen::make_reduce},
    {&ops::kArgReduce, 1, &codegen::make_arg_reduce}, {&ops::kSoftmax, 1, &codegen::make_softmax},
    {&ops::kNormalize, 3, &codegen::make_normalize}, {&ops::kGather, 2, &codegen::make_gather},
    {&ops::kPad, 1, &codegen::make_pad},             {&ops::kResize, 1, &codegen::make_resize},
};

std::vector<Candidate> candidates(const Context& context, ir::NodeId id, std::size_t) {
  const ir::Node& node = context.graph().node(id);
  for (const Row& row : kRows) {
    if (row.op != node.op) continue;
    const GeneralCall call(context, node, row.inputs);
    try {
      return {Candidate::of({row.make(call.call()), call.arguments()}, call.compute())};
    } catch (const codegen::CompileError& error) {
      return context.refuse(error.what());
    }
  }
  return {};
}

}  // namespace

void register_general(Registry& registry) { registry.add({"general", Rank::General, &candidates}); }

}  // namespace edgert::families
