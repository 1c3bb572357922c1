// SPDX-License-Identifier: Apache-2.0
// Constants in every encoding that ONNX has, and sizes that do not fit.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "onnx_models.h"

using namespace onnx_test;

namespace {

/// A model whose output is this tensor.
onnx::ModelProto model_of(onnx::TensorProto tensor) {
  onnx::ModelProto model = model_with_opset();
  tensor.set_name("w");
  *model.mutable_graph()->add_initializer() = std::move(tensor);
  add_node(*model.mutable_graph(), "Same", {"w"}, {"y"});
  add_output(*model.mutable_graph(), "y");
  return model;
}

onnx::TensorProto tensor_of(int type, const std::vector<std::int64_t>& dims) {
  onnx::TensorProto tensor;
  tensor.set_data_type(type);
  for (const std::int64_t dim : dims) tensor.add_dims(dim);
  return tensor;
}

template <class T>
std::vector<T> elements(const ir::Value& value) {
  REQUIRE(value.is_constant());
  REQUIRE(value.constant.size() % sizeof(T) == 0);
  std::vector<T> out(value.constant.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), value.constant.data(), value.constant.size());
  return out;
}

template <class T>
std::vector<T> imported(const onnx::TensorProto& tensor, DType dtype) {
  const ir::Graph graph = import(model_of(tensor));
  CHECK(only_output(graph).type.dtype == dtype);
  CHECK(only_output(graph).type.dims == ir::Dims(tensor.dims().begin(), tensor.dims().end()));
  return elements<T>(only_output(graph));
}

template <class T>
void check_raw(int type, DType dtype, const std::vector<T>& values) {
  onnx::TensorProto tensor = tensor_of(type, {static_cast<std::int64_t>(values.size())});
  tensor.set_raw_data(std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)));
  CHECK(imported<T>(tensor, dtype) == values);
}

template <class T, class Add>
void check_typed(int type, DType dtype, const std::vector<T>& values, const Add& add) {
  onnx::TensorProto tensor = tensor_of(type, {static_cast<std::int64_t>(values.size())});
  for (const T value : values) add(tensor, value);
  CHECK(imported<T>(tensor, dtype) == values);
}

std::string problem_of(const onnx::TensorProto& tensor) {
  const std::vector<oi::Problem> problems = problems_of(model_of(tensor));
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].node == "initializer 'w'");
  return problems[0].reason;
}

template <class T>
std::vector<T> extremes() {
  return {std::numeric_limits<T>::min(), 0, 1, std::numeric_limits<T>::max()};
}

}  // namespace

TEST_CASE("raw data of every element type") {
  check_raw<float>(onnx::TensorProto::FLOAT, DType::F32, {1.5f, -2.25f, 1e30f});
  check_raw<double>(onnx::TensorProto::DOUBLE, DType::F64, {1.5, -2.25, 1e300});
  check_raw<std::uint16_t>(onnx::TensorProto::FLOAT16, DType::F16, {0x3c00, 0xfbff});
  check_raw<std::uint16_t>(onnx::TensorProto::BFLOAT16, DType::BF16, {0x3f80, 0xff7f});
  check_raw<std::int8_t>(onnx::TensorProto::INT8, DType::I8, extremes<std::int8_t>());
  check_raw<std::uint8_t>(onnx::TensorProto::UINT8, DType::U8, extremes<std::uint8_t>());
  check_raw<std::int16_t>(onnx::TensorProto::INT16, DType::I16, extremes<std::int16_t>());
  check_raw<std::uint16_t>(onnx::TensorProto::UINT16, DType::U16, extremes<std::uint16_t>());
  check_raw<std::int32_t>(onnx::TensorProto::INT32, DType::I32, extremes<std::int32_t>());
  check_raw<std::uint32_t>(onnx::TensorProto::UINT32, DType::U32, extremes<std::uint32_t>());
  check_raw<std::int64_t>(onnx::TensorProto::INT64, DType::I64, extremes<std::int64_t>());
  check_raw<std::uint64_t>(onnx::TensorProto::UINT64, DType::U64, extremes<std::uint64_t>());
  check_raw<std::uint8_t>(onnx::TensorProto::BOOL, DType::Bool, {0, 1, 1, 0});
}

TEST_CASE("large raw data keeps its bytes") {
  std::vector<float> values(100'000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.5f;
  check_raw<float>(onnx::TensorProto::FLOAT, DType::F32, values);
}

TEST_CASE("typed fields of every element type") {
  const auto as_int32 = [](onnx::TensorProto& tensor, auto value) { tensor.add_int32_data(value); };
  const auto as_uint64 = [](onnx::TensorProto& tensor, auto value) { tensor.add_uint64_data(value); };
  check_typed<float>(onnx::TensorProto::FLOAT, DType::F32, {1.5f, -2.25f},
                     [](onnx::TensorProto& tensor, float value) { tensor.add_float_data(value); });
  check_typed<double>(onnx::TensorProto::DOUBLE, DType::F64, {1.5, -2.25},
                      [](onnx::TensorProto& tensor, double value) { tensor.add_double_data(value); });
  check_typed<std::int64_t>(onnx::TensorProto::INT64, DType::I64, extremes<std::int64_t>(),
                            [](onnx::TensorProto& tensor, std::int64_t value) { tensor.add_int64_data(value); });
  check_typed<std::uint64_t>(onnx::TensorProto::UINT64, DType::U64, extremes<std::uint64_t>(), as_uint64);
  check_typed<std::uint32_t>(onnx::TensorProto::UINT32, DType::U32, extremes<std::uint32_t>(), as_uint64);
  check_typed<std::int32_t>(onnx::TensorProto::INT32, DType::I32, extremes<std::int32_t>(), as_int32);
  check_typed<std::int16_t>(onnx::TensorProto::INT16, DType::I16, extremes<std::int16_t>(), as_int32);
  check_typed<std::uint16_t>(onnx::TensorProto::UINT16, DType::U16, extremes<std::uint16_t>(), as_int32);
  check_typed<std::int8_t>(onnx::TensorProto::INT8, DType::I8, extremes<std::int8_t>(), as_int32);
  check_typed<std::uint8_t>(onnx::TensorProto::UINT8, DType::U8, extremes<std::uint8_t>(), as_int32);
  check_typed<std::uint16_t>(onnx::TensorProto::FLOAT16, DType::F16, {0x3c00, 0xfbff}, as_int32);
  check_typed<std::uint16_t>(onnx::TensorProto::BFLOAT16, DType::BF16, {0x3f80, 0xff7f}, as_int32);
  check_typed<std::uint8_t>(onnx::TensorProto::BOOL, DType::Bool, {0, 1, 1}, as_int32);
}

TEST_CASE("4-bit tensors are two elements a byte, a missing half is zero") {
  for (const int type : {onnx::TensorProto::INT4, onnx::TensorProto::UINT4}) {
    const DType dtype = type == onnx::TensorProto::INT4 ? DType::I4 : DType::U4;
    onnx::TensorProto raw = tensor_of(type, {5});
    raw.set_raw_data("\x21\x43\xf5");
    CHECK(imported<std::uint8_t>(raw, dtype) == std::vector<std::uint8_t>{0x21, 0x43, 0x05});
    onnx::TensorProto typed = tensor_of(type, {5});
    for (const int byte : {0x21, 0x43, 0xf5}) typed.add_int32_data(byte);
    CHECK(imported<std::uint8_t>(typed, dtype) == std::vector<std::uint8_t>{0x21, 0x43, 0x05});
  }
}

TEST_CASE("2-bit tensors are four elements a byte, 8-bit floats one") {
  for (const auto& [type, dtype] : {std::pair{onnx::TensorProto::INT2, DType::I2}, std::pair{onnx::TensorProto::UINT2, DType::U2}}) {
    onnx::TensorProto raw = tensor_of(type, {5});
    raw.set_raw_data("\xe4\xff");
    CHECK(imported<std::uint8_t>(raw, dtype) == std::vector<std::uint8_t>{0xe4, 0x03});
    onnx::TensorProto typed = tensor_of(type, {5});
    for (const int byte : {0xe4, -1}) typed.add_int32_data(byte);
    CHECK(imported<std::uint8_t>(typed, dtype) == std::vector<std::uint8_t>{0xe4, 0x03});
  }
  onnx::TensorProto floats = tensor_of(onnx::TensorProto::FLOAT8E5M2, {3});
  floats.set_raw_data("\x3c\x7b\xfc");
  CHECK(imported<std::uint8_t>(floats, DType::F8E5M2) == std::vector<std::uint8_t>{0x3c, 0x7b, 0xfc});
}

TEST_CASE("booleans are 0 or 1 whatever the file says") {
  onnx::TensorProto raw = tensor_of(onnx::TensorProto::BOOL, {3});
  raw.set_raw_data(std::string("\x00\x02\xff", 3));
  CHECK(imported<std::uint8_t>(raw, DType::Bool) == std::vector<std::uint8_t>{0, 1, 1});
  onnx::TensorProto typed = tensor_of(onnx::TensorProto::BOOL, {2});
  typed.add_int32_data(256);
  typed.add_int32_data(0);
  CHECK(imported<std::uint8_t>(typed, DType::Bool) == std::vector<std::uint8_t>{1, 0});
}

TEST_CASE("scalars and empty tensors") {
  onnx::TensorProto scalar = tensor_of(onnx::TensorProto::FLOAT, {});
  scalar.add_float_data(3);
  CHECK(imported<float>(scalar, DType::F32) == std::vector<float>{3});
  CHECK(imported<float>(tensor_of(onnx::TensorProto::FLOAT, {0, 4}), DType::F32).empty());
  onnx::TensorProto raw = tensor_of(onnx::TensorProto::FLOAT, {0});
  raw.set_raw_data("");
  CHECK(imported<float>(raw, DType::F32).empty());
}

TEST_CASE("data must fit shape and type exactly") {
  onnx::TensorProto tensor = tensor_of(onnx::TensorProto::FLOAT, {3});
  CHECK(contains(problem_of(tensor), "0 entries where the shape needs 3"));
  for (const std::size_t size : {11, 13, 0, 16}) {
    tensor.set_raw_data(std::string(size, 'x'));
    CHECK(contains(problem_of(tensor), std::to_string(size) + " bytes where f32[3] needs 12"));
  }
  tensor.clear_raw_data();
  for (int i = 0; i < 4; ++i) tensor.add_float_data(1);
  CHECK(contains(problem_of(tensor), "4 entries where the shape needs 3"));
  tensor.set_raw_data(std::string(12, 'x'));
  CHECK(contains(problem_of(tensor), "given twice"));
  onnx::TensorProto wrong_field = tensor_of(onnx::TensorProto::FLOAT, {1});
  wrong_field.add_double_data(1);
  CHECK(contains(problem_of(wrong_field), "0 entries"));
  onnx::TensorProto too_large = tensor_of(onnx::TensorProto::INT8, {1});
  too_large.add_int32_data(128);
  CHECK(contains(problem_of(too_large), "128"));
  onnx::TensorProto segment = tensor_of(onnx::TensorProto::FLOAT, {0});
  segment.mutable_segment()->set_begin(0);
  CHECK(contains(problem_of(segment), "segments"));
}

TEST_CASE("hostile shapes are refused before any memory is taken") {
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  CHECK(contains(problem_of(tensor_of(onnx::TensorProto::FLOAT, {kHuge})), "too many elements"));
  CHECK(contains(problem_of(tensor_of(onnx::TensorProto::FLOAT, {kHuge, kHuge, kHuge})), "too many elements"));
  CHECK(contains(problem_of(tensor_of(onnx::TensorProto::FLOAT, {1 << 30, 1 << 20})), "entries where"));
  CHECK(contains(problem_of(tensor_of(onnx::TensorProto::FLOAT, {-1, 3})), "negative"));
  CHECK(contains(problem_of(tensor_of(onnx::TensorProto::FLOAT, std::vector<std::int64_t>(9, 1))), "9 dimensions"));
}

TEST_CASE("element types that the graph has not") {
  for (const int type : {onnx::TensorProto::STRING, onnx::TensorProto::COMPLEX64, onnx::TensorProto::COMPLEX128}) {
    CHECK(contains(problem_of(tensor_of(type, {1})), "is not supported"));
  }
  CHECK(contains(problem_of(tensor_of(0, {1})), "UNDEFINED"));
  CHECK(contains(problem_of(tensor_of(12345, {1})), "12345"));
}

TEST_CASE("a tensor that nobody reads may be of an unsupported type, but not malformed") {
  onnx::ModelProto model = small_model();
  onnx::TensorProto text = tensor_of(onnx::TensorProto::STRING, {1});
  text.set_name("unused");
  text.add_string_data("hello");
  *model.mutable_graph()->add_initializer() = text;
  CHECK(problems_of(model).empty());
  onnx::TensorProto broken = tensor_of(onnx::TensorProto::FLOAT, {2});
  broken.set_name("broken");
  *model.mutable_graph()->add_initializer() = broken;
  CHECK(problems_of(model).size() == 1);
}

namespace {

onnx::SparseTensorProto sparse_tensor(const std::vector<std::int64_t>& dims, const std::vector<float>& values,
                                      const std::vector<std::int64_t>& index_dims,
                                      const std::vector<std::int64_t>& indices) {
  onnx::SparseTensorProto sparse;
  for (const std::int64_t dim : dims) sparse.add_dims(dim);
  *sparse.mutable_values() = float_tensor("w", {static_cast<std::int64_t>(values.size())}, values);
  *sparse.mutable_indices() = tensor_of(onnx::TensorProto::INT64, index_dims);
  for (const std::int64_t index : indices) sparse.mutable_indices()->add_int64_data(index);
  return sparse;
}

onnx::ModelProto model_of(const onnx::SparseTensorProto& sparse) {
  onnx::ModelProto model = model_with_opset();
  *model.mutable_graph()->add_sparse_initializer() = sparse;
  add_node(*model.mutable_graph(), "Same", {"w"}, {"y"});
  add_output(*model.mutable_graph(), "y");
  return model;
}

}  // namespace

TEST_CASE("sparse initializers become dense") {
  const std::vector<float> expected{0, 7, 0, 0, 0, 8};
  const ir::Graph linear = import(model_of(sparse_tensor({2, 3}, {7, 8}, {2}, {1, 5})));
  CHECK(elements<float>(only_output(linear)) == expected);
  const ir::Graph coordinates = import(model_of(sparse_tensor({2, 3}, {7, 8}, {2, 2}, {0, 1, 1, 2})));
  CHECK(elements<float>(only_output(coordinates)) == expected);
}

TEST_CASE("sparse indices and sizes are checked") {
  for (const auto& sparse :
       {sparse_tensor({2, 3}, {7, 8}, {2}, {1, 6}), sparse_tensor({2, 3}, {7, 8}, {2}, {-1, 5}),
        sparse_tensor({2, 3}, {7, 8}, {2, 2}, {0, 3, 1, 2}), sparse_tensor({2, 3}, {7, 8}, {3}, {1, 2, 3}),
        sparse_tensor({2, 3}, {7, 8}, {2, 3}, {0, 0, 0, 0, 0, 0}), sparse_tensor({-2, 3}, {7}, {1}, {1}),
        // A few bytes that ask for a terabyte.
        sparse_tensor({1 << 20, 1 << 18}, {7}, {1}, {1})}) {
    CHECK(problems_of(model_of(sparse)).size() == 1);
  }
}

TEST_CASE("a Constant's sparse value arrives dense as its value") {
  onnx::ModelProto model = model_with_opset();
  auto* attribute = add_node(*model.mutable_graph(), "Constant", {}, {"y"}).add_attribute();
  attribute->set_name("sparse_value");
  attribute->set_type(onnx::AttributeProto::SPARSE_TENSOR);
  *attribute->mutable_sparse_tensor() = sparse_tensor({3}, {5}, {1}, {2});
  add_output(*model.mutable_graph(), "y");
  const ir::Graph graph = import(model);
  CHECK(elements<float>(only_output(graph)) == std::vector<float>{0, 0, 5});
}

TEST_CASE("importing twice shares the constants' bytes") {
  onnx::TensorProto tensor = tensor_of(onnx::TensorProto::FLOAT, {1000});
  tensor.set_raw_data(std::string(4000, 'x'));
  const oi::Model model = parse(model_of(tensor));
  const ir::Graph first = oi::import(model, test_options());
  const ir::Graph second = oi::import(model, test_options());
  CHECK(only_output(first).constant.data() == only_output(second).constant.data());
}
