// SPDX-License-Identifier: Apache-2.0
#include "codegen/move_kernel.h"

#include <algorithm>
#include <cstring>

#include "edgert/cpu/ops/gather.h"
#include "edgert/cpu/ops/pad.h"
#include "edgert/cpu/ops/resize.h"

namespace edgert::codegen {

namespace {

constexpr std::int32_t kThreads = 128;

/// Type names of elements on their way from x to y.
struct Moved {
  std::string from, to;
};
Moved moved(const TensorView& x, const TensorView& y) {
  if (x.dtype == y.dtype) return {raw_type_name(x.dtype), raw_type_name(y.dtype)};
  return {type_name(x.dtype), type_name(y.dtype)};
}

/// y's dimensions in the order of its memory, outermost first, without merging any.
std::vector<std::uint32_t> memory_order(const TensorView& y) {
  std::vector<std::uint32_t> order;
  for (std::uint32_t d = 0; d < y.rank; ++d) {
    if (y.dims[d] != 1) order.push_back(d);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return y.strides[a] > y.strides[b]; });
  return order;
}

/// The nest of y (operand 0) and x over those dimensions, unmerged, so that position and dimension stay known.
cpu::Nest<2> ordered_nest(const TensorView& y, const TensorView& x, const std::vector<std::uint32_t>& order) {
  cpu::Nest<2> nest;
  for (const std::uint32_t d : order) nest.append(y.dims[d], {y.strides[d], is_empty(x) ? 0 : x.strides[d]});
  return nest;
}

std::int64_t vector_of(const cpu::Nest<2>& nest, const TensorView& y, const TensorView& x, bool whole, std::uint32_t alignment) {
  if (!whole || nest.rank == 0 || nest.inner_stride(1) != 1) return 1;
  const std::int64_t bytes[2] = {static_cast<std::int64_t>(cpu::bytes_of(y.dtype)), static_cast<std::int64_t>(cpu::bytes_of(x.dtype))};
  return vector_length(nest, bytes, alignment);
}

/// The value of an element given by its bytes, as an expression of `type`'s Value.
std::string literal(const void* bytes, DType dtype, DType as) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, bytes, cpu::bytes_of(dtype));
  const std::string text = std::to_string(bits) + "ull";
  if (dtype == as) return "static_cast<unsigned " + std::string(bits_of(as) == 8 ? "char" : bits_of(as) == 16 ? "short" : bits_of(as) == 32 ? "int" : "long long") + ">(" + text + ")";
  return "scalar::bit_cast<float>(" + std::to_string(bits) + "u)";
}

}  // namespace

KernelSpec make_gather(const GenericCall& call) {
  const TensorView& data = call.operands.in(0);
  const TensorView& indices = call.operands.in(1);
  const TensorView& y = call.operands.out(0);
  const std::uint32_t axis = static_cast<std::uint32_t>(call.operands.as<cpu::GatherAttributes>().axis);
  cpu::Nest<3> nest;
  for (std::uint32_t d = 0; d < y.rank; ++d) {
    const bool indexed = d >= axis && d < axis + indices.rank;
    const std::int64_t from = indexed || is_empty(data) ? 0 : data.strides[d < axis ? d : d - indices.rank + 1u];
    nest.append(y.dims[d], {y.strides[d], from, indexed ? indices.strides[d - axis] : 0});
  }
  nest.sort();
  nest.merge();
  const std::int64_t bytes[3] = {static_cast<std::int64_t>(cpu::bytes_of(y.dtype)), static_cast<std::int64_t>(cpu::bytes_of(data.dtype)), 8};
  // Elements of a vector share their index; the axis itself is walked in whole vectors too.
  const bool run = nest.rank > 0 && nest.inner_stride(1) == 1 && nest.inner_stride(2) == 0;
  std::int64_t vector = run ? vector_length(nest, bytes, call.alignment) : 1;
  while (vector > 1 && data.strides[axis] * bytes[1] % (vector * bytes[1]) != 0) vector /= 2;
  const Moved types = moved(data, y);
  ProblemText text;
  text.define("EDGERT_ENTRY", "gather");
  define_parameters(text, {types.from, type_name(indices.dtype), types.to});
  text.code("using From = " + types.from + ";\nusing To = " + types.to + ";\nusing Index = " + index_type(call.operands) + ";\n");
  text.set("kThreads", std::int64_t{kThreads}).set("kVector", vector);
  define_extents(text, call);
  text.define("EDGERT_AXIS_EXTENT", extent_text(call, 0, axis));
  text.set("kAxisStride", "Index", std::to_string(is_empty(data) ? 0 : data.strides[axis])).code(nest_struct("Walk", nest, 3, vector));
  KernelSpec spec;
  spec.entry = "gather";
  spec.job = make_job("gather_" + dims_text(data) + "_" + dims_text(y), "kernels/gather.cu", text.text(), call.arch);
  set_grid(spec, ceil_div(nest.count / vector, kThreads), kThreads);
  return spec;
}

KernelSpec make_pad(const GenericCall& call) {
  const cpu::PadAttributes& attributes = call.operands.as<cpu::PadAttributes>();
  const TensorView& x = call.operands.in(0);
  const TensorView& y = call.operands.out(0);
  const std::vector<std::uint32_t> order = memory_order(y);
  const cpu::Nest<2> nest = ordered_nest(y, x, order);
  std::vector<std::int64_t> before;
  std::string inputs;
  bool padded = false;
  for (const std::uint32_t d : order) {
    padded = attributes.before[d] != 0 || x.dims[d] != y.dims[d] || call.is_bounded(0, d);
    before.push_back(padded ? attributes.before[d] : -1);  // -1: output and input index are the same
    inputs += (inputs.empty() ? "" : ", ") + extent_text(call, 0, d);
  }
  for (const GenericCall::Bound& bound : call.bounds) {
    if (y.dims[bound.dim] == 1) throw CompileError("Pad of a dimension of at most one element, of which only a run knows whether there is one");
  }
  const std::int64_t vector = vector_of(nest, y, x, !padded, call.alignment);
  const Moved types = moved(x, y);
  const DType stored = call.attribute_type == DType::Undefined ? x.dtype : call.attribute_type;
  ProblemText text;
  text.define("EDGERT_ENTRY", "pad");
  // The constant has the type of the attributes; where elements are moved as they are, it is given as stored.
  std::string constant = literal(attributes.value, stored, y.dtype);
  Moved used = types;
  if (stored != y.dtype) used = {type_name(x.dtype), type_name(y.dtype)};
  define_parameters(text, {used.from, used.to});
  text.code("using From = " + used.from + ";\nusing To = " + used.to + ";\nusing Index = " + index_type(call.operands) + ";\n");
  text.code(nest_struct("Walk", nest, 2, vector) + index_function("before", before)).set("kBounded", !call.bounds.empty());
  define_extents(text, call);
  text.define("EDGERT_INPUT_EXTENTS", "{" + (inputs.empty() ? "1" : inputs) + "}");
  text.code("__device__ __forceinline__ To::Value constant() { return " + constant + "; }\n");
  text.set("kThreads", std::int64_t{kThreads}).set("kVector", vector).set("kMode", std::int64_t{static_cast<int>(attributes.mode)});
  KernelSpec spec;
  spec.entry = "pad";
  spec.job = make_job("pad_" + dims_text(x) + "_" + dims_text(y), "kernels/pad.cu", text.text(), call.arch);
  set_grid(spec, ceil_div(nest.count / vector, kThreads), kThreads);
  return spec;
}

KernelSpec make_resize(const GenericCall& call) {
  const cpu::ResizeAttributes& attributes = call.operands.as<cpu::ResizeAttributes>();
  const TensorView& x = call.operands.in(0);
  const TensorView& y = call.operands.out(0);
  const bool crops = attributes.coordinates == cpu::ResizeCoordinates::TfCropAndResize;
  const bool weighted = attributes.mode != cpu::ResizeMode::Nearest;
  std::vector<std::uint32_t> order;
  for (std::uint32_t d = 0; d < y.rank; ++d) {
    if (y.dims[d] != 1 || cpu::resize_detail::is_active(call.operands, d)) order.push_back(d);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return y.strides[a] > y.strides[b]; });
  const int taps = cpu::resize_detail::taps_of(attributes.mode);
  cpu::Nest<2> nest;
  std::vector<std::int64_t> tables;
  std::string table;
  std::int64_t rows = 0, terms = 1;
  bool active = false;
  for (const std::uint32_t d : order) {
    // Axes of extent 1 that change stay: their taps are not the input's first element alone.
    nest.dims[nest.rank] = y.dims[d];
    nest.strides[0][nest.rank] = y.strides[d], nest.strides[1][nest.rank] = x.strides[d];
    ++nest.rank;
    nest.count *= y.dims[d];
    active = cpu::resize_detail::is_active(call.operands, d);
    tables.push_back(active ? rows * taps : -1);
    if (!active) continue;
    terms *= taps;
    rows += y.dims[d];
    for (std::int64_t o = 0; o < y.dims[d]; ++o) {
      cpu::resize_detail::Tap row[cpu::resize_detail::kMaxTaps];
      cpu::resize_detail::make_taps(attributes, d, o, x.dims[d], y.dims[d], row);
      for (int t = 0; t < taps; ++t) table += "{" + std::to_string(row[t].index) + ", " + float_literal(row[t].weight) + "},";
      table += "\n";
    }
  }
  const std::int64_t vector = vector_of(nest, y, x, !active, call.alignment);
  Moved types = moved(x, y);
  if (weighted || crops) types = {type_name(x.dtype), type_name(y.dtype)};
  ProblemText text;
  text.define("EDGERT_ENTRY", "resize");
  define_parameters(text, {types.from, types.to});
  text.code("using From = " + types.from + ";\nusing To = " + types.to + ";\nusing Index = " + index_type(call.operands) + ";\n");
  text.code(nest_struct("Walk", nest, 2, vector) + index_function("table", tables));
  text.code("__device__ const Tap kTable[] = {" + (table.empty() ? "{0, 0.0f}" : table) + "};\n");
  text.code("__device__ __forceinline__ To::Value extrapolation() { return " + (crops ? float_literal(attributes.extrapolation_value) : "0") + "; }\n");
  text.set("kThreads", std::int64_t{kThreads}).set("kVector", vector).set("kTaps", std::int64_t{taps}).set("kTerms", terms).set("kWeighted", weighted);
  KernelSpec spec;
  spec.entry = "resize";
  spec.job = make_job("resize_" + dims_text(x) + "_" + dims_text(y), "kernels/resize.cu", text.text(), call.arch);
  set_grid(spec, ceil_div(nest.count / vector, kThreads), kThreads);
  return spec;
}

}  // namespace edgert::codegen
