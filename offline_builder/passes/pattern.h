// SPDX-License-Identifier: Apache-2.0
// The words that passes are written in: what a node is, which constant a value is behind its views, and how one value
// takes the place of another.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "edgert/scalar/pointwise.h"
#include "ir/graph.h"
#include "ops/definitions.h"

namespace edgert::passes {

using ir::Graph;
using ir::kNone;
using ir::Node;
using ir::NodeId;
using ir::ValueId;
using scalar::PointwiseOp;
using scalar::PointwiseProgram;
using scalar::PointwiseStep;

/// Repeats a sweep over the graph until it changes nothing; returns the number of rewrites.
int until_stable(Graph& graph, int (*sweep)(Graph& graph));

// Pointwise nodes

/// The instruction of a Pointwise node that has only one; null for every other node.
const PointwiseStep* single_instruction(const Node& node);
/// The value that operand `i` of a single-instruction node reads.
ValueId operand(const Node& node, unsigned i);
/// The node that makes `id` when it is the single instruction `op` on f32, else null.
const Node* match(const Graph& graph, ValueId id, PointwiseOp op);
/// A node of one instruction on `operands`; `alpha` and `beta` are the instruction's.
NodeId add_pointwise(Graph& graph, PointwiseOp op, DType type, const std::vector<ValueId>& operands, float alpha,
                     float beta, std::vector<std::string> provenance);

// Constants

/// The window of a constant that `id` is; nothing when it is no constant, not even behind views.
struct ConstantWindow {
  ValueId root;
  ops::StridedView view;
};
std::optional<ConstantWindow> constant_window(const Graph& graph, ValueId id);
/// The number that a constant holds in all its elements. Large tables are not searched for it.
std::optional<double> uniform_value(const Graph& graph, ValueId id);
bool is_uniform(const Graph& graph, ValueId id, double value);
/// The f32 elements along `axis` of a constant that is the same everywhere else.
std::optional<std::vector<float>> vector_along(const Graph& graph, ValueId id, std::size_t axis);
ValueId add_floats(Graph& graph, const std::string& name, const ir::Dims& dims, const std::vector<float>& values);

// Rewriting

/// Gives the memory of a constant back when nobody reads it; it is no constant any more.
void release_unread(Graph& graph, ValueId id);
/// Erases the node that makes `id` when nobody reads it, and so on upwards, constants included.
void prune(Graph& graph, ValueId id);
/// Every reader of `old` reads `other` instead, a value that was there before; what only `old` needed is erased and its
/// provenance passes to the node behind `other`.
void replace_value(Graph& graph, ValueId old, ValueId other);
/// The same for a value that is computed anew in the place of `old`: it takes over the name too.
void take_place(Graph& graph, ValueId old, ValueId fresh);
/// Names of the ONNX nodes behind one, for people: "a (Conv), b (Relu)"; the operator's name when there are none.
std::string names_of(const Node& node);
/// Names of the ONNX nodes behind several nodes, each once.
std::vector<std::string> joined_provenance(const Graph& graph, const std::vector<NodeId>& nodes);
/// Whether operator `op` makes one output of exactly `type` from these operands.
bool makes(const Graph& graph, const ops::OperatorDef& op, const std::vector<ValueId>& inputs,
           const ir::AttributeBlob& attributes, const ir::TensorType& type);

inline const ir::TensorType& type_of(const Graph& graph, ValueId id) { return graph.value(id).type; }
inline const ir::Dims& dims_of(const Graph& graph, ValueId id) { return graph.value(id).type.dims; }
inline bool is(const Node* node, const ops::OperatorDef& op) { return node != nullptr && node->op == &op; }

// Views by their plain meaning
ValueId add_reshape(Graph& graph, ValueId x, const ir::Dims& dims, std::vector<std::string> provenance);
ValueId add_expand(Graph& graph, ValueId x, const ir::Dims& dims, std::vector<std::string> provenance);
ValueId add_transpose(Graph& graph, ValueId x, const std::vector<std::uint8_t>& perm,
                      std::vector<std::string> provenance);

}  // namespace edgert::passes
