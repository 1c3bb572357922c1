// SPDX-License-Identifier: Apache-2.0
// Casts from and to the types that are stored only: floating point of 8 and 4 bits, integers of 4 and 2. A thread makes
// one byte of the output, or one element that is larger. problem.h holds the nest of y and x, the formats, and which side
// is small (offline_builder/codegen/small_cast_kernel.h).
#include "edgert/scalar/minifloat.h"
#include "kernels/common/element.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

/// What a side of the cast is.
enum Kind { kWide = 0, kMinifloat = 1, kPower = 2, kSigned = 3, kUnsigned = 4 };

/// Element `at` of the input, in the arithmetic of From, which for small types is float or a 64-bit integer.
template <int kKind, class Storage>
__device__ __forceinline__ typename From::Value load_element(const Storage* x, Index at) {
  if constexpr (kKind == kWide) {
    return From::load(x[at]);
  } else {
    constexpr uint32 kMask = (1u << kFromBits) - 1u;
    const uint64 bit = static_cast<uint64>(at) * kFromBits;
    const uint32 code = static_cast<uint32>(x[bit / 8]) >> bit % 8 & kMask;
    if constexpr (kKind == kMinifloat) return scalar::decode_minifloat(code, from_format());
    else if constexpr (kKind == kPower) return scalar::decode_e8m0(code);
    else if constexpr (kKind == kSigned) return static_cast<int64>(code ^ (kMask / 2 + 1)) - static_cast<int64>(kMask / 2 + 1);
    else return code;
  }
}

/// A value's code in the output's small type.
template <int kKind, class T>
__device__ __forceinline__ uint32 encode(T x) {
  if constexpr (kKind == kMinifloat) return scalar::encode_minifloat(scalar::narrow_to_odd(static_cast<double>(x)), to_format(), kSaturate);
  else if constexpr (kKind == kPower) return scalar::encode_e8m0(scalar::narrow_to_odd(static_cast<double>(x)), kRounding, kSaturate);
  else if constexpr (kIsFloating<T>) return static_cast<uint32>(scalar::saturate_cast<int64>(x));
  else return static_cast<uint32>(x);
}

/// One byte of a small output, or one element of another.
template <int kKind, class Storage>
__device__ __forceinline__ void cast_item(const EDGERT_FROM* x, Storage* y, Index item) {
  if constexpr (kKind == kWide) {
    Index offset[2] = {};
    locate<Walk>(item, offset);
    y[offset[0]] = To::store(convert<To, From>(load_element<kFromKind>(x, offset[1])));
  } else {
    uint32 byte = 0;
#pragma unroll
    for (int i = 0; i < 8 / kToBits; ++i) {
      const Index element = item * (8 / kToBits) + i;
      Index offset[2] = {};
      locate<Walk>(element < Walk::kCount ? element : Index{0}, offset);
      const uint32 code = encode<kKind>(load_element<kFromKind>(x, offset[1])) & ((1u << kToBits) - 1u);
      if (element < Walk::kCount) byte |= code << i * kToBits;
      // Types of a byte may lie anywhere; narrower ones are dense.
      if (kToBits == 8) y[offset[0]] = static_cast<Storage>(byte);
    }
    if (kToBits < 8) y[item] = static_cast<Storage>(byte);
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(const EDGERT_FROM* x, EDGERT_TO* y) {
  allow_next_grid();
  const Index item = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  wait_for_previous_grid();
  if (item < kItems) cast_item<kToKind>(x, y, item);
}

}  // namespace edgert::device
