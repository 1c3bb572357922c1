// SPDX-License-Identifier: Apache-2.0
// Kernels whose extents only a run knows, those of recurrent layers that several blocks share, and those of other elements
// than f16 compile for every target and spill no register.
#include "codegen/conv_kernel.h"
#include "codegen/move_kernel.h"
#include "codegen/recurrent_kernel.h"
#include "codegen/reduce_kernel.h"
#include "codegen/select_kernel.h"
#include "codegen/top_k_kernel.h"
#include "compiled_kernels.h"
#include "edgert/cpu/ops/compress.h"
#include "edgert/cpu/ops/gather.h"
#include "edgert/cpu/ops/non_max_suppression.h"
#include "edgert/cpu/ops/recurrent.h"
#include "edgert/cpu/ops/reduce.h"
#include "edgert/cpu/ops/softmax.h"
#include "edgert/cpu/ops/top_k.h"
#include "edgert/cpu/ops/unique.h"

using namespace edgert;
using namespace edgert::codegen;

namespace {

TensorView view(DType dtype, const std::vector<std::int64_t>& dims) {
  TensorView out;
  out.dtype = dtype;
  out.rank = static_cast<std::uint8_t>(dims.size());
  std::int64_t stride = 1;
  for (std::size_t d = dims.size(); d-- > 0; stride *= dims[d]) out.dims[d] = dims[d], out.strides[d] = stride;
  return out;
}

/// A call and what it points to.
struct Example {
  std::vector<TensorView> inputs, outputs;
  std::vector<const TensorView*> pointers;
  GenericCall call;

  template <class Attributes>
  Example(std::uint32_t arch, std::vector<TensorView> in, std::vector<TensorView> out, const Attributes& attributes, std::vector<GenericCall::Bound> bounds)
      : inputs(std::move(in)), outputs(std::move(out)) {
    for (const TensorView& input : inputs) pointers.push_back(&input);
    for (const TensorView& output : outputs) pointers.push_back(&output);
    call.operands.inputs = {pointers.data(), inputs.size()};
    call.operands.outputs = {pointers.data() + inputs.size(), outputs.size()};
    call.operands.attributes = &attributes;
    call.arch = arch;
    call.multiprocessors = 132;
    call.bounds = std::move(bounds);
  }
};

std::vector<KernelSpec> all(std::uint32_t arch) {
  std::vector<KernelSpec> specs;
  const auto add = [&](std::vector<KernelSpec> more) {
    for (KernelSpec& spec : more) specs.push_back(std::move(spec));
  };
  const TensorView count = view(DType::I64, {}), none;
  const cpu::NoAttributes nothing = {};
  add(make_non_zero(Example(arch, {view(DType::F32, {7, 13, 31})}, {view(DType::I64, {3, 7 * 13 * 31}), count}, nothing, {{0, 0}, {0, 2}}).call));
  add(make_non_zero(Example(arch, {view(DType::Bool, {8400, 80})}, {view(DType::I64, {2, 8400 * 80}), count}, nothing, {}).call));
  const cpu::CompressAttributes rows = {0, 0};
  add(make_compress(Example(arch, {view(DType::F16, {8400, 4}), view(DType::Bool, {8400})}, {view(DType::F16, {8400, 4}), count}, rows, {{0, 0}, {1, 0}}).call));
  const TensorView each = view(DType::I64, {150});
  for (const std::uint32_t sorted : {0u, 1u}) {
    const cpu::UniqueAttributes unique = {1, sorted};
    add(make_unique(Example(arch, {view(DType::F32, {3, 150, 2})}, {view(DType::F32, {3, 150, 2}), each, each, each, count}, unique, {{0, 0}}).call));
  }
  const TensorView limit = view(DType::F32, {1});
  for (const std::int64_t boxes : {300, 8400, 25200}) {
    const cpu::NonMaxSuppressionAttributes nms = {boxes == 8400 ? 1u : 0u, 0, 100};
    add(make_non_max_suppression(Example(arch, {view(DType::F32, {1, boxes, 4}), view(DType::F32, {1, 80, boxes}), view(DType::I64, {1}), limit, limit},
                                         {view(DType::I64, {8000, 3}), count}, nms, {{0, 1}, {1, 2}})
                                     .call));
  }
  const TensorView bounded = view(DType::F32, {8000, 4});
  for (const cpu::ReduceKind kind : {cpu::ReduceKind::Mean, cpu::ReduceKind::LogSumExp}) {
    const cpu::ReduceAttributes reduce = {1, kind, {}};
    specs.push_back(make_reduce(Example(arch, {bounded}, {view(DType::F32, {1, 4})}, reduce, {{0, 0}}).call));
  }
  cpu::SoftmaxAttributes softmax = {};
  specs.push_back(make_softmax(Example(arch, {bounded}, {bounded}, softmax, {{0, 0}}).call));
  const cpu::GatherAttributes gather = {0, 0};
  specs.push_back(make_gather(Example(arch, {bounded, view(DType::I64, {7})}, {view(DType::F32, {7, 4})}, gather, {{0, 0}}).call));
  const cpu::TopKAttributes top = {1, 0, 300};
  const TensorView best = view(DType::F32, {1, 300});
  specs.push_back(make_top_k(Example(arch, {view(DType::F32, {1, 8400}), view(DType::I64, {1})}, {best, view(DType::I64, {1, 300})}, top, {}).call));
  for (const cpu::RecurrentCell cell : {cpu::RecurrentCell::Rnn, cpu::RecurrentCell::Gru, cpu::RecurrentCell::Lstm}) {
    cpu::RecurrentAttributes a = {};
    a.cell = cell, a.direction = cpu::RecurrentDirection::Both, a.linear_before_reset = 1;
    for (auto& direction : a.activation) {
      for (auto& activation : direction) activation.op = scalar::PointwiseOp::Tanh;
      if (cell != cpu::RecurrentCell::Rnn) direction[0].op = scalar::PointwiseOp::Sigmoid;
    }
    const std::int64_t gates = cpu::recurrent_detail::gates_of(cell);
    const TensorView state = view(DType::F32, {2, 1, 256});
    std::vector<TensorView> outputs = {view(DType::F16, {100, 2, 1, 256}), state};
    if (cell == cpu::RecurrentCell::Lstm) outputs.push_back(state);
    const Example example(arch, {view(DType::F16, {100, 1, 2, 256 * gates}), view(DType::F32, {2 * gates, 256, 256}), none, none, none, none, none}, outputs, a, {});
    for (const RecurrentSplit& split : recurrent_splits(example.call)) specs.push_back(make_recurrent_split(example.call, split));
  }
  return specs;
}

/// Convolutions and products of other elements than f16: the two best tiles of each.
std::vector<KernelSpec> other_elements(std::uint32_t arch) {
  ConvTarget target;
  target.arch = arch;
  if (arch >= 90) target.multiprocessors = 132, target.shared_bytes = 227 * 1024;
  std::vector<KernelSpec> specs;
  for (const ElementType element : {ElementType::BF16, ElementType::TF32, ElementType::F32}) {
    const std::int32_t words = is_wide(element) ? 2 : 1;
    ConvShape convolution;
    convolution.height = convolution.width = convolution.out_height = convolution.out_width = 14;
    convolution.channels = 256 * words, convolution.out_channels = 256;
    convolution.kernel[0] = convolution.kernel[1] = 3, convolution.pad[0] = convolution.pad[1] = 1;
    convolution.epilogue.activation = scalar::PointwiseOp::Relu;
    convolution.epilogue.residual = scalar::ResidualMode::BeforeActivation;
    ConvShape product;
    product.width = product.out_width = 128, product.channels = 768 * words, product.out_channels = 3072;
    product.epilogue.activation = scalar::PointwiseOp::Gelu;
    ConvShape first;
    first.height = first.width = 224, first.out_height = first.out_width = 112, first.channels = 3, first.out_channels = 64;
    for (int d = 0; d < 2; ++d) first.kernel[d] = 7, first.stride[d] = 2, first.pad[d] = 3;
    first.image = true;
    for (ConvShape* shape : {&convolution, &product, &first}) {
      shape->element = element;
      shape->input_pitch = shape->channels, shape->output_pitch = shape->residual_pitch = shape->out_channels;
      if (is_wide(element)) shape->output_at_once = shape->residual_at_once = 4;
      const std::vector<ConvTile> tiles = rank_conv_tiles(*shape, target, 2);
      CHECK(tiles.size() == 2);
      for (const ConvTile& tile : tiles) specs.push_back(make_conv(*shape, tile, target));
    }
  }
  return specs;
}

TEST_CASE("convolutions in bf16, TF32 and f32 compile for every target without a spill") { test::check_that_all_compile(&other_elements); }

TEST_CASE("kernels with run-time extents and shared recurrences compile for every target without a spill") { test::check_that_all_compile(&all); }

}  // namespace
