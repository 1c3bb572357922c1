// SPDX-License-Identifier: Apache-2.0
// Recurrent, and ONNX RNN, GRU and LSTM: one MatMul for the inputs of all steps and both directions, then the
// recurrence.
#include "edgert/cpu/ops/recurrent.h"

#include "ops/compose.h"
#include "ops/pack.h"
#include "ops/runnable.h"

namespace edgert::ops {

extern const OperatorDef kRecurrent;

namespace {

using cpu::RecurrentActivation;
using cpu::RecurrentAttributes;
using cpu::RecurrentCell;
using cpu::RecurrentDirection;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Recurrent>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 2, 7);
  const auto& attributes = context.attributes.as<RecurrentAttributes>();
  const Dims& x = context.type(0).dims;
  const Dims& r = context.type(1).dims;
  require(x.size() == 4 && r.size() == 3, "x must have rank 4 and r rank 3");
  std::vector<ir::TensorType> outputs{{DType::F32, {x[0], x[2], x[1], r[1]}}, {DType::F32, {x[2], x[1], r[1]}}};
  if (attributes.cell == RecurrentCell::Lstm) outputs.push_back(outputs[1]);
  // The kernel judges packed weights when the plan is loaded; until then they are a tensor of the same dims.
  return runnable(kEntry, context, outputs);
}

std::string describe(const ir::AttributeBlob& blob) {
  static constexpr const char* kCells[] = {"rnn", "gru", "lstm"};
  static constexpr const char* kDirections[] = {"forward", "reverse", "both directions"};
  const auto& attributes = blob.as<RecurrentAttributes>();
  return std::string(kCells[static_cast<unsigned>(attributes.cell)]) + ' ' +
         kDirections[static_cast<unsigned>(attributes.direction)];
}

std::uint64_t work(const InferContext& context) {
  return static_cast<std::uint64_t>(
      ir::element_count({ir::element_count(context.type(0).dims), context.type(1).dims[1]}));
}

void pack(ir::Graph& graph, ir::NodeId id) {
  const ir::Value& r = graph.value(graph.node(id).inputs[1]);
  if (!r.is_constant() || r.format != WeightFormat::Strided) return;
  const Dims dims = r.type.dims;
  const float* const from = r.constant.as<float>();
  ir::Bytes bytes = pack_panels(dims[0], dims[1], dims[2], [&](std::int64_t g, std::int64_t k, std::int64_t n) {
    return from[(g * dims[1] + k) * dims[2] + n];
  });
  graph.set_input(id, 1, graph.add_constant(r.name, {DType::F32, dims}, std::move(bytes), WeightFormat::PanelF32x16));
}

/// An ONNX activation; alpha and beta are taken from the lists by the functions that have them, in order.
struct ActivationRule {
  const char* name;
  PointwiseOp op;
  bool has_alpha, has_beta;
  float alpha, beta;
};
constexpr ActivationRule kActivations[] = {
    {"Relu", PointwiseOp::Relu, false, false, 0, 0},
    {"Tanh", PointwiseOp::Tanh, false, false, 0, 0},
    {"Sigmoid", PointwiseOp::Sigmoid, false, false, 0, 0},
    {"LeakyRelu", PointwiseOp::LeakyRelu, true, false, 0.01f, 0},
    {"ThresholdedRelu", PointwiseOp::ThresholdedRelu, true, false, 1, 0},
    {"HardSigmoid", PointwiseOp::HardSigmoid, true, true, 0.2f, 0.5f},
    {"Elu", PointwiseOp::Elu, true, false, 1, 0},
    {"Softsign", PointwiseOp::Softsign, false, false, 0, 0},
    {"Softplus", PointwiseOp::Softplus, false, false, 0, 0},
};

std::string lower_case(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

void read_activations(const OnnxNode& node, std::size_t directions, RecurrentAttributes& attributes) {
  std::vector<std::string> names;
  const bool lstm = attributes.cell == RecurrentCell::Lstm;
  const std::size_t each = attributes.cell == RecurrentCell::Rnn ? 1 : lstm ? 3 : 2;
  const auto given = node.attributes.find("activations");
  if (given != node.attributes.end()) names = given->second.strings;
  if (names.empty()) {
    for (std::size_t d = 0; d < directions; ++d) {
      if (attributes.cell != RecurrentCell::Rnn) names.push_back("Sigmoid");
      names.push_back("Tanh");
      if (lstm) names.push_back("Tanh");
    }
  }
  // RNN's default in the schema has two entries, whatever the direction.
  if (names.size() < each * directions) node.fail("too few activations");
  const std::vector<float> alphas = node.floats_or("activation_alpha", {});
  const std::vector<float> betas = node.floats_or("activation_beta", {});
  std::size_t next_alpha = 0;
  std::size_t next_beta = 0;
  for (auto& direction : attributes.activation) {
    for (RecurrentActivation& activation : direction) activation.op = PointwiseOp::Identity;
  }
  for (std::size_t i = 0; i < each * directions; ++i) {
    const ActivationRule* rule = nullptr;
    for (const ActivationRule& candidate : kActivations) {
      if (lower_case(candidate.name) == lower_case(names[i])) rule = &candidate;
    }
    if (rule == nullptr) node.fail("activation '" + names[i] + "' is not supported");
    RecurrentActivation& activation = attributes.activation[i / each][i % each];
    activation.op = rule->op;
    activation.alpha = rule->has_alpha && next_alpha < alphas.size() ? alphas[next_alpha++] : rule->alpha;
    activation.beta = rule->has_beta && next_beta < betas.size() ? betas[next_beta++] : rule->beta;
  }
}

struct Layer {
  std::int64_t directions, gates, hidden;
};

RecurrentAttributes read_attributes(const OnnxNode& node) {
  RecurrentAttributes attributes{};
  attributes.cell = node.op_type == "LSTM"  ? RecurrentCell::Lstm
                    : node.op_type == "GRU" ? RecurrentCell::Gru
                                            : RecurrentCell::Rnn;
  const std::string direction = node.string_or("direction", "forward");
  if (direction == "reverse") {
    attributes.direction = RecurrentDirection::Reverse;
  } else if (direction == "bidirectional") {
    attributes.direction = RecurrentDirection::Both;
  } else if (direction != "forward") {
    node.fail("direction '" + direction + "' is not known");
  }
  attributes.linear_before_reset = node.int_or("linear_before_reset", 0) != 0 ? 1 : 0;
  attributes.input_forget = node.int_or("input_forget", 0) != 0 ? 1 : 0;
  attributes.clip = node.float_or("clip", 0);
  read_activations(node, attributes.direction == RecurrentDirection::Both ? 2 : 1, attributes);
  return attributes;
}

/// The part of the biases [D, 2 * G * H] that is added to the gates whatever the state is, [D * G * H]. With
/// `reset_later` the hidden gate's recurrent bias is not in it, but returned as `recurrent` [D, H].
ValueId gate_bias(OnnxNode& node, const Layer& layer, ValueId bias, bool reset_later, ValueId& recurrent) {
  const std::int64_t width = layer.gates * layer.hidden;
  require_dims(dims_of(node, bias), {layer.directions, 2 * width}, "the bias");
  ValueId state = slice(node, bias, 1, width, width);
  if (reset_later) {
    recurrent = slice(node, bias, 1, 2 * width - layer.hidden, layer.hidden);
    state = pad_zero(node, slice(node, state, 1, 0, width - layer.hidden), {0, 0}, {0, layer.hidden});
  }
  const ValueId sum = binary(node, PointwiseOp::Add, slice(node, bias, 1, 0, width), state);
  return reshape(node, sum, {layer.directions * width});
}

void import_recurrent(OnnxNode& node) {
  const RecurrentAttributes attributes = read_attributes(node);
  const bool lstm = attributes.cell == RecurrentCell::Lstm;
  const bool batch_first = node.int_or("layout", 0) != 0;
  const DType dtype = node.type(0).dtype;
  const auto operand = [&](std::size_t i) { return node.has_input(i) ? cast_narrow(node, node.inputs[i]) : ir::kNone; };
  ValueId x = cast_narrow(node, node.input(0));
  const ValueId w = cast_narrow(node, node.input(1));
  const ValueId r = cast_narrow(node, node.input(2));
  if (dims_of(node, x).size() != 3 || dims_of(node, w).size() != 3 || dims_of(node, r).size() != 3) {
    node.fail("X, W and R must have rank 3");
  }
  if (batch_first) x = transpose(node, x, {1, 0, 2});
  const Dims x_dims = dims_of(node, x);
  const Layer layer{attributes.direction == RecurrentDirection::Both ? 2 : 1,
                    cpu::recurrent_detail::gates_of(attributes.cell), dims_of(node, r)[2]};
  const std::int64_t width = layer.gates * layer.hidden;
  require_dims(dims_of(node, w), {layer.directions, width, x_dims[2]}, "W");
  require_dims(dims_of(node, r), {layer.directions, width, layer.hidden}, "R");

  ValueId recurrent_bias = ir::kNone;
  ValueId bias = ir::kNone;
  if (node.has_input(3)) {
    const bool reset_later = attributes.cell == RecurrentCell::Gru && attributes.linear_before_reset != 0;
    bias = gate_bias(node, layer, operand(3), reset_later, recurrent_bias);
  }
  const std::int64_t columns = layer.directions * width;
  const ValueId inputs = matmul(node, x, transpose(node, reshape(node, w, {columns, x_dims[2]}), {1, 0}), bias);
  const ValueId gates = reshape(node, inputs, {x_dims[0], x_dims[1], layer.directions, width});
  const Dims gate_weights{layer.directions * layer.gates, layer.hidden, layer.hidden};
  const ValueId weights = transpose(node, reshape(node, r, gate_weights), {0, 2, 1});
  const auto state = [&](std::size_t i) {
    const ValueId value = operand(i);
    return batch_first && value != ir::kNone ? transpose(node, value, {1, 0, 2}) : value;
  };
  const ValueId lengths = node.has_input(4) ? cast(node, node.inputs[4], DType::I32) : ir::kNone;
  const ir::NodeId id = node.graph.add_node(
      kRecurrent,
      {gates, weights, state(5), lstm ? state(6) : ir::kNone, lstm ? operand(7) : ir::kNone, recurrent_bias, lengths},
      ir::AttributeBlob::of(attributes), {node.provenance()});
  const std::vector<ValueId> outputs = node.graph.node(id).outputs;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!node.wants_output(i)) continue;
    ValueId y = outputs[i];
    if (batch_first) {
      y = i == 0 ? transpose(node, y, {2, 0, 1, 3}) : transpose(node, y, {1, 0, 2});
    }
    node.set_output(i, cast(node, y, dtype));
  }
}

}  // namespace

const OperatorDef kRecurrent = [] {
  OperatorDef op;
  op.name = "Recurrent";
  op.attribute_bytes = sizeof(RecurrentAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.work = &work;
  op.pack = &pack;
  return op;
}();

void register_recurrent(Registry& registry) {
  registry.add(kRecurrent);
  registry.add_onnx("RNN", &import_recurrent, 7);
  registry.add_onnx("GRU", &import_recurrent, 7);
  registry.add_onnx("LSTM", &import_recurrent, 7);
}

}  // namespace edgert::ops
