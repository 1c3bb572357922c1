// SPDX-License-Identifier: Apache-2.0
// What a launch has in place of a kernel where a vendor's library computes the step.
#pragma once

#include <cstdint>
#include <vector>

#include "edgert/plan_schema.h"

namespace edgert::codegen {

struct LibraryCall {
  schema::Library library = schema::Library::CublasLt;
  std::vector<std::uint8_t> problem;  ///< a struct of edgert/cuda/library_call.h
};

}  // namespace edgert::codegen
