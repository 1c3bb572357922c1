// SPDX-License-Identifier: Apache-2.0
#include "codegen/rows_kernel.h"

#include <limits>
#include <string>

namespace edgert::codegen {

namespace {

bool shape_is_valid(const RowsShape& s) {
  if (s.tables.empty() || s.tables.size() > 3 || s.rows < 1 || s.depth < 8 || s.depth > 2048 || s.depth % 8 != 0) return false;
  constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max();
  if (s.output_pitch < s.depth || s.output_pitch % 8 != 0 || std::int64_t{s.rows} * s.output_pitch > kLimit) return false;
  for (const RowTable& t : s.tables) {
    const bool known = t.index_bytes == 4 || t.index_bytes == 8 || (t.index_bytes == 0 && t.rows >= s.rows);
    if (!known || t.rows < 1 || t.pitch < s.depth || t.pitch % 8 != 0 || std::int64_t{t.rows} * t.pitch > kLimit) return false;
  }
  return true;
}

}  // namespace

KernelSpec make_rows(const RowsShape& shape, std::int32_t threads, std::int32_t rows_per_warp, const ConvTarget& target) {
  const std::string name = "rows" + std::to_string(shape.rows) + "x" + std::to_string(shape.depth) + "_t" +
                           std::to_string(shape.tables.size()) + (shape.normalize ? "n" : "") + "_b" + std::to_string(threads) + "_r" + std::to_string(rows_per_warp);
  if (!shape_is_valid(shape) || rows_per_warp < 1 || threads < 32 || threads % 32 != 0 || threads > 1024) throw CompileError(name + ": outside this kernel's range");
  ProblemText text(shape.element);
  text.define("EDGERT_ENTRY", "rows");
  text.set("kRows", std::int64_t{shape.rows}).set("kDepth", std::int64_t{shape.depth}).set("kOutputPitch", std::int64_t{shape.output_pitch});
  text.set("kTables", static_cast<std::int64_t>(shape.tables.size())).set("kNormalize", shape.normalize).set("kRms", shape.rms).set("kEpsilon", shape.epsilon).set("kFloatOutput", shape.float_output);
  for (std::size_t t = 0; t < 3; ++t) {
    const RowTable table = t < shape.tables.size() ? shape.tables[t] : RowTable{};
    const std::string n = std::to_string(t);
    text.set("kIndex" + n, std::int64_t{table.index_bytes}).set("kTableRows" + n, std::int64_t{table.rows}).set("kPitch" + n, std::int64_t{table.pitch}).set("kFloat" + n, table.is_float);
  }
  const std::int32_t per_block = threads / 32 * rows_per_warp, blocks = (shape.rows + per_block - 1) / per_block;
  text.set("kThreads", std::int64_t{threads}).set("kRowsPerWarp", std::int64_t{rows_per_warp}).set("kBlocks", std::int64_t{blocks});
  KernelSpec spec;
  spec.job = make_job(name, "kernels/rows.cu", text.text(), target.arch);
  spec.entry = "rows";
  spec.tile = "threads " + std::to_string(threads) + " rows " + std::to_string(rows_per_warp);
  spec.grid[0] = static_cast<std::uint32_t>(blocks);
  spec.block[0] = static_cast<std::uint32_t>(threads);
  return spec;
}

}  // namespace edgert::codegen
