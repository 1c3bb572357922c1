// SPDX-License-Identifier: Apache-2.0
// Runs a graph element by element in double, from the operators' definitions alone: the reference against which passes
// are tested. No kernel of the product takes part.
#pragma once

#include <cmath>
#include <map>
#include <stdexcept>
#include <vector>

#include "edgert/cpu/ops/cast.h"
#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/inverted_residual.h"
#include "edgert/cpu/ops/stem_block.h"
#include "edgert/cpu/ops/matmul.h"
#include "edgert/cpu/ops/normalize.h"
#include "edgert/cpu/ops/pad.h"
#include "edgert/cpu/ops/pool.h"
#include "edgert/cpu/ops/reduce.h"
#include "edgert/cpu/ops/winograd_conv.h"
#include "ir/graph.h"
#include "ops/definitions.h"

namespace edgert::test {

/// Row-major elements; integers and booleans as numbers.
struct Tensor {
  ir::Dims dims;
  std::vector<double> data;

  std::size_t offset(const ir::Dims& index) const {
    std::size_t at = 0;
    for (std::size_t i = 0; i < dims.size(); ++i)
      at = at * static_cast<std::size_t>(dims[i]) + static_cast<std::size_t>(index[i]);
    return at;
  }
  double at(const ir::Dims& index) const { return data.at(offset(index)); }
};

/// Calls visit(index) for every index of these extents, the last dimension fastest.
template <class Visit>
void for_each_index(const ir::Dims& dims, Visit visit) {
  const std::int64_t count = ir::element_count(dims);
  for (std::int64_t flat = 0; flat < count; ++flat) {
    ir::Dims index(dims.size());
    std::int64_t rest = flat;
    for (std::size_t i = dims.size(); i-- > 0;) {
      index[i] = rest % dims[i];
      rest /= dims[i];
    }
    visit(index);
  }
}

template <class Element>
Tensor tabulate(const ir::Dims& dims, Element element) {
  Tensor y{dims, {}};
  for_each_index(dims, [&](const ir::Dims& index) { y.data.push_back(element(index)); });
  return y;
}

inline double apply_pointwise(scalar::PointwiseOp op, double a, double b, double c, double alpha, double beta) {
  using Op = scalar::PointwiseOp;
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  const auto hard = [](double x) { return std::fmin(std::fmax(x, 0), 1); };
  switch (op) {
    case Op::Identity: return a;
    case Op::Neg: return -a;
    case Op::Abs: return std::fabs(a);
    case Op::Reciprocal: return 1 / a;
    case Op::Sqrt: return std::sqrt(a);
    case Op::Exp: return std::exp(a);
    case Op::Log: return std::log(a);
    case Op::Tanh: return std::tanh(a);
    case Op::Erf: return std::erf(a);
    case Op::Not: return a == 0;
    case Op::Relu: return std::fmax(a, 0);
    case Op::LeakyRelu: return a < 0 ? alpha * a : a;
    case Op::Sigmoid: return sigmoid(a);
    case Op::HardSigmoid: return hard(alpha * a + beta);
    case Op::Silu: return a * sigmoid(a);
    case Op::HardSwish: return a * hard(a / 6 + 0.5);
    case Op::Softplus: return std::log1p(std::exp(a));
    case Op::Mish: return a * std::tanh(std::log1p(std::exp(a)));
    case Op::Gelu: return 0.5 * a * (1 + std::erf(a / std::sqrt(2.0)));
    case Op::GeluTanh:
      return 0.5 * a * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (a + 0.044715 * a * a * a)));
    case Op::Clip: return std::fmin(std::fmax(a, alpha), beta);
    case Op::Add: return a + b;
    case Op::Sub: return a - b;
    case Op::Mul: return a * b;
    case Op::Div: return a / b;
    case Op::Pow: return std::pow(a, b);
    case Op::Min: return std::fmin(a, b);
    case Op::Max: return std::fmax(a, b);
    case Op::Less: return a < b;
    case Op::Greater: return a > b;
    case Op::Where: return a != 0 ? b : c;
    default: throw std::logic_error("the interpreter does not know this operation");
  }
}

class GraphInterpreter {
 public:
  explicit GraphInterpreter(const ir::Graph& graph) : graph_(graph) {}

  std::vector<Tensor> run(const std::vector<Tensor>& inputs) {
    for (std::size_t i = 0; i < inputs.size(); ++i) values_[graph_.inputs().at(i)] = inputs[i];
    for (const ir::NodeId id : graph_.topological_order()) {
      const ir::Node& node = graph_.node(id);
      values_[node.outputs.at(0)] = compute(node);
      if (values_[node.outputs[0]].dims != graph_.value(node.outputs[0]).type.dims)
        throw std::logic_error("wrong extents");
    }
    std::vector<Tensor> outputs;
    for (const ir::Graph::Output& output : graph_.outputs()) outputs.push_back(read(output.value));
    return outputs;
  }

 private:
  Tensor read(ir::ValueId id) const {
    const ir::Value& value = graph_.value(id);
    if (!value.is_constant()) return values_.at(id);
    if (value.format != WeightFormat::Strided) throw std::logic_error("packed weights");
    Tensor tensor{value.type.dims, {}};
    for (std::int64_t i = 0; i < ir::element_count(value.type.dims); ++i)
      tensor.data.push_back(constant(value, static_cast<std::size_t>(i)));
    return tensor;
  }

  static double constant(const ir::Value& value, std::size_t i) {
    switch (value.type.dtype) {
      case DType::F32: return value.constant.as<float>()[i];
      case DType::I64: return static_cast<double>(value.constant.as<std::int64_t>()[i]);
      case DType::Bool: return value.constant.as<std::uint8_t>()[i];
      default: throw std::logic_error("the interpreter does not know this type");
    }
  }

  bool has(const ir::Node& node, std::size_t i) const { return i < node.inputs.size() && node.inputs[i] != ir::kNone; }
  Tensor in(const ir::Node& node, std::size_t i) const { return read(node.inputs.at(i)); }
  const ir::Dims& out_dims(const ir::Node& node) const { return graph_.value(node.outputs[0]).type.dims; }

  Tensor compute(const ir::Node& node) {
    if (node.op == &ops::kPointwise) return pointwise(node);
    if (node.op == &ops::kReshape) return {out_dims(node), in(node, 0).data};
    if (node.op == &ops::kTranspose) return transpose(node);
    if (node.op == &ops::kSlice) return slice(node);
    if (node.op == &ops::kExpand) return expand(node);
    if (node.op == &ops::kConcat) return concat(node);
    if (node.op == &ops::kConv)
      return conv(node, in(node, 1), node.as<cpu::ConvAttributes>(), node.as<cpu::ConvAttributes>().groups);
    if (node.op == &ops::kDepthwiseConv) {
      const Tensor w = in(node, 1);
      return conv(node, w, node.as<cpu::DepthwiseConvAttributes>(), out_dims(node)[1] / w.dims[1]);
    }
    if (node.op == &ops::kWinogradConv) return winograd(node);
    if (node.op == &ops::kInvertedResidual) {
      return block(node, node.as<cpu::InvertedResidualAttributes>(), {{1, 1}, {1, 1}, {1, 1}, {0, 0}, 1, 0, {}, {0, 0}});
    }
    if (node.op == &ops::kStemBlock) {
      const auto& a = node.as<cpu::StemBlockAttributes>();
      return block(node, a.block, {{a.kernel[0], a.kernel[1]}, {a.stride[0], a.stride[1]}, {1, 1},
                                   {a.pad_begin[0], a.pad_begin[1]}, 1, 0, {}, {a.pad_end[0], a.pad_end[1]}});
    }
    if (node.op == &ops::kMatMul) return matmul(node);
    if (node.op == &ops::kPool) return pool(node);
    if (node.op == &ops::kReduce) return reduce(node);
    if (node.op == &ops::kNormalize) return normalize(node);
    if (node.op == &ops::kPad) return pad(node);
    if (node.op == &ops::kCast) {
      Tensor y = in(node, 0);
      const DType to = node.as<cpu::CastAttributes>().to;
      for (double& each : y.data) each = to == DType::Bool ? each != 0 : to == DType::I32 ? std::trunc(each) : each;
      return y;
    }
    throw std::logic_error("the interpreter does not know this operator");
  }

  Tensor pointwise(const ir::Node& node) const {
    const auto& program = node.as<scalar::PointwiseProgram>();
    std::vector<Tensor> operands;
    for (std::size_t i = 0; i < program.inputs; ++i) operands.push_back(in(node, i));
    Tensor y{out_dims(node), {}};
    for (std::size_t e = 0; e < operands[0].data.size(); ++e) {
      std::vector<double> v;
      for (const Tensor& operand : operands) v.push_back(operand.data[e]);
      for (unsigned s = 0; s < program.steps; ++s) {
        const scalar::PointwiseStep& step = program.step[s];
        v.push_back(apply_pointwise(step.op, v.at(step.a), v.at(step.b), v.at(step.c), step.alpha, step.beta));
      }
      y.data.push_back(v.back());
    }
    return y;
  }

  Tensor transpose(const ir::Node& node) const {
    const Tensor x = in(node, 0);
    const auto& attributes = node.as<ops::TransposeAttributes>();
    return tabulate(out_dims(node), [&](const ir::Dims& index) {
      ir::Dims from(index.size());
      for (std::size_t i = 0; i < index.size(); ++i) from[attributes.perm[i]] = index[i];
      return x.at(from);
    });
  }

  Tensor slice(const ir::Node& node) const {
    const Tensor x = in(node, 0);
    const auto& attributes = node.as<ops::SliceAttributes>();
    return tabulate(out_dims(node), [&](ir::Dims index) {
      for (std::size_t i = 0; i < index.size(); ++i) index[i] = attributes.start[i] + index[i] * attributes.step[i];
      return x.at(index);
    });
  }

  Tensor expand(const ir::Node& node) const {
    const Tensor x = in(node, 0);
    return tabulate(out_dims(node), [&](const ir::Dims& index) {
      ir::Dims from(index.end() - static_cast<std::ptrdiff_t>(x.dims.size()), index.end());
      for (std::size_t i = 0; i < from.size(); ++i) from[i] = x.dims[i] == 1 ? 0 : from[i];
      return x.at(from);
    });
  }

  Tensor concat(const ir::Node& node) const {
    const auto axis = static_cast<std::size_t>(node.as<ops::ConcatAttributes>().axis);
    std::vector<Tensor> parts;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) parts.push_back(in(node, i));
    return tabulate(out_dims(node), [&](ir::Dims index) {
      std::size_t part = 0;
      while (index[axis] >= parts[part].dims[axis]) index[axis] -= parts[part++].dims[axis];
      return parts[part].at(index);
    });
  }

  /// Bias of channel `channel`, then residual and activation.
  double finish(const ir::Node& node, const scalar::Epilogue& epilogue, double sum, std::int64_t channel,
                const ir::Dims& index) const {
    if (has(node, 2)) sum += in(node, 2).at({channel});
    const double residual = has(node, 3) ? in(node, 3).at(index) : 0;
    if (epilogue.residual == scalar::ResidualMode::BeforeActivation) sum += residual;
    sum = apply_pointwise(epilogue.activation, sum, 0, 0, epilogue.alpha, epilogue.beta);
    return epilogue.residual == scalar::ResidualMode::AfterActivation ? sum + residual : sum;
  }

  template <class Attributes>
  Tensor conv(const ir::Node& node, const Tensor& w, const Attributes& a, std::int64_t groups) const {
    const Tensor x = in(node, 0);
    const ir::Dims dims = out_dims(node);
    return tabulate(dims, [&](const ir::Dims& y) {
      double sum = 0;
      for_each_index({w.dims[1], w.dims[2], w.dims[3]}, [&](const ir::Dims& k) {
        const std::int64_t channel = y[1] / (dims[1] / groups) * w.dims[1] + k[0];
        const std::int64_t row = y[2] * a.stride[0] + k[1] * a.dilation[0] - a.pad_begin[0];
        const std::int64_t column = y[3] * a.stride[1] + k[2] * a.dilation[1] - a.pad_begin[1];
        if (row < 0 || row >= x.dims[2] || column < 0 || column >= x.dims[3]) return;
        sum += x.at({y[0], channel, row, column}) * w.at({y[1], k[0], k[1], k[2]});
      });
      return finish(node, a.epilogue, sum, y[1], y);
    });
  }

  /// As a convolution with the filters that the transformed weights U = G g G^T came from: g = R U R^T, where the rows of
  /// R undo those of G for the filter's first element (point 0), its last one (infinity) and its middle one (1 and -1).
  Tensor winograd(const ir::Node& node) const {
    const auto& a = node.as<cpu::WinogradConvAttributes>();
    const ir::Value& packed = graph_.value(node.inputs[1]);
    const std::int64_t side = a.tile + 2, inputs = packed.type.dims[1], outputs = packed.type.dims[2];
    const std::int64_t panels = (outputs + 15) / 16;
    const auto recover = [&](std::int64_t row, std::int64_t position) -> double {
      if (row == 0) return position != 0 ? 0 : a.tile == 2 ? 1 : 4;
      if (row == 2) return position == side - 1 ? 1 : 0;
      const double half = a.tile == 2 ? 1 : -3;
      return position == 1 ? half : position == 2 ? -half : 0;
    };
    const Tensor w = tabulate({outputs, inputs, 3, 3}, [&](const ir::Dims& at) {
      double sum = 0;
      for_each_index({side, side}, [&](const ir::Dims& p) {
        const std::int64_t row = ((p[0] * side + p[1]) * panels + at[0] / 16) * inputs + at[1];
        const float u = packed.constant.as<float>()[row * 16 + at[0] % 16];
        sum += recover(at[2], p[0]) * static_cast<double>(u) * recover(at[3], p[1]);
      });
      return sum;
    });
    const cpu::ConvAttributes as_conv = {{3, 3}, {1, 1}, {1, 1}, {a.pad_begin[0], a.pad_begin[1]}, 1, 0, a.epilogue,
                                         {a.pad_end[0], a.pad_end[1]}};
    return conv(node, w, as_conv, 1);
  }

  /// As the three convolutions that it is, the first one with that window.
  Tensor block(const ir::Node& node, const cpu::InvertedResidualAttributes& a, const cpu::ConvAttributes& first) const {
    using In = cpu::InvertedResidualInput;
    ir::Graph parts;
    std::vector<Tensor> inputs;
    const auto input = [&](std::size_t i) {
      if (!has(node, i)) return ir::kNone;
      inputs.push_back(in(node, i));
      return parts.add_input("i", graph_.value(node.inputs[i]).type);
    };
    const auto add = [&](const ops::OperatorDef& op, const std::vector<ir::ValueId>& operands, const auto& attributes) {
      return parts.node(parts.add_node(op, operands, ir::AttributeBlob::of(attributes), {})).outputs[0];
    };
    const auto dense = [&](ir::ValueId x, std::size_t weights, ir::ValueId residual, const scalar::Epilogue& epilogue,
                           cpu::ConvAttributes as_conv) {
      if (!has(node, weights)) return x;
      as_conv.epilogue = epilogue;
      return add(ops::kConv, {x, input(weights), input(weights + 1), residual}, as_conv);
    };
    const cpu::DepthwiseConvAttributes window = {{a.kernel[0], a.kernel[1]}, {a.stride[0], a.stride[1]}, {1, 1},
                                                 {a.pad_begin[0], a.pad_begin[1]}, a.depthwise,
                                                 {a.pad_end[0], a.pad_end[1]}};
    const ir::ValueId wide = dense(input(In::kX), In::kExpand, ir::kNone, a.expand, first);
    const ir::ValueId filtered =
        add(ops::kDepthwiseConv, {wide, input(In::kDepthwise), input(In::kDepthwiseBias), ir::kNone}, window);
    const cpu::ConvAttributes pointwise = {{1, 1}, {1, 1}, {1, 1}, {0, 0}, 1, 0, {}, {0, 0}};
    parts.add_output("y", dense(filtered, In::kProject, input(In::kResidual), a.project, pointwise));
    return GraphInterpreter(parts).run(inputs)[0];
  }

  Tensor matmul(const ir::Node& node) const {
    const Tensor a = in(node, 0);
    const Tensor b = in(node, 1);
    return tabulate(out_dims(node), [&](const ir::Dims& y) {
      double sum = 0;
      for (std::int64_t k = 0; k < a.dims.back(); ++k) {
        ir::Dims left = y;
        left.back() = k;
        ir::Dims right = b.dims.size() == 2 ? ir::Dims{k, y.back()} : y;
        right[right.size() - 2] = k;
        sum += a.at(left) * b.at(right);
      }
      return finish(node, node.as<cpu::MatMulAttributes>().epilogue, sum, y.back(), y);
    });
  }

  Tensor pool(const ir::Node& node) const {
    const Tensor x = in(node, 0);
    const auto& a = node.as<cpu::PoolAttributes>();
    return tabulate(out_dims(node), [&](const ir::Dims& y) {
      double best = -INFINITY;
      double sum = 0;
      double count = 0;
      for_each_index({a.kernel[0], a.kernel[1]}, [&](const ir::Dims& k) {
        const std::int64_t row = y[2] * a.stride[0] + k[0] * a.dilation[0] - a.pad_begin[0];
        const std::int64_t column = y[3] * a.stride[1] + k[1] * a.dilation[1] - a.pad_begin[1];
        const bool inside = row >= 0 && row < x.dims[2] && column >= 0 && column < x.dims[3];
        const bool declared = row < x.dims[2] + a.pad_end[0] && column < x.dims[3] + a.pad_end[1];
        if (inside || (declared && a.count_include_pad != 0)) ++count;
        if (!inside) return;
        best = std::fmax(best, x.at({y[0], y[1], row, column}));
        sum += x.at({y[0], y[1], row, column});
      });
      return a.kind == cpu::PoolKind::Max ? best : sum / count;
    });
  }

  /// Elements of x over `axes` around `index`.
  static std::vector<double> along(const Tensor& x, std::uint32_t axes, const ir::Dims& index) {
    ir::Dims extents = x.dims;
    for (std::size_t i = 0; i < extents.size(); ++i) extents[i] = (axes >> i & 1) != 0 ? extents[i] : 1;
    std::vector<double> values;
    for_each_index(extents, [&](ir::Dims at) {
      for (std::size_t i = 0; i < at.size(); ++i) at[i] = (axes >> i & 1) != 0 ? at[i] : index[i];
      values.push_back(x.at(at));
    });
    return values;
  }

  static double mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double each : values) sum += each;
    return sum / static_cast<double>(values.size());
  }

  Tensor reduce(const ir::Node& node) const {
    const Tensor x = in(node, 0);
    const auto& a = node.as<cpu::ReduceAttributes>();
    if (a.kind != cpu::ReduceKind::Mean && a.kind != cpu::ReduceKind::Sum)
      throw std::logic_error("the interpreter does not know this reduction");
    return tabulate(out_dims(node), [&](const ir::Dims& index) {
      const std::vector<double> values = along(x, a.axes, index);
      return mean(values) * (a.kind == cpu::ReduceKind::Sum ? static_cast<double>(values.size()) : 1.0);
    });
  }

  Tensor normalize(const ir::Node& node) const {
    const Tensor x = in(node, 0);
    const auto& a = node.as<cpu::NormalizeAttributes>();
    return tabulate(out_dims(node), [&](const ir::Dims& index) {
      std::vector<double> values = along(x, a.axes, index);
      const double center = a.rms != 0 ? 0 : mean(values);
      for (double& each : values) each = (each - center) * (each - center);
      double y = (x.at(index) - center) / std::sqrt(mean(values) + a.epsilon);
      if (has(node, 1)) y *= in(node, 1).at(index);
      return has(node, 2) ? y + in(node, 2).at(index) : y;
    });
  }

  Tensor pad(const ir::Node& node) const {
    const Tensor x = in(node, 0);
    const auto& a = node.as<cpu::PadAttributes>();
    if (a.mode != cpu::PadMode::Constant) throw std::logic_error("the interpreter only pads with a constant");
    float value = 0;
    std::memcpy(&value, a.value, sizeof(value));
    return tabulate(out_dims(node), [&](ir::Dims index) {
      for (std::size_t i = 0; i < index.size(); ++i) {
        index[i] -= a.before[i];
        if (index[i] < 0 || index[i] >= x.dims[i]) return static_cast<double>(value);
      }
      return x.at(index);
    });
  }

  const ir::Graph& graph_;
  std::map<ir::ValueId, Tensor> values_;
};

}  // namespace edgert::test
