// SPDX-License-Identifier: Apache-2.0
#include "codegen/reduce_kernel.h"

#include <algorithm>

#include "edgert/cpu/ops/arg_reduce.h"
#include "edgert/cpu/ops/normalize.h"
#include "edgert/cpu/ops/reduce.h"
#include "edgert/cpu/ops/softmax.h"

namespace edgert::codegen {

namespace {

/// How threads share the work: kernels/common/group.h.
struct GroupShape {
  std::int32_t lanes = 1, groups = 1;
  bool across = false;
};

std::int32_t power_of_two_above(std::int64_t x, std::int32_t limit) {
  std::int32_t power = 1;
  while (power < x && power < limit) power *= 2;
  return power;
}

/// `results` groups of `elements`; `across` when neighbouring results are neighbours in memory and elements are not.
GroupShape choose_group(std::int64_t results, std::int64_t elements, bool across) {
  GroupShape shape;
  if (across) {
    shape.across = true;
    shape.groups = power_of_two_above(results, 32);
    shape.lanes = power_of_two_above(ceil_div(elements, 8), 256 / shape.groups);
    if (elements >= 1024 && results <= 2048) shape.groups = std::min(shape.groups, 8), shape.lanes = 64;  // more blocks, still whole sectors
    // Blocks are whole warps.
    shape.lanes = std::max(shape.lanes, 32 / shape.groups);
    return shape;
  }
  // Up to 8 elements a lane, and with few results fewer.
  const std::int64_t each = results < 64 ? 2 : 8;
  shape.lanes = power_of_two_above(ceil_div(elements, each), 512);
  shape.groups = std::max(1, 128 / shape.lanes);
  return shape;
}

void set_group(ProblemText& text, KernelSpec& spec, const GroupShape& shape, std::int64_t results, std::uint32_t value_bytes) {
  text.set("kLanes", std::int64_t{shape.lanes}).set("kGroups", std::int64_t{shape.groups}).set("kAcross", shape.across);
  const std::int32_t threads = shape.lanes * shape.groups;
  const std::int32_t slots = shape.across ? (shape.lanes > 1 ? threads : 0) : shape.lanes > 32 ? threads / 32 : 0;
  spec.shared_bytes = static_cast<std::uint32_t>(slots) * value_bytes;
  set_grid(spec, ceil_div(results, shape.groups), threads);
}

/// The reduced dimensions of x as they are, operand 0, and the coordinates along those whose extent only the run knows.
std::string bounded_nest(const GenericCall& call, std::uint32_t axes, std::string& extents, std::int64_t& fixed) {
  const TensorView& x = call.operands.in(0);
  std::vector<std::int64_t> dims, strides;
  std::vector<std::vector<std::int64_t>> units;
  std::int64_t count = 1;
  for (std::uint32_t d = 0; d < x.rank; ++d) {
    if (!cpu::has_axis(axes, d)) continue;
    dims.push_back(std::max<std::int64_t>(x.dims[d], 1));
    strides.push_back(x.strides[d]);
    count *= x.dims[d];
    for (std::vector<std::int64_t>& unit : units) unit.push_back(0);
    if (!call.is_bounded(0, d)) {
      fixed *= x.dims[d];
      continue;
    }
    units.emplace_back(dims.size(), 0);
    units.back().back() = 1;
    extents += (extents.empty() ? "" : ", ") + extent_text(call, 0, d);
  }
  std::vector<const std::int64_t*> operands{strides.data()};
  for (const std::vector<std::int64_t>& unit : units) operands.push_back(unit.data());
  return nest_struct("Reduced", count, static_cast<std::uint32_t>(dims.size()), dims.data(), operands, 1);
}

DType numbers(DType dtype) { return dtype == DType::Bool ? DType::U8 : dtype; }

/// Kept and reduced dimensions; operand 0 is y, 1 is x, and of the reduced ones x alone.
struct Folded {
  cpu::Nest<2> kept;
  cpu::Nest<1> reduced;
};
Folded split_axes(const TensorView& x, const TensorView& y, std::uint32_t axes) {
  Folded nests;
  for (std::uint32_t d = 0; d < x.rank; ++d) {
    const std::int64_t stride = is_empty(x) ? 0 : x.strides[d];  // an empty view's strides are not bounded
    if (cpu::has_axis(axes, d)) {
      nests.reduced.append(x.dims[d], {stride});
    } else {
      nests.kept.append(x.dims[d], {y.strides[d], stride});
    }
  }
  nests.kept.sort();
  nests.kept.merge();
  if (nests.reduced.count == 0) {
    nests.reduced = {};
    nests.reduced.count = 0;
    return nests;
  }
  return nests;
}

KernelSpec make_fold(const GenericCall& call, const std::string& name, const std::string& file, const Folded& nests, ProblemText text,
                     std::uint32_t value_bytes, const std::string& reduced) {
  const TensorView& x = call.operands.in(0);
  const bool across = nests.kept.inner_stride(1) == 1 && nests.kept.inner() >= 8 && nests.reduced.inner_stride(0) != 1;
  const GroupShape shape = choose_group(nests.kept.count, nests.reduced.count, across);
  KernelSpec spec;
  spec.entry = "fold";
  text.define("EDGERT_ENTRY", "fold");
  text.code("using X = " + type_name(numbers(x.dtype)) + ";\nusing Y = " + type_name(numbers(call.operands.out(0).dtype)) + ";\n");
  text.code("using Index = " + index_type(call.operands) + ";\n");
  text.code(nest_struct("Kept", nests.kept)).code(reduced);
  define_extents(text, call);
  spec.job.name = name + "_" + dims_text(x) + "_" + dims_text(call.operands.out(0));
  set_group(text, spec, shape, nests.kept.count, value_bytes);
  spec.job = make_job(spec.job.name, file, text.text(), call.arch);
  return spec;
}

std::uint32_t value_bytes(DType dtype) { return cpu::arithmetic_of(dtype) == scalar::Arithmetic::F32 ? 4 : 8; }

}  // namespace

KernelSpec make_reduce(const GenericCall& call) {
  const cpu::ReduceAttributes& attributes = call.operands.as<cpu::ReduceAttributes>();
  const TensorView& x = call.operands.in(0);
  Folded nests = split_axes(x, call.operands.out(0), attributes.axes);
  nests.reduced.sort();
  nests.reduced.merge();
  ProblemText text;
  text.set("kKind", std::int64_t{static_cast<int>(attributes.kind)});
  std::string reduced, extents;
  std::int64_t fixed = 1;
  if (!call.bounds.empty() && !is_empty(x)) reduced = bounded_nest(call, attributes.axes, extents, fixed);
  if (extents.empty()) reduced = nest_struct("Reduced", nests.reduced), fixed = nests.reduced.count;
  text.define("EDGERT_REDUCED_EXTENTS", "{" + (extents.empty() ? "0" : extents) + "}").define("EDGERT_FIXED_COUNT", std::to_string(fixed));
  return make_fold(call, "reduce" + std::to_string(static_cast<int>(attributes.kind)), "kernels/reduce.cu", nests, text, value_bytes(x.dtype), reduced);
}

KernelSpec make_arg_reduce(const GenericCall& call) {
  const cpu::ArgReduceAttributes& attributes = call.operands.as<cpu::ArgReduceAttributes>();
  const TensorView& x = call.operands.in(0);
  const Folded nests = split_axes(x, call.operands.out(0), 1u << attributes.axis);
  ProblemText text;
  text.set("kMinimum", attributes.minimum != 0).set("kSelectLast", attributes.select_last != 0);
  text.define("EDGERT_REDUCED_EXTENTS", extent_text(call, 0, static_cast<std::uint32_t>(attributes.axis)));
  return make_fold(call, attributes.minimum != 0 ? "arg_min" : "arg_max", "kernels/arg_reduce.cu", nests, text, 16, nest_struct("Reduced", nests.reduced));
}

KernelSpec make_softmax(const GenericCall& call) {
  const cpu::SoftmaxAttributes& attributes = call.operands.as<cpu::SoftmaxAttributes>();
  const TensorView& x = call.operands.in(0);
  const TensorView& y = call.operands.out(0);
  const std::uint32_t axis = static_cast<std::uint32_t>(attributes.axis);
  const std::int64_t extent = x.dims[axis];
  cpu::Nest<2> lines;
  for (std::uint32_t d = 0; d < x.rank; ++d) {
    if (d != axis) lines.append(x.dims[d], {y.strides[d], x.strides[d]});
  }
  lines.sort();
  lines.merge();
  const bool across = x.strides[axis] != 1 && extent > 1 && lines.inner_stride(1) == 1 && lines.inner() >= 8;
  const GroupShape shape = choose_group(lines.count, extent, across);
  const bool narrow = value_bytes(x.dtype) == 4;
  KernelSpec spec;
  spec.entry = "softmax";
  spec.job.name = std::string(attributes.log != 0 ? "log_softmax_" : "softmax_") + dims_text(x) + "_axis" + std::to_string(axis);
  ProblemText text;
  text.define("EDGERT_ENTRY", "softmax");
  text.code("using X = " + type_name(x.dtype) + ";\nusing Y = " + type_name(y.dtype) + ";\nusing Index = " + index_type(call.operands) + ";\n");
  text.code(nest_struct("Lines", lines)).set("kLogarithm", attributes.log != 0).set("kZeroHidden", attributes.zero_hidden != 0).set("kMostHeld", std::int64_t{narrow ? 32 : 8});
  text.set("kExtent", "Index", std::to_string(extent)).set("kInputStride", "Index", std::to_string(x.strides[axis]));
  text.set("kOutputStride", "Index", std::to_string(y.strides[axis]));
  define_extents(text, call);
  text.define("EDGERT_AXIS_EXTENT", extent_text(call, 0, axis));
  set_group(text, spec, shape, lines.count, value_bytes(x.dtype));
  spec.job = make_job(spec.job.name, "kernels/softmax.cu", text.text(), call.arch);
  return spec;
}

KernelSpec make_normalize(const GenericCall& call) {
  const cpu::NormalizeAttributes& attributes = call.operands.as<cpu::NormalizeAttributes>();
  const TensorView& x = call.operands.in(0);
  const TensorView& y = call.operands.out(0);
  const bool has[4] = {true, true, call.operands.has(1), call.operands.has(2)};
  cpu::Nest<4> outside, inside;
  for (std::uint32_t d = 0; d < y.rank; ++d) {
    const std::int64_t strides[4] = {y.strides[d], x.strides[d], has[2] ? call.operands.in(1).strides[d] : 0,
                                     has[3] ? call.operands.in(2).strides[d] : 0};
    (cpu::has_axis(attributes.axes, d) ? inside : outside).append(y.dims[d], strides);
  }
  for (cpu::Nest<4>* nest : {&outside, &inside}) {
    nest->sort();
    nest->merge();
  }
  const bool across = outside.inner_stride(1) == 1 && outside.inner() >= 8 && inside.inner_stride(1) != 1;
  const GroupShape shape = choose_group(outside.count, inside.count, across);
  const bool narrow = value_bytes(x.dtype) == 4;
  KernelSpec spec;
  spec.entry = "normalize";
  spec.job.name = std::string(attributes.rms != 0 ? "rms_normalize_" : "normalize_") + dims_text(x) + "_axes" + std::to_string(attributes.axes);
  ProblemText text;
  text.define("EDGERT_ENTRY", "normalize");
  std::vector<std::string> types = {type_name(x.dtype)};
  if (has[2]) types.push_back(type_name(call.operands.in(1).dtype));
  if (has[3]) types.push_back(type_name(call.operands.in(2).dtype));
  text.define("EDGERT_SCALE", has[2] ? "x1" : "x0").define("EDGERT_BIAS", !has[3] ? "x0" : has[2] ? "x2" : "x1");
  text.code("using X = " + types[0] + ";\nusing Scale = " + types[has[2] ? 1 : 0] + ";\nusing Bias = " + types[has[3] ? (has[2] ? 2 : 1) : 0] +
            ";\nusing Y = " + type_name(y.dtype) + ";\nusing Index = " + index_type(call.operands) + ";\n");
  types.push_back(type_name(y.dtype));
  define_parameters(text, types);
  text.code(nest_struct("Outside", outside)).code(nest_struct("Inside", inside));
  text.set("kRms", attributes.rms != 0).set("kHasScale", has[2]).set("kHasBias", has[3]).set("kEpsilon", attributes.epsilon);
  text.set("kMostHeld", std::int64_t{narrow ? 32 : 8});
  set_group(text, spec, shape, outside.count, value_bytes(x.dtype));
  spec.job = make_job(spec.job.name, "kernels/normalize.cu", text.text(), call.arch);
  return spec;
}

}  // namespace edgert::codegen
