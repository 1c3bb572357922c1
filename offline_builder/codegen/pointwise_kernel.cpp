// SPDX-License-Identifier: Apache-2.0
#include "codegen/pointwise_kernel.h"

#include "edgert/cpu/ops/cast.h"
#include "edgert/cpu/strip_io.h"
#include "edgert/scalar/pointwise_functions.h"

namespace edgert::codegen {

namespace {

using cpu::arithmetic_of;
using scalar::Arithmetic;
using scalar::PointwiseOp;
using scalar::PointwiseStep;

constexpr int kMaxOperands = 1 + static_cast<int>(scalar::kMaxPointwiseInputs);
constexpr std::int32_t kThreads = 128;

/// One kernel: the operands' types, output last, and the text that computes `v<n>` from v0, v1, ...
struct Chain {
  std::string name;
  std::vector<std::string> types;
  std::string body;
  std::string result;
};

/// Operand 0 is the output.
cpu::Nest<kMaxOperands> walk_of(const cpu::Operands& operands) {
  const TensorView& y = operands.out(0);
  cpu::Nest<kMaxOperands> nest;
  for (std::uint32_t d = 0; d < y.rank; ++d) {
    std::int64_t strides[kMaxOperands] = {y.strides[d]};
    for (std::size_t i = 0; i < operands.inputs.size(); ++i) strides[1 + i] = operands.in(i).strides[d];
    nest.append(y.dims[d], strides);
  }
  nest.sort();
  nest.merge();
  return nest;
}

KernelSpec make_chain(const GenericCall& call, const Chain& chain) {
  const cpu::Operands& operands = call.operands;
  const cpu::Nest<kMaxOperands> nest = walk_of(operands);
  const std::size_t inputs = operands.inputs.size();
  std::int64_t bytes[kMaxOperands] = {};
  bytes[0] = static_cast<std::int64_t>(cpu::bytes_of(operands.out(0).dtype));
  for (std::size_t i = 0; i < inputs; ++i) bytes[1 + i] = static_cast<std::int64_t>(cpu::bytes_of(operands.in(i).dtype));
  const std::int32_t vector = vector_length(nest, bytes, call.alignment);
  const std::string count = std::to_string(vector);
  std::string load, unpack;
  for (std::size_t i = 0; i < inputs; ++i) {
    const std::string n = std::to_string(i);
    const std::int64_t step = nest.inner_stride(static_cast<int>(i) + 1);
    load += "  const auto a" + n + " = load_values<" + chain.types[i] + ", " + count + ">(x" + n + " + offset[" + std::to_string(i + 1) + "]" +
            (step == 1 && vector > 1 ? "" : ", Index{" + std::to_string(vector > 1 ? step : 0) + "}") + ");\n";
    unpack += "    const " + chain.types[i] + "::Value v" + n + " = a" + n + ".value[i];\n";
  }
  ProblemText text;
  text.define("EDGERT_ENTRY", "pointwise");
  define_parameters(text, chain.types);
  text.code("using Index = " + index_type(operands) + ";\n").set("kThreads", std::int64_t{kThreads});
  text.code(nest_struct("Walk", nest, static_cast<int>(inputs) + 1, vector));
  text.code("__device__ __forceinline__ void evaluate(const Index (&offset)[" + std::to_string(inputs + 1) +
            "], EDGERT_PARAMETERS) {\n" + load + "  Values<" + chain.types.back() + ", " + count +
            "> out;\n#pragma unroll\n  for (int i = 0; i < " + count + "; ++i) {\n" + unpack + chain.body +
            "    out.value[i] = " + chain.result + ";\n  }\n  store_values(y + offset[0], out);\n}\n");
  KernelSpec spec;
  spec.entry = "pointwise";
  spec.job = make_job(chain.name + "_" + dims_text(operands.out(0)), "kernels/pointwise.cu", text.text(), call.arch);
  set_grid(spec, ceil_div(nest.count / vector, kThreads), kThreads);
  return spec;
}

std::string op_text(PointwiseOp op) { return "static_cast<scalar::PointwiseOp>(" + std::to_string(static_cast<unsigned>(op)) + ")"; }

std::string boolean_text(const PointwiseStep& step, const std::string& a, const std::string& b) {
  switch (step.op) {
    case PointwiseOp::Not: return "!" + a;
    case PointwiseOp::And: return a + " && " + b;
    case PointwiseOp::Or: return a + " || " + b;
    case PointwiseOp::Xor: return a + " != " + b;
    default: return a + " == " + b;  // Equal
  }
}

/// The expression of one checked instruction.
std::string step_text(const PointwiseStep& step) {
  const std::string a = "v" + std::to_string(step.a), b = "v" + std::to_string(step.b), c = "v" + std::to_string(step.c);
  const DType type = static_cast<DType>(step.type);
  const Arithmetic arithmetic = arithmetic_of(type);
  if (step.op == PointwiseOp::Where) return a + " ? " + b + " : " + c;
  if (step.op == PointwiseOp::Identity) return a;
  if (arithmetic == Arithmetic::Bool) return boolean_text(step, a, b);
  if (step.op == PointwiseOp::IsNan) return a + " != " + a;
  if (step.op == PointwiseOp::IsInf) {
    const std::string infinity = arithmetic == Arithmetic::F32 ? "scalar::infinity_f32()" : "scalar::infinity_f64()";
    return a + " == " + infinity + " || " + a + " == -" + infinity;
  }
  const std::string op = op_text(step.op);
  if (scalar::is_predicate(step.op)) return "scalar::compare<" + op + ">(" + a + ", " + b + ")";
  const bool one = scalar::arity(step.op) == 1;
  if (arithmetic == Arithmetic::F32 || arithmetic == Arithmetic::F64) {
    if (one) return "scalar::unary<" + op + ">(" + a + ", " + float_literal(step.alpha) + ", " + float_literal(step.beta) + ")";
    return "scalar::floating_binary<" + op + ">(" + a + ", " + b + ")";
  }
  const std::string bits = std::to_string(bits_of(type));
  const std::string value = one ? "scalar::integer_unary<" + op + ">(" + a + ")"
                                : "scalar::integer_binary<" + op + ">(" + a + ", " + b + ", " + bits + ")";
  return "scalar::narrow(" + value + ", " + bits + ")";
}

}  // namespace

KernelSpec make_pointwise(const GenericCall& call) {
  const cpu::Operands& operands = call.operands;
  const scalar::PointwiseProgram& program = operands.as<scalar::PointwiseProgram>();
  Chain chain;
  chain.name = "pointwise";
  for (std::uint32_t i = 0; i < program.inputs; ++i) chain.types.push_back(type_name(operands.in(i).dtype));
  chain.types.push_back(type_name(operands.out(0).dtype));
  for (std::uint32_t s = 0; s < program.steps; ++s) {
    const PointwiseStep& step = program.step[s];
    chain.result = "v" + std::to_string(program.inputs + s);
    const DType dtype = static_cast<DType>(step.type);
    const bool predicate = scalar::is_predicate(step.op);
    const std::string type = predicate ? "bool" : type_name(dtype) + "::Value";
    std::string value = step_text(step);
    // As on the CPU, where fusing instructions changes no result: an intermediate is rounded as if it had been stored.
    const bool rounds = (dtype == DType::F16 || dtype == DType::BF16) && !predicate && s + 1 < program.steps;
    if (rounds) value = type_name(dtype) + "::load(" + type_name(dtype) + "::store(" + value + "))";
    chain.body += "    const " + type + " " + chain.result + " = " + value + ";\n";
    chain.name += "_" + std::to_string(static_cast<unsigned>(step.op));
  }
  return make_chain(call, chain);
}

namespace {

/// The number of Kind in kernels/small_cast.cu.
int small_kind(DType dtype) {
  switch (cpu::small_arithmetic(dtype)) {
    case Arithmetic::F32: return dtype == DType::F8E8M0 ? 2 : 1;
    case Arithmetic::Signed: return 3;
    case Arithmetic::Unsigned: return 4;
    default: return 0;
  }
}
/// What elements are computed in.
std::string lane_type(DType dtype) {
  static constexpr const char* kNames[] = {"", "type::F32", "type::F32", "type::I64", "type::U64"};
  const int kind = small_kind(dtype);
  return kind == 0 ? type_name(dtype) : kNames[kind];
}
std::string format_text(const std::string& name, DType dtype) {
  const scalar::Minifloat& f = cpu::minifloat_of(dtype);
  return "__device__ __forceinline__ scalar::Minifloat " + name + "() {\n  return {" + std::to_string(f.bits) + "u, " + std::to_string(f.mantissa) +
         "u, " + std::to_string(f.bias) + ", " + std::to_string(f.largest) + "u, " + std::to_string(f.overflow) + "u, " + std::to_string(f.nan) +
         "u, " + (f.one_nan ? "true" : "false") + "};\n}\n";
}

/// A cast from or to a type that is stored only.
KernelSpec make_small_cast(const GenericCall& call) {
  const cpu::CastAttributes& attributes = call.operands.as<cpu::CastAttributes>();
  const TensorView& x = call.operands.in(0);
  const TensorView& y = call.operands.out(0);
  const int from = small_kind(x.dtype), to = small_kind(y.dtype);
  // Bytes of elements narrower than one are made in order, so the walk follows the dimensions.
  cpu::Nest<2> nest;
  for (std::uint32_t d = 0; d < y.rank; ++d) nest.append(y.dims[d], {y.strides[d], x.strides[d]});
  if (bits_of(y.dtype) >= 8) nest.sort();
  nest.merge();
  const std::int64_t items = to != 0 ? ceil_div(nest.count, 8 / static_cast<std::int64_t>(bits_of(y.dtype))) : nest.count;
  ProblemText text;
  text.define("EDGERT_ENTRY", "small_cast");
  text.define("EDGERT_FROM", from != 0 ? "unsigned char" : type_name(x.dtype) + "::Storage");
  text.define("EDGERT_TO", to != 0 ? "unsigned char" : type_name(y.dtype) + "::Storage");
  text.code("using From = " + lane_type(x.dtype) + ";\nusing To = " + lane_type(y.dtype) + ";\nusing Index = " + index_type(call.operands) + ";\n");
  text.code(nest_struct("Walk", nest) + format_text("from_format", x.dtype) + format_text("to_format", y.dtype));
  text.set("kThreads", std::int64_t{kThreads}).set("kItems", "Index", std::to_string(items)).set("kSaturate", attributes.no_saturation == 0);
  text.set("kFromKind", std::int64_t{from}).set("kToKind", std::int64_t{to});
  text.set("kFromBits", std::int64_t{from != 0 ? bits_of(x.dtype) : 8}).set("kToBits", std::int64_t{to != 0 ? bits_of(y.dtype) : 8});
  text.set("kRounding", "scalar::PowerRounding", "static_cast<scalar::PowerRounding>(" + std::to_string(static_cast<unsigned>(attributes.rounding)) + ")");
  KernelSpec spec;
  spec.entry = "small_cast";
  spec.job = make_job(std::string("cast_") + to_string(x.dtype) + "_" + to_string(y.dtype) + "_" + dims_text(y), "kernels/small_cast.cu", text.text(), call.arch);
  set_grid(spec, ceil_div(items, kThreads), kThreads);
  return spec;
}

}  // namespace

KernelSpec make_cast(const GenericCall& call) {
  if (small_kind(call.operands.in(0).dtype) != 0 || small_kind(call.operands.out(0).dtype) != 0) return make_small_cast(call);
  const std::string from = type_name(call.operands.in(0).dtype), to = type_name(call.operands.out(0).dtype);
  return make_chain(call, {std::string("cast_") + to_string(call.operands.in(0).dtype) + "_" + to_string(call.operands.out(0).dtype),
                           {from, to}, "", "convert<" + to + ", " + from + ">(v0)"});
}

namespace {

/// The dimension of an output-ordered nest along which the input is contiguous while the output is so along the last one,
/// if both are long enough for squares to pay; else the nest's rank.
std::uint32_t transposed_dimension(const cpu::Nest<2>& nest) {
  constexpr std::int64_t kLong = 12;
  const std::uint32_t inner = nest.rank - 1;
  if (nest.rank < 2 || nest.strides[0][inner] != 1 || nest.strides[1][inner] == 1 || nest.dims[inner] < kLong) return nest.rank;
  for (std::uint32_t d = 0; d < inner; ++d) {
    if (nest.strides[1][d] == 1 && nest.dims[d] >= kLong) return d;
  }
  return nest.rank;
}

KernelSpec make_transpose(const GenericCall& call, cpu::Nest<2> nest, std::uint32_t dimension, const std::string& from, const std::string& to) {
  constexpr std::int32_t kTransposeThreads = 256;
  const std::uint32_t outer = nest.rank - 2;
  nest.move_dim(dimension, outer);
  const std::int64_t bytes = static_cast<std::int64_t>(cpu::bytes_of(call.operands.in(0).dtype));
  const std::int64_t tile = bytes > 2 ? 32 : 64;
  const std::int64_t rows = nest.dims[outer], columns = nest.dims[outer + 1];
  ProblemText text;
  text.define("EDGERT_ENTRY", "transpose").code("using From = " + from + ";\nusing To = " + to + ";\nusing Index = " + index_type(call.operands) + ";\n");
  text.set("kThreads", std::int64_t{kTransposeThreads}).set("kTile", tile);
  text.set("kRows", "Index", std::to_string(rows)).set("kColumns", "Index", std::to_string(columns));
  text.set("kRowTiles", "Index", std::to_string(ceil_div(rows, tile))).set("kColumnTiles", "Index", std::to_string(ceil_div(columns, tile)));
  text.set("kInputPitch", "Index", std::to_string(nest.strides[1][outer + 1])).set("kOutputPitch", "Index", std::to_string(nest.strides[0][outer]));
  cpu::Nest<2> rest = nest;
  rest.rank = outer;
  rest.count = nest.count / (rows * columns);
  text.code(nest_struct("Outer", rest));
  KernelSpec spec;
  spec.entry = "transpose";
  spec.shared_bytes = static_cast<std::uint32_t>(tile * (tile + 1) * bytes);
  spec.job = make_job("transpose_" + dims_text(call.operands.out(0)), "kernels/transpose.cu", text.text(), call.arch);
  set_grid(spec, rest.count * ceil_div(rows, tile) * ceil_div(columns, tile), kTransposeThreads);
  return spec;
}

}  // namespace

KernelSpec make_copy(const GenericCall& call) {
  const TensorView& x = call.operands.in(0);
  const TensorView& y = call.operands.out(0);
  const bool same = x.dtype == y.dtype;
  const std::string from = same ? raw_type_name(x.dtype) : type_name(x.dtype), to = same ? from : type_name(y.dtype);
  const cpu::Nest<2> nest = cpu::elementwise_nest(y, x);
  const std::uint32_t dimension = transposed_dimension(nest);
  if (dimension < nest.rank) return make_transpose(call, nest, dimension, from, to);
  return make_chain(call, {"copy", {from, to}, "", same ? "v0" : "convert<" + to + ", " + from + ">(v0)"});
}

}  // namespace edgert::codegen
