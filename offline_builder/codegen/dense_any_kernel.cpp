// SPDX-License-Identifier: Apache-2.0
#include "codegen/dense_any_kernel.h"

#include <algorithm>

#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/matmul.h"

namespace edgert::codegen {

namespace {

/// Everything but the types: nests of problems (y, a, b, residual) and rows (y, a, residual), and the columns.
struct Dense {
  cpu::Nest<4> batch;
  cpu::Nest<3> rows;
  std::int64_t depth = 0, columns = 0;
  std::int64_t left_stride = 1;                            ///< of a along K, or along the channels
  std::int64_t right_stride = 1, right_column_stride = 1;  ///< of b along K and N
  std::int64_t output_column_stride = 1, residual_column_stride = 0;
  std::int64_t bias_step = 0;  ///< from problem to problem
  bool convolution = false;
  bool left_runs = false, right_runs = false, right_runs_along_n = false;  ///< what can be loaded eight at once
};

struct Tile {
  std::int32_t m, n, split;
  std::int32_t depth() const { return std::max(16, 4 * split); }
  std::int32_t threads() const { return m / 4 * (n / 4) * split; }
};

/// The largest tile whose blocks fill the device; where none does, the one with most blocks.
Tile choose_tile(const Dense& dense, std::int32_t multiprocessors) {
  static constexpr Tile kTiles[] = {{64, 64, 1}, {32, 64, 2}, {32, 32, 4}, {16, 32, 8}};
  if (dense.rows.count <= 4) return {4, 32, 16};
  for (const Tile& tile : kTiles) {
    if (tile.m > 2 * dense.rows.count || tile.n > 2 * dense.columns) continue;
    const std::int64_t blocks = dense.batch.count * ceil_div(dense.rows.count, tile.m) * ceil_div(dense.columns, tile.n);
    if (blocks >= multiprocessors) return tile;
  }
  return {16, 32, 8};
}

std::string number(std::int64_t value) { return std::to_string(value); }

/// How kernels/dense_mma.cu cuts the work: 128 threads, slabs of 32.
struct MmaTile {
  std::int32_t m, n, warps_m, warps_n;
};
MmaTile choose_mma_tile(const Dense& dense, std::int32_t multiprocessors) {
  static constexpr MmaTile kTiles[] = {{64, 64, 2, 2}, {32, 64, 2, 2}, {16, 64, 1, 4}};
  for (const MmaTile& tile : kTiles) {
    const std::int64_t blocks = dense.batch.count * ceil_div(dense.rows.count, tile.m) * ceil_div(dense.columns, tile.n);
    if (tile.m < 2 * dense.rows.count && blocks >= multiprocessors) return tile;
  }
  return kTiles[2];
}

/// Whether each run of eight elements of the operand, from a walk with these strides, begins at a multiple of 16 bytes.
template <int kOperands>
bool steps_by_eight(const cpu::Nest<kOperands>& nest, int operand) {
  for (std::uint32_t d = 0; d < nest.rank; ++d) {
    if (nest.strides[operand][d] % 8 != 0) return false;
  }
  return true;
}

/// Decides what is loaded eight at once; `alignment` of both operands in bytes.
void find_runs(Dense& dense, std::uint32_t alignment, std::int64_t channels, std::int64_t row_stride, std::int64_t column_stride) {
  if (alignment < 16) return;
  dense.left_runs = dense.left_stride == 1 && channels % 8 == 0 && row_stride % 8 == 0 && column_stride % 8 == 0 &&
                    steps_by_eight(dense.batch, 1) && steps_by_eight(dense.rows, 1);
  const bool right = steps_by_eight(dense.batch, 2);
  dense.right_runs = right && dense.right_stride == 1 && dense.depth % 8 == 0 && dense.right_column_stride % 8 == 0;
  dense.right_runs_along_n = right && !dense.right_runs && dense.right_column_stride == 1 && dense.columns % 8 == 0 && dense.right_stride % 8 == 0;
}

/// Tile, threads, shared memory and file, as the types have it.
void cut(const GenericCall& call, const Dense& dense, ProblemText& text, KernelSpec& spec, std::string& file) {
  if (multiplies_in_16_bits(call)) {
    constexpr std::int64_t kDepth = 32;
    const MmaTile tile = choose_mma_tile(dense, call.multiprocessors);
    text.set("kTileM", std::int64_t{tile.m}).set("kTileN", std::int64_t{tile.n}).set("kDepth", kDepth);
    text.set("kWarpsM", std::int64_t{tile.warps_m}).set("kWarpsN", std::int64_t{tile.warps_n});
    text.set("kLeftRuns", dense.left_runs).set("kRightRuns", dense.right_runs).set("kRightRunsAlongN", dense.right_runs_along_n);
    text.code(std::string("using Element = device::") + (call.operands.in(0).dtype == DType::F16 ? "F16" : "BF16") + ";\n");
    file = "kernels/dense_mma.cu";
    spec.shared_bytes = static_cast<std::uint32_t>((tile.m + tile.n) * (kDepth + 8) * 2);
    set_grid(spec, dense.batch.count * ceil_div(dense.rows.count, tile.m) * ceil_div(dense.columns, tile.n), 128);
    return;
  }
  const Tile tile = choose_tile(dense, call.multiprocessors);
  text.set("kTileM", std::int64_t{tile.m}).set("kTileN", std::int64_t{tile.n}).set("kSplit", std::int64_t{tile.split});
  text.set("kDepth", std::int64_t{tile.depth()});
  text.set("kLeftAlongDepth", dense.convolution || dense.left_stride == 1).set("kRightAlongDepth", dense.right_column_stride != 1 && dense.right_stride == 1);
  file = "kernels/dense_any.cu";
  const std::int64_t slabs = std::int64_t{tile.depth()} * (tile.m + 4 + tile.n + 4);
  const std::int64_t sums = tile.split > 1 ? std::int64_t{tile.split} * tile.m * tile.n : 0;
  spec.shared_bytes = static_cast<std::uint32_t>(std::max(slabs, sums) * 4);
  set_grid(spec, dense.batch.count * ceil_div(dense.rows.count, tile.m) * ceil_div(dense.columns, tile.n), tile.threads());
}

KernelSpec make_dense(const GenericCall& call, const Dense& dense, const scalar::Epilogue& epilogue, const std::string& name, ProblemText& text) {
  const cpu::Operands& operands = call.operands;
  const bool bias = operands.has(2), residual = operands.has(3);
  std::vector<std::string> types = {type_name(operands.in(0).dtype), type_name(operands.in(1).dtype)};
  if (bias) types.push_back(type_name(operands.in(2).dtype));
  if (residual) types.push_back(type_name(operands.in(3).dtype));
  types.push_back(type_name(operands.out(0).dtype));
  text.define("EDGERT_ENTRY", "dense_any").define("EDGERT_BIAS", bias ? "x2" : "x0").define("EDGERT_RESIDUAL", !residual ? "x0" : bias ? "x3" : "x2");
  define_parameters(text, types);
  text.code("using A = " + types[0] + ";\nusing B = " + types[1] + ";\nusing Bias = " + (bias ? types[2] : "type::F32") + ";\nusing Residual = " +
            (residual ? types[types.size() - 2] : "type::F32") + ";\nusing Y = " + types.back() + ";\n");
  text.code(nest_struct("Batch", dense.batch) + nest_struct("Rows", dense.rows));
  text.set("kConvolution", dense.convolution).set("kHasBias", bias).epilogue(epilogue);
  text.set("kK", "Index", number(dense.depth)).set("kN", "Index", number(dense.columns));
  text.set("kLeftStride", "Index", number(dense.left_stride)).set("kRightStride", "Index", number(dense.right_stride));
  text.set("kRightColumnStride", "Index", number(dense.right_column_stride)).set("kOutputColumnStride", "Index", number(dense.output_column_stride));
  text.set("kResidualColumnStride", "Index", number(dense.residual_column_stride)).set("kBiasStep", "Index", number(dense.bias_step));
  text.set("kBiasStride", "Index", number(bias ? operands.in(2).strides[0] : 1));
  KernelSpec spec;
  std::string file;
  cut(call, dense, text, spec, file);
  spec.entry = "dense_any";
  spec.job = make_job(name, file, text.text(), call.arch);
  return spec;
}

/// The window's numbers, which a product does not have.
void set_window(ProblemText& text, const cpu::ConvAttributes* a, const TensorView* x, const TensorView* y, std::int64_t channels) {
  const auto set = [&](const char* name, std::int64_t value) { text.set(name, "Index", number(value)); };
  static constexpr const char* kAxis[2] = {"Height", "Width"};
  for (int d = 0; d < 2; ++d) {
    const std::string axis = kAxis[d];
    set(("kOut" + axis).c_str(), y != nullptr ? y->dims[2 + d] : 1);
    set(("k" + axis).c_str(), x != nullptr ? x->dims[2 + d] : 1);
    set(("kKernel" + axis).c_str(), a != nullptr ? a->kernel[d] : 1);
    set(("kStride" + axis).c_str(), a != nullptr ? a->stride[d] : 1);
    set(("kDilation" + axis).c_str(), a != nullptr ? a->dilation[d] : 1);
  }
  set("kPadTop", a != nullptr ? a->pad_begin[0] : 0);
  set("kPadLeft", a != nullptr ? a->pad_begin[1] : 0);
  set("kRowStride", x != nullptr && x->dims[2] > 1 ? x->strides[2] : 0);
  set("kColumnStride", x != nullptr && x->dims[3] > 1 ? x->strides[3] : 0);
  set("kChannels", channels);
}

}  // namespace

bool multiplies_in_16_bits(const GenericCall& call) {
  const DType a = call.operands.in(0).dtype, b = call.operands.in(1).dtype;
  return a == b && (a == DType::F16 || a == DType::BF16);
}

KernelSpec make_matmul(const GenericCall& call) {
  const cpu::Operands& operands = call.operands;
  const TensorView& a = operands.in(0);
  const TensorView& b = operands.in(1);
  const TensorView& y = operands.out(0);
  const TensorView* residual = operands.has(3) ? &operands.in(3) : nullptr;
  const std::uint32_t m = y.rank - 2u, n = y.rank - 1u;
  // A right operand of two dimensions serves the whole batch.
  const std::uint32_t lead = y.rank - static_cast<std::uint32_t>(b.rank);
  const auto b_stride = [&](std::uint32_t d) { return d < lead || b.dims[d - lead] == 1 ? 0 : b.strides[d - lead]; };
  bool shared = true;
  for (std::uint32_t d = 0; d < m; ++d) shared = shared && (y.dims[d] == 1 || b_stride(d) == 0);
  Dense dense;
  for (std::uint32_t d = 0; d <= m; ++d) {
    const std::int64_t other = residual != nullptr ? residual->strides[d] : 0;
    if (d == m || shared) {
      dense.rows.append(y.dims[d], {y.strides[d], a.strides[d], other});
    } else {
      dense.batch.append(y.dims[d], {y.strides[d], a.strides[d], b_stride(d), other});
    }
  }
  dense.rows.merge();
  dense.batch.merge();
  dense.depth = a.dims[n];
  dense.columns = y.dims[n];
  dense.left_stride = a.dims[n] > 1 ? a.strides[n] : 1;
  dense.right_stride = b.strides[b.rank - 2u];
  dense.right_column_stride = b.dims[b.rank - 1u] > 1 ? b.strides[b.rank - 1u] : 1;
  dense.output_column_stride = y.strides[n];
  if (residual != nullptr) dense.residual_column_stride = residual->strides[n];
  find_runs(dense, call.alignment, dense.depth, 0, 0);
  ProblemText text;
  text.code("using Index = " + index_type(operands) + ";\n");
  set_window(text, nullptr, nullptr, nullptr, std::max<std::int64_t>(dense.depth, 1));
  return make_dense(call, dense, operands.as<cpu::MatMulAttributes>().epilogue, "matmul_" + dims_text(a) + "_" + dims_text(b), text);
}

KernelSpec make_conv_any(const GenericCall& call) {
  const cpu::Operands& operands = call.operands;
  const cpu::ConvAttributes& a = operands.as<cpu::ConvAttributes>();
  const TensorView& x = operands.in(0);
  const TensorView& y = operands.out(0);
  const TensorView* residual = operands.has(3) ? &operands.in(3) : nullptr;
  const std::int64_t channels = x.dims[1] / a.groups, columns = y.dims[1] / a.groups;
  const std::int64_t residual_channel = residual != nullptr ? residual->strides[1] : 0;
  Dense dense;
  dense.convolution = true;
  dense.depth = channels * a.kernel[0] * a.kernel[1];
  dense.columns = columns;
  const TensorView& w = operands.in(1);
  dense.batch.append(a.groups, {columns * y.strides[1], channels * x.strides[1], w.strides[0], columns * residual_channel});
  for (const std::uint32_t d : {0u, 2u, 3u}) {
    dense.rows.append(y.dims[d], {y.strides[d], d == 0 ? x.strides[d] : 0, residual != nullptr ? residual->strides[d] : 0});
  }
  dense.left_stride = x.strides[1];
  dense.right_stride = w.strides[1];
  dense.right_column_stride = w.strides[2];
  dense.output_column_stride = y.strides[1];
  dense.residual_column_stride = residual_channel;
  dense.bias_step = columns;
  find_runs(dense, call.alignment, channels, x.dims[2] > 1 ? x.strides[2] : 0, x.dims[3] > 1 ? x.strides[3] : 0);
  ProblemText text;
  text.code("using Index = " + index_type(operands) + ";\n");
  set_window(text, &a, &x, &y, std::max<std::int64_t>(channels, 1));
  return make_dense(call, dense, a.epilogue, "conv_any" + number(a.kernel[0]) + "x" + number(a.kernel[1]) + "_" + dims_text(x) + "_" + dims_text(y), text);
}

}  // namespace edgert::codegen
