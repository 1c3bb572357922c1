// SPDX-License-Identifier: Apache-2.0
// What the families of tensor-core and channels-last kernels ask of their operands.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "edgert/scalar/pointwise.h"
#include "families/family.h"

namespace edgert::families {

/// Elements from pixel to pixel of [N, C, H, W] that lies channels last with whole rows and images: what the kernels call
/// a pitch. Empty when it lies otherwise, or not so that eight channels can be loaded at once. With `between_images` images
/// may lie apart, by whole pixels: then the pixels from one to the next are left there.
std::optional<std::int32_t> pixel_pitch(const Operand& x, std::int64_t* between_images = nullptr);
/// The same for [..., K] whose leading dimensions are one sequence of rows: elements from row to row.
std::optional<std::int32_t> row_pitch(const Operand& x);
/// Whether eight neighbouring elements of every pixel or row can be loaded at once.
bool loads_by_eight(const Operand& x, std::int32_t pitch);

/// Whether every pixel or row can be loaded by pieces of 16 bytes.
bool loads_whole(const Operand& x, std::int32_t pitch);

/// How many neighbouring elements of every pixel or row can be moved at once: 8, 4, 2 or 1; 0 where they are not of 16 bits.
std::int32_t at_once(const Operand& x, std::int32_t pitch);

/// The same of f32: 4, 2 or 1; 0 where they are of another type.
std::int32_t floats_at_once(const Operand& x, std::int32_t pitch);

/// Extents and offsets of the operand fit the kernels' 32-bit arithmetic.
bool fits_int32(const Operand& x);
/// All dims but the last, multiplied.
std::int64_t row_count(const Operand& x);

/// Whether f16 reaches all of them.
bool fits_f16(const std::vector<float>& floats);
/// What operands of this type are multiplied as by the node: f32 ones exactly, or as TF32 where it may round them. Empty for
/// types that it is not to compute in.
std::optional<codegen::ElementType> element_of(const Context& context, const ir::Node& node, DType dtype);
/// What results are then stored as.
DType type_of(codegen::ElementType element);
/// Constant weights that are to be rounded to such elements; throws BuildError for numbers that f16 does not reach.
std::vector<float> floats_for(codegen::ElementType element, const Context& context, ir::ValueId value);
inline std::vector<float> floats_for_f16(const Context& context, ir::ValueId value) { return floats_for(codegen::ElementType::F16, context, value); }
/// Rounded to f16 or bf16.
std::vector<std::uint16_t> as_halves(codegen::ElementType element, const std::vector<float>& floats);
/// A convolution's weights [out_channels][channels / groups][kernel] as the kernels of its tiles want them, packed once for each way.
class PackedWeights {
 public:
  /// Both arguments must outlive this.
  PackedWeights(const codegen::ConvShape& shape, const std::vector<float>& weights) : shape_(shape), weights_(weights) {}
  const ir::Bytes& of(const codegen::ConvTile& tile);

 private:
  const codegen::ConvShape& shape_;
  const std::vector<float>& weights_;
  ir::Bytes packed_[2];
};

/// A constant bias as floats with zeros up to a multiple of `multiple`.
ir::Bytes bias_bytes(const Context& context, ir::ValueId bias, std::int64_t channels, std::int64_t multiple);
/// Why this bias, residual or activation is none for a fast kernel, or null.
const char* epilogue_problem(const Context& context, const ir::Node& node, const scalar::Epilogue& epilogue);

/// [..., M, K] times a constant [K, N] as kernels/conv.cu computes it: a 1x1 convolution over rows.
struct RowsProduct {
  codegen::ConvShape shape;
  Operand residual, y;
  ir::ValueId bias = ir::kNone;
  std::vector<float> weights;  ///< [N][K]
};
/// The product with left operand `x`, whose rows are the node's own; empty, with a reason, where the kernel cannot.
std::optional<RowsProduct> rows_product(const Context& context, const ir::Node& node, const Operand& x);

/// What a constant that is repeated along all dimensions but its last has there; `count` times `fallback` where there is
/// none. Empty for anything else.
std::optional<std::vector<float>> floats_along_rows(const Context& context, const Operand& x, std::int64_t count, float fallback);

}  // namespace edgert::families
