// SPDX-License-Identifier: Apache-2.0
#include "onnx/tensor.h"

#include <cstring>
#include <limits>

#include "edgert/checked.h"
#include "onnx/text.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "ONNX's raw data is little-endian, and so must the host be"
#endif

namespace edgert::onnx_import {
namespace {

using ByteVector = std::vector<std::byte>;

struct UnsupportedType : ir::BuildError {
  using ir::BuildError::BuildError;
};

ir::TensorType checked_type(std::int32_t onnx_type, const google::protobuf::RepeatedField<std::int64_t>& dims) {
  ir::TensorType type;
  type.dtype = dtype_of(onnx_type);
  if (dims.size() > static_cast<int>(kMaxRank)) {
    throw UnsupportedType("tensors of " + std::to_string(dims.size()) + " dimensions are not supported, at most " +
                          std::to_string(kMaxRank));
  }
  type.dims.assign(dims.begin(), dims.end());
  ir::element_count(type.dims);
  if (type.dtype == DType::Undefined) {
    throw UnsupportedType("element type " + type_name_of(onnx_type) + " is not supported");
  }
  return type;
}

/// Elements of a typed field narrowed to what the tensor holds. `low` and `high` are what the field may say.
template <class Element, class Field>
ByteVector narrow(Field& field, std::uint64_t count, std::int64_t low, std::int64_t high) {
  Field taken;
  taken.Swap(&field);
  if (static_cast<std::uint64_t>(taken.size()) != count) {
    throw ir::BuildError("the data has " + std::to_string(taken.size()) + " entries where the shape needs " +
                         std::to_string(count));
  }
  ByteVector bytes(count * sizeof(Element));
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto value = taken.Get(static_cast<int>(i));
    if (static_cast<std::int64_t>(value) < low || static_cast<std::int64_t>(value) > high) {
      throw ir::BuildError("the data holds " + std::to_string(value) + ", which the element type cannot");
    }
    const auto element = static_cast<Element>(value);
    std::memcpy(bytes.data() + i * sizeof(Element), &element, sizeof(Element));
  }
  return bytes;
}

/// The same for fields whose entries are the elements.
template <class Field>
ByteVector plain(Field& field, std::uint64_t count) {
  Field taken;
  taken.Swap(&field);
  if (static_cast<std::uint64_t>(taken.size()) != count) {
    throw ir::BuildError("the data has " + std::to_string(taken.size()) + " entries where the shape needs " +
                         std::to_string(count));
  }
  ByteVector bytes(count * sizeof(*taken.data()));
  if (count != 0) std::memcpy(bytes.data(), taken.data(), bytes.size());
  return bytes;
}

template <class Element, class Field>
ByteVector narrow(Field& field, std::uint64_t count) {
  return narrow<Element>(field, count, std::numeric_limits<Element>::min(), std::numeric_limits<Element>::max());
}

ByteVector typed_data(proto::TensorProto& tensor, const ir::TensorType& type) {
  const auto count = static_cast<std::uint64_t>(ir::element_count(type.dims));
  constexpr std::int64_t kAny32[] = {INT32_MIN, INT32_MAX};
  switch (type.dtype) {
    case DType::F32: return plain(*tensor.mutable_float_data(), count);
    case DType::F64: return plain(*tensor.mutable_double_data(), count);
    case DType::I64: return plain(*tensor.mutable_int64_data(), count);
    case DType::U64: return plain(*tensor.mutable_uint64_data(), count);
    case DType::I32: return plain(*tensor.mutable_int32_data(), count);
    case DType::U32: return narrow<std::uint32_t>(*tensor.mutable_uint64_data(), count);
    case DType::I16: return narrow<std::int16_t>(*tensor.mutable_int32_data(), count);
    case DType::U16: return narrow<std::uint16_t>(*tensor.mutable_int32_data(), count);
    case DType::I8: return narrow<std::int8_t>(*tensor.mutable_int32_data(), count);
    case DType::U8: return narrow<std::uint8_t>(*tensor.mutable_int32_data(), count);
    case DType::Bool: return narrow<bool>(*tensor.mutable_int32_data(), count, kAny32[0], kAny32[1]);
    // Bit patterns; some writers sign-extend them.
    case DType::F16:
    case DType::BF16: return narrow<std::uint16_t>(*tensor.mutable_int32_data(), count, INT16_MIN, UINT16_MAX);
    // An entry is a byte: the bits of one element, of two or of four.
    case DType::F8E4M3FN:
    case DType::F8E4M3FNUZ:
    case DType::F8E5M2:
    case DType::F8E5M2FNUZ:
    case DType::F8E8M0:
    case DType::I4:
    case DType::U4:
    case DType::F4E2M1:
    case DType::I2:
    case DType::U2:
      return narrow<std::uint8_t>(*tensor.mutable_int32_data(), ir::dense_bytes(type), INT8_MIN, UINT8_MAX);
    case DType::Undefined: break;
  }
  throw std::logic_error("typed_data: element type without an encoding");
}

bool has_typed_data(const proto::TensorProto& tensor) {
  return tensor.float_data_size() + tensor.int32_data_size() + tensor.string_data_size() + tensor.int64_data_size() +
             tensor.double_data_size() + tensor.uint64_data_size() !=
         0;
}

/// Bit patterns that a type does not have would be undefined behaviour or differ between equal tensors.
void normalize(const ir::TensorType& type, std::byte* bytes, std::size_t size) {
  if (type.dtype == DType::Bool) {
    for (std::size_t i = 0; i < size; ++i) bytes[i] = bytes[i] == std::byte{0} ? std::byte{0} : std::byte{1};
  }
  const std::uint64_t used = static_cast<std::uint64_t>(ir::element_count(type.dims)) * bits_of(type.dtype) % 8;
  if (used != 0) bytes[size - 1] &= static_cast<std::byte>((1u << used) - 1u);
}

ir::Bytes external_bytes(const proto::TensorProto& tensor, const ir::TensorType& type, ExternalData& external) {
  if (tensor.has_raw_data() || has_typed_data(tensor)) throw ir::BuildError("the data is given both here and outside");
  std::vector<std::pair<std::string, std::string>> entries;
  for (const auto& entry : tensor.external_data()) entries.emplace_back(entry.key(), entry.value());
  ByteVector bytes = external.read(entries, ir::dense_bytes(type));
  normalize(type, bytes.data(), bytes.size());
  return ir::Bytes::adopt(std::move(bytes));
}

ir::Bytes take_bytes(proto::TensorProto& tensor, const ir::TensorType& type, ExternalData& external) {
  if (tensor.has_segment()) throw ir::BuildError("tensors in segments are not supported");
  if (tensor.data_location() == proto::TensorProto::EXTERNAL) return external_bytes(tensor, type, external);
  if (tensor.external_data_size() != 0)
    throw ir::BuildError("external data is named but the location is inside the model");
  if (!tensor.has_raw_data()) {
    ByteVector bytes = typed_data(tensor, type);
    normalize(type, bytes.data(), bytes.size());
    return ir::Bytes::adopt(std::move(bytes));
  }
  if (has_typed_data(tensor)) throw ir::BuildError("the data is given twice, raw and typed");
  if (tensor.raw_data().size() != ir::dense_bytes(type)) {
    throw ir::BuildError("the data has " + std::to_string(tensor.raw_data().size()) + " bytes where " +
                         ir::to_string(type) + " needs " + std::to_string(ir::dense_bytes(type)));
  }
  std::string raw = std::move(*tensor.mutable_raw_data());
  tensor.clear_raw_data();
  normalize(type, reinterpret_cast<std::byte*>(raw.data()), raw.size());
  return ir::Bytes::adopt(std::move(raw));
}

template <class Load>
LoadedTensor guarded(const Load& load) {
  LoadedTensor loaded;
  try {
    loaded.tensor = load();
  } catch (const UnsupportedType& error) {
    loaded.error = error.what();
  } catch (const ir::BuildError& error) {
    loaded.error = error.what();
    loaded.malformed = true;
  }
  return loaded;
}

ConstantTensor dense_tensor(proto::TensorProto& tensor, ExternalData& external) {
  ConstantTensor out;
  out.type = checked_type(tensor.data_type(), tensor.dims());
  out.bytes = take_bytes(tensor, out.type, external);
  return out;
}

/// Where the i-th of `count` non-zero values lies in the dense tensor.
std::uint64_t linear_index(const ConstantTensor& indices, std::uint64_t i, const ir::Dims& dims) {
  const std::int64_t* at = indices.bytes.as<std::int64_t>();
  const std::int64_t total = ir::element_count(dims);
  std::int64_t index = 0;
  if (indices.type.dims.size() == 1) {
    index = at[i];
  } else {
    for (std::size_t d = 0; d < dims.size(); ++d) {
      const std::int64_t coordinate = at[i * dims.size() + d];
      if (coordinate < 0 || coordinate >= dims[d]) throw ir::BuildError("a sparse index is out of range");
      index = index * dims[d] + coordinate;
    }
  }
  if (index < 0 || index >= total) throw ir::BuildError("a sparse index is out of range");
  return static_cast<std::uint64_t>(index);
}

ConstantTensor densified(proto::SparseTensorProto& sparse, ExternalData& external, std::uint64_t& budget) {
  const ConstantTensor values = dense_tensor(*sparse.mutable_values(), external);
  const ConstantTensor indices = dense_tensor(*sparse.mutable_indices(), external);
  ConstantTensor out;
  out.type = checked_type(sparse.values().data_type(), sparse.dims());
  const std::uint32_t bits = bits_of(out.type.dtype);
  if (bits % 8 != 0) throw UnsupportedType("sparse tensors of elements narrower than a byte are not supported");
  const std::size_t rank = out.type.dims.size();
  const ir::Dims& shape = indices.type.dims;
  if (values.type.dims.size() != 1) throw ir::BuildError("the values of a sparse tensor must have one dimension");
  const std::int64_t count = values.type.dims[0];
  const bool linear = shape.size() == 1 && shape[0] == count;
  const bool coordinates = shape.size() == 2 && shape[0] == count && shape[1] == static_cast<std::int64_t>(rank);
  if (indices.type.dtype != DType::I64 || !(linear || coordinates)) {
    throw ir::BuildError("the indices of a sparse tensor are " + ir::to_string(indices.type) +
                         ", which does not fit its " + std::to_string(count) + " values");
  }
  const std::size_t size = ir::dense_bytes(out.type);
  if (size > budget) throw ir::BuildError("sparse tensors take more memory than the limit allows when made dense");
  budget -= size;
  ByteVector bytes(size);
  const std::size_t element = bits / 8;
  for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(count); ++i) {
    std::memcpy(bytes.data() + linear_index(indices, i, out.type.dims) * element, values.bytes.data() + i * element,
                element);
  }
  out.bytes = ir::Bytes::adopt(std::move(bytes));
  return out;
}

}  // namespace

DType dtype_of(std::int32_t onnx_type) {
  switch (onnx_type) {
    case proto::TensorProto::FLOAT: return DType::F32;
    case proto::TensorProto::FLOAT16: return DType::F16;
    case proto::TensorProto::BFLOAT16: return DType::BF16;
    case proto::TensorProto::DOUBLE: return DType::F64;
    case proto::TensorProto::INT8: return DType::I8;
    case proto::TensorProto::UINT8: return DType::U8;
    case proto::TensorProto::INT16: return DType::I16;
    case proto::TensorProto::UINT16: return DType::U16;
    case proto::TensorProto::INT32: return DType::I32;
    case proto::TensorProto::UINT32: return DType::U32;
    case proto::TensorProto::INT64: return DType::I64;
    case proto::TensorProto::UINT64: return DType::U64;
    case proto::TensorProto::BOOL: return DType::Bool;
    case proto::TensorProto::INT4: return DType::I4;
    case proto::TensorProto::UINT4: return DType::U4;
    case proto::TensorProto::FLOAT8E4M3FN: return DType::F8E4M3FN;
    case proto::TensorProto::FLOAT8E4M3FNUZ: return DType::F8E4M3FNUZ;
    case proto::TensorProto::FLOAT8E5M2: return DType::F8E5M2;
    case proto::TensorProto::FLOAT8E5M2FNUZ: return DType::F8E5M2FNUZ;
    case proto::TensorProto::FLOAT8E8M0: return DType::F8E8M0;
    case proto::TensorProto::FLOAT4E2M1: return DType::F4E2M1;
    case proto::TensorProto::INT2: return DType::I2;
    case proto::TensorProto::UINT2: return DType::U2;
    default: return DType::Undefined;
  }
}

std::string type_name_of(std::int32_t onnx_type) {
  if (!proto::TensorProto::DataType_IsValid(onnx_type)) return std::to_string(onnx_type);
  return proto::TensorProto::DataType_Name(static_cast<proto::TensorProto::DataType>(onnx_type));
}

LoadedTensor load_tensor(proto::TensorProto& tensor, ExternalData& external) {
  return guarded([&] { return dense_tensor(tensor, external); });
}

LoadedTensor load_sparse_tensor(proto::SparseTensorProto& sparse, ExternalData& external, std::uint64_t& budget) {
  return guarded([&] { return densified(sparse, external, budget); });
}

}  // namespace edgert::onnx_import
