// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace edgert::plan {

/// Written into every plan; the version is CMake's project version.
inline constexpr const char kProducer[] = "edgert " EDGERT_VERSION;

}  // namespace edgert::plan
