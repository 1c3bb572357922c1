// SPDX-License-Identifier: Apache-2.0
// Cast and CastLike.
#include "edgert/cpu/ops/cast.h"

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

void import_cast(OnnxNode& node) {
  node.set_output(0, cast(node, node.input(0), dtype_from_onnx(node, node.required_int("to"))));
}

void import_cast_like(OnnxNode& node) { node.set_output(0, cast(node, node.input(0), node.type(1).dtype)); }

}  // namespace

extern const OperatorDef kCast = [] {
  OperatorDef op;
  op.name = "Cast";
  op.attribute_bytes = sizeof(cpu::CastAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  return op;
}();

ValueId cast(OnnxNode& node, ValueId x, DType to) {
  if (dtype_of(node, x) == to) return x;
  return node.emit(kCast, {x}, cpu::CastAttributes{to, {}});
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
    case 21: return DType::U4;
    case 22: return DType::I4;
    default: node.fail("ONNX element type " + std::to_string(number) + " is not supported");
  }
}

void register_cast(Registry& registry) {
  registry.add(kCast);
  registry.add_onnx("Cast", &import_cast, 6);
  registry.add_onnx("CastLike", &import_cast_like, 15);
}

}  // namespace edgert::ops
