// SPDX-License-Identifier: Apache-2.0
// One import of a model: walks nodes, functions and branches, hands each node to its operator's importer, and collects
// every problem. What depends on something that failed is passed over in silence, so that a cause is told once.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "onnx/attributes.h"
#include "onnx/model_data.h"
#include "onnx/order.h"
#include "ops/operator.h"

namespace edgert::onnx_import {

/// What a name stands for.
struct Binding {
  enum class State {
    Value,   ///< a value of the graph
    Tensor,  ///< a constant of the model that nobody has read yet
    Absent,  ///< an optional operand that was left out
    Failed,  ///< something whose problem has been reported
  };
  State state = State::Failed;
  ir::ValueId id = ir::kNone;
  const LoadedTensor* tensor = nullptr;
};

/// A graph that a node will own, while it is imported. What it reads of the graph around it becomes an input of its
/// own, or a constant.
struct Body {
  ir::Graph graph;
  std::vector<ir::ValueId> captured;             ///< values of the graph around it, in the order of the inputs they became
  std::unordered_map<ir::ValueId, ir::ValueId> known;  ///< what each captured value is called here
  std::vector<ir::ValueId> extents;  ///< of the captured values, as the graph around it knows them; no two the same number
};

/// Names visible to nodes: those of a body, and around it those of the bodies that enclose it.
struct Scope {
  Scope() = default;
  Scope(Scope* outer, ir::Graph* target, Body* own)
      : parent(outer), depth(outer->depth + 1), graph(target), body(own) {}

  Scope* parent = nullptr;
  std::uint32_t depth = 0;    ///< function calls and subgraphs around it
  ir::Graph* graph = nullptr;  ///< where its nodes go
  Body* body = nullptr;        ///< set when that is not the parent's graph
  std::unordered_map<std::string_view, Binding> names;
  std::unordered_map<std::string_view, Binding> captures;  ///< names of enclosing scopes, as values of `graph`
};

/// What the nodes of one function body, or of the model itself, have in common.
struct Frame {
  const Frame* caller = nullptr;
  const proto::FunctionProto* function = nullptr;  ///< null for the model
  std::string prefix;                              ///< of node and value names: the call's name and '/'
  const std::map<std::string, int>* opsets = nullptr;
  AttributeEnvironment attributes;
};

class Importer {
 public:
  Importer(const Model::Data& data, const ImportOptions& options);
  ir::Graph run();
  std::vector<std::string>& notes() { return notes_; }

 private:
  struct Support {
    ops::OnnxImporter importer = nullptr;
    std::string reason;  ///< why there is no importer
  };
  /// A node where it stands, with its operands.
  struct Call {
    const proto::NodeProto& node;
    const Frame& frame;
    Scope& scope;
    std::string name;
    std::string domain;
    int opset;  ///< 0 when the model imports no operator set of the domain
    std::vector<Binding> inputs;
    bool failed;  ///< whether an operand has failed
  };

  // importer.cpp
  void check_opset();
  void read_declarations();
  std::optional<ir::Dims> declared_dims(const Call& call, int output) const;
  void add_inputs(Scope& scope);
  void add_outputs(Scope& scope);
  void compare_with_declared(Scope& scope);
  void import_nodes(const Repeated<proto::NodeProto>& nodes, const Frame& frame, Scope& scope);
  void import_node(const proto::NodeProto& node, const Frame& frame, Scope& scope);
  void import_with(ops::OnnxImporter importer, const Call& call);
  /// Calls the importer, with bounded rows of operands that it computes one by one at their most.
  static void import_rows(ops::OnnxImporter importer, ops::OnnxNode& node);
  /// Why the node cannot take operands whose extents only a run knows, or nothing.
  std::string why_not_bounded(const Call& call) const;
  const Support& support_of(const std::string& domain, const std::string& op_type, int opset);
  std::string why_unsupported(const std::string& domain, const std::string& op_type, int opset) const;

  // scope.cpp
  void define(Scope& scope, std::string_view name, Binding binding, const Call* call);
  void define_initializers(const proto::GraphProto& graph, Scope& scope);
  /// Null when nothing defines the name. A constant of the model becomes a value of the graph.
  Binding* find(Scope& scope, std::string_view name);
  void materialize(std::string_view name, Binding& binding, ir::Graph& graph);
  /// What value `id` of the graph around `body` is called in it.
  ir::ValueId capture(Body& body, const ir::Graph& around, ir::ValueId id);
  /// The same of an extent; all that are one number have one name, since nothing in the body says that they are.
  ir::ValueId capture_extent(Body& body, const ir::Graph& around, ir::ValueId actual);
  void fail_outputs(const Call& call);
  void set_outputs(const Call& call, const std::vector<Binding>& outputs, std::size_t first_new_value);
  std::string name_of(const proto::NodeProto& node, const Frame& frame) const;
  void report(const Call& call, const std::string& reason);
  void report(const std::string& what, const std::string& reason);

  // inline.cpp
  const proto::FunctionProto* find_function(const Call& call) const;
  void inline_function(const proto::FunctionProto& function, const Call& call);
  bool may_inline(const proto::FunctionProto& function, const Call& call);
  AttributeEnvironment environment_of(const proto::FunctionProto& function, const Call& call);
  const std::map<std::string, int>& opsets_in(const proto::FunctionProto& function);
  void import_branch(const proto::GraphProto& branch, const Call& call);
  /// Reports what is wrong inside the bodies of a node that is not imported itself.
  void check_bodies(const Call& call);
  void check_body(const proto::GraphProto& body, const Call& call);
  bool too_deep(const Call& call);

  // control_flow.cpp
  struct LoopSpec;
  void import_if(const Call& call);
  void import_either(const Call& call, const proto::GraphProto& then_branch, const proto::GraphProto& else_branch);
  void import_loop(const Call& call);
  void import_scan(const Call& call);
  /// The nodes of a subgraph in `scope`, and what its outputs are; nothing when that failed, which has been reported.
  std::optional<std::vector<Binding>> import_graph(const proto::GraphProto& graph, const Call& call, Scope& scope);
  std::optional<std::vector<ir::ValueId>> build_loop(const Call& call, const LoopSpec& spec);
  /// Nothing, and `failed` false, when the loop cannot be unrolled.
  std::optional<std::vector<ir::ValueId>> unroll(const Call& call, const LoopSpec& spec, bool& failed);
  std::optional<std::vector<ir::ValueId>> add_loop_node(const Call& call, const LoopSpec& spec);
  std::optional<std::int64_t> most_turns(const Call& call, const LoopSpec& spec);

  /// Counts against a limit on work that a small file with functions could otherwise multiply without end.
  void spend(const Call& call, std::uint64_t work);

  const Model::Data& data_;
  const ImportOptions& options_;
  const ops::Registry& registry_;
  ir::Graph graph_;
  std::uint64_t nodes_left_;
  std::uint64_t work_left_;
  std::vector<Problem> problems_;
  std::set<std::pair<const void*, std::string>> reported_;  ///< node and reason: a function's node is told once
  std::vector<std::string> notes_;
  std::unordered_map<std::string, Support> support_;
  std::unordered_set<const proto::FunctionProto*> visited_;
  std::unordered_map<const void*, NodeOrder> orders_;  ///< by list of nodes: bodies may be imported many times
  std::unordered_map<const proto::FunctionProto*, std::map<std::string, int>> function_opsets_;
  std::unordered_map<std::string_view, ir::Dims> declared_;  ///< extents of the model's values, -1 where not known
};

}  // namespace edgert::onnx_import
