// SPDX-License-Identifier: Apache-2.0
#include "codegen/sample_kernel.h"

#include "edgert/cpu/ops/grid_sample.h"
#include "edgert/cpu/ops/roi_align.h"

namespace edgert::codegen {

namespace {

constexpr std::int32_t kThreads = 128;

}  // namespace

KernelSpec make_grid_sample(const GenericCall& call) {
  constexpr std::int64_t kChannelRun = 8;
  const cpu::GridSampleAttributes& attributes = call.operands.as<cpu::GridSampleAttributes>();
  const TensorView& x = call.operands.in(0);
  const TensorView& grid = call.operands.in(1);
  const TensorView& y = call.operands.out(0);
  const std::uint32_t axes = x.rank - 2u;
  cpu::Nest<3> places;
  places.append(y.dims[0], {y.strides[0], grid.strides[0], x.strides[0]});
  for (std::uint32_t i = 0; i < axes; ++i) places.append(y.dims[i + 2], {y.strides[i + 2], grid.strides[i + 1], 0});
  places.merge();
  ProblemText text;
  text.define("EDGERT_ENTRY", "grid_sample").code("using Index = " + index_type(call.operands) + ";\n");
  define_roles(text, {{"x", &x}, {"grid", &grid}, {"y", &y, true}});
  text.code(nest_struct("Places", places) + index_function("x_extent", std::vector<std::int64_t>(x.dims + 2, x.dims + x.rank)));
  text.set("kThreads", std::int64_t{kThreads}).set("kAxes", std::int64_t{axes}).set("kMode", std::int64_t{static_cast<int>(attributes.mode)});
  text.set("kPadding", std::int64_t{static_cast<int>(attributes.padding)}).set("kCoordinates", std::int64_t{static_cast<int>(attributes.coordinates)});
  text.set("kChannels", "Index", std::to_string(y.dims[1])).set("kChannelRun", "Index", std::to_string(kChannelRun));
  text.set("kChannelRuns", "Index", std::to_string(ceil_div(y.dims[1], kChannelRun)));
  KernelSpec spec;
  spec.entry = "grid_sample";
  spec.job = make_job("grid_sample_" + dims_text(x) + "_" + dims_text(y), "kernels/grid_sample.cu", text.text(), call.arch);
  set_grid(spec, ceil_div(places.count * ceil_div(y.dims[1], kChannelRun), kThreads), kThreads);
  return spec;
}

KernelSpec make_roi_align(const GenericCall& call) {
  const cpu::RoiAlignAttributes& attributes = call.operands.as<cpu::RoiAlignAttributes>();
  const TensorView& x = call.operands.in(0);
  const TensorView& y = call.operands.out(0);
  ProblemText text;
  text.define("EDGERT_ENTRY", "roi_align").code("using Index = " + index_type(call.operands) + ";\n");
  define_roles(text, {{"x", &x}, {"rois", &call.operands.in(1)}, {"images", &call.operands.in(2)}, {"y", &y, true}});
  const auto set = [&](const char* name, std::int64_t value) { text.set(name, "Index", std::to_string(value)); };
  set("kImages", x.dims[0]), set("kHeight", x.dims[2]), set("kWidth", x.dims[3]);
  set("kRegions", y.dims[0]), set("kChannels", y.dims[1]), set("kBinRows", y.dims[2]), set("kBinColumns", y.dims[3]);
  text.set("kThreads", std::int64_t{kThreads}).set("kSamplingRatio", std::int64_t{attributes.sampling_ratio});
  text.set("kHalfPixel", attributes.half_pixel != 0).set("kMaximum", attributes.mode == cpu::RoiMode::Max);
  text.set("kSpatialScale", "double", "static_cast<double>(" + float_literal(attributes.spatial_scale) + ")");
  KernelSpec spec;
  spec.entry = "roi_align";
  spec.job = make_job("roi_align_" + dims_text(x) + "_" + dims_text(y), "kernels/roi_align.cu", text.text(), call.arch);
  set_grid(spec, ceil_div(y.elements(), kThreads), kThreads);
  return spec;
}

}  // namespace edgert::codegen
