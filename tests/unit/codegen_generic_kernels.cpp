// SPDX-License-Identifier: Apache-2.0
// The generic kernels compile for every target and spill no register.
#include "codegen/dense_any_kernel.h"
#include "codegen/move_kernel.h"
#include "codegen/pointwise_kernel.h"
#include "codegen/recurrent_kernel.h"
#include "codegen/reduce_kernel.h"
#include "codegen/sample_kernel.h"
#include "codegen/window_any_kernel.h"
#include "compiled_kernels.h"
#include "edgert/cpu/ops/arg_reduce.h"
#include "edgert/cpu/ops/cast.h"
#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/gather.h"
#include "edgert/cpu/ops/grid_sample.h"
#include "edgert/cpu/ops/linear_attention.h"
#include "edgert/cpu/ops/matmul.h"
#include "edgert/cpu/ops/normalize.h"
#include "edgert/cpu/ops/pad.h"
#include "edgert/cpu/ops/pool.h"
#include "edgert/cpu/ops/recurrent.h"
#include "edgert/cpu/ops/reduce.h"
#include "edgert/cpu/ops/resize.h"
#include "edgert/cpu/ops/roi_align.h"
#include "edgert/cpu/ops/softmax.h"
#include "edgert/scalar/pointwise.h"

using namespace edgert;
using namespace edgert::codegen;

namespace {

TensorView view(DType dtype, const std::vector<std::int64_t>& dims, bool channels_last = false) {
  TensorView out;
  out.dtype = dtype;
  out.rank = static_cast<std::uint8_t>(dims.size());
  std::int64_t stride = 1;
  for (std::size_t k = 0; k < dims.size(); ++k) {
    // Channels last: dimension 1 innermost, then the others from the last on.
    std::size_t d = dims.size() - 1 - k;
    if (channels_last) d = k == 0 ? 1 : k == dims.size() - 1 ? 0 : dims.size() - k;
    out.dims[d] = dims[d];
    out.strides[d] = stride;
    stride *= dims[d];
  }
  return out;
}

struct Builder {
  std::uint32_t arch;
  std::vector<KernelSpec> specs;

  template <class Attributes>
  void add(KernelSpec (*make)(const GenericCall&), const std::vector<TensorView>& inputs, const std::vector<TensorView>& outputs,
           const Attributes& attributes) {
    std::vector<const TensorView*> pointers, output_pointers;
    for (const TensorView& input : inputs) pointers.push_back(&input);
    for (const TensorView& output : outputs) output_pointers.push_back(&output);
    GenericCall call;
    call.operands.inputs = {pointers.data(), pointers.size()};
    call.operands.outputs = {output_pointers.data(), output_pointers.size()};
    call.operands.attributes = &attributes;
    call.arch = arch;
    specs.push_back(make(call));
  }
  template <class Attributes>
  void add(KernelSpec (*make)(const GenericCall&), const std::vector<TensorView>& inputs, const TensorView& y, const Attributes& attributes) {
    add(make, inputs, std::vector<TensorView>{y}, attributes);
  }
};

scalar::PointwiseProgram program(unsigned inputs, std::initializer_list<scalar::PointwiseStep> steps) {
  scalar::PointwiseProgram out = {};
  out.inputs = inputs;
  for (const scalar::PointwiseStep& step : steps) out.step[out.steps++] = step;
  return out;
}

cpu::SoftmaxAttributes softmax(std::int32_t axis, std::uint8_t logarithm) {
  cpu::SoftmaxAttributes attributes = {};
  attributes.axis = axis, attributes.log = logarithm;
  return attributes;
}

std::vector<KernelSpec> all(std::uint32_t arch) {
  using scalar::PointwiseOp;
  Builder b = {arch, {}};
  const auto f32 = static_cast<unsigned char>(DType::F32), f16 = static_cast<unsigned char>(DType::F16), i64 = static_cast<unsigned char>(DType::I64);
  const TensorView a = view(DType::F16, {1, 64, 56, 56}, true);
  b.add(&make_pointwise, {a, a}, a, program(2, {{PointwiseOp::Add, f16, 0, 1, 0, {}, 0, 0}, {PointwiseOp::Gelu, f16, 2, 0, 0, {}, 0, 0}}));
  const TensorView f = view(DType::F32, {7, 33}), i = view(DType::I64, {7, 33});
  b.add(&make_pointwise, {f, f}, f, program(2, {{PointwiseOp::Pow, f32, 0, 1, 0, {}, 0, 0}, {PointwiseOp::Atanh, f32, 2, 0, 0, {}, 0, 0}}));
  b.add(&make_pointwise, {i, i}, i, program(2, {{PointwiseOp::Mod, i64, 0, 1, 0, {}, 0, 0}}));
  b.add(&make_cast, {view(DType::U8, {1, 3, 64, 64})}, view(DType::F16, {1, 3, 64, 64}), cpu::CastAttributes{});
  cpu::CastAttributes cast = {};
  b.add(&make_cast, {view(DType::F64, {64})}, view(DType::I8, {64}), cast);
  for (const DType small : {DType::F8E4M3FN, DType::F8E8M0, DType::F4E2M1, DType::I4}) {
    b.add(&make_cast, {view(DType::F32, {64})}, view(small, {64}), cast);
    b.add(&make_cast, {view(small, {64})}, view(DType::F16, {64}), cast);
  }
  b.add(&make_copy, {view(DType::F32, {1, 64, 56, 56})}, a, 0);
  b.add(&make_copy, {view(DType::U8, {5, 7})}, view(DType::U8, {5, 7}), 0);
  for (const cpu::ReduceKind kind : {cpu::ReduceKind::Mean, cpu::ReduceKind::LogSumExp, cpu::ReduceKind::L2}) {
    b.add(&make_reduce, {a}, view(DType::F16, {1, 64, 1, 1}, true), cpu::ReduceAttributes{12, kind, {}});
    b.add(&make_reduce, {view(DType::F32, {128, 768})}, view(DType::F32, {128, 1}), cpu::ReduceAttributes{2, kind, {}});
  }
  b.add(&make_reduce, {i}, view(DType::I64, {7, 1}), cpu::ReduceAttributes{2, cpu::ReduceKind::Mean, {}});
  b.add(&make_arg_reduce, {view(DType::F32, {8, 1000})}, view(DType::I64, {8, 1}), cpu::ArgReduceAttributes{1, 0, 0, {}});
  b.add(&make_softmax, {view(DType::F16, {12, 128, 128})}, view(DType::F16, {12, 128, 128}), softmax(2, 0));
  b.add(&make_softmax, {view(DType::F32, {1, 84, 8400})}, view(DType::F32, {1, 84, 8400}), softmax(1, 1));
  b.add(&make_softmax, {view(DType::F64, {1, 50000})}, view(DType::F64, {1, 50000}), softmax(1, 0));
  TensorView weights = view(DType::F32, {128, 768});
  weights.strides[0] = 0;
  b.add(&make_normalize, {view(DType::F16, {128, 768}), weights, weights}, view(DType::F16, {128, 768}), cpu::NormalizeAttributes{2, 1e-5f, 0, {}});
  b.add(&make_normalize, {a, TensorView{}, TensorView{}}, a, cpu::NormalizeAttributes{12, 1e-5f, 0, {}});
  b.add(&make_gather, {view(DType::F16, {30522, 768}), view(DType::I64, {128})}, view(DType::F16, {128, 768}), cpu::GatherAttributes{0, 0});
  cpu::PadAttributes pad = {};
  pad.before[2] = pad.before[3] = 1;
  for (const cpu::PadMode mode : {cpu::PadMode::Constant, cpu::PadMode::Reflect}) {
    pad.mode = mode;
    b.add(&make_pad, {a}, view(DType::F16, {1, 64, 58, 58}, true), pad);
    b.add(&make_pad, {view(DType::F32, {1, 3, 56, 56})}, view(DType::F32, {1, 3, 58, 58}), pad);
  }
  cpu::ResizeAttributes resize = {};
  resize.scale[0] = resize.scale[1] = 1, resize.scale[2] = resize.scale[3] = 2;
  resize.cubic_coefficient = -0.75f;
  for (const cpu::ResizeMode mode : {cpu::ResizeMode::Nearest, cpu::ResizeMode::Linear, cpu::ResizeMode::Cubic}) {
    resize.mode = mode;
    b.add(&make_resize, {a}, view(DType::F16, {1, 64, 112, 112}, true), resize);
    b.add(&make_resize, {view(DType::F32, {1, 3, 56, 56})}, view(DType::F32, {1, 3, 112, 112}), resize);
  }
  cpu::PoolAttributes pool = {};
  cpu::DepthwiseConvAttributes depthwise = {};
  cpu::ConvAttributes conv = {};
  const auto set_window = [](auto& window) {
    for (int d = 0; d < 2; ++d) window.kernel[d] = 3, window.stride[d] = window.dilation[d] = window.pad_begin[d] = window.pad_end[d] = 1;
  };
  set_window(pool), set_window(depthwise), set_window(conv);
  pool.kind = cpu::PoolKind::Average;
  const TensorView c = view(DType::F32, {1, 64, 56, 56}, true);
  b.add(&make_pool, {a}, a, pool);
  pool.kind = cpu::PoolKind::Max;
  b.add(&make_pool, {view(DType::I8, {1, 3, 9, 9})}, view(DType::I8, {1, 3, 9, 9}), pool);
  depthwise.epilogue.activation = scalar::PointwiseOp::Silu;
  b.add(&make_depthwise, {c, view(DType::F32, {3, 3, 64}), view(DType::F32, {64})}, c, depthwise);
  for (const int groups : {1, 4}) {
    conv.groups = groups;
    b.add(&make_conv_any, {c, view(DType::F32, {groups, 9 * 64 / groups, 64 / groups}), view(DType::F32, {64})}, c, conv);
    b.add(&make_conv_any, {a, view(DType::F32, {groups, 9 * 64 / groups, 64 / groups}), TensorView{}}, a, conv);
  }
  const cpu::MatMulAttributes plain = {};
  for (const std::int64_t rows : {1, 16, 64, 1024}) {
    b.add(&make_matmul, {view(DType::F32, {rows, 512}), view(DType::F32, {512, 1000}), view(DType::F32, {1000})}, view(DType::F32, {rows, 1000}), plain);
  }
  b.add(&make_matmul, {view(DType::F16, {12, 128, 64}), view(DType::F16, {12, 64, 128})}, view(DType::F16, {12, 128, 128}), plain);
  b.add(&make_matmul, {view(DType::BF16, {12, 128, 64}), view(DType::BF16, {12, 64, 97})}, view(DType::BF16, {12, 128, 97}), plain);
  b.add(&make_matmul, {view(DType::F16, {4096, 64}), view(DType::F16, {64, 4096})}, view(DType::F16, {4096, 4096}), plain);
  b.add(&make_conv_any, {a, view(DType::F16, {4, 9 * 16, 16})}, a, conv);
  const TensorView state = view(DType::F32, {1, 1, 256}), none;
  for (const cpu::RecurrentCell cell : {cpu::RecurrentCell::Gru, cpu::RecurrentCell::Lstm}) {
    cpu::RecurrentAttributes recurrent = {};
    recurrent.cell = cell;
    for (auto& activation : recurrent.activation[0]) activation.op = scalar::PointwiseOp::Sigmoid;
    const std::int64_t gates = cpu::recurrent_detail::gates_of(cell);
    std::vector<TensorView> outputs = {view(DType::F32, {20, 1, 1, 256}), state};
    if (cell == cpu::RecurrentCell::Lstm) outputs.push_back(state);
    b.add(&make_recurrent, {view(DType::F32, {20, 1, 1, 256 * gates}), view(DType::F32, {gates, 256, 256}), state, none, none, none, none}, outputs, recurrent);
  }
  const TensorView heads = view(DType::F16, {1, 20, 8, 64}), memory = view(DType::F32, {1, 8, 64, 64});
  b.add(&make_linear_attention, {heads, heads, heads, memory, heads, none}, std::vector<TensorView>{heads, memory}, cpu::LinearAttentionAttributes{1.0f});
  cpu::GridSampleAttributes grid = {};
  for (const cpu::GridMode mode : {cpu::GridMode::Linear, cpu::GridMode::Cubic}) {
    grid.mode = mode;
    grid.padding = cpu::GridPadding::Reflection;
    b.add(&make_grid_sample, {c, view(DType::F32, {1, 28, 28, 2})}, view(DType::F32, {1, 64, 28, 28}), grid);
  }
  cpu::RoiAlignAttributes roi = {};
  b.add(&make_roi_align, {c, view(DType::F32, {9, 4}), view(DType::I64, {9})}, view(DType::F32, {9, 64, 7, 7}), roi);
  return b.specs;
}

TEST_CASE("every generic kernel compiles for every target without a spill") { test::check_that_all_compile(&all); }

}  // namespace
