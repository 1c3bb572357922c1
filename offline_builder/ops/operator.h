// SPDX-License-Identifier: Apache-2.0
// ONNX nodes as importers see them, and the registry of operators and importers. One file in this folder
// per operator: it defines `void register_<file stem>(Registry&)`, which the build finds by the file's name.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "ir/operator_def.h"

namespace edgert::ops {

using ir::concat_windows;
using ir::ConcatAttributes;
using ir::dense_window;
using ir::InferContext;
using ir::is_concat;
using ir::LayoutRule;
using ir::OperatorDef;
using ir::StridedView;

/// One ONNX node as an importer sees it: attributes and operands, no protobuf.
class OnnxNode {
 public:
  struct Attribute {
    enum class Kind { Int, Float, String, Ints, Floats, Strings, Tensor, Graph } kind = Kind::Int;
    std::int64_t i = 0;
    float f = 0;
    std::string s;
    std::vector<std::int64_t> ints;
    std::vector<float> floats;
    std::vector<std::string> strings;
    ir::TensorType tensor_type;
    ir::Bytes tensor;
  };

  OnnxNode(ir::Graph& target, std::string node_name, std::string type, std::string node_domain, int version)
      : graph(target), name(std::move(node_name)), op_type(std::move(type)), domain(std::move(node_domain)), opset(version) {}

  ir::Graph& graph;
  const std::string name;     ///< the node's name, or one made from its first output's
  const std::string op_type;
  const std::string domain;   ///< "" for the default domain
  const int opset;            ///< version of the node's domain that the model imports
  std::map<std::string, Attribute> attributes;
  std::vector<ir::ValueId> inputs;        ///< kNone for an omitted optional one
  std::vector<std::string> output_names;  ///< "" for an omitted one
  std::vector<ir::ValueId> outputs;       ///< to be set by the importer, kNone at first
  /// What the model declares the outputs' extents to be, -1 where it does not say; none where it declares no shape.
  std::vector<std::optional<ir::Dims>> declared_dims;
  bool in_body = false;  ///< `graph` is a body, whose inputs are no inputs of the model

  /// Stops the import of this node with a reason; the importer of the model adds node, operator and opset.
  [[noreturn]] void fail(const std::string& reason) const;

  bool has_input(std::size_t i) const { return i < inputs.size() && inputs[i] != ir::kNone; }
  /// A required input; fails when it is absent.
  ir::ValueId input(std::size_t i) const;
  const ir::TensorType& type(std::size_t i) const { return graph.value(input(i)).type; }
  std::optional<ir::Dims> declared(std::size_t i) const {
    return i < declared_dims.size() ? declared_dims[i] : std::nullopt;
  }
  bool wants_output(std::size_t i) const { return i < output_names.size() && !output_names[i].empty(); }

  bool has(const std::string& attribute) const { return attributes.count(attribute) != 0; }
  std::int64_t int_or(const std::string& attribute, std::int64_t fallback) const;
  std::int64_t required_int(const std::string& attribute) const;
  float float_or(const std::string& attribute, float fallback) const;
  std::string string_or(const std::string& attribute, const std::string& fallback) const;
  std::vector<std::int64_t> ints_or(const std::string& attribute, const std::vector<std::int64_t>& fallback) const;
  std::vector<float> floats_or(const std::string& attribute, const std::vector<float>& fallback) const;

  /// The elements of input i when it is a constant int32 or int64 tensor (shapes, axes, pads); fails when it isn't
  /// constant, naming --value as the way to fix it.
  std::vector<std::int64_t> constant_ints(std::size_t i) const;
  /// The elements of input i when it is a constant floating-point tensor.
  std::vector<float> constant_floats(std::size_t i) const;
  bool is_constant(std::size_t i) const { return has_input(i) && graph.value(inputs[i]).is_constant(); }

  /// Adds a node with this ONNX node as provenance and returns its (first) output.
  template <class Attributes>
  ir::ValueId emit(const OperatorDef& op, std::vector<ir::ValueId> operands, const Attributes& values) {
    return graph.emit(op, std::move(operands), ir::AttributeBlob::of(values), {provenance()});
  }
  void set_output(std::size_t i, ir::ValueId value);
  /// "name (OpType)"
  std::string provenance() const { return name + " (" + op_type + ")"; }
};

using OnnxImporter = void (*)(OnnxNode&);

/// The operators and importers that the builder knows. Filled once by register_all(); read-only afterwards.
class Registry {
 public:
  static const Registry& instance();

  void add(const OperatorDef& op);
  /// Importer for ONNX operator `op_type` of `domain` in opsets since .. until, both included (of that domain).
  void add_onnx(const std::string& op_type, OnnxImporter importer, int since = 1, int until = 1 << 30,
                const std::string& domain = "");

  /// Null when nothing imports this operator at this opset.
  OnnxImporter find_onnx(const std::string& domain, const std::string& op_type, int opset) const;
  const std::vector<const OperatorDef*>& operators() const { return operators_; }
  /// The CPU kernel with this number in cpu/operators.def; null when there is none.
  const cpu::OperatorEntry* find_kernel(std::uint16_t id) const noexcept;
  struct OnnxEntry {
    std::string domain, op_type;
    int since, until;
    OnnxImporter importer;
  };
  const std::vector<OnnxEntry>& onnx() const { return onnx_; }

 private:
  std::vector<const OperatorDef*> operators_;
  std::vector<OnnxEntry> onnx_;
};

/// Generated by the build from the files of this folder.
void register_all(Registry& registry);

}  // namespace edgert::ops
