// SPDX-License-Identifier: Apache-2.0
// How GPU kernels attach to graph nodes. A family looks at a node and, if it can compute it, returns candidates: launches
// with specialised kernels, their arguments, and the constants that these read. One file in this folder per family: it
// defines `void register_<file stem>(Registry&)`, which the build finds by the file's name.
//
//   std::vector<Candidate> candidates(const Context& context, ir::NodeId id, std::size_t limit) {
//     const ir::Node& node = context.graph().node(id);
//     if (node.op != &ops::kSoftmax) return {};
//     const Operand x = context.operand(node.inputs[0]);
//     if (x.dtype != DType::F16) return context.refuse("reads f16 only");
//     Launch launch = {make_softmax(...), {Argument::read(x), Argument::write(context.operand(node.outputs[0]))}};
//     return {Candidate::of(std::move(launch), DType::F32)};
//   }
//   void register_softmax(Registry& registry) { registry.add({"softmax", Rank::General, &candidates}); }
//
// What every kernel must keep to, since any step may be launched before the previous one has ended:
//  - each thread calls wait_for_previous_grid() (kernels/common/ptx.h) before it touches anything but weights, and before
//    it ends; allow_next_grid() comes first of all;
//  - it writes every element of what it writes in every run, nothing else, and reads nothing that it does not name;
//  - results do not depend on the order in which blocks run.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "codegen/conv_kernel.h"
#include "codegen/kernel_spec.h"
#include "codegen/library_call.h"
#include "ir/graph.h"
#include "families/precision.h"
#include "ir/operator_def.h"

namespace edgert::families {

using Target = codegen::ConvTarget;

/// A value as it lies in the device's memory. dims are in ONNX's order; strides count elements, in the same order, 0 along
/// a repeated dimension and 1 along one of extent 1.
struct Operand {
  ir::ValueId value = ir::kNone;
  DType dtype = DType::Undefined;  ///< as stored: f16 where the precision says so, though the graph computes in f32
  ir::Dims dims;
  ir::Dims strides;
  /// A power of two up to 256 (64 for a constant) that the address of the first element is a multiple of.
  std::uint32_t alignment = 1;
  bool constant = false;
  std::vector<ir::Extent> extents;  ///< of dimensions that only a run knows: dims has the most that they can be

  bool present() const { return value != ir::kNone; }
};

/// One parameter of a kernel.
struct Argument {
  enum class Kind : std::uint8_t { Read, Write, Weights, Workspace, Counters, Immediate, LaterWeights, LaterWeightBytes };
  Kind kind = Kind::Immediate;
  std::uint8_t bytes = 8;           ///< size of the parameter
  ir::ValueId value = ir::kNone;    ///< Read, Write
  std::uint64_t number = 0;         ///< the immediate; index into Candidate::weights; byte offset into the workspace

  /// Address of the operand's first element. A graph constant may be read too: it is stored as the graph has it.
  static Argument read(const Operand& operand) { return {Kind::Read, 8, operand.value, 0}; }
  static Argument write(const Operand& operand) { return {Kind::Write, 8, operand.value, 0}; }
  /// Address of Candidate::weights[index].
  static Argument weights(std::size_t index) { return {Kind::Weights, 8, ir::kNone, index}; }
  /// Address inside the candidate's workspace, which its launches share and nobody else while they run.
  static Argument workspace(std::uint64_t offset = 0) { return {Kind::Workspace, 8, ir::kNone, offset}; }
  /// Address of the launch's own KernelSpec::counters numbers: zero before the first run, kept from run to run.
  static Argument counters() { return {Kind::Counters, 8, ir::kNone, 0}; }
  static Argument immediate(std::uint64_t value, std::uint8_t bytes) { return {Kind::Immediate, bytes, ir::kNone, value}; }
  static Argument null() { return immediate(0, 8); }
  /// Address (null when there is none) and 32-bit size of what a launch two steps ahead has as weights[0]: to be brought
  /// into the cache.
  static Argument later_weights() { return {Kind::LaterWeights, 8, ir::kNone, 0}; }
  static Argument later_weight_bytes() { return {Kind::LaterWeightBytes, 4, ir::kNone, 0}; }
};

struct Launch {
  codegen::KernelSpec spec;  ///< its job has no source where nothing is compiled: for a call, and for what the CPU runs
  std::vector<Argument> arguments;
  /// Ask for more shared memory than the kernel needs, so that blocks spread evenly (codegen::launch_shared_bytes). For
  /// grids that fill the device once.
  bool spread = false;
  std::optional<codegen::LibraryCall> call{};  ///< in place of a kernel; only families/library.cpp makes them
};

/// One way to compute a node.
struct Candidate {
  /// In this order; none where the results have no elements. The workspace is as large as the largest spec.workspace_bytes.
  std::vector<Launch> launches;
  std::vector<ir::Bytes> weights;
  /// Nodes before this one whose work the launches do as well (Context::can_cover). What others read of their results the
  /// launches write; the rest exists nowhere. Views between them and the node are not listed.
  std::vector<ir::NodeId> covered;
  /// No kernel: the CPU runs the node, as its one "launch", whose arguments are the operands. Only choose_kernels() says so.
  bool on_host = false;
  DType compute = DType::F32;  ///< what is multiplied and added; sums of f16 and bf16 products are kept in f32
  /// Names the way among the node's candidates, for people and tuning records: "conv tile 4x16x64 k64 warps 2x2x1". Set by
  /// choose_kernels() from the launches' entries and tiles.
  std::string tactic;

  static Candidate of(Launch launch, DType compute) {
    Candidate candidate;
    candidate.launches.push_back(std::move(launch));
    candidate.compute = compute;
    return candidate;
  }
};

/// What a family sees of the graph, after all passes: orders in memory and stored types are decided, constants are as ONNX
/// has them. Not thread-safe.
class Context {
 public:
  /// `precisions`: null where nothing is rounded to TF32. `winograd`: whether Winograd's algorithm may be used.
  Context(const ir::Graph& graph, const Target& target, const Precisions* precisions = nullptr, bool winograd = true)
      : graph_(graph), target_(target), precisions_(precisions), winograd_(winograd) {}

  const ir::Graph& graph() const { return graph_; }
  const Target& target() const { return target_; }
  bool winograd() const { return winograd_; }

  /// Whether the node is to compute in f32 or TF32: if not, floats are better converted for it than multiplied as they are.
  bool wants_floats(const ir::Node& node) const;
  /// Whether the node may round the floats that it multiplies to TF32.
  bool rounds(const ir::Node& node) const;
  /// kNone gives an absent operand. A packed or unplaceable value is a std::logic_error.
  Operand operand(ir::ValueId value) const;
  /// Input i of the node, absent where the node has none.
  Operand input(const ir::Node& node, std::size_t i) const;
  /// The node, no view, that makes `value`, if `value` is all that anybody reads of it and only once: a node that the
  /// reader may cover. kNone otherwise.
  ir::NodeId sole_producer(ir::ValueId value) const;
  /// Whether `node` may do the work of `nodes` too: none is done by another node already, and whoever else reads their
  /// results comes after `node`, so that its launches can write these in time.
  bool can_cover(ir::NodeId node, const std::vector<ir::NodeId>& nodes) const;
  /// Elements of a constant, row-major in its dims, whatever views lie between: f32 as they are, other types converted.
  std::vector<float> constant_floats(ir::ValueId value) const;

  /// Says why a family that knows the operator does not take this node; for the error when none does. Returns nothing.
  std::vector<Candidate> refuse(const std::string& reason) const;
  std::vector<std::string> take_reasons() const;
  /// The same where the family has found the nodes that it could compute together: people are told that it does not.
  std::vector<Candidate> refuse_fusion(const std::string& reason) const;
  std::vector<std::string> take_fusion_reasons() const;

  /// As if the value were stored like this and dense in its order: to find out whether a conversion would help.
  void suppose(ir::ValueId value, DType stored) { supposed_.push_back({value, stored}); }
  void suppose_nothing() { supposed_.clear(); }
  /// Another node does the work of these.
  void take(const std::vector<ir::NodeId>& nodes) { taken_.insert(nodes.begin(), nodes.end()); }
  bool is_taken(ir::NodeId node) const { return taken_.count(node) != 0; }

 private:
  struct Supposed {
    ir::ValueId value;
    DType stored;
  };
  const ir::Graph& graph_;
  const Target& target_;
  const Precisions* precisions_;
  bool winograd_;
  std::vector<Supposed> supposed_;
  std::set<ir::NodeId> taken_;
  mutable std::vector<std::size_t> position_;  ///< of each node in topological order, once somebody asked
  mutable std::vector<std::string> reasons_;
  mutable std::vector<std::string> fusion_reasons_;
};

/// Families are asked in this order, those of one rank by name; the first that returns candidates has the node.
enum class Rank : std::uint8_t {
  Fused,    ///< computes several nodes at once
  Fast,     ///< made for some forms of an operator
  /// Any strides, any mix of f32 and f16 operands (integers and bools where the operator has them). Only these are asked
  /// where an operand has an extent that only a run knows; they compute the largest extents, or read the actual ones.
  General,
};

struct Family {
  const char* name;
  Rank rank;
  /// At most `limit` candidates, the most promising first; none when the family does not take the node. Nodes are asked
  /// from the last to the first, so that a reader finds its producers not yet taken.
  std::vector<Candidate> (*candidates)(const Context& context, ir::NodeId node, std::size_t limit);
};

class Registry {
 public:
  static const Registry& instance();
  void add(const Family& family) { families_.push_back(family); }
  /// By rank, then by name.
  const std::vector<Family>& families() const { return families_; }

 private:
  std::vector<Family> families_;
};

/// Generated by the build from the files of this folder.
void register_all(Registry& registry);

/// The vector's elements as bytes.
template <class T>
ir::Bytes to_bytes(const std::vector<T>& elements) {
  return ir::Bytes::copy(elements.data(), elements.size() * sizeof(T));
}

}  // namespace edgert::families
