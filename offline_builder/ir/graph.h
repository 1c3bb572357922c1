// SPDX-License-Identifier: Apache-2.0
// The graph: values (tensors) and nodes (operators), shared by the importer, the passes and the lowering.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ir/types.h"

namespace edgert::ir {

struct OperatorDef;  // ir/operator_def.h

using ValueId = std::uint32_t;
using NodeId = std::uint32_t;
inline constexpr std::uint32_t kNone = 0xffffffffu;

/// Dimension `dim` of a value is an upper bound: what a run really has is the int64 scalar `actual`. Elements beyond it
/// are undefined and not read. `actual` is an input of the graph, an output of the node that makes the value, or one of
/// the extents of that node's inputs; so whoever comes after the value's producer comes after the extent's.
struct Extent {
  std::uint32_t dim;
  ValueId actual;
  bool operator==(const Extent& other) const { return dim == other.dim && actual == other.actual; }
};

class Graph;

/// A tensor of the graph: an input, a constant, or the output of one node.
struct Value {
  std::string name;  ///< ONNX name, or one made from the node's; unique names are not required
  TensorType type;
  WeightFormat format = WeightFormat::Strided;
  Bytes constant;            ///< set for constants: dense row-major elements, or the packed form that `format` names
  NodeId producer = kNone;   ///< kNone for inputs and constants
  std::uint32_t output = 0;  ///< which output of the producer
  /// Order of the dimensions in memory, outermost first; empty for row-major. Set by the layout pass; type.dims stays in
  /// ONNX's order.
  std::vector<std::uint8_t> order;
  /// The type of the elements in memory where it is another one than type.dtype, which says what the value means: f16 for
  /// an f32 value. Set by narrow_floats for targets that compute so; Undefined otherwise.
  DType stored = DType::Undefined;
  std::vector<Extent> extents;  ///< of dimensions known only at run time, ascending by `dim`; empty for constants

  DType stored_type() const { return stored == DType::Undefined ? type.dtype : stored; }
  bool is_constant() const { return static_cast<bool>(constant); }
};

struct Node {
  const OperatorDef* op = nullptr;
  std::vector<ValueId> inputs;  ///< kNone: an absent optional input
  std::vector<ValueId> outputs;
  AttributeBlob attributes;
  std::vector<std::string> provenance;  ///< the ONNX nodes that this one stands for
  /// What the node runs (If, Loop): graphs of their own, whose inputs the operator's file describes. They read nothing
  /// of the graph around them but through the node's inputs.
  std::vector<Graph> bodies;
  bool alive = true;

  template <class Attributes>
  const Attributes& as() const {
    return attributes.as<Attributes>();
  }
};

/// Owns values and nodes. Ids are stable; erased nodes stay as dead entries. Not thread-safe.
class Graph {
 public:
  ValueId add_input(std::string name, TensorType type);
  ValueId add_constant(std::string name, TensorType type, Bytes bytes, WeightFormat format = WeightFormat::Strided);

  /// Adds a node and its outputs, whose types the operator infers; throws BuildError when operands don't fit.
  NodeId add_node(const OperatorDef& op, std::vector<ValueId> inputs, AttributeBlob attributes,
                  std::vector<std::string> provenance, std::vector<Graph> bodies = {});
  /// add_node for one output, folded at once into a constant when all inputs are constants and `fold` allows it.
  ValueId emit(const OperatorDef& op, std::vector<ValueId> inputs, AttributeBlob attributes,
               std::vector<std::string> provenance);

  const Value& value(ValueId id) const { return values_.at(id); }
  Value& value(ValueId id) { return values_.at(id); }
  const Node& node(NodeId id) const { return nodes_.at(id); }
  std::vector<Graph>& bodies(NodeId id) { return nodes_.at(id).bodies; }
  std::size_t value_count() const { return values_.size(); }
  std::size_t node_count() const { return nodes_.size(); }  ///< dead ones included
  /// The node that makes `id`, or null for inputs and constants.
  const Node* producer(ValueId id) const;

  /// Live nodes that read `id`, each as often as it does.
  const std::vector<NodeId>& users(ValueId id) const { return users_.at(id); }
  bool is_output(ValueId id) const;  ///< of the graph, or what a state becomes
  /// Whether exactly one node reads `id`, once, and it is no graph output.
  bool has_single_use(ValueId id) const { return users(id).size() == 1 && !is_output(id); }
  bool is_bounded(ValueId id) const { return !values_.at(id).extents.empty(); }

  void set_input(NodeId node, std::size_t index, ValueId value);
  void append_input(NodeId node, ValueId value);
  void set_attributes(NodeId node, AttributeBlob attributes);
  void add_provenance(NodeId node, const std::vector<std::string>& names);
  /// Every reader of `from`, graph outputs included, reads `to` instead. A graph output keeps its binding name.
  void replace_uses(ValueId from, ValueId to);
  /// Nothing may read the node's outputs any more.
  void erase(NodeId node);

  /// Live nodes, each after the producers of its inputs; among those possible the lowest id first.
  std::vector<NodeId> topological_order() const;

  /// Graph outputs have a binding name of their own, since several may be one value.
  struct Output {
    std::string name;
    ValueId value;
  };
  /// A tensor that lives from run to run: `input` is what the run before left (or `initial`, or zeros), `output` what
  /// this one leaves. Neither is an input or output of the graph.
  struct State {
    std::string name;
    ValueId input;
    ValueId output;
    Bytes initial;  ///< dense; empty: zeros
  };
  const std::vector<State>& states() const { return states_; }
  /// Makes a state of input `input` and output `output`, by their places in inputs() and outputs(), which lose them.
  /// Throws BuildError when their types differ.
  void make_state(std::size_t input, std::size_t output, Bytes initial = {});
  void set_state_output(std::size_t state, ValueId value);

  const std::vector<ValueId>& inputs() const { return inputs_; }
  const std::vector<Output>& outputs() const { return outputs_; }
  void add_output(std::string name, ValueId value);
  /// Output `index` is `value` from now on; its name stays.
  void set_output(std::size_t index, ValueId value);

  std::string name;
  std::vector<std::pair<std::string, std::string>> metadata;

 private:
  void check_operand(ValueId id) const;

  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::vector<std::vector<NodeId>> users_;
  std::vector<ValueId> inputs_;
  std::vector<Output> outputs_;
  std::vector<State> states_;
};

/// Every invariant of a graph that passes rely on; throws std::logic_error that names the first one broken.
void verify(const Graph& graph);

/// The graph as text, one node a line, and as Graphviz.
std::string to_text(const Graph& graph);
std::string to_dot(const Graph& graph);

/// Runs a node whose inputs are all constants with the CPU backend's baseline kernels, so that the result does not
/// depend on the host's CPU. Empty when the operator cannot be evaluated.
std::optional<std::vector<Bytes>> evaluate(const Graph& graph, const Node& node);

}  // namespace edgert::ir
