// SPDX-License-Identifier: Apache-2.0
// Depthwise convolution and pooling, channels last: kernels/window.cu.
#include "codegen/window_kernel.h"

#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/pool.h"
#include "families/dense.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using codegen::WindowKind;
using codegen::WindowShape;

/// The window's rows are unrolled, and all its weights are in registers.
constexpr std::int32_t kMaxTaps = 49;

template <class Attributes>
WindowShape shape_of(const Attributes& a, const Operand& x, const Operand& y) {
  WindowShape shape;
  shape.batch = static_cast<std::int32_t>(x.dims[0]), shape.channels = static_cast<std::int32_t>(x.dims[1]);
  shape.height = static_cast<std::int32_t>(x.dims[2]), shape.width = static_cast<std::int32_t>(x.dims[3]);
  shape.out_height = static_cast<std::int32_t>(y.dims[2]), shape.out_width = static_cast<std::int32_t>(y.dims[3]);
  for (int d = 0; d < 2; ++d) {
    shape.kernel[d] = a.kernel[d], shape.stride[d] = a.stride[d], shape.dilation[d] = a.dilation[d], shape.pad[d] = a.pad_begin[d];
  }
  return shape;
}

std::vector<Candidate> candidates(const Context& context, ir::NodeId id, std::size_t limit) {
  const ir::Node& node = context.graph().node(id);
  const bool depthwise = node.op == &ops::kDepthwiseConv;
  if (!depthwise && node.op != &ops::kPool) return {};
  const Operand x = context.input(node, 0);
  const Operand y = context.operand(node.outputs[0]);
  const auto input_pitch = pixel_pitch(x);
  const auto output_pitch = pixel_pitch(y);
  const bool usable = input_pitch && output_pitch && x.dtype == y.dtype && (x.dtype == DType::F16 || x.dtype == DType::BF16);
  if (!usable) return context.refuse("its operands are not of one 16-bit type, channels last");
  const codegen::ElementType element = *element_of(context, node, x.dtype);
  WindowShape shape;
  std::vector<ir::Bytes> weights;
  if (depthwise) {
    const auto& a = node.as<cpu::DepthwiseConvAttributes>();
    if (!context.input(node, 1).constant) return context.refuse("its weights are not constant");
    if (const char* problem = epilogue_problem(context, node, a.epilogue)) return context.refuse(problem);
    if (context.input(node, 3).present()) return context.refuse("it adds a residual");
    shape = shape_of(a, x, y);
    shape.element = element;
    shape.epilogue = a.epilogue;
    const std::vector<float> floats = floats_for(element, context, node.inputs[1]);
    weights = {to_bytes(codegen::pack_depthwise_weights(shape, floats.data())),
               bias_bytes(context, node.inputs.size() > 2 ? node.inputs[2] : ir::kNone, shape.channels, 8)};
  } else {
    const auto& a = node.as<cpu::PoolAttributes>();
    // Padding that counts reaches at most to where the window does; what ceil_mode adds beyond it does not count.
    if (a.kind == cpu::PoolKind::Average && a.count_include_pad != 0 && a.ceil_mode != 0) return context.refuse("its divisor differs from window to window");
    shape = shape_of(a, x, y);
    shape.kind = a.kind == cpu::PoolKind::Max ? WindowKind::Maximum : WindowKind::Average;
    shape.count_padding = a.count_include_pad != 0;
  }
  shape.element = element;
  shape.input_pitch = *input_pitch, shape.output_pitch = *output_pitch;
  shape.input_at_once = at_once(x, *input_pitch), shape.output_at_once = at_once(y, *output_pitch);
  if (shape.kernel[0] * shape.kernel[1] > kMaxTaps) return context.refuse("its window is too large");
  std::vector<Candidate> found;
  // Neighbouring outputs share columns at stride 1; with few pixels more threads are worth more than that.
  const bool wide = shape.stride[1] == 1 && shape.out_width >= 28;
  for (const std::int32_t strip : {wide ? 2 : 1, wide ? 1 : 2}) {
    if (found.size() == limit) break;
    Launch launch;
    launch.spec = codegen::make_window(shape, strip, 64, context.target());
    launch.arguments = {Argument::read(x), depthwise ? Argument::weights(0) : Argument::null(),
                        depthwise ? Argument::weights(1) : Argument::null(), Argument::write(y)};
    Candidate candidate = Candidate::of(std::move(launch), DType::F32);
    candidate.weights = weights;
    found.push_back(std::move(candidate));
  }
  return found;
}

}  // namespace

void register_window(Registry& registry) { registry.add({"window", Rank::Fast, &candidates}); }

}  // namespace edgert::families
