// SPDX-License-Identifier: Apache-2.0
// The extents of the graph inputs: declared ones, symbols, and what the user gives, brought together.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "onnx/import.h"

namespace edgert::onnx_import {

/// Extents for each of `inputs`; nothing for inputs that keep their default or have a problem, which is then appended.
std::vector<std::optional<ir::Dims>> bind_shapes(const std::vector<TensorInfo>& inputs, const ImportOptions& options,
                                                 std::vector<Problem>& problems, std::vector<std::string>& notes);

}  // namespace edgert::onnx_import
