// SPDX-License-Identifier: Apache-2.0
// Operators whose results have an extent that only the run knows: NonZero, Compress, Unique, NonMaxSuppression. Some take
// several launches, which share a workspace.
#include "codegen/select_kernel.h"

#include "families/general.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using codegen::KernelSpec;
using Arguments = std::vector<Argument>;

/// Launches with the same arguments and then the extents that the kernels read.
void add_launches(Candidate& candidate, const std::vector<KernelSpec>& specs, Arguments arguments, const GeneralCall& call) {
  const Arguments& extents = call.extent_arguments();
  arguments.insert(arguments.end(), extents.begin(), extents.end());
  for (const KernelSpec& spec : specs) candidate.launches.push_back({spec, arguments});
}

Candidate non_zero(const GeneralCall& call) {
  Candidate candidate;
  add_launches(candidate, codegen::make_non_zero(call.call()),
               {Argument::read(call.input(0)), Argument::write(call.output(0)), Argument::write(call.output(1)), Argument::workspace()}, call);
  return candidate;
}

Candidate compress(const GeneralCall& call) {
  std::vector<KernelSpec> specs = codegen::make_compress(call.call());
  const bool moves = !is_empty(*call.call().operands.outputs[0]);
  const KernelSpec move = specs.back();
  if (moves) specs.pop_back();
  Candidate candidate;
  add_launches(candidate, specs,
               {Argument::read(call.input(1)), Argument::workspace(), Argument::write(call.output(1)),
                Argument::workspace(codegen::compress_map_bytes(call.call()))},
               call);
  if (moves) candidate.launches.push_back({move, {Argument::read(call.input(0)), Argument::workspace(), Argument::write(call.output(0))}});
  return candidate;
}

Candidate unique(const GeneralCall& call) {
  Arguments arguments{Argument::read(call.input(0))};
  for (std::size_t i = 0; i < 5; ++i) arguments.push_back(Argument::write(call.output(i)));
  arguments.push_back(Argument::workspace());
  Candidate candidate;
  add_launches(candidate, codegen::make_unique(call.call()), arguments, call);
  return candidate;
}

Candidate non_max_suppression(const GeneralCall& call) {
  const codegen::NmsWorkspace workspace = codegen::nms_workspace(call.call());
  Arguments arguments;
  for (std::size_t i = 0; i < 5; ++i) {
    if (call.input(i).present()) arguments.push_back(Argument::read(call.input(i)));
  }
  for (std::size_t i = 0; i < 2; ++i) arguments.push_back(Argument::write(call.output(i)));
  for (const std::uint64_t offset : {workspace.chosen, workspace.counts, workspace.keys}) arguments.push_back(Argument::workspace(offset));
  Candidate candidate;
  add_launches(candidate, codegen::make_non_max_suppression(call.call()), arguments, call);
  return candidate;
}

std::vector<Candidate> candidates(const Context& context, ir::NodeId id, std::size_t) {
  struct Row {
    const ir::OperatorDef* op;
    std::size_t inputs;
    Candidate (*make)(const GeneralCall&);
  };
  const Row rows[] = {{&ops::kNonZero, 1, &non_zero}, {&ops::kCompress, 2, &compress}, {&ops::kUnique, 1, &unique}, {&ops::kNonMaxSuppression, 5, &non_max_suppression}};
  const ir::Node& node = context.graph().node(id);
  for (const Row& row : rows) {
    if (node.op != row.op) continue;
    GeneralCall call(context, node, row.inputs);
    call.read_extents();
    try {
      Candidate candidate = row.make(call);
      candidate.compute = call.compute();
      return {std::move(candidate)};
    } catch (const codegen::CompileError& error) {
      return context.refuse(error.what());
    }
  }
  return {};
}

}  // namespace

void register_select(Registry& registry) { registry.add({"select", Rank::General, &candidates}); }

}  // namespace edgert::families
