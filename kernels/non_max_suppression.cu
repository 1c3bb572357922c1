// SPDX-License-Identifier: Apache-2.0
// Boxes of the highest scores, of equal ones the first, without those that overlap one already chosen. A block chooses for
// one batch and class: again and again its threads drop what the last choice suppresses from their shares of the
// candidates, and agree on the best of what is left. Nothing is sorted, and no order of events matters. The second launch
// (kWriting) puts the choices of all blocks one behind the other. Launched for the largest extents. problem.h:
// offline_builder/codegen/select_kernel.h.
#include "kernels/common/element.h"
#include "kernels/common/group.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

struct Corners {
  float low[2], high[2], area;
};

/// Keeps a product from being added without its rounding, which would decide ties in another way than elsewhere.
__device__ __forceinline__ float rounded(float x) {
  uint32 bits = scalar::bit_cast<uint32>(x);
  pin(bits);
  return scalar::bit_cast<float>(bits);
}

__device__ __forceinline__ Corners corners_of(const boxes_type::Storage* box) {
  float value[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) value[i] = static_cast<float>(boxes_type::load(box[i * boxes_stride(2)]));
  Corners out;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float a = kCenter ? value[i] - value[i + 2] / 2 : value[i];
    const float b = kCenter ? value[i] + value[i + 2] / 2 : value[i + 2];
    out.low[i] = a < b ? a : b;
    out.high[i] = a < b ? b : a;
  }
  out.area = rounded((out.high[0] - out.low[0]) * (out.high[1] - out.low[1]));
  return out;
}

/// Boxes without area suppress nothing and are not suppressed.
__device__ __forceinline__ bool overlap(const Corners& a, const Corners& b, float threshold) {
  float common = 1;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float low = a.low[i] > b.low[i] ? a.low[i] : b.low[i];
    const float high = a.high[i] < b.high[i] ? a.high[i] : b.high[i];
    common *= high > low ? high - low : 0.0f;
  }
  common = rounded(common);
  const float whole = a.area + b.area - common;
  return a.area > 0 && b.area > 0 && whole > 0 && common / whole > threshold;
}

/// Larger for what is chosen first: by score, NaN above all, then by place; never 0.
__device__ __forceinline__ uint64 key_of(float score, int index) {
  const uint32 bits = scalar::bit_cast<uint32>(score == 0 ? 0.0f : score);
  const uint32 ordered = score != score ? 0xffffffffu : (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64>(ordered) << 32 | static_cast<uint32>(~index);
}
__device__ __forceinline__ int index_of(uint64 key) { return ~static_cast<int>(static_cast<uint32>(key)); }

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS EDGERT_EXTENT_PARAMETERS) {
  allow_next_grid();
  const int thread = static_cast<int>(threadIdx.x);
  const int pair = static_cast<int>(blockIdx.x);
  const int batch = pair / kClasses, category = pair % kClasses;
  wait_for_previous_grid();
  if constexpr (kWriting) {
    int before = 0;
    for (int p = thread; p < pair; p += kThreads) before += chosen_counts[p];
    before = Group<kThreads, 1, false>().combine(before, [](int a, int b) { return a + b; });
    const int own = chosen_counts[pair];
    for (int i = thread; i < own; i += kThreads) {
      const Index row = static_cast<Index>(before + i);
      if (row >= kMostRows) break;
      selected[row * selected_stride(0)] = batch;
      selected[row * selected_stride(0) + selected_stride(1)] = category;
      selected[row * selected_stride(0) + 2 * selected_stride(1)] = chosen[static_cast<Index>(pair) * kEach + i];
    }
    if (blockIdx.x + 1 == gridDim.x && thread == 0) *count = before + own < kMostRows ? before + own : kMostRows;
  } else {
    const Group<kThreads, 1, false> group;
    const Index box_extent[] = EDGERT_BOXES_EXTENTS;
    const Index score_extent[] = EDGERT_SCORES_EXTENTS;
    const int here = static_cast<int>(box_extent[1] < score_extent[2] ? box_extent[1] : score_extent[2]);
    const bool exists = batch < box_extent[0] && batch < score_extent[0] && category < score_extent[1];
    const int64 asked = kHasMost ? *most : 0;
    const int limit = !exists || asked < 0 ? 0 : asked > kEach ? kEach : static_cast<int>(asked);
    const float suppressing = kHasIou ? *iou : 0.0f;
    const boxes_type::Storage* own_boxes = boxes + static_cast<Index>(batch) * boxes_stride(0);
    const scores_type::Storage* own_scores = scores + static_cast<Index>(batch) * scores_stride(0) + static_cast<Index>(category) * scores_stride(1);
    // This thread's candidates: every kThreads-th element from its own on.
    uint64* candidates = kShared ? reinterpret_cast<uint64*>(dynamic_shared_memory() + kGroupBytes) + thread : keys + static_cast<Index>(pair) * kBoxes + thread;
    int mine = 0;
    for (int i = thread; limit > 0 && i < here; i += kThreads) {
      const float score = static_cast<float>(scores_type::load(own_scores[static_cast<Index>(i) * scores_stride(2)]));
      if (!kHasThreshold || score > *threshold) candidates[kThreads * mine++] = key_of(score, i);
    }
    uint64 last = 0;
    Corners chosen_corners = {};
    int done = 0;
    for (; done < limit; ++done) {
      uint64 best = 0;
      int kept = 0;
      for (int c = 0; c < mine; ++c) {
        const uint64 key = candidates[kThreads * c];
        if (key == last) continue;
        if (done > 0 && overlap(corners_of(own_boxes + static_cast<Index>(index_of(key)) * boxes_stride(1)), chosen_corners, suppressing)) continue;
        candidates[kThreads * kept++] = key;
        best = key > best ? key : best;
      }
      mine = kept;
      last = group.combine(best, [](uint64 a, uint64 b) { return a > b ? a : b; });
      if (last == 0) break;
      chosen_corners = corners_of(own_boxes + static_cast<Index>(index_of(last)) * boxes_stride(1));
      if (thread == 0) chosen[static_cast<Index>(pair) * kEach + done] = index_of(last);
    }
    if (thread == 0) chosen_counts[pair] = done;
  }
}

}  // namespace edgert::device
