// SPDX-License-Identifier: Apache-2.0
// The generated protobuf classes. Only sources of this folder include this; protobuf shows up in no interface.
#pragma once

#include <google/protobuf/io/coded_stream.h>
#include <onnx-ml.pb.h>

namespace edgert::onnx_import {

namespace proto = ::onnx;

template <class T>
using Repeated = google::protobuf::RepeatedPtrField<T>;

/// ONNX's own operator set has two spellings.
inline std::string normalized_domain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

}  // namespace edgert::onnx_import
