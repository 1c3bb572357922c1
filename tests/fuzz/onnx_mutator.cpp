// SPDX-License-Identifier: Apache-2.0
// Mutations of ONNX models for libFuzzer: edges are moved, nodes doubled, removed, renamed and put into subgraphs,
// attributes, types and extents changed, so that the fuzzer gets behind the parser and into the operators' importers.
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "onnx-ml.pb.h"
#include "ops/operator.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

using onnx::AttributeProto;
using onnx::GraphProto;
using onnx::ModelProto;
using onnx::NodeProto;
using onnx::TensorProto;
using onnx::TensorShapeProto;
using onnx::ValueInfoProto;

class Mutator {
 public:
  Mutator(ModelProto& model, unsigned seed) : model_(model), random_(seed) {}

  void run() {
    const std::uint32_t changes = 1 + below(4);
    for (std::uint32_t i = 0; i < changes; ++i) change(*chosen_graph());
  }

 private:
  std::uint32_t below(int limit) { return static_cast<std::uint32_t>(random_() % static_cast<unsigned>(limit)); }
  int index(int size) { return static_cast<int>(below(size)); }
  template <class Field>
  auto* pick(Field* field) {
    return field->Mutable(index(field->size()));
  }
  std::int64_t number() {
    static constexpr std::int64_t kOdd[] = {INT64_MAX, INT64_MIN, INT32_MAX, INT32_MIN, std::int64_t{1} << 32, 1 << 20, 4096, 255, -2, -1};
    return below(5) == 0 ? kOdd[below(std::size(kOdd))] : static_cast<std::int64_t>(below(10)) - 1;
  }

  /// The model's graph mostly, else one nested in it.
  GraphProto* chosen_graph() {
    GraphProto* graph = model_.mutable_graph();
    for (int depth = 0; depth < 4; ++depth) {
      std::vector<GraphProto*> inner;
      for (NodeProto& node : *graph->mutable_node()) {
        for (AttributeProto& attribute : *node.mutable_attribute()) {
          if (attribute.has_g()) inner.push_back(attribute.mutable_g());
        }
      }
      if (inner.empty() || below(2) == 0) break;
      graph = inner[below(static_cast<int>(inner.size()))];
    }
    return graph;
  }

  void change(GraphProto& graph) {
    if (graph.node_size() == 0) return change_declarations(graph);
    switch (below(12)) {
      case 0: case 1: case 2: return change_edges(graph);
      case 3: return change_nodes(graph);
      case 4: return nest(graph);
      case 5: case 6: return change_tensor(graph);
      case 7: return change_declarations(graph);
      case 8: return change_versions();
      default: return change_attributes(*pick(graph.mutable_node()));
    }
  }

  /// The name of some value of the graph.
  std::string value_of(GraphProto& graph) {
    switch (below(4)) {
      case 0: if (graph.input_size() > 0) return pick(graph.mutable_input())->name(); break;
      case 1: if (graph.initializer_size() > 0) return pick(graph.mutable_initializer())->name(); break;
      default: break;
    }
    const NodeProto& node = *pick(graph.mutable_node());
    return node.output_size() > 0 ? node.output(index(node.output_size())) : "";
  }

  void change_edges(GraphProto& graph) {
    NodeProto& node = *pick(graph.mutable_node());
    const int inputs = node.input_size();
    switch (below(7)) {
      case 0: case 1: if (inputs > 0) *pick(node.mutable_input()) = value_of(graph); return;
      case 2: if (inputs > 1) node.mutable_input()->SwapElements(index(inputs), index(inputs)); return;
      case 3: node.add_input(value_of(graph)); return;
      case 4: if (inputs > 0) node.mutable_input()->RemoveLast(); return;
      case 5: if (inputs > 0) pick(node.mutable_input())->clear(); return;
      default:
        if (below(2) == 0 && node.output_size() > 0) return node.mutable_output()->RemoveLast();
        node.add_output("fresh" + std::to_string(below(4)));
    }
  }

  void change_nodes(GraphProto& graph) {
    const int at = index(graph.node_size());
    switch (below(5)) {
      case 0: graph.mutable_node()->SwapElements(at, index(graph.node_size())); return;
      case 1: graph.mutable_node()->DeleteSubrange(at, 1); return;
      case 2: {
        // Twice, with a result of its own that others may read.
        const NodeProto copy = graph.node(at);
        *graph.add_node() = copy;
        NodeProto& added = *graph.mutable_node(graph.node_size() - 1);
        for (std::string& name : *added.mutable_output()) name += "_again";
        return;
      }
      default: {
        const auto& known = edgert::ops::Registry::instance().onnx();
        const auto& entry = known[below(static_cast<int>(known.size()))];
        graph.mutable_node(at)->set_op_type(entry.op_type);
        graph.mutable_node(at)->set_domain(entry.domain);
      }
    }
  }

  /// A node becomes the body of an If, or of a Loop, that takes its place.
  void nest(GraphProto& graph) {
    NodeProto& node = *pick(graph.mutable_node());
    const NodeProto inner = node;
    GraphProto body;
    body.set_name("nested");
    *body.add_node() = inner;
    const bool loop = below(3) == 0;
    if (loop) {
      for (const char* name : {"turn", "going"}) body.add_input()->set_name(name);
      body.add_output()->set_name("going");
    }
    for (const std::string& name : inner.output()) body.add_output()->set_name(name);
    node.Clear();
    node.set_op_type(loop ? "Loop" : "If");
    node.add_input(value_of(graph));
    if (loop) node.add_input("");
    for (const std::string& name : inner.output()) node.add_output(name);
    for (const char* name : {"then_branch", "else_branch"}) {
      AttributeProto& attribute = *node.add_attribute();
      attribute.set_name(loop ? "body" : name);
      attribute.set_type(AttributeProto::GRAPH);
      *attribute.mutable_g() = body;
      if (loop) return;
    }
  }

  void change_attributes(NodeProto& node) {
    static constexpr const char* kNames[] = {"axis", "axes", "perm", "pads", "strides", "kernel_shape", "dilations", "group", "mode",
                                             "keepdims", "to", "alpha", "epsilon", "auto_pad", "ceil_mode", "value", "block_size",
                                             "blocksize", "num_outputs", "split", "hidden_size", "direction", "equation", "k"};
    if (node.attribute_size() == 0 || below(8) == 0) {
      AttributeProto& added = *node.add_attribute();
      added.set_name(kNames[below(std::size(kNames))]);
      added.set_type(below(2) == 0 ? AttributeProto::INTS : AttributeProto::INT);
      added.set_i(number());
      added.add_ints(number());
      return;
    }
    AttributeProto& attribute = *pick(node.mutable_attribute());
    switch (below(8)) {
      case 0: attribute.set_i(number()); return;
      case 1: case 2: if (attribute.ints_size() > 0) attribute.set_ints(index(attribute.ints_size()), number()); return;
      case 3: attribute.add_ints(number()); return;
      case 4: if (attribute.ints_size() > 0) attribute.mutable_ints()->RemoveLast(); return;
      case 5: attribute.set_f(static_cast<float>(number())); return;
      case 6:
        if (attribute.has_t()) return change_content(*attribute.mutable_t());
        attribute.set_type(static_cast<AttributeProto::AttributeType>(below(15)));
        return;
      default:
        if (attribute.s().empty()) return attribute.set_name(kNames[below(std::size(kNames))]);
        mutate(*attribute.mutable_s());
    }
  }

  void change_tensor(GraphProto& graph) {
    if (graph.initializer_size() > 0) return change_content(*pick(graph.mutable_initializer()));
    for (NodeProto& node : *graph.mutable_node()) {
      for (AttributeProto& attribute : *node.mutable_attribute()) {
        if (attribute.has_t() && below(2) == 0) return change_content(*attribute.mutable_t());
      }
    }
  }

  void change_content(TensorProto& tensor) {
    switch (below(7)) {
      case 0: if (tensor.dims_size() > 0) tensor.set_dims(index(tensor.dims_size()), number()); return;
      case 1: tensor.add_dims(number()); return;
      case 2: if (tensor.dims_size() > 0) tensor.mutable_dims()->RemoveLast(); return;
      case 3: tensor.set_data_type(static_cast<int>(below(27))); return;
      case 4: if (tensor.int64_data_size() > 0) tensor.set_int64_data(index(tensor.int64_data_size()), number()); return;
      default:
        // Numbers of eight bytes are mostly shapes, axes and indices.
        if (tensor.data_type() != TensorProto::INT64 || tensor.raw_data().size() < 8) return mutate(*tensor.mutable_raw_data());
        const std::int64_t value = number();
        const std::size_t at = below(static_cast<int>(tensor.raw_data().size() / 8)) * 8;
        std::memcpy(&(*tensor.mutable_raw_data())[at], &value, sizeof(value));
    }
  }

  void change_declarations(GraphProto& graph) {
    if (below(6) == 0 && graph.node_size() > 0) {
      graph.add_output()->set_name(value_of(graph));
      return;
    }
    auto* field = below(3) == 0 ? graph.mutable_output() : graph.mutable_input();
    if (field->empty()) return;
    ValueInfoProto& info = *pick(field);
    auto& type = *info.mutable_type()->mutable_tensor_type();
    TensorShapeProto& shape = *type.mutable_shape();
    switch (below(6)) {
      case 0: type.set_elem_type(static_cast<int>(below(27))); return;
      case 1: case 2: if (shape.dim_size() > 0) pick(shape.mutable_dim())->set_dim_value(number()); return;
      case 3: shape.add_dim()->set_dim_value(number()); return;
      case 4: if (shape.dim_size() > 0) pick(shape.mutable_dim())->set_dim_param(below(2) == 0 ? "N" : "M"); return;
      default: type.clear_shape();
    }
  }

  void change_versions() {
    if (model_.opset_import_size() == 0) model_.add_opset_import();
    pick(model_.mutable_opset_import())->set_version(below(8) == 0 ? number() : static_cast<std::int64_t>(below(29)));
  }

  /// Other content of about the same size.
  void mutate(std::string& bytes) {
    std::vector<std::uint8_t> copy(bytes.begin(), bytes.end());
    copy.resize(bytes.size() + 16);
    const std::size_t size = LLVMFuzzerMutate(copy.data(), bytes.size(), copy.size());
    bytes.assign(reinterpret_cast<const char*>(copy.data()), size);
  }

  ModelProto& model_;
  std::minstd_rand random_;
};

bool parse(ModelProto& model, const std::uint8_t* data, std::size_t size) {
  return model.ParseFromArray(data, static_cast<int>(size)) && model.has_graph();
}

/// `model` as bytes; 0 when there is no room for them.
std::size_t write(const ModelProto& model, std::uint8_t* data, std::size_t max_size) {
  const std::size_t size = model.ByteSizeLong();
  if (size == 0 || size > max_size) return 0;
  return model.SerializeToArray(data, static_cast<int>(size)) ? size : 0;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned seed) {
  ModelProto model;
  if (seed % 16 == 0 || !parse(model, data, size)) return LLVMFuzzerMutate(data, size, max_size);
  Mutator(model, seed).run();
  const std::size_t written = write(model, data, max_size);
  return written != 0 ? written : LLVMFuzzerMutate(data, size, max_size);
}

/// The nodes and constants of two models in one graph: edges between them come from the mutator.
extern "C" std::size_t LLVMFuzzerCustomCrossOver(const std::uint8_t* first, std::size_t first_size, const std::uint8_t* second,
                                                 std::size_t second_size, std::uint8_t* out, std::size_t max_size, unsigned seed) {
  ModelProto model;
  ModelProto other;
  if (!parse(model, first, first_size) || !parse(other, second, second_size)) return 0;
  std::minstd_rand random(seed);
  GraphProto& graph = *model.mutable_graph();
  for (const NodeProto& node : other.graph().node()) {
    if (random() % 2 == 0) *graph.add_node() = node;
  }
  for (const TensorProto& tensor : other.graph().initializer()) *graph.add_initializer() = tensor;
  for (const ValueInfoProto& input : other.graph().input()) {
    if (random() % 2 == 0) *graph.add_input() = input;
  }
  return write(model, out, max_size);
}
