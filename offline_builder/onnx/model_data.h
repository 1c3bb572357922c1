// SPDX-License-Identifier: Apache-2.0
// What a parsed model holds: the protobuf without its tensor data, the tensors, and indices into both.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "onnx/import.h"
#include "onnx/tensor.h"

namespace edgert::onnx_import {

struct Model::Data {
  std::string name;
  proto::ModelProto model;
  /// By the address of the TensorProto or SparseTensorProto in `model`.
  std::unordered_map<const void*, LoadedTensor> tensors;
  std::vector<TensorInfo> inputs;
  std::vector<TensorInfo> outputs;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::map<std::string, int> opsets;
  std::vector<std::string> notes;
  /// Model-local functions by function_key().
  std::unordered_map<std::string, const proto::FunctionProto*> functions;
};

/// Operator sets by domain; throws BuildError when a domain has two versions.
std::map<std::string, int> opsets_of(const Repeated<proto::OperatorSetIdProto>& imports);
std::string function_key(const std::string& domain, const std::string& name, const std::string& overload);
/// What an input, output or value is declared to be.
TensorInfo describe(const proto::ValueInfoProto& info);

}  // namespace edgert::onnx_import
