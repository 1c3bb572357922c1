// SPDX-License-Identifier: Apache-2.0
// Constants: the ONNX operators that make them and the helpers by which importers do.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "edgert/scalar/convert.h"
#include "ops/compose.h"
#include "ops/bounded_moves.h"

namespace edgert::ops {
namespace {

/// Larger constants than this only come from hostile models.
constexpr std::int64_t kMaxConstantElements = std::int64_t{1} << 28;
constexpr std::int64_t kMaxPositions = std::int64_t{1} << 24;  ///< along one dimension

template <class T>
std::vector<std::byte> bytes_of(T value) {
  std::vector<std::byte> bytes(sizeof(T));
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

void import_constant(OnnxNode& node) {
  using Attribute = OnnxNode::Attribute;
  if (node.attributes.size() != 1) node.fail("needs exactly one value attribute");
  const auto& [name, attribute] = *node.attributes.begin();
  const auto count = [](const auto& list) { return static_cast<std::int64_t>(list.size()); };
  if (name == "value" && attribute.kind == Attribute::Kind::Tensor) {
    node.set_output(0, constant(node, attribute.tensor_type, attribute.tensor));
  } else if (name == "value_float" && attribute.kind == Attribute::Kind::Float) {
    node.set_output(0, float_constant(node, {}, {attribute.f}));
  } else if (name == "value_floats" && attribute.kind == Attribute::Kind::Floats) {
    node.set_output(0, float_constant(node, {count(attribute.floats)}, attribute.floats));
  } else if (name == "value_int" && attribute.kind == Attribute::Kind::Int) {
    node.set_output(0, int64_constant(node, {}, {attribute.i}));
  } else if (name == "value_ints" && attribute.kind == Attribute::Kind::Ints) {
    node.set_output(0, int64_constant(node, {count(attribute.ints)}, attribute.ints));
  } else {
    node.fail("attribute '" + name + "' is not supported: strings and sparse tensors have no place in a plan");
  }
}

void import_constant_of_shape(OnnxNode& node) {
  ValueId value = ir::kNone;
  const auto it = node.attributes.find("value");
  if (it == node.attributes.end()) {
    value = scalar_constant(node, DType::F32, 0);
  } else {
    if (it->second.kind != OnnxNode::Attribute::Kind::Tensor) node.fail("attribute 'value' must be a tensor");
    if (ir::element_count(it->second.tensor_type.dims) != 1) node.fail("attribute 'value' must have one element");
    value = constant(node, {it->second.tensor_type.dtype, {}}, it->second.tensor);
  }
  if (!node.is_constant(0)) {
    if (const auto sums = extent_sums(node.graph, node.input(0))) return node.set_output(0, expand_to(node, value, *sums));
  }
  const Dims dims = known_ints(node, 0, "the shape");
  checked_constant_size(node, dims);
  node.set_output(0, expand(node, value, dims, true));
}

/// `operands`: start, limit and delta, constants of type T.
template <class T>
ValueId range(OnnxNode& node, const std::vector<ValueId>& operands) {
  T bounds[3] = {};
  for (std::size_t i = 0; i < 3; ++i) bounds[i] = *node.graph.value(operands[i]).constant.as<T>();
  const double distance = static_cast<double>(bounds[1]) - static_cast<double>(bounds[0]);
  const double steps = std::ceil(distance / static_cast<double>(bounds[2]));
  if (bounds[2] == T{0} || !std::isfinite(steps)) node.fail("delta is zero or a bound is not finite");
  if (steps > static_cast<double>(kMaxConstantElements)) node.fail("the range has too many elements");
  const auto count = static_cast<std::int64_t>(std::max(steps, 0.0));
  std::vector<std::byte> bytes(static_cast<std::size_t>(count) * sizeof(T));
  for (std::int64_t i = 0; i < count; ++i) {
    // Unsigned, so that a product that a hostile model makes wrap does so by definition; elements themselves fit.
    using Wide = std::conditional_t<std::is_integral_v<T>, std::uint64_t, T>;
    const auto element =
        static_cast<T>(static_cast<Wide>(bounds[0]) + static_cast<Wide>(i) * static_cast<Wide>(bounds[2]));
    std::memcpy(bytes.data() + static_cast<std::size_t>(i) * sizeof(T), &element, sizeof(T));
  }
  return constant(node, {dtype_of(node, operands[0]), {count}}, ir::Bytes::adopt(std::move(bytes)));
}

/// From a constant in steps of one up to a number of extents that only a run knows.
std::optional<ValueId> bounded_range(OnnxNode& node, DType dtype) {
  if ((dtype != DType::I64 && dtype != DType::I32) || node.is_constant(1)) return std::nullopt;
  std::vector<ExtentSum> bounds;
  for (std::size_t i = 0; i < 3; ++i) {
    const std::optional<std::vector<ExtentSum>> sums = extent_sums(node.graph, node.input(i));
    if (!sums || sums->size() != 1) return std::nullopt;
    bounds.push_back((*sums)[0]);
  }
  const std::optional<ExtentSum> count = bounds[0].is_known() ? plus(bounds[1], bounds[0], -1) : std::nullopt;
  const std::optional<std::int64_t> most = count ? largest_sum(node.graph, *count) : std::nullopt;
  if (!most || !bounds[2].is_known() || bounds[2].constant != 1) return std::nullopt;
  checked_constant_size(node, {*most});
  std::vector<std::int64_t> numbers = iota(*most);
  for (std::int64_t& each : numbers) each += bounds[0].constant;
  const ValueId start = int64_constant(node, {}, {bounds[0].constant});
  const ValueId limit = reshape(node, cast(node, node.input(1), DType::I64), {});
  const ValueId whole = cast(node, int64_constant(node, {*most}, numbers), dtype);
  return first_of(node, whole, 0, bounds[0].constant == 0 ? limit : binary(node, PointwiseOp::Sub, limit, start));
}

void import_range(OnnxNode& node) {
  const DType dtype = dtype_of(node, node.input(0));
  if (const std::optional<ValueId> bounded = bounded_range(node, dtype)) return node.set_output(0, *bounded);
  std::vector<ValueId> operands;
  for (std::size_t i = 0; i < 3; ++i) {
    require_constant(node, i, "start, limit and delta");
    if (node.type(i).dtype != dtype || ir::element_count(node.type(i).dims) != 1) {
      node.fail("start, limit and delta must be scalars of one type");
    }
    operands.push_back(cast_narrow(node, node.input(i)));
  }
  switch (dtype_of(node, operands[0])) {
    case DType::F32: return node.set_output(0, cast(node, range<float>(node, operands), dtype));
    case DType::F64: return node.set_output(0, range<double>(node, operands));
    case DType::I16: return node.set_output(0, range<std::int16_t>(node, operands));
    case DType::I32: return node.set_output(0, range<std::int32_t>(node, operands));
    case DType::I64: return node.set_output(0, range<std::int64_t>(node, operands));
    default: node.fail(std::string("type ") + edgert::to_string(dtype) + " is not supported");
  }
}

/// For each dimension of x the value that holds its extent, or kNone where it is known now.
std::vector<ValueId> actual_extents(const OnnxNode& node, ValueId x) {
  std::vector<ValueId> actual(dims_of(node, x).size(), ir::kNone);
  for (const ir::Extent& extent : node.graph.value(x).extents) actual[extent.dim] = extent.actual;
  return actual;
}

/// Shape and Size: extents are known when the plan is built, but for bounded ones.
void import_shape(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const auto rank = static_cast<std::int64_t>(dims.size());
  const auto clamp = [rank](std::int64_t position) {
    if (position < 0) position += rank;
    return std::min(std::max<std::int64_t>(position, 0), rank);
  };
  const std::int64_t start = clamp(node.int_or("start", 0));
  const std::int64_t end = std::max(start, clamp(node.int_or("end", rank)));
  const std::vector<ValueId> extents = actual_extents(node, node.input(0));
  const bool bounded = std::any_of(extents.begin() + start, extents.begin() + end,
                                   [](ValueId extent) { return extent != ir::kNone; });
  if (bounded) {
    std::vector<ValueId> parts;
    for (std::int64_t d = start; d < end; ++d) {
      const auto i = static_cast<std::size_t>(d);
      parts.push_back(extents[i] == ir::kNone ? int64_constant(node, {1}, {dims[i]}) : reshape(node, extents[i], {1}));
    }
    return node.set_output(0, concat(node, parts, 0));
  }
  node.set_output(0, int64_constant(node, {end - start}, Dims(dims.begin() + start, dims.begin() + end)));
}

void import_size(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const std::vector<ValueId> extents = actual_extents(node, node.input(0));
  std::int64_t fixed = 1;
  for (std::size_t d = 0; d < dims.size(); ++d) {
    if (extents[d] == ir::kNone) fixed = ir::element_count({fixed, dims[d]});
  }
  ValueId count = int64_constant(node, {}, {fixed});
  for (const ValueId extent : extents) {
    if (extent != ir::kNone) count = binary(node, PointwiseOp::Mul, count, reshape(node, extent, {}));
  }
  node.set_output(0, count);
}

/// Ones on diagonal k of a matrix as large as the input.
void import_eye_like(OnnxNode& node) {
  const ir::TensorType like = node.type(0);
  if (like.dims.size() != 2) node.fail("the input must have rank 2");
  const std::int64_t k = node.int_or("k", 0);
  const DType dtype = node.has("dtype") ? dtype_from_onnx(node, node.int_or("dtype", 0)) : like.dtype;
  const auto count = static_cast<std::size_t>(checked_constant_size(node, like.dims));
  const std::vector<std::byte> one = scalar_bytes(node, dtype, 1);
  std::vector<std::byte> bytes(count * one.size());
  for (std::int64_t row = 0; row < like.dims[0]; ++row) {
    // Compared by subtraction from extents, so that a huge k cannot wrap.
    if (k >= like.dims[1] - row || k < -row) continue;
    std::memcpy(bytes.data() + static_cast<std::size_t>(row * like.dims[1] + row + k) * one.size(), one.data(),
                one.size());
  }
  node.set_output(0, constant(node, {dtype, like.dims}, ir::Bytes::adopt(std::move(bytes))));
}

/// The model inputs that a value is computed from, in the order of their ids.
std::set<ValueId> model_inputs_behind(const OnnxNode& node, ValueId x) {
  std::vector<ValueId> open{x};
  std::set<ValueId> seen;
  std::set<ValueId> inputs;
  while (!open.empty()) {
    const ValueId id = open.back();
    open.pop_back();
    if (id == ir::kNone || node.graph.value(id).is_constant() || !seen.insert(id).second) continue;
    const ir::Node* producer = node.graph.producer(id);
    if (producer == nullptr) {
      inputs.insert(id);
    } else {
      open.insert(open.end(), producer->inputs.begin(), producer->inputs.end());
    }
  }
  return inputs;
}

}  // namespace

ValueId constant(OnnxNode& node, const ir::TensorType& type, ir::Bytes bytes) {
  return node.graph.add_constant(node.name + "_constant", type, std::move(bytes));
}

ValueId int64_constant(OnnxNode& node, const Dims& dims, const std::vector<std::int64_t>& values) {
  return constant(node, {DType::I64, dims}, ir::Bytes::copy(values.data(), values.size() * sizeof(values[0])));
}

ValueId float_constant(OnnxNode& node, const Dims& dims, const std::vector<float>& values) {
  return constant(node, {DType::F32, dims}, ir::Bytes::copy(values.data(), values.size() * sizeof(values[0])));
}

std::vector<std::byte> scalar_bytes(const OnnxNode& node, DType dtype, double value) {
  switch (dtype) {
    case DType::F32: return bytes_of(static_cast<float>(value));
    case DType::F64: return bytes_of(value);
    case DType::F16: return bytes_of(scalar::to_half(static_cast<float>(value)));
    case DType::BF16: return bytes_of(scalar::to_bfloat16(static_cast<float>(value)));
    case DType::I8: return bytes_of(scalar::saturate_cast<std::int8_t>(value));
    case DType::U8: return bytes_of(scalar::saturate_cast<std::uint8_t>(value));
    case DType::I16: return bytes_of(scalar::saturate_cast<std::int16_t>(value));
    case DType::U16: return bytes_of(scalar::saturate_cast<std::uint16_t>(value));
    case DType::I32: return bytes_of(scalar::saturate_cast<std::int32_t>(value));
    case DType::U32: return bytes_of(scalar::saturate_cast<std::uint32_t>(value));
    case DType::I64: return bytes_of(scalar::saturate_cast<std::int64_t>(value));
    case DType::U64: return bytes_of(scalar::saturate_cast<std::uint64_t>(value));
    case DType::Bool: return bytes_of(static_cast<std::uint8_t>(value != 0));
    default: break;
  }
  node.fail(std::string("type ") + edgert::to_string(dtype) + " is not supported");
}

ValueId scalar_constant(OnnxNode& node, DType dtype, double value) {
  return constant(node, {dtype, {}}, ir::Bytes::adopt(scalar_bytes(node, dtype, value)));
}

std::vector<std::int64_t> iota(std::int64_t count) {
  if (count > kMaxPositions) throw ir::BuildError("positions along an extent of " + std::to_string(count) + " are too many for a constant");
  std::vector<std::int64_t> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  return values;
}

std::int64_t checked_constant_size(const OnnxNode& node, const Dims& dims) {
  const std::int64_t count = ir::element_count(dims);
  if (count > kMaxConstantElements) node.fail("a constant of shape " + ir::to_string(dims) + " is too large");
  return count;
}

void require_constant(const OnnxNode& node, std::size_t i, const std::string& what) {
  const ValueId id = node.input(i);
  if (node.graph.value(id).is_constant()) return;
  // Numbers that decide extents are few: a picture behind them is no value to fix. Without an input behind it, it is a
  // constant that could not be folded.
  constexpr std::int64_t kFewElements = 64;
  std::string flags;
  bool fixable = !node.in_body;
  for (const ValueId input : model_inputs_behind(node, id)) {
    fixable = fixable && ir::element_count(node.graph.value(input).type.dims) <= kFewElements;
    flags += " --value " + node.graph.value(input).name + "=...";
  }
  const std::string advice = fixable ? "; fix the model inputs that it depends on with" + flags : ", but it is computed from the data of a run";
  node.fail(what + " ('" + node.graph.value(id).name + "') must be known when the plan is built" + (flags.empty() ? "" : advice));
}

std::vector<std::int64_t> known_ints(const OnnxNode& node, std::size_t i, const std::string& what) {
  if (node.has_input(i) && !node.is_constant(i)) {
    // What a model computes from extents may be the same in every run, though one of them is not.
    const std::optional<std::vector<ExtentSum>> sums = extent_sums(node.graph, node.input(i));
    const auto is_known = [](const ExtentSum& sum) { return sum.is_known(); };
    if (sums && std::all_of(sums->begin(), sums->end(), is_known)) {
      std::vector<std::int64_t> values;
      for (const ExtentSum& sum : *sums) values.push_back(sum.constant);
      return values;
    }
  }
  require_constant(node, i, what);
  return node.constant_ints(i);
}

bool is_constant_expression(const OnnxNode& node, ValueId x) { return model_inputs_behind(node, x).empty(); }

std::size_t axis_of(const OnnxNode& node, std::int64_t axis, std::size_t rank) {
  const auto signed_rank = static_cast<std::int64_t>(rank);
  if (axis < -signed_rank || axis >= signed_rank) {
    node.fail("axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank));
  }
  return static_cast<std::size_t>(axis < 0 ? axis + signed_rank : axis);
}

std::vector<std::size_t> axes_of(const OnnxNode& node, const std::vector<std::int64_t>& axes, std::size_t rank) {
  std::vector<bool> named(rank, false);
  for (const std::int64_t axis : axes) {
    const std::size_t a = axis_of(node, axis, rank);
    if (named[a]) node.fail("axis " + std::to_string(axis) + " is named twice");
    named[a] = true;
  }
  std::vector<std::size_t> ascending;
  for (std::size_t i = 0; i < rank; ++i) {
    if (named[i]) ascending.push_back(i);
  }
  return ascending;
}

void register_constant(Registry& registry) {
  registry.add_onnx("Constant", &import_constant);
  registry.add_onnx("ConstantOfShape", &import_constant_of_shape, 9);
  registry.add_onnx("Range", &import_range, 11);
  registry.add_onnx("Shape", &import_shape);
  registry.add_onnx("Size", &import_size);
  registry.add_onnx("EyeLike", &import_eye_like, 9);
}

}  // namespace edgert::ops
