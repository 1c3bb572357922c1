// SPDX-License-Identifier: Apache-2.0
// Cast and CastLike.
// BitCast is a copy that calls the same bits another type.
#include "edgert/cpu/ops/cast.h"

#include "edgert/cpu/ops/copy.h"
#include "ops/bounded.h"
#include "ops/cast.h"

#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Cast>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const DType to = context.attributes.as<cpu::CastAttributes>().to;
  require(bits_of(to) != 0, "no such type");
  return runnable(kEntry, context, {{to, context.type(0).dims}});
}

std::string describe(const ir::AttributeBlob& blob) {
  return std::string("to=") + edgert::to_string(blob.as<cpu::CastAttributes>().to);
}

scalar::PowerRounding read_rounding(const OnnxNode& node) {
  const std::string mode = node.string_or("round_mode", "up");
  if (mode == "up") return scalar::PowerRounding::Up;
  if (mode == "down") return scalar::PowerRounding::Down;
  if (mode == "nearest") return scalar::PowerRounding::Nearest;
  node.fail("round_mode '" + mode + "' is not known");
}

void import_as(OnnxNode& node, DType to) {
  const ValueId x = node.input(0);
  cpu::CastAttributes attributes{};
  attributes.to = to;
  attributes.no_saturation = node.int_or("saturate", 1) == 0 ? 1 : 0;
  attributes.rounding = read_rounding(node);
  node.set_output(0, dtype_of(node, x) == to ? x : node.emit(kCast, {x}, attributes));
}

void import_cast(OnnxNode& node) { import_as(node, dtype_from_onnx(node, node.required_int("to"))); }
void import_cast_like(OnnxNode& node) { import_as(node, node.type(1).dtype); }

struct BitCastAttributes {
  DType to;
  std::uint8_t reserved[3];
};

constexpr cpu::OperatorEntry kCopyEntry = cpu::entry_of<cpu::Copy>();
static_assert(sizeof(BitCastAttributes) == sizeof(cpu::Copy::Attributes), "the kernel of Copy takes any four bytes");

std::vector<ir::TensorType> infer_bit_cast(const InferContext& context) {
  require_inputs(context, 1, 1);
  const ir::TensorType& x = context.type(0);
  const DType to = context.attributes.as<BitCastAttributes>().to;
  require(bits_of(to) == bits_of(x.dtype), std::string(edgert::to_string(x.dtype)) + " and " + edgert::to_string(to) +
                                               " differ in their number of bits");
  return runnable(kCopyEntry, context, {{to, x.dims}});
}

std::string describe_bit_cast(const ir::AttributeBlob& blob) {
  return std::string("to=") + edgert::to_string(blob.as<BitCastAttributes>().to);
}

/// Not registered: in a plan it is a Copy.
const OperatorDef kBitCast = [] {
  OperatorDef op;
  op.name = "BitCast";
  op.attribute_bytes = sizeof(BitCastAttributes);
  op.infer = &infer_bit_cast;
  op.describe = &describe_bit_cast;
  op.kernel = &kCopyEntry;
  return op;
}();

void import_bit_cast(OnnxNode& node) {
  const ValueId x = node.input(0);
  const DType to = dtype_from_onnx(node, node.required_int("to"));
  node.set_output(0, dtype_of(node, x) == to ? x : node.emit(kBitCast, {x}, BitCastAttributes{to, {}}));
}

}  // namespace

extern const OperatorDef kCast = [] {
  OperatorDef op;
  op.name = "Cast";
  op.attribute_bytes = sizeof(cpu::CastAttributes);
  op.infer = &infer;
  op.extents = &elementwise_extents;
  op.describe = &describe;
  op.kernel = &kEntry;
  return op;
}();

ValueId cast(OnnxNode& node, ValueId x, DType to) {
  if (dtype_of(node, x) == to) return x;
  cpu::CastAttributes attributes{};
  attributes.to = to;
  return node.emit(kCast, {x}, attributes);
}

ValueId cast_unsaturated(OnnxNode& node, ValueId x, DType to) {
  cpu::CastAttributes attributes{};
  attributes.to = to;
  attributes.no_saturation = 1;
  return node.emit(kCast, {x}, attributes);
}

ValueId cast_narrow(OnnxNode& node, ValueId x) {
  const DType dtype = dtype_of(node, x);
  return dtype == DType::F16 || dtype == DType::BF16 ? cast(node, x, DType::F32) : x;
}

DType dtype_from_onnx(const OnnxNode& node, std::int64_t number) {
  switch (number) {
    case 1: return DType::F32;
    case 2: return DType::U8;
    case 3: return DType::I8;
    case 4: return DType::U16;
    case 5: return DType::I16;
    case 6: return DType::I32;
    case 7: return DType::I64;
    case 9: return DType::Bool;
    case 10: return DType::F16;
    case 11: return DType::F64;
    case 12: return DType::U32;
    case 13: return DType::U64;
    case 16: return DType::BF16;
    case 17: return DType::F8E4M3FN;
    case 18: return DType::F8E4M3FNUZ;
    case 19: return DType::F8E5M2;
    case 20: return DType::F8E5M2FNUZ;
    case 21: return DType::U4;
    case 22: return DType::I4;
    case 23: return DType::F4E2M1;
    case 24: return DType::F8E8M0;
    case 25: return DType::U2;
    case 26: return DType::I2;
    default: node.fail("ONNX element type " + std::to_string(number) + " is not supported");
  }
}

void register_cast(Registry& registry) {
  registry.add(kCast);
  registry.add_onnx("Cast", &import_cast, 6);
  registry.add_onnx("CastLike", &import_cast_like, 15);
  registry.add_onnx("BitCast", &import_bit_cast, 26);
}

}  // namespace edgert::ops
