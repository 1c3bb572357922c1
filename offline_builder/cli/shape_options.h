// SPDX-License-Identifier: Apache-2.0
// --shape, --dim and --value: from the command line to one ImportOptions a profile.
#pragma once

#include <string>
#include <vector>

#include "onnx/import.h"

namespace edgert::cli {

/// shapes: "name=1x3x224x224", "name=MIN:OPT:MAX", several for one name: one profile each. dims: "N=1". values:
/// "name=1,2,3", typed and shaped as the model declares the input. Inputs with one shape keep it in every profile; those
/// with several must have equally many. Throws UsageError.
std::vector<onnx_import::ImportOptions> parse_profiles(const onnx_import::Model& model, const std::vector<std::string>& shapes,
                                                       const std::vector<std::string>& dims,
                                                       const std::vector<std::string>& values);

}  // namespace edgert::cli
