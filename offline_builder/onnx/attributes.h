// SPDX-License-Identifier: Apache-2.0
// Attributes of a node as importers see them, with references to a function's attributes resolved.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

#include "onnx/model_data.h"
#include "ops/operator.h"

namespace edgert::onnx_import {

/// What the attributes of the function being inlined stand for; empty outside of functions.
using AttributeEnvironment = std::unordered_map<std::string_view, const proto::AttributeProto*>;

/// The attribute itself, or what it refers to; null when that is absent, which makes this one absent too. Throws
/// BuildError when the type is another than announced.
const proto::AttributeProto* resolve_attribute(const proto::AttributeProto& attribute,
                                               const AttributeEnvironment& environment);

/// All attributes of `node`. Sparse tensors come dense; a Constant's is called "value". Throws BuildError.
std::map<std::string, ops::OnnxNode::Attribute> convert_attributes(const proto::NodeProto& node,
                                                                   const AttributeEnvironment& environment,
                                                                   const Model::Data& data);

}  // namespace edgert::onnx_import
