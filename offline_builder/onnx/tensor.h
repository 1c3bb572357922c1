// SPDX-License-Identifier: Apache-2.0
// ONNX tensors in all their encodings → type and dense little-endian bytes.
#pragma once

#include <cstdint>
#include <string>

#include "onnx/external_data.h"
#include "onnx/import.h"
#include "onnx/proto.h"

namespace edgert::onnx_import {

/// A tensor of the model, or the reason why there is none.
struct LoadedTensor {
  ConstantTensor tensor;
  std::string error;       ///< empty when `tensor` holds
  bool malformed = false;  ///< the error is a defect of the model, not merely a type that is not supported
};

/// Undefined for types that the graph has none for.
DType dtype_of(std::int32_t onnx_type);
/// "FLOAT8E4M3FN"
std::string type_name_of(std::int32_t onnx_type);

/// Takes the data out of `tensor`, so that large constants exist once. Never throws for what the model says.
LoadedTensor load_tensor(proto::TensorProto& tensor, ExternalData& external);
/// The same for a sparse tensor, made dense; `budget` bounds the bytes of all of them together.
LoadedTensor load_sparse_tensor(proto::SparseTensorProto& sparse, ExternalData& external, std::uint64_t& budget);

}  // namespace edgert::onnx_import
