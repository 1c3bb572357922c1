// SPDX-License-Identifier: Apache-2.0
#include "cli/step_text.h"

#include "ops/operator.h"

namespace edgert::cli {

StepText describe_step(const PlanView& plan, const schema::Step& step) {
  StepText text;
  text.name = "operator " + std::to_string(step.op());
  for (const ops::OperatorDef* op : ops::Registry::instance().operators()) {
    if (op->kernel == nullptr || op->kernel->id != step.op()) continue;
    text.name = op->name;
    const bool known = op->describe != nullptr && rules::count(step.attributes()) == op->attribute_bytes;
    if (known) text.attributes = op->describe(ir::AttributeBlob::from_bytes(step.attributes()->Data(), op->attribute_bytes));
    break;
  }
  for (std::uint32_t n = 0; n < rules::count(step.nodes()); ++n) {
    text.nodes.push_back(plan.table().strings()->Get(step.nodes()->Get(n))->str());
  }
  return text;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out;
}

}  // namespace edgert::cli
