// SPDX-License-Identifier: Apache-2.0
#include "ir/types.h"

#include <algorithm>

#include "edgert/checked.h"

namespace edgert::ir {

std::int64_t element_count(const Dims& dims) {
  std::uint64_t count = 1;
  for (const std::int64_t extent : dims) {
    if (extent < 0) throw BuildError("negative extent in shape " + to_string(dims));
    if (!checked_mul(count, static_cast<std::uint64_t>(extent), count) || count > (std::uint64_t{1} << 56)) {
      throw BuildError("shape " + to_string(dims) + " has too many elements");
    }
  }
  return static_cast<std::int64_t>(count);
}

std::size_t dense_bytes(const TensorType& type) {
  return (static_cast<std::size_t>(element_count(type.dims)) * bits_of(type.dtype) + 7) / 8;
}

Dims dense_strides(const Dims& dims) {
  Dims strides(dims.size());
  std::int64_t step = 1;
  for (std::size_t i = dims.size(); i-- > 0;) {
    strides[i] = step;
    step *= std::max<std::int64_t>(dims[i], 1);
  }
  return strides;
}

std::string to_string(const Dims& dims) {
  std::string text = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) text += (i != 0 ? "," : "") + std::to_string(dims[i]);
  return text + "]";
}

std::string to_string(const TensorType& type) { return edgert::to_string(type.dtype) + to_string(type.dims); }

std::int64_t normalize_axis(std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= rank) {
    throw BuildError("axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank));
  }
  return axis < 0 ? axis + rank : axis;
}

Dims broadcast(const Dims& a, const Dims& b) {
  Dims out(std::max(a.size(), b.size()), 1);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    const std::int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1) {
      throw BuildError("shapes " + to_string(a) + " and " + to_string(b) + " do not broadcast");
    }
    out[out.size() - 1 - i] = x == 1 ? y : x;
  }
  return out;
}

Bytes Bytes::copy(const void* data, std::size_t size) {
  std::vector<std::byte> bytes(size);
  if (size != 0) std::memcpy(bytes.data(), data, size);
  return adopt(std::move(bytes));
}

Bytes Bytes::adopt(std::vector<std::byte>&& bytes) {
  auto owner = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  return shared(owner, owner->data(), owner->size());
}

Bytes Bytes::adopt(std::string&& bytes) {
  // A short string keeps its characters inside itself, at no alignment in particular.
  if (bytes.size() < 64) return copy(bytes.data(), bytes.size());
  auto owner = std::make_shared<const std::string>(std::move(bytes));
  return shared(owner, reinterpret_cast<const std::byte*>(owner->data()), owner->size());
}

Bytes Bytes::shared(std::shared_ptr<const void> owner, const std::byte* data, std::size_t size) {
  if (reinterpret_cast<std::uintptr_t>(data) % 8 != 0) return copy(data, size);
  Bytes bytes;
  bytes.owner_ = std::move(owner);
  bytes.data_ = data;
  bytes.size_ = size;
  return bytes;
}

}  // namespace edgert::ir
