// SPDX-License-Identifier: Apache-2.0
#include "codegen/select_kernel.h"

#include <algorithm>

#include "codegen/move_kernel.h"
#include "edgert/checked.h"
#include "edgert/cpu/ops/compress.h"
#include "edgert/cpu/ops/gather.h"
#include "edgert/cpu/ops/non_max_suppression.h"
#include "edgert/cpu/ops/unique.h"

namespace edgert::codegen {

namespace {

constexpr std::int32_t kThreads = 256;
constexpr std::int32_t kChunks = 4;         ///< elements of a thread
constexpr std::int64_t kMost = 1 << 30;     ///< places and counts are int

/// A row of numbers in the workspace.
TensorView row(DType dtype, std::int64_t count) {
  TensorView view;
  view.dtype = dtype;
  view.rank = 1;
  view.dims[0] = count;
  view.strides[0] = 1;
  return view;
}

TensorView numbers(TensorView view) {
  if (view.dtype == DType::Bool) view.dtype = DType::U8;
  return view;
}

/// A nest over the dimensions `dims` of `view`, in their order: operand 0 is the view, the others are the coordinates along
/// all of its dimensions.
std::string coordinate_nest(const std::string& name, const TensorView& view, const std::vector<std::uint32_t>& dims) {
  std::vector<std::int64_t> extents, strides;
  std::vector<std::vector<std::int64_t>> units(view.rank, std::vector<std::int64_t>(dims.size(), 0));
  std::int64_t count = 1;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    extents.push_back(view.dims[dims[i]]);
    strides.push_back(is_empty(view) ? 0 : view.strides[dims[i]]);
    units[dims[i]][i] = 1;
    count *= view.dims[dims[i]];
  }
  std::vector<const std::int64_t*> operands{strides.data()};
  for (const std::vector<std::int64_t>& unit : units) operands.push_back(unit.data());
  // A dimension without elements would be divided by.
  for (std::int64_t& extent : extents) extent = std::max<std::int64_t>(extent, 1);
  return nest_struct(name, count, static_cast<std::uint32_t>(dims.size()), extents.data(), operands, 1);
}

/// Where the elements of x lie that are not zero: `indices` [rank, most] with these strides.
std::vector<KernelSpec> compact(const GenericCall& call, const std::string& name, const TensorView& x, const std::string& extents, const TensorView& indices,
                                const TensorView& count, std::int64_t dim_stride, std::int64_t place_stride) {
  const std::int64_t items = is_empty(x) ? 0 : x.elements();
  if (items > kMost) throw CompileError(name + ": too many elements");
  const std::int64_t blocks = std::max<std::int64_t>(ceil_div(items, kThreads * kChunks), 1);
  std::vector<std::uint32_t> dims;
  for (std::uint32_t d = 0; d < x.rank; ++d) dims.push_back(d);
  const TensorView counts = row(DType::I32, blocks);
  std::vector<KernelSpec> specs;
  for (const bool counting : {true, false}) {
    if (counting && blocks == 1) continue;
    ProblemText text;
    const std::string entry = counting ? "count" : "compact";
    text.define("EDGERT_ENTRY", entry).code("using Index = " + index_type(call.operands) + ";\n");
    define_roles(text, {{"x", &x}, {"indices", &indices, true}, {"count", &count, true}, {"counts", &counts, true}});
    define_extents(text, call);
    text.define("EDGERT_X_EXTENTS", extents).code(coordinate_nest("Walk", x, dims)).set("kCounting", counting);
    text.set("kThreads", std::int64_t{kThreads}).set("kChunks", std::int64_t{kChunks});
    text.set("kDimStride", "Index", std::to_string(dim_stride)).set("kPlaceStride", "Index", std::to_string(place_stride));
    KernelSpec spec;
    spec.entry = entry;
    spec.shared_bytes = static_cast<std::uint32_t>(kThreads / 32 * std::max(kChunks, 2) * 4);
    spec.workspace_bytes = static_cast<std::uint64_t>(blocks) * 4;
    spec.job = make_job(name + (counting ? "_count_" : "_") + dims_text(x), "kernels/compact.cu", text.text(), call.arch);
    set_grid(spec, blocks, kThreads);
    specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace

std::vector<KernelSpec> make_non_zero(const GenericCall& call) {
  const TensorView& indices = call.operands.out(0);
  return compact(call, "non_zero", call.operands.in(0), extents_text(call, 0), indices, call.operands.out(1), indices.strides[0], indices.strides[1]);
}

std::uint64_t compress_map_bytes(const GenericCall& call) {
  return align_up(static_cast<std::uint64_t>(call.operands.in(1).dims[0]) * 8, 256);
}

std::vector<KernelSpec> make_compress(const GenericCall& call) {
  const TensorView& x = call.operands.in(0);
  const TensorView& condition = call.operands.in(1);
  const TensorView& y = call.operands.out(0);
  const std::int32_t axis = call.operands.as<cpu::CompressAttributes>().axis;
  const TensorView map = row(DType::I64, condition.dims[0]);
  // A condition beyond the end of the axis selects nothing.
  const std::string slices = extent_text(call, 0, static_cast<std::uint32_t>(axis)), conditions = extent_text(call, 1, 0);
  const std::string extents = "{" + slices + " < " + conditions + " ? " + slices + " : " + conditions + "}";
  std::vector<KernelSpec> specs = compact(call, "compress", condition, extents, map, call.operands.out(1), 0, 1);
  for (KernelSpec& spec : specs) spec.workspace_bytes += compress_map_bytes(call);
  if (is_empty(y)) return specs;
  alignas(16) cpu::GatherAttributes attributes{};
  attributes.axis = axis;
  TensorView places = map;
  places.dims[0] = y.dims[axis];
  const TensorView* inputs[] = {&x, &places};
  const TensorView* outputs[] = {&y};
  GenericCall gather = call;
  gather.bounds.clear();
  gather.operands.inputs = {inputs, 2};
  gather.operands.outputs = {outputs, 1};
  gather.operands.attributes = &attributes;
  gather.operands.attribute_bytes = sizeof(attributes);
  specs.push_back(make_gather(gather));
  return specs;
}

std::vector<KernelSpec> make_unique(const GenericCall& call) {
  constexpr std::int32_t kSliceThreads = 128;
  const cpu::UniqueAttributes& attributes = call.operands.as<cpu::UniqueAttributes>();
  const TensorView x = numbers(call.operands.in(0)), y = numbers(call.operands.out(0));
  const std::uint32_t axis = static_cast<std::uint32_t>(attributes.axis);
  const std::int64_t most = is_empty(x) ? 0 : x.dims[axis];
  if (most > kMost) throw CompileError("Unique: too many slices");
  std::vector<std::uint32_t> others;
  cpu::Nest<2> copied;
  for (std::uint32_t d = 0; d < x.rank; ++d) {
    if (d == axis) continue;
    others.push_back(d);
    copied.append(y.dims[d], {y.strides[d], x.strides[d]});
  }
  if (is_empty(x)) copied = {};
  const TensorView groups = row(DType::I32, 2 * most);
  std::vector<KernelSpec> specs;
  for (const bool grouping : {true, false}) {
    ProblemText text;
    const std::string entry = grouping ? "group" : "unique";
    text.define("EDGERT_ENTRY", entry).code("using Index = " + index_type(call.operands) + ";\n");
    define_roles(text, {{"x", &x},
                        {"y", &y, true},
                        {"first", &call.operands.out(1), true},
                        {"inverse", &call.operands.out(2), true},
                        {"counts", &call.operands.out(3), true},
                        {"count", &call.operands.out(4), true},
                        {"groups", &groups, true}});
    define_extents(text, call);
    text.define("EDGERT_X_EXTENTS", is_empty(x) ? "{0, 0, 0, 0, 0, 0, 0, 0}" : extents_text(call, 0));
    text.code(coordinate_nest("Slice", x, others) + nest_struct("Copied", copied)).set("kGrouping", grouping).set("kSorted", attributes.sorted != 0);
    text.set("kAxis", std::int64_t{attributes.axis}).set("kThreads", std::int64_t{kSliceThreads});
    const auto set = [&](const char* name, std::int64_t value) { text.set(name, "Index", std::to_string(value)); };
    set("kMost", most), set("kInputStride", x.strides[axis]), set("kOutputStride", y.strides[axis]);
    set("kFirstStride", call.operands.out(1).strides[0]), set("kInverseStride", call.operands.out(2).strides[0]);
    set("kCountsStride", call.operands.out(3).strides[0]);
    KernelSpec spec;
    spec.entry = entry;
    spec.workspace_bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(most, 1)) * 8;
    spec.job = make_job(entry + "_" + dims_text(x) + "_axis" + std::to_string(axis), "kernels/unique.cu", text.text(), call.arch);
    set_grid(spec, ceil_div(most, kSliceThreads), kSliceThreads);
    specs.push_back(std::move(spec));
  }
  return specs;
}

namespace {

/// How NonMaxSuppression is cut into blocks.
struct NmsShape {
  std::int64_t pairs, boxes, each;
  std::int32_t threads;
  bool shared;  ///< the candidates fit shared memory

  explicit NmsShape(const GenericCall& call) {
    constexpr std::int64_t kSharedBytes = 90 * 1024;  // what every target has beside the group's
    const TensorView& scores = call.operands.in(1);
    pairs = scores.dims[0] * scores.dims[1], boxes = scores.dims[2];
    if (pairs > kMost || boxes > kMost) throw CompileError("NonMaxSuppression: too many boxes");
    each = std::clamp<std::int64_t>(call.operands.as<cpu::NonMaxSuppressionAttributes>().most, 0, boxes);
    threads = boxes > 2048 ? 512 : boxes > 512 ? 256 : 64;
    shared = align_up(static_cast<std::uint64_t>(boxes), static_cast<std::uint64_t>(threads)) * 8 <= kSharedBytes;
  }
  std::uint64_t key_bytes() const { return align_up(static_cast<std::uint64_t>(boxes), static_cast<std::uint64_t>(threads)) * 8; }
};

constexpr std::uint32_t kNmsGroupBytes = 128;  // a slot a warp

}  // namespace

NmsWorkspace nms_workspace(const GenericCall& call) {
  const NmsShape shape(call);
  const auto pairs = static_cast<std::uint64_t>(shape.pairs);
  NmsWorkspace out{};
  out.counts = align_up(pairs * static_cast<std::uint64_t>(shape.each) * 4, 256);
  out.keys = align_up(out.counts + pairs * 4, 256);
  out.bytes = std::max<std::uint64_t>(out.keys + (shape.shared ? 0 : pairs * shape.key_bytes()), 256);
  return out;
}

std::vector<KernelSpec> make_non_max_suppression(const GenericCall& call) {
  const NmsShape shape(call);
  const TensorView& selected = call.operands.out(0);
  const TensorView chosen = row(DType::I32, shape.pairs), keys = row(DType::U64, shape.pairs);
  std::vector<KernelSpec> specs;
  for (const bool writing : {false, true}) {
    ProblemText text;
    const std::string entry = writing ? "write_selected" : "suppress";
    text.define("EDGERT_ENTRY", entry).code("using Index = long long;\n");
    const auto optional = [&](std::size_t i) { return call.operands.has(i) ? call.operands.in(i) : TensorView{}; };
    const TensorView most = optional(2), iou = optional(3), threshold = optional(4);
    define_roles(text, {{"boxes", &call.operands.in(0)},
                        {"scores", &call.operands.in(1)},
                        {"most", &most},
                        {"iou", &iou},
                        {"threshold", &threshold},
                        {"selected", &selected, true},
                        {"count", &call.operands.out(1), true},
                        {"chosen", &chosen, true},
                        {"chosen_counts", &chosen, true},
                        {"keys", &keys, true}});
    define_extents(text, call);
    text.define("EDGERT_BOXES_EXTENTS", extents_text(call, 0)).define("EDGERT_SCORES_EXTENTS", extents_text(call, 1));
    text.set("kWriting", writing).set("kCenter", call.operands.as<cpu::NonMaxSuppressionAttributes>().center_point_box != 0);
    text.set("kShared", shape.shared).set("kGroupBytes", std::int64_t{kNmsGroupBytes}).set("kEach", shape.each);
    text.set("kClasses", std::max<std::int64_t>(call.operands.in(1).dims[1], 1));
    text.set("kBoxes", "Index", std::to_string(shape.key_bytes() / 8)).set("kMostRows", "Index", std::to_string(selected.dims[0]));
    const std::int32_t threads = writing ? 64 : shape.threads;
    text.set("kThreads", std::int64_t{threads});
    KernelSpec spec;
    spec.entry = entry;
    spec.shared_bytes = kNmsGroupBytes + static_cast<std::uint32_t>(!writing && shape.shared ? shape.key_bytes() : 0);
    spec.workspace_bytes = nms_workspace(call).bytes;
    spec.job = make_job("nms_" + entry + "_" + dims_text(call.operands.in(1)), "kernels/non_max_suppression.cu", text.text(), call.arch);
    set_grid(spec, shape.pairs, threads);
    specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace edgert::codegen
