// SPDX-License-Identifier: Apache-2.0
// Element types for the generic kernels: how an element lies in memory (Storage) and what it is computed in (Value), as
// on the CPU: float for 16-bit floats, 64-bit integers for integers of any width. And vectors of up to 16 bytes of
// neighbouring elements, moved by one instruction.
#pragma once

#include "edgert/scalar/convert.h"
#include "edgert/scalar/pointwise_functions.h"
#include "kernels/common/ptx.h"

namespace edgert::device {

using scalar::int64;

namespace type {

struct F32 {
  using Storage = float;
  using Value = float;
  __device__ static __forceinline__ Value load(Storage x) { return x; }
  __device__ static __forceinline__ Storage store(Value x) { return x; }
};
struct F64 {
  using Storage = double;
  using Value = double;
  __device__ static __forceinline__ Value load(Storage x) { return x; }
  __device__ static __forceinline__ Storage store(Value x) { return x; }
};
template <class Element>
struct Narrow {
  using Storage = uint16;
  using Value = float;
  __device__ static __forceinline__ Value load(Storage x) { return Element::to_float(x); }
  __device__ static __forceinline__ Storage store(Value x) { return Element::from_float(x); }
};
using F16 = Narrow<device::F16>;
using BF16 = Narrow<device::BF16>;
template <class T, class Wide>
struct Integer {
  using Storage = T;
  using Value = Wide;
  __device__ static __forceinline__ Value load(Storage x) { return static_cast<Value>(x); }
  __device__ static __forceinline__ Storage store(Value x) { return static_cast<Storage>(x); }
};
using I8 = Integer<signed char, int64>;
using I16 = Integer<short, int64>;
using I32 = Integer<int, int64>;
using I64 = Integer<int64, int64>;
using U8 = Integer<unsigned char, uint64>;
using U16 = Integer<uint16, uint64>;
using U32 = Integer<uint32, uint64>;
using U64 = Integer<uint64, uint64>;
struct Bool {
  using Storage = unsigned char;
  using Value = bool;
  __device__ static __forceinline__ Value load(Storage x) { return x != 0; }
  __device__ static __forceinline__ Storage store(Value x) { return x ? 1 : 0; }
};
/// Elements of which only the bits matter.
template <class T>
struct Raw {
  using Storage = T;
  using Value = T;
  __device__ static __forceinline__ Value load(Storage x) { return x; }
  __device__ static __forceinline__ Storage store(Value x) { return x; }
};
using Raw8 = Raw<unsigned char>;
using Raw16 = Raw<uint16>;
using Raw32 = Raw<uint32>;
using Raw64 = Raw<uint64>;

}  // namespace type

template <class T>
inline constexpr bool kIsFloating = static_cast<T>(1.5) != static_cast<T>(1);
template <class T>
inline constexpr bool kIsBool = false;
template <>
inline constexpr bool kIsBool<bool> = true;
template <class T>
inline constexpr bool kIsSigned = static_cast<T>(-1) < static_cast<T>(1);

template <int kBytes>
struct alignas(kBytes) Packed {
  uint32 word[kBytes / 4];
};
template <>
struct Packed<1> {
  unsigned char word;
};
template <>
struct Packed<2> {
  uint16 word;
};

/// `kCount` neighbouring elements as values.
template <class Type, int kCount>
struct Values {
  typename Type::Value value[kCount];
};

/// One load; `from` is aligned to the vector's bytes, at most 16.
template <class Type, int kCount>
__device__ __forceinline__ Values<Type, kCount> load_values(const typename Type::Storage* from) {
  using Storage = typename Type::Storage;
  union {
    Packed<kCount * static_cast<int>(sizeof(Storage))> bits;
    Storage element[kCount];
  } pun;
  pun.bits = *reinterpret_cast<const Packed<kCount * static_cast<int>(sizeof(Storage))>*>(from);
  Values<Type, kCount> out;
#pragma unroll
  for (int i = 0; i < kCount; ++i) out.value[i] = Type::load(pun.element[i]);
  return out;
}
template <class Type, int kCount>
__device__ __forceinline__ void store_values(typename Type::Storage* to, const Values<Type, kCount>& in) {
  using Storage = typename Type::Storage;
  union {
    Packed<kCount * static_cast<int>(sizeof(Storage))> bits;
    Storage element[kCount];
  } pun;
#pragma unroll
  for (int i = 0; i < kCount; ++i) pun.element[i] = Type::store(in.value[i]);
  *reinterpret_cast<Packed<kCount * static_cast<int>(sizeof(Storage))>*>(to) = pun.bits;
}
/// `kCount` elements at a distance of `step` from each other; 0: one element, many times.
template <class Type, int kCount, class Index>
__device__ __forceinline__ Values<Type, kCount> load_values(const typename Type::Storage* from, Index step) {
  Values<Type, kCount> out;
#pragma unroll
  for (int i = 0; i < kCount; ++i) out.value[i] = i > 0 && step == 0 ? out.value[0] : Type::load(from[i * step]);
  return out;
}

/// ONNX Cast: to an integer toward zero and saturating, to bool whether it differs from 0, to 16-bit floats rounded
/// once.
template <class To, class From>
__device__ __forceinline__ typename To::Value convert(typename From::Value x) {
  using Value = typename To::Value;
  using Storage = typename To::Storage;
  using Source = typename From::Value;
  if constexpr (kIsBool<Value>) {
    return x != Source{};
  } else if constexpr (sizeof(Storage) == 2 && kIsFloating<Value>) {
    return scalar::narrow_to_odd(static_cast<double>(x));
  } else if constexpr (!kIsFloating<Value> && kIsFloating<Source>) {
    return static_cast<Value>(scalar::saturate_cast<Storage>(x));
  } else {
    return static_cast<Value>(x);
  }
}

}  // namespace edgert::device
