// SPDX-License-Identifier: Apache-2.0
#include "cli/shape_options.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>

#include "cli/command.h"

namespace edgert::cli {
namespace {

std::pair<std::string, std::string> split_assignment(const std::string& text, const char* option) {
  const std::size_t at = text.find('=');
  if (at == std::string::npos || at == 0 || at + 1 == text.size()) {
    throw UsageError(std::string(option) + " '" + text + "': expected name=..., as in " + option +
                     (std::string(option) == "--shape" ? " image=1x3x224x224" : " name=1"));
  }
  return {text.substr(0, at), text.substr(at + 1)};
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::int64_t parse_extent(const std::string& text, const std::string& whole) {
  errno = 0;
  char* end = nullptr;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || errno != 0 || value < 0) {
    throw UsageError("'" + text + "' in '" + whole + "' is no extent: expected a number of 0 or more");
  }
  return value;
}

ir::Dims parse_dims(const std::string& text, const std::string& whole) {
  ir::Dims dims;
  if (text == "scalar") return dims;
  for (const std::string& part : split(text, 'x')) dims.push_back(parse_extent(part, whole));
  if (dims.size() > kMaxRank) throw UsageError("'" + whole + "' has more than 8 dimensions");
  return dims;
}

const onnx_import::TensorInfo& find_input(const onnx_import::Model& model, const std::string& name, const char* option) {
  std::string known;
  for (const onnx_import::TensorInfo& input : model.inputs()) {
    if (input.name == name) return input;
    known += (known.empty() ? "" : ", ") + input.name;
  }
  throw UsageError(std::string(option) + ": the model has no input '" + name + "'; its inputs are: " + known);
}

void append_number(std::vector<std::byte>& bytes, DType dtype, const std::string& text, const std::string& whole) {
  char* end = nullptr;
  const bool is_real = dtype == DType::F32 || dtype == DType::F64;
  const double real = is_real ? std::strtod(text.c_str(), &end) : 0;
  errno = 0;
  const std::int64_t integer = is_real ? 0 : std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || (!is_real && errno != 0)) {
    throw UsageError("'" + text + "' in --value '" + whole + "' is no " + to_string(dtype) + " number");
  }
  const auto put = [&](auto value) {
    if (!is_real && static_cast<std::int64_t>(value) != integer) {
      throw UsageError("'" + text + "' in --value '" + whole + "' is beyond " + to_string(dtype));
    }
    const auto* data = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), data, data + sizeof(value));
  };
  switch (dtype) {
    case DType::F32: return put(static_cast<float>(real));
    case DType::F64: return put(real);
    case DType::I64: return put(integer);
    case DType::I32: return put(static_cast<std::int32_t>(integer));
    case DType::I16: return put(static_cast<std::int16_t>(integer));
    case DType::I8: return put(static_cast<std::int8_t>(integer));
    case DType::U8: return put(static_cast<std::uint8_t>(integer));
    case DType::Bool: return put(static_cast<std::uint8_t>(integer & 1));
    default: throw UsageError("--value '" + whole + "': inputs of type " + to_string(dtype) + " cannot be given");
  }
}

onnx_import::ConstantTensor parse_value(const onnx_import::TensorInfo& input, const std::string& text, const std::string& whole) {
  const std::vector<std::string> numbers = split(text, ',');
  onnx_import::ConstantTensor tensor;
  tensor.type.dtype = input.dtype;
  std::vector<std::byte> bytes;
  for (const std::string& number : numbers) append_number(bytes, input.dtype, number, whole);
  // The declared shape where it is known and fits; else a vector, or a scalar where the model says rank 0.
  for (const onnx_import::Dimension& dimension : input.dims) tensor.type.dims.push_back(dimension.value);
  const bool known = std::all_of(tensor.type.dims.begin(), tensor.type.dims.end(), [](std::int64_t d) { return d >= 0; });
  if (!input.has_shape || !known) tensor.type.dims = {static_cast<std::int64_t>(numbers.size())};
  if (ir::element_count(tensor.type.dims) != static_cast<std::int64_t>(numbers.size())) {
    throw UsageError("--value '" + whole + "': input " + onnx_import::to_string(input) + " takes " +
                     std::to_string(ir::element_count(tensor.type.dims)) + " numbers, not " + std::to_string(numbers.size()));
  }
  tensor.bytes = ir::Bytes::adopt(std::move(bytes));
  return tensor;
}

}  // namespace

std::vector<onnx_import::ImportOptions> parse_profiles(const onnx_import::Model& model, const std::vector<std::string>& shapes,
                                                       const std::vector<std::string>& dims,
                                                       const std::vector<std::string>& values) {
  onnx_import::ImportOptions common;
  for (const std::string& text : dims) {
    const auto [name, extent] = split_assignment(text, "--dim");
    common.dims[name] = parse_extent(extent, text);
  }
  for (const std::string& text : values) {
    const auto [name, numbers] = split_assignment(text, "--value");
    common.values[name] = parse_value(find_input(model, name, "--value"), numbers, text);
  }
  std::map<std::string, std::vector<ir::Dims>> by_input;
  for (const std::string& text : shapes) {
    const auto [name, list] = split_assignment(text, "--shape");
    find_input(model, name, "--shape");
    for (const std::string& one : split(list, ':')) {
      const ir::Dims parsed = parse_dims(one, text);
      std::vector<ir::Dims>& known = by_input[name];
      if (std::find(known.begin(), known.end(), parsed) == known.end()) known.push_back(parsed);
    }
  }
  std::size_t count = 1;
  for (const auto& [name, list] : by_input) {
    if (list.size() == 1) continue;
    if (count != 1 && list.size() != count) {
      throw UsageError("--shape: input '" + name + "' has " + std::to_string(list.size()) + " shapes and another has " +
                       std::to_string(count) + "; give each input one shape, or as many as there are profiles");
    }
    count = list.size();
  }
  if (count > 64) throw UsageError("--shape: more than 64 profiles");
  std::vector<onnx_import::ImportOptions> profiles(count, common);
  for (const auto& [name, list] : by_input) {
    for (std::size_t p = 0; p < count; ++p) profiles[p].shapes[name] = list[list.size() == 1 ? 0 : p];
  }
  return profiles;
}

}  // namespace edgert::cli
