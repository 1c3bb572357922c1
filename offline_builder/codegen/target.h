// SPDX-License-Identifier: Apache-2.0
// What is known of CUDA devices by the number of their SM, for builds on hosts that have none.
#pragma once

#include <optional>
#include <string>

#include "codegen/conv_kernel.h"

namespace edgert::codegen {

/// "sm_87" -> a device of that kind: the number of multiprocessors is that of its largest usual one (Orin: 16, Thor: 20,
/// H100 and H200: 132). Empty when the name is no SM that the kernels can run on; they need sm_80 or later.
std::optional<ConvTarget> target_named(const std::string& name);
/// "sm_80, sm_86, ...": the names that target_named() knows.
std::string target_names();

}  // namespace edgert::codegen
