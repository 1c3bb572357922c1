// SPDX-License-Identifier: Apache-2.0
// Loop, with one body. Inputs: trip count, condition, initial values, what the body's last inputs stand for. Outputs:
// carried values, collected ones, the number of turns. The kernel's further operands are values of the body.
#include "edgert/cpu/ops/loop.h"

#include "ops/bounded.h"
#include "ops/compose.h"
#include "ops/control_flow.h"

namespace edgert::ops {
namespace {

using cpu::LoopAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Loop>();

const ir::TensorType& type_of(const ir::Graph& graph, ir::ValueId id) { return graph.value(id).type; }

std::vector<ir::TensorType> infer(const InferContext& context) {
  const auto& attributes = context.attributes.as<LoopAttributes>();
  require(context.bodies.size() == 1, "one body expected");
  const ir::Graph& body = context.bodies[0];
  const std::size_t carried = attributes.carried;
  const std::size_t tests = attributes.tests_condition != 0 ? 1 : 0;
  require(body.outputs().size() == tests + carried + attributes.collected, "the body's outputs are not as many as expected");
  require(body.inputs().size() >= 1 + carried && context.inputs.size() == body.inputs().size() + 1,
          "the body's inputs are not as many as expected");
  for (std::size_t i = 2; i < context.inputs.size(); ++i) {
    require(context.has(i) && context.type(i) == type_of(body, body.inputs()[i - 1]), "a body's input has another type outside");
  }
  std::vector<ir::TensorType> types;
  for (std::size_t i = 0; i < carried; ++i) {
    const ir::Graph::Output& next = body.outputs()[tests + i];
    const ir::TensorType& type = context.type(2 + i);
    require(type_of(body, next.value) == type && !body.is_bounded(next.value),
            "carried value '" + next.name + "' is " + ir::to_string(type) + " before a turn and " +
                ir::to_string(type_of(body, next.value)) + " after it; only loops that are unrolled may change that");
    types.push_back(type);
  }
  for (std::size_t i = tests + carried; i < body.outputs().size(); ++i) {
    const ir::Graph::Output& each = body.outputs()[i];
    require(!body.is_bounded(each.value), "'" + each.name + "' has an extent that differs from turn to turn");
    ir::TensorType type = type_of(body, each.value);
    type.dims.insert(type.dims.begin(), attributes.most_turns);
    types.push_back(type);
  }
  types.push_back({DType::I64, {}});
  return types;
}

Extents extents(const InferContext& context) {
  const auto& attributes = context.attributes.as<LoopAttributes>();
  for (std::size_t i = 0; i < attributes.carried; ++i) refuse_bounded(context, 2 + i, "the carried value");
  Extents result(attributes.carried);
  for (std::uint32_t i = 0; attributes.exact == 0 && i < attributes.collected; ++i) {
    result.push_back({{0, ir::kNone, attributes.carried + attributes.collected}});
  }
  return result;
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& attributes = blob.as<LoopAttributes>();
  const std::string most = attributes.most_turns == INT64_MAX ? "any number of" : std::to_string(attributes.most_turns);
  return (attributes.exact != 0 ? "" : "at most ") + most + " turns, " + std::to_string(attributes.carried) +
         " carried, " + std::to_string(attributes.collected) + " collected";
}

}  // namespace

extern const OperatorDef kLoop = [] {
  OperatorDef op;
  op.name = "Loop";
  op.attribute_bytes = sizeof(LoopAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.layout = LayoutRule::RowMajor;
  return op;
}();

std::vector<ir::ValueId> add_loop(OnnxNode& node, const LoopNode& loop, ir::Graph body) {
  LoopAttributes attributes{};
  attributes.most_turns = loop.most_turns;
  attributes.carried = static_cast<std::uint32_t>(loop.carried.size());
  attributes.tests_condition = loop.tests_condition ? 1 : 0;
  attributes.collected =
      static_cast<std::uint32_t>(body.outputs().size() - attributes.tests_condition - attributes.carried);
  attributes.exact = loop.exact ? 1 : 0;
  std::vector<ir::ValueId> inputs{loop.trip_count, loop.condition};
  inputs.insert(inputs.end(), loop.carried.begin(), loop.carried.end());
  inputs.insert(inputs.end(), loop.captured.begin(), loop.captured.end());
  std::vector<ir::Graph> bodies;
  bodies.push_back(std::move(body));
  const ir::NodeId id =
      node.graph.add_node(kLoop, inputs, ir::AttributeBlob::of(attributes), {node.provenance()}, std::move(bodies));
  std::vector<ir::ValueId> outputs = node.graph.node(id).outputs;
  outputs.pop_back();
  return outputs;
}

std::optional<BodyInput> captured_by(const ir::Node& node, std::size_t i) {
  if (node.op == &kLoop && i >= 2 + node.as<LoopAttributes>().carried) return BodyInput{0, i - 1};
  if (node.op != &kIf || i == 0) return std::nullopt;
  const std::size_t first = node.bodies[0].inputs().size();
  return i - 1 < first ? BodyInput{0, i - 1} : BodyInput{1, i - 1 - first};
}

void register_loop(Registry& registry) { registry.add(kLoop); }

}  // namespace edgert::ops
