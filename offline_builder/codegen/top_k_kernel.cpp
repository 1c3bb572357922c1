// SPDX-License-Identifier: Apache-2.0
#include "codegen/top_k_kernel.h"

#include "edgert/cpu/ops/top_k.h"

namespace edgert::codegen {

KernelSpec make_top_k(const GenericCall& call) {
  constexpr std::int32_t kThreads = 128;
  const cpu::TopKAttributes& attributes = call.operands.as<cpu::TopKAttributes>();
  TensorView x = call.operands.in(0), values = call.operands.out(0);
  const TensorView& indices = call.operands.out(1);
  const TensorView k = call.operands.has(1) ? call.operands.in(1) : TensorView{};
  for (TensorView* view : {&x, &values}) {
    if (view->dtype == DType::Bool) view->dtype = DType::U8;
  }
  const std::uint32_t axis = static_cast<std::uint32_t>(attributes.axis);
  cpu::Nest<3> lines;
  for (std::uint32_t d = 0; d < x.rank; ++d) {
    if (d != axis) lines.append(x.dims[d], {values.strides[d], indices.strides[d], x.strides[d]});
  }
  lines.sort();
  lines.merge();
  ProblemText text;
  text.define("EDGERT_ENTRY", "top_k").code("using Index = " + index_type(call.operands) + ";\n");
  define_roles(text, {{"x", &x}, {"k", &k}, {"values", &values, true}, {"indices", &indices, true}});
  text.code(nest_struct("Lines", lines)).set("kThreads", std::int64_t{kThreads}).set("kSmallest", attributes.smallest != 0);
  const auto set = [&](const char* name, std::int64_t value) { text.set(name, "Index", std::to_string(value)); };
  set("kExtent", x.dims[axis]), set("kCount", values.dims[axis]), set("kInputStride", x.strides[axis]);
  set("kValueStride", values.strides[axis]), set("kIndexStride", indices.strides[axis]);
  KernelSpec spec;
  spec.entry = "top_k";
  spec.job = make_job("top_k" + std::to_string(values.dims[axis]) + "_" + dims_text(x), "kernels/top_k.cu", text.text(), call.arch);
  set_grid(spec, lines.count * ceil_div(x.dims[axis], kThreads), kThreads);
  return spec;
}

}  // namespace edgert::codegen
