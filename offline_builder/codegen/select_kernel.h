// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/compact.cu, kernels/unique.cu and kernels/non_max_suppression.cu: operators whose results have an
// extent that only the run knows. Each makes the launches of one step, which share a workspace; their arguments are those
// named here, then the extents of GenericCall::bounds.
#pragma once

#include <vector>

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operator NonZero, one launch or two: x, indices, count, workspace.
std::vector<KernelSpec> make_non_zero(const GenericCall& call);

/// Operator Compress. All launches but the last: the condition, the workspace, count, the workspace at
/// compress_map_bytes(). The last moves the slices: x, the workspace, y, and no extents.
std::vector<KernelSpec> make_compress(const GenericCall& call);
std::uint64_t compress_map_bytes(const GenericCall& call);

/// Operator Unique, two launches: x, y, first, inverse, counts, count, workspace.
std::vector<KernelSpec> make_unique(const GenericCall& call);

/// Operator NonMaxSuppression, two launches: the present inputs, selected, count, the workspace at each of
/// nms_workspace()'s offsets.
std::vector<KernelSpec> make_non_max_suppression(const GenericCall& call);
struct NmsWorkspace {
  std::uint64_t chosen;  ///< int32, the boxes chosen for each batch and class
  std::uint64_t counts;  ///< int32, how many those are
  std::uint64_t keys;    ///< uint64, candidates that do not fit shared memory
  std::uint64_t bytes;
};
NmsWorkspace nms_workspace(const GenericCall& call);

}  // namespace edgert::codegen
