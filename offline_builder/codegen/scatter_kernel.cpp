// SPDX-License-Identifier: Apache-2.0
#include "codegen/scatter_kernel.h"

#include "edgert/cpu/ops/scatter.h"

namespace edgert::codegen {

namespace {

constexpr std::int32_t kThreads = 128;

}  // namespace

KernelSpec make_scatter(const GenericCall& call) {
  const TensorView& data = call.operands.in(0);
  const TensorView& indices = call.operands.in(1);
  const TensorView& updates = call.operands.in(2);
  const TensorView& y = call.operands.out(0);
  ProblemText text;
  text.define("EDGERT_ENTRY", "scatter").code("using Index = " + index_type(call.operands) + ";\n");
  define_roles(text, {{"data", &data}, {"indices", &indices}, {"updates", &updates}, {"y", &y, true}});
  text.set("kRows", "Index", std::to_string(y.dims[0])).set("kColumns", "Index", std::to_string(y.dims[1]));
  text.set("kUpdates", "Index", std::to_string(indices.dims[0])).set("kThreads", std::int64_t{kThreads});
  text.set("kReduction", std::int64_t{static_cast<int>(call.operands.as<cpu::ScatterAttributes>().reduction)});
  KernelSpec spec;
  spec.entry = "scatter";
  spec.job = make_job("scatter_" + dims_text(updates) + "_" + dims_text(y), "kernels/scatter.cu", text.text(), call.arch);
  set_grid(spec, ceil_div(y.elements(), kThreads), kThreads);
  return spec;
}

KernelSpec make_integer_matmul(const GenericCall& call) {
  const TensorView& a = call.operands.in(0);
  const TensorView& b = call.operands.in(1);
  const TensorView& y = call.operands.out(0);
  const std::uint32_t m = y.rank - 2u, n = y.rank - 1u;
  cpu::Nest<3> rows;
  for (std::uint32_t d = 0; d <= m; ++d) {
    // Without elements the operands' strides are not bounded.
    rows.append(y.dims[d], {y.strides[d], is_empty(a) ? 0 : a.strides[d], d == m || is_empty(b) ? 0 : b.strides[d]});
  }
  rows.merge();
  ProblemText text;
  text.define("EDGERT_ENTRY", "integer_matmul").code("using Index = " + index_type(call.operands) + ";\n");
  define_roles(text, {{"a", &a}, {"b", &b}, {"y", &y, true}});
  text.code("using Sum = " + std::string(bits_of(y.dtype) == 64 ? "uint64" : "uint32") + ";\n" + nest_struct("Rows", rows));
  const auto set = [&](const char* name, std::int64_t value) { text.set(name, "Index", std::to_string(value)); };
  set("kK", a.dims[n]), set("kN", y.dims[n]), set("kLeftStride", a.dims[n] > 1 ? a.strides[n] : 0);
  set("kRightStride", b.dims[m] > 1 ? b.strides[m] : 0), set("kRightColumnStride", b.dims[n] > 1 ? b.strides[n] : 0);
  set("kOutputColumnStride", y.strides[n]);
  text.set("kThreads", std::int64_t{kThreads});
  KernelSpec spec;
  spec.entry = "integer_matmul";
  spec.job = make_job("integer_matmul_" + dims_text(a) + "_" + dims_text(b), "kernels/integer_matmul.cu", text.text(), call.arch);
  set_grid(spec, ceil_div(y.elements(), kThreads), kThreads);
  return spec;
}

KernelSpec make_determinant(const GenericCall& call) {
  constexpr std::int64_t kLargest = 110;  // what 96 KiB, which every target has, hold
  const TensorView& x = call.operands.in(0);
  const std::int64_t size = x.dims[1];
  const std::string name = "determinant_" + dims_text(x);
  if (size > kLargest) throw CompileError(name + ": the matrix does not fit shared memory");
  ProblemText text;
  text.define("EDGERT_ENTRY", "determinant").code("using Index = " + index_type(call.operands) + ";\n");
  define_roles(text, {{"x", &x}, {"y", &call.operands.out(0), true}});
  text.set("kSize", size).set("kThreads", std::int64_t{kThreads});
  KernelSpec spec;
  spec.entry = "determinant";
  spec.shared_bytes = static_cast<std::uint32_t>(size * size * 8);
  spec.job = make_job(name, "kernels/determinant.cu", text.text(), call.arch);
  set_grid(spec, x.dims[0], kThreads);
  return spec;
}

}  // namespace edgert::codegen
