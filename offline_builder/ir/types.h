// SPDX-License-Identifier: Apache-2.0
// Types of the intermediate representation: extents, tensor types, shared bytes, build errors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "edgert/types.h"

namespace edgert::ir {

using Dims = std::vector<std::int64_t>;

/// A problem with the model or the options, told to the user as it stands. It says what is wrong and, where that
/// helps, what to do; whoever catches it adds which node it was.
class BuildError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Element type and extents in ONNX's order of dimensions, whatever the order in memory. All extents are known: the
/// importer binds symbolic ones first.
struct TensorType {
  DType dtype = DType::Undefined;
  Dims dims;
  bool operator==(const TensorType& other) const { return dtype == other.dtype && dims == other.dims; }
  bool operator!=(const TensorType& other) const { return !(*this == other); }
};

/// Number of elements. Throws BuildError when it does not fit 2^56 or an extent is negative.
std::int64_t element_count(const Dims& dims);
/// Bytes of a dense tensor; types narrower than a byte are packed.
std::size_t dense_bytes(const TensorType& type);
/// Row-major strides in elements.
Dims dense_strides(const Dims& dims);
/// "f32[1,3,224,224]"
std::string to_string(const TensorType& type);
std::string to_string(const Dims& dims);
/// `axis` counted from the front; throws BuildError when it is not in [-rank, rank).
std::int64_t normalize_axis(std::int64_t axis, std::int64_t rank);
/// ONNX's multidirectional broadcast of two shapes; throws BuildError when they don't agree.
Dims broadcast(const Dims& a, const Dims& b);

/// Immutable bytes with shared ownership, at least 8-aligned: constants are never copied when graphs share them.
class Bytes {
 public:
  Bytes() = default;
  static Bytes copy(const void* data, std::size_t size);
  static Bytes adopt(std::vector<std::byte>&& bytes);
  static Bytes adopt(std::string&& bytes);
  /// Memory kept alive by `owner`.
  static Bytes shared(std::shared_ptr<const void> owner, const std::byte* data, std::size_t size);
  /// Like adopt(), but what is large is moved to a temporary file without a name and read from there: it takes memory only
  /// from when it is read until drop_pages(). Where no such file can be made the bytes stay in memory.
  static Bytes spill(std::vector<std::byte>&& bytes);

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  template <class T>
  const T* as() const {
    return reinterpret_cast<const T*>(data_);
  }
  explicit operator bool() const { return owner_ != nullptr; }
  /// Gives memory back that reading spilled bytes took; the next reader reads the file again. Nothing for other bytes.
  void drop_pages() const;

 private:
  std::shared_ptr<const void> owner_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  bool spilled_ = false;
};

/// An operator's attribute struct as bytes; the same struct is written into the plan and read by the kernel.
class AttributeBlob {
 public:
  AttributeBlob() = default;
  template <class Attributes>
  static AttributeBlob of(const Attributes& attributes) {
    static_assert(std::is_trivially_copyable_v<Attributes>);
    AttributeBlob blob;
    blob.bytes_.resize(sizeof(Attributes));
    std::memcpy(blob.bytes_.data(), &attributes, sizeof(Attributes));
    return blob;
  }
  /// Bytes that were written by of(), from a plan.
  static AttributeBlob from_bytes(const void* data, std::size_t size) {
    AttributeBlob blob;
    const auto* bytes = static_cast<const std::byte*>(data);
    blob.bytes_.assign(bytes, bytes + size);
    return blob;
  }
  template <class Attributes>
  const Attributes& as() const {
    if (bytes_.size() != sizeof(Attributes)) throw std::logic_error("attribute struct of another operator");
    return *reinterpret_cast<const Attributes*>(bytes_.data());
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }
  bool operator==(const AttributeBlob& other) const { return bytes_ == other.bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace edgert::ir
