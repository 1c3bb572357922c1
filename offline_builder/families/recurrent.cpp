// SPDX-License-Identifier: Apache-2.0
// RNN, GRU and LSTM with constant weights: kernels/recurrent_split.cu, whose blocks keep them in registers.
#include "codegen/recurrent_kernel.h"

#include "edgert/cpu/ops/recurrent.h"
#include "families/general.h"

namespace edgert::families {
namespace {

std::vector<Candidate> candidates(const Context& context, ir::NodeId id, std::size_t limit) {
  const ir::Node& node = context.graph().node(id);
  if (node.op->kernel == nullptr || node.op->kernel->id != cpu::Recurrent::kId) return {};
  const GeneralCall call(context, node, 7);
  for (const TensorView* output : call.call().operands.outputs) {
    if (is_empty(*output)) return {};
  }
  if (!call.input(1).constant) return context.refuse("its weights are not constant");
  std::vector<Candidate> found;
  for (const codegen::RecurrentSplit& split : codegen::recurrent_splits(call.call())) {
    if (found.size() == limit) break;
    Launch launch;
    launch.spec = codegen::make_recurrent_split(call.call(), split);
    launch.arguments = {Argument::read(call.input(0)), Argument::weights(0)};
    for (const std::size_t i : {2, 3, 5, 6}) {
      if (call.input(i).present()) launch.arguments.push_back(Argument::read(call.input(i)));
    }
    for (std::size_t i = 0; i < node.outputs.size(); ++i) launch.arguments.push_back(Argument::write(call.output(i)));
    launch.arguments.push_back(Argument::workspace());
    launch.arguments.push_back(launch.spec.counters > 0 ? Argument::counters() : Argument::null());
    Candidate candidate = Candidate::of(std::move(launch), DType::F32);
    candidate.weights = {to_bytes(codegen::pack_recurrent_weights(call.call(), split, context.constant_floats(node.inputs[1]).data()))};
    found.push_back(std::move(candidate));
  }
  return found;
}

}  // namespace

void register_recurrent(Registry& registry) { registry.add({"recurrent", Rank::Fast, &candidates}); }

}  // namespace edgert::families
