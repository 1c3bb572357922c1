// SPDX-License-Identifier: Apache-2.0
// Model's accessors, declared types as text, and ImportError.
#include <algorithm>

#include "onnx/model_data.h"
#include "onnx/text.h"

namespace edgert::onnx_import {
namespace {

constexpr std::size_t kProblemsShown = 50;

std::string to_line(const Problem& problem) {
  std::string line = printable(problem.node);
  if (!problem.op_type.empty()) {
    line += " (";
    if (!problem.domain.empty()) line += printable(problem.domain) + ".";
    line += printable(problem.op_type);
    if (problem.opset > 0) line += ", opset " + std::to_string(problem.opset);
    line += ")";
  }
  return line + ": " + printable(problem.reason, 8 * kMaxNameBytes);
}

std::string to_text(const std::string& model, const std::vector<Problem>& problems) {
  std::string text = printable(model) + ": ";
  if (problems.size() == 1) return text + to_line(problems[0]);
  text += std::to_string(problems.size()) + " problems:";
  for (std::size_t i = 0; i < std::min(problems.size(), kProblemsShown); ++i) text += "\n  " + to_line(problems[i]);
  if (problems.size() > kProblemsShown) text += "\n  and " + std::to_string(problems.size() - kProblemsShown) + " more";
  return text;
}

}  // namespace

ImportError::ImportError(const std::string& model, std::vector<Problem> problems)
    : BuildError(to_text(model, problems)),
      problems_(std::make_shared<const std::vector<Problem>>(std::move(problems))) {}

std::string to_string(const TensorInfo& info) {
  std::string text = info.dtype == DType::Undefined ? info.type_name : edgert::to_string(info.dtype);
  if (!info.has_shape) return text + " of unknown rank";
  text += "[";
  for (std::size_t i = 0; i < info.dims.size(); ++i) {
    const Dimension& dim = info.dims[i];
    if (i != 0) text += ",";
    text += dim.value >= 0 ? std::to_string(dim.value) : dim.symbol.empty() ? "?" : printable(dim.symbol);
  }
  return text + "]";
}

const std::string& Model::name() const { return data_->name; }
const std::vector<TensorInfo>& Model::inputs() const { return data_->inputs; }
const std::vector<TensorInfo>& Model::outputs() const { return data_->outputs; }
const std::vector<std::pair<std::string, std::string>>& Model::metadata() const { return data_->metadata; }
const std::map<std::string, int>& Model::opsets() const { return data_->opsets; }
std::int64_t Model::ir_version() const { return data_->model.ir_version(); }
std::string Model::producer() const {
  const proto::ModelProto& model = data_->model;
  return printable(model.producer_name() + (model.producer_version().empty() ? "" : " " + model.producer_version()));
}
const std::vector<std::string>& Model::notes() const { return data_->notes; }

}  // namespace edgert::onnx_import
