// SPDX-License-Identifier: Apache-2.0
// RNN, GRU and LSTM whose hidden elements are divided among kShare blocks: one sequence of one direction a group of blocks,
// all steps in one launch. kLanes neighbouring threads share a hidden element: kParts along the sum, one set of them a
// gate; their weights stay in registers from the first step to the last. After each step every block needs the whole
// state. In a cluster each element is sent to all blocks, which count the bytes that arrive (kCluster); elsewhere it goes
// through memory and a counter of blocks, which must all be running. Without peepholes, and of GRU the form whose reset
// gate comes after the product. A length outside the steps counts as the nearest one inside. problem.h:
// offline_builder/codegen/recurrent_kernel.h.
#include "kernels/common/element.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

enum Cell { kRnn = 0, kGru = 1, kLstm = 2 };

constexpr int kSlots = kCell == kRnn ? 1 : 4;  // sets of threads an element; GRU's last one brings an input
constexpr int kLanes = kSlots * kParts;
constexpr int kUnits = kHidden / kShare;  // hidden elements of a block
constexpr int kThreads = kUnits * kLanes;
constexpr int kVectors = kHidden / 4 / kParts;  // of four weights a thread
static_assert(kLanes <= 32 && kThreads % 32 == 0 && kUnits * kShare == kHidden && kVectors * 4 * kParts == kHidden, "the state does not divide");

__device__ __forceinline__ float bounded(float x) {
  if (!(kClip > 0.0f)) return x;
  return x < -kClip ? -kClip : x > kClip ? kClip : x;
}
template <int kWhich>
__device__ __forceinline__ float activate(float x) {
  return activation<kWhich>(bounded(x));
}

/// The state of one step on its way to all blocks of the group.
class Exchange {
 public:
  __device__ __forceinline__ Exchange(float* buffers, float* shared_state, uint32* counter) : buffers_(buffers), state_(shared_state), counter_(counter) {
#if __CUDA_ARCH__ >= 900
    if constexpr (kCluster) {
      if (threadIdx.x == 0) {
        receive_begin(barrier(0), kHidden * 4);
        receive_begin(barrier(1), kHidden * 4);
      }
      __syncwarp();
      cluster_arrive();
    }
#endif
  }

  /// Before the first send: all blocks of a cluster run and expect something.
  __device__ __forceinline__ void begin() const {
#if __CUDA_ARCH__ >= 900
    if constexpr (kCluster) cluster_wait();
#endif
  }

  /// Sends element `n` of the state before step `step`, which all `kLanes` threads of the element have.
  __device__ __forceinline__ void send(int step, int n, int lane, float value) const {
    if constexpr (kCluster) {
#if __CUDA_ARCH__ >= 900
      const uint32 to = shared_address(buffers_ + step % 2 * kHidden + n);
#pragma unroll
      for (int first = 0; first < kShare; first += kLanes) {
        const uint32 block = static_cast<uint32>(first + lane);
        if (block >= kShare) break;
        send_4(cluster_address(to, block), scalar::bit_cast<uint32>(value), cluster_address(barrier(step % 2), block));
      }
#endif
    } else if (lane == 0) {
      state_[step % 2 * kHidden + n] = value;
    }
  }

  /// Returns the state before step `step` > 0 when all of it has arrived.
  __device__ __forceinline__ const float* receive(int step) const {
    float* h = buffers_ + step % 2 * kHidden;
    if constexpr (kCluster) {
#if __CUDA_ARCH__ >= 900
      receive_wait(barrier(step % 2), static_cast<uint32>((step - 1) / 2 % 2));
      if (threadIdx.x == 0) receive_again(barrier(step % 2), kHidden * 4);
#endif
    } else {
      __threadfence();
      __syncthreads();
      if (threadIdx.x == 0) {
        fetch_add_ordered(counter_, 1);
        while (fetch_add_ordered(counter_, 0) < static_cast<uint32>(kShare * step)) {
        }
      }
      __syncthreads();
      for (int n = static_cast<int>(threadIdx.x); n < kHidden; n += kThreads) h[n] = state_[step % 2 * kHidden + n];
      __syncthreads();
    }
    return h;
  }

  /// After the last step, so that the next launch finds the counter as this one did.
  __device__ __forceinline__ void end(int steps) const {
    if constexpr (kCluster) return;
    const int exchanges = steps > 0 ? steps - 1 : 0;
    if (threadIdx.x == 0 && fetch_add_ordered(counter_, 1) == static_cast<uint32>(kShare * (exchanges + 1) - 1)) *counter_ = 0;
  }

 private:
  __device__ __forceinline__ uint32 barrier(int which) const { return shared_address(buffers_ + 2 * kHidden) + static_cast<uint32>(which * 8); }

  float* buffers_;  // two states, in turns, in shared memory
  float* state_;    // the same in global memory
  uint32* counter_;
};

__device__ __forceinline__ float sum_of_parts(float sum) {
#pragma unroll
  for (int distance = 1; distance < kParts; distance *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  return sum;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  allow_next_grid();
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kLanes, part = thread % kParts, slot = lane / kParts;
  const int share = static_cast<int>(blockIdx.x) % kShare;
  const int group = static_cast<int>(blockIdx.x) / kShare;
  const int row = group % kBatch, direction = group / kBatch;
  const int n = share * kUnits + thread / kLanes;
  float* buffers = reinterpret_cast<float*>(dynamic_shared_memory());
  const Exchange exchange(buffers, kCluster ? nullptr : state + static_cast<Index>(group) * 2 * kHidden, kCluster ? nullptr : counters + group);

  float weight[kVectors][4];
  const float4* from = reinterpret_cast<const float4*>(weights) + static_cast<Index>(direction * kShare + share) * (kVectors * kThreads) + thread;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const float4 four = from[i * kThreads];
    weight[i][0] = four.x, weight[i][1] = four.y, weight[i][2] = four.z, weight[i][3] = four.w;
  }
  float shift = 0.0f;
  if constexpr (kHasBias) {
    if (slot == 2) shift = static_cast<float>(bias_type::load(bias[direction * bias_stride(0) + n * bias_stride(1)]));
  }
  wait_for_previous_grid();

  int length = kSteps;
  if constexpr (kHasLengths) {
    const int64 asked = static_cast<int64>(lengths[row * lengths_stride(0)]);
    length = asked < 0 ? 0 : asked > kSteps ? kSteps : static_cast<int>(asked);
  }
  float own = 0.0f, cell = 0.0f;
  if constexpr (kHasH0) {
    own = static_cast<float>(h0_type::load(h0[direction * h0_stride(0) + row * h0_stride(1) + n * h0_stride(2)]));
    for (int k = thread; k < kHidden; k += kThreads) {
      buffers[k] = static_cast<float>(h0_type::load(h0[direction * h0_stride(0) + row * h0_stride(1) + k * h0_stride(2)]));
    }
  } else {
    for (int k = thread; k < kHidden; k += kThreads) buffers[k] = 0.0f;
  }
  if constexpr (kHasC0) cell = static_cast<float>(c0_type::load(c0[direction * c0_stride(0) + row * c0_stride(1) + n * c0_stride(2)]));
  __syncthreads();
  exchange.begin();

  const bool backwards = kReverse || direction == 1;
  const int gate = kCell == kGru && slot == 3 ? 2 : slot;
  const auto* inputs = x + row * x_stride(1) + direction * x_stride(2) + (gate * kHidden + n) * x_stride(3);
  const auto input_at = [&](int step) {
    return step < length ? static_cast<float>(x_type::load(inputs[static_cast<Index>(backwards ? length - 1 - step : step) * x_stride(0)])) : 0.0f;
  };
  auto* outputs = y + direction * y_stride(1) + row * y_stride(2) + n * y_stride(3);
  float input = input_at(0);
#pragma unroll 1
  for (int step = 0; step < length; ++step) {
    const float* h = step == 0 ? buffers : exchange.receive(step);
    const float next_input = input_at(step + 1);
    float sums[4] = {};
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const float4 four = *reinterpret_cast<const float4*>(h + (i * kParts + part) * 4);
      sums[0] += weight[i][0] * four.x, sums[1] += weight[i][1] * four.y;
      sums[2] += weight[i][2] * four.z, sums[3] += weight[i][3] * four.w;
    }
    const float sum = sum_of_parts((sums[0] + sums[1]) + (sums[2] + sums[3]));
    float value;
    if constexpr (kCell == kRnn) {
      own = activate<0>(input + sum);
    } else {
      if constexpr (kCell == kGru) value = slot < 2 ? activate<0>(input + sum) : slot == 2 ? sum + shift : input;
      else value = slot < 3 ? activate<0>(input + sum) : activate<1>(input + sum);
      float gates[4];
#pragma unroll
      for (int g = 0; g < 4; ++g) gates[g] = __shfl_sync(0xffffffffu, value, thread % 32 - lane + g * kParts);
      if constexpr (kCell == kGru) {
        own = activate<1>(gates[3] + gates[1] * gates[2]) * (1.0f - gates[0]) + gates[0] * own;
      } else {
        const float forget = kInputForget ? 1.0f - gates[0] : gates[2];
        cell = gates[0] * gates[3] + forget * cell;
        own = gates[1] * activate<2>(cell);
      }
    }
    if (step + 1 < length) exchange.send(step + 1, n, lane, own);
    if (lane == 0) outputs[static_cast<Index>(backwards ? length - 1 - step : step) * y_stride(0)] = y_type::store(own);
    input = next_input;
  }
  exchange.end(length);
  if (lane != 0) return;
  for (int time = length; time < kSteps; ++time) outputs[static_cast<Index>(time) * y_stride(0)] = y_type::store(0.0f);
  last_h[direction * last_h_stride(0) + row * last_h_stride(1) + n * last_h_stride(2)] = last_h_type::store(own);
  if constexpr (kHasLast_c) last_c[direction * last_c_stride(0) + row * last_c_stride(1) + n * last_c_stride(2)] = last_c_type::store(cell);
}

}  // namespace edgert::device
