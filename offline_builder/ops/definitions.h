// SPDX-License-Identifier: Apache-2.0
// The operators of the graph, each defined in the file of its name, and the attribute structs of those that have no
// kernel. Kernel attributes are declared with the kernels in edgert/cpu/ops/.
#pragma once

#include "ops/operator.h"

namespace edgert::ops {

// Views: the output is a window into the input's storage.
extern const OperatorDef kReshape;
extern const OperatorDef kTranspose;
extern const OperatorDef kSlice;
extern const OperatorDef kExpand;
/// The inverse: every input is a window into the output's storage. Attributes: ConcatAttributes.
extern const OperatorDef kConcat;

// Operators with a CPU kernel.
extern const OperatorDef kCopy;
extern const OperatorDef kCast;
extern const OperatorDef kPointwise;
extern const OperatorDef kConv;
extern const OperatorDef kDepthwiseConv;
extern const OperatorDef kWinogradConv;
extern const OperatorDef kInvertedResidual;
extern const OperatorDef kStemBlock;
extern const OperatorDef kMatMul;
extern const OperatorDef kPool;
extern const OperatorDef kReduce;
extern const OperatorDef kArgReduce;
extern const OperatorDef kSoftmax;
extern const OperatorDef kNormalize;
extern const OperatorDef kGather;
extern const OperatorDef kPad;
extern const OperatorDef kResize;
extern const OperatorDef kNonZero;
extern const OperatorDef kCompress;
extern const OperatorDef kUnique;
extern const OperatorDef kNonMaxSuppression;
extern const OperatorDef kTopK;
extern const OperatorDef kIf;
extern const OperatorDef kLoop;

/// The same elements in row-major order under other extents.
struct ReshapeAttributes {
  std::int64_t dims[kMaxRank];  ///< resolved: no 0 or -1 with a special meaning
  std::uint32_t rank;
  std::uint32_t reserved;
};

/// Output dimension i is input dimension perm[i].
struct TransposeAttributes {
  std::uint8_t perm[kMaxRank];
  std::uint32_t rank;
};

/// Along axis i, output element k is input element start[i] + k * step[i], for k < size[i]; step is at least 1.
struct SliceAttributes {
  std::int64_t start[kMaxRank];
  std::int64_t step[kMaxRank];
  std::int64_t size[kMaxRank];
  std::uint32_t rank;
  std::uint32_t reserved;
};

/// Repeats along dimensions where the input's extent is 1, and along new leading ones.
struct ExpandAttributes {
  std::int64_t dims[kMaxRank];
  std::uint32_t rank;
  std::uint32_t reserved;
};

}  // namespace edgert::ops
