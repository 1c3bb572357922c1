// SPDX-License-Identifier: Apache-2.0
// The generic kernels: one for each operator of the CPU backend, for whatever no other family takes.
#include "families/general.h"

#include <algorithm>

#include "codegen/dense_any_kernel.h"
#include "codegen/move_kernel.h"
#include "codegen/pointwise_kernel.h"
#include "codegen/recurrent_kernel.h"
#include "codegen/reduce_kernel.h"
#include "codegen/sample_kernel.h"
#include "codegen/scatter_kernel.h"
#include "codegen/top_k_kernel.h"
#include "codegen/window_any_kernel.h"
#include "edgert/cpu/ops/arg_reduce.h"
#include "edgert/cpu/ops/cast.h"
#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/copy.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/determinant.h"
#include "edgert/cpu/ops/gather.h"
#include "edgert/cpu/ops/grid_sample.h"
#include "edgert/cpu/ops/integer_matmul.h"
#include "edgert/cpu/ops/linear_attention.h"
#include "edgert/cpu/ops/matmul.h"
#include "edgert/cpu/ops/normalize.h"
#include "edgert/cpu/ops/pad.h"
#include "edgert/cpu/ops/pointwise.h"
#include "edgert/cpu/ops/pool.h"
#include "edgert/cpu/ops/recurrent.h"
#include "edgert/cpu/ops/reduce.h"
#include "edgert/cpu/ops/resize.h"
#include "edgert/cpu/ops/roi_align.h"
#include "edgert/cpu/ops/scatter.h"
#include "edgert/cpu/ops/softmax.h"
#include "edgert/cpu/ops/top_k.h"
#include "edgert/cpu/strip_io.h"
#include "edgert/scalar/convert.h"
#include "families/dense.h"
#include "ir/windows.h"
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

DType unsigned_of(std::uint32_t bits) {
  return bits == 64 ? DType::U64 : bits == 32 ? DType::U32 : bits == 16 ? DType::U16 : DType::U8;
}

}  // namespace

GeneralCall::GeneralCall(const Context& context, const ir::Node& node, std::size_t inputs) : context_(context) {
  for (std::size_t i = 0; i < std::max(inputs, node.inputs.size()); ++i) inputs_.push_back(context.input(node, i));
  for (const ir::ValueId output : node.outputs) outputs_.push_back(context.operand(output));
  for (const Operand& operand : inputs_) input_views_.push_back(view_of(operand));
  for (const Operand& operand : outputs_) output_views_.push_back(view_of(operand));
  if (ir::is_bit_cast(context.graph(), node)) {
    // The bits move as they are, whatever the types are called.
    for (std::vector<TensorView>* views : {&input_views_, &output_views_}) {
      for (TensorView& view : *views) view.dtype = unsigned_of(bits_of(view.dtype));
    }
  }
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

void GeneralCall::pack(std::size_t i, DType dtype, const ir::Dims& dims, const ir::Dims& strides) {
  packed_ = i;
  Operand operand;
  operand.dtype = dtype;
  operand.dims = dims;
  operand.strides = strides;
  input_views_[i] = view_of(operand);
}

void GeneralCall::read_extents() {
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    for (const ir::Extent& extent : inputs_[i].extents) {
      call_.bounds.push_back({i, extent.dim});
      extents_.push_back(Argument::read(context_.operand(extent.actual)));
    }
  }
}

std::vector<Argument> GeneralCall::arguments() const {
  std::vector<Argument> arguments;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i].present()) arguments.push_back(i == packed_ ? Argument::weights(0) : Argument::read(inputs_[i]));
  }
  for (const Operand& operand : outputs_) arguments.push_back(Argument::write(operand));
  arguments.insert(arguments.end(), extents_.begin(), extents_.end());
  return arguments;
}

DType GeneralCall::compute() const {
  const DType dtype = inputs_.empty() ? outputs_[0].dtype : inputs_.back().present() ? inputs_.back().dtype : inputs_[0].dtype;
  return cpu::arithmetic_of(dtype) == scalar::Arithmetic::F32 ? DType::F32 : dtype;
}

namespace {

struct Row {
  std::uint16_t id;  ///< of the CPU operator
  std::size_t inputs;
  codegen::KernelSpec (*make)(const codegen::GenericCall&);
  bool reads_extents = false;  ///< else each element depends on its own alone, and the largest extents are computed
};
const Row kRows[] = {
    {cpu::Copy::kId, 1, &codegen::make_copy},
    {cpu::Cast::kId, 1, &codegen::make_cast},
    {cpu::Pointwise::kId, 0, &codegen::make_pointwise},
    {cpu::Conv::kId, 4, &codegen::make_conv_any},
    {cpu::DepthwiseConv::kId, 4, &codegen::make_depthwise},
    {cpu::MatMul::kId, 4, &codegen::make_matmul},
    {cpu::Pool::kId, 1, &codegen::make_pool},
    {cpu::Reduce::kId, 1, &codegen::make_reduce, true},
    {cpu::ArgReduce::kId, 1, &codegen::make_arg_reduce, true},
    {cpu::Softmax::kId, 1, &codegen::make_softmax, true},
    {cpu::Normalize::kId, 3, &codegen::make_normalize},
    {cpu::Gather::kId, 2, &codegen::make_gather, true},
    {cpu::Pad::kId, 1, &codegen::make_pad, true},
    {cpu::Resize::kId, 1, &codegen::make_resize},
    {cpu::TopK::kId, 2, &codegen::make_top_k},
    {cpu::Scatter::kId, 3, &codegen::make_scatter},
    {cpu::IntegerMatMul::kId, 2, &codegen::make_integer_matmul},
    {cpu::Determinant::kId, 1, &codegen::make_determinant},
    {cpu::Recurrent::kId, 7, &codegen::make_recurrent},
    {cpu::GridSample::kId, 2, &codegen::make_grid_sample},
    {cpu::RoiAlign::kId, 3, &codegen::make_roi_align},
    {cpu::LinearAttention::kId, 6, &codegen::make_linear_attention},
};

/// Weights [M, C / groups, kh, kw] as [groups, kh * kw * C / groups, M / groups].
std::vector<float> dense_weights(const std::vector<float>& weights, const ir::Dims& dims, std::int64_t groups) {
  const std::int64_t columns = dims[0] / groups, channels = dims[1], taps = dims[2] * dims[3];
  std::vector<float> packed;
  packed.reserve(weights.size());
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t k = 0; k < taps * channels; ++k) {
      for (std::int64_t n = 0; n < columns; ++n) {
        packed.push_back(weights[static_cast<std::size_t>(((g * columns + n) * channels + k % channels) * taps + k / channels)]);
      }
    }
  }
  return packed;
}

/// Weights [M, C / groups, kh, kw] as [groups, M / groups, kh * kw * C / groups]: for tensor cores.
std::vector<std::uint16_t> half_weights(DType dtype, const std::vector<float>& weights, const ir::Dims& dims) {
  const std::int64_t channels = dims[1], taps = dims[2] * dims[3];
  std::vector<std::uint16_t> packed;
  packed.reserve(weights.size());
  for (std::int64_t n = 0; n < dims[0]; ++n) {
    for (std::int64_t k = 0; k < taps * channels; ++k) {
      const float weight = weights[static_cast<std::size_t>((n * channels + k % channels) * taps + k / channels)];
      packed.push_back(dtype == DType::F16 ? scalar::to_half(weight).bits : scalar::to_bfloat16(weight).bits);
    }
  }
  return packed;
}

/// The weights of a convolution in the order that its kernel reads, which the call then has as input 1.
std::vector<ir::Bytes> pack_weights(const Context& context, const ir::Node& node, GeneralCall& call) {
  const ir::Dims dims = call.input(1).dims;
  if (node.op == &ops::kDepthwiseConv) {  // [C, 1, kh, kw] as [kh, kw, C]: a convolution of one group
    call.pack(1, DType::F32, {dims[2], dims[3], dims[0]}, {dims[3] * dims[0], dims[0], 1});
    return {to_bytes(dense_weights(context.constant_floats(node.inputs[1]), dims, 1))};
  }
  const std::int64_t groups = node.as<cpu::ConvAttributes>().groups, columns = dims[0] / groups, depth = dims[1] * dims[2] * dims[3];
  const DType dtype = call.input(0).dtype;
  if (bits_of(dtype) == 16) {
    call.pack(1, dtype, {groups, depth, columns}, {columns * depth, 1, depth});
    return {to_bytes(half_weights(dtype, floats_for(*element_of(context, node, dtype), context, node.inputs[1]), dims))};
  }
  call.pack(1, DType::F32, {groups, depth, columns}, {columns * depth, columns, 1});
  return {to_bytes(dense_weights(context.constant_floats(node.inputs[1]), dims, groups))};
}

/// What the node multiplies in.
DType compute_of(const ir::Node& node, const GeneralCall& call) {
  const bool dense = node.op == &ops::kConv || node.op == &ops::kMatMul;
  return dense && codegen::multiplies_in_16_bits(call.call()) ? call.input(0).dtype : call.compute();
}

std::vector<Candidate> candidates(const Context& context, ir::NodeId id, std::size_t) {
  const ir::Node& node = context.graph().node(id);
  for (const Row& row : kRows) {
    if (node.op->kernel == nullptr || row.id != node.op->kernel->id) continue;
    GeneralCall call(context, node, row.inputs);
    if (row.reads_extents) call.read_extents();
    bool nothing = true;
    for (const TensorView* output : call.call().operands.outputs) nothing = nothing && is_empty(*output);
    if (nothing) return {Candidate{}};
    std::vector<ir::Bytes> weights;
    if (node.op == &ops::kConv || node.op == &ops::kDepthwiseConv) {
      if (!call.input(1).constant) return context.refuse("its weights are not constant");
      weights = pack_weights(context, node, call);
    }
    try {
      Candidate candidate = Candidate::of({row.make(call.call()), call.arguments()}, compute_of(node, call));
      candidate.weights = std::move(weights);
      return {std::move(candidate)};
    } catch (const codegen::CompileError& error) {
      return context.refuse(error.what());
    }
  }
  return {};
}

}  // namespace

void register_general(Registry& registry) { registry.add({"general", Rank::General, &candidates}); }

}  // namespace edgert::families
