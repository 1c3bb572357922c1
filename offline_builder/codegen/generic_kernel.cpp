// SPDX-License-Identifier: Apache-2.0
#include "codegen/generic_kernel.h"

namespace edgert::codegen {

std::string type_name(DType dtype) {
  switch (dtype) {
    case DType::F32: return "type::F32";
    case DType::F16: return "type::F16";
    case DType::BF16: return "type::BF16";
    case DType::F64: return "type::F64";
    case DType::I8: return "type::I8";
    case DType::U8: return "type::U8";
    case DType::I16: return "type::I16";
    case DType::U16: return "type::U16";
    case DType::I32: return "type::I32";
    case DType::U32: return "type::U32";
    case DType::I64: return "type::I64";
    case DType::U64: return "type::U64";
    case DType::Bool: return "type::Bool";
    default: break;
  }
  throw CompileError(std::string("no kernel computes ") + to_string(dtype));
}

std::string raw_type_name(DType dtype) {
  if (bits_of(dtype) < 8) throw CompileError(std::string("no kernel moves ") + to_string(dtype));
  return "type::Raw" + std::to_string(bits_of(dtype));
}

std::string index_type(const cpu::Operands& operands) {
  constexpr std::uint64_t kLimit = std::uint64_t{1} << 30;
  const auto fits = [&](const TensorView& view) {
    if (!view.present() || is_empty(view)) return true;
    std::uint64_t bytes = 0;
    return static_cast<std::uint64_t>(view.elements()) < kLimit && span_bytes(view, bytes) && bytes / bits_of(view.dtype) * 8 < kLimit;
  };
  for (const TensorView* view : operands.inputs) {
    if (!fits(*view)) return "long long";
  }
  for (const TensorView* view : operands.outputs) {
    if (!fits(*view)) return "long long";
  }
  return "int";
}

namespace {

std::string list(std::uint32_t rank, const std::int64_t* values, std::int64_t none, std::int64_t vector, bool divide) {
  std::string out = "{";
  for (std::uint32_t i = 0; i < rank; ++i) {
    const bool inner = i + 1 == rank;
    const std::int64_t value = !inner ? values[i] : divide ? values[i] / vector : values[i] * vector;
    out += (i > 0 ? ", " : "") + std::to_string(value);
  }
  return out + (rank == 0 ? std::to_string(none) : "") + "}";
}

}  // namespace

std::string nest_struct(const std::string& name, std::int64_t count, std::uint32_t rank, const std::int64_t* dims,
                        const std::vector<const std::int64_t*>& strides, std::int64_t vector) {
  std::string text = "struct " + name + " {\n";
  text += "  static constexpr int kRank = " + std::to_string(rank) + ", kOperands = " + std::to_string(strides.size()) + ";\n";
  text += "  static constexpr Index kCount = " + std::to_string(count / vector) + ";\n";
  text += "  __device__ static __forceinline__ constexpr Index extent(int dim) {\n    constexpr Index extents[] = " +
          list(rank, dims, 1, vector, true) + ";\n    return extents[dim];\n  }\n";
  text += "  __device__ static __forceinline__ constexpr Index stride(int operand, int dim) {\n    constexpr Index strides[][" +
          std::to_string(rank == 0 ? 1 : rank) + "] = {";
  for (std::size_t k = 0; k < strides.size(); ++k) text += (k > 0 ? ", " : "") + list(rank, strides[k], 0, vector, false);
  return text + "};\n    return strides[operand][dim];\n  }\n};\n";
}

std::string index_function(const std::string& name, const std::vector<std::int64_t>& values) {
  return "__device__ __forceinline__ constexpr Index " + name + "(int i) {\n  constexpr Index values[] = " +
         list(static_cast<std::uint32_t>(values.size()), values.data(), 0, 1, false) + ";\n  return values[i];\n}\n";
}

std::string dims_text(const TensorView& view) {
  std::string out;
  for (std::uint32_t i = 0; i < view.rank; ++i) out += (i > 0 ? "x" : "") + std::to_string(view.dims[i]);
  return out.empty() ? "scalar" : out;
}

void define_parameters(ProblemText& text, const std::vector<std::string>& types) {
  std::string parameters, arguments;
  for (std::size_t i = 0; i < types.size(); ++i) {
    const bool output = i + 1 == types.size();
    const std::string name = output ? "y" : "x" + std::to_string(i);
    parameters += std::string(i > 0 ? ", " : "") + (output ? "" : "const ") + types[i] + "::Storage* " + name;
    arguments += (i > 0 ? ", " : "") + name;
  }
  text.define("EDGERT_PARAMETERS", parameters).define("EDGERT_ARGUMENTS", arguments);
}

void define_roles(ProblemText& text, const std::vector<Role>& roles) {
  std::string parameters, arguments;
  for (const Role& role : roles) {
    const bool present = role.view->present();
    const std::string type = present ? type_name(role.view->dtype) : "type::F32";
    const std::string constness = role.output ? "" : "const ";
    std::string capital = role.name;
    capital[0] = static_cast<char>(capital[0] - 'a' + 'A');
    text.code("using " + role.name + "_type = " + type + ";\n").set("kHas" + capital, present);
    text.code(index_function(role.name + "_stride", std::vector<std::int64_t>(role.view->strides, role.view->strides + kMaxRank)));
    if (!present) {
      text.code("constexpr " + constness + "float* " + role.name + " = nullptr;\n");
      continue;
    }
    parameters += (parameters.empty() ? "" : ", ") + constness + type + "::Storage* " + role.name;
    arguments += (arguments.empty() ? "" : ", ") + role.name;
  }
  text.define("EDGERT_PARAMETERS", parameters).define("EDGERT_ARGUMENTS", arguments);
}

namespace {

const TensorView& operand_of(const GenericCall& call, std::size_t operand) {
  const std::size_t inputs = call.operands.inputs.size();
  return operand < inputs ? call.operands.in(operand) : call.operands.out(operand - inputs);
}

}  // namespace

bool GenericCall::is_bounded(std::size_t operand, std::uint32_t dim) const {
  for (const Bound& bound : bounds) {
    if (bound.operand == operand && bound.dim == dim) return true;
  }
  return false;
}

void define_extents(ProblemText& text, const GenericCall& call) {
  std::string parameters, arguments;
  for (std::size_t i = 0; i < call.bounds.size(); ++i) {
    parameters += ", const int64* extent" + std::to_string(i);
    arguments += ", extent" + std::to_string(i);
  }
  text.define("EDGERT_EXTENT_PARAMETERS", parameters).define("EDGERT_EXTENT_ARGUMENTS", arguments);
}

std::string extent_text(const GenericCall& call, std::size_t operand, std::uint32_t dim) {
  const std::string most = std::to_string(operand_of(call, operand).dims[dim]);
  for (std::size_t i = 0; i < call.bounds.size(); ++i) {
    if (call.bounds[i].operand == operand && call.bounds[i].dim == dim) return "extent_at<Index>(extent" + std::to_string(i) + ", " + most + ")";
  }
  return most;
}

std::string extents_text(const GenericCall& call, std::size_t operand) {
  std::string text;
  for (std::uint32_t d = 0; d < operand_of(call, operand).rank; ++d) text += (d > 0 ? ", " : "") + extent_text(call, operand, d);
  return "{" + (text.empty() ? "1" : text) + "}";
}

void set_grid(KernelSpec& spec, std::int64_t blocks, std::int32_t threads) {
  if (blocks > INT32_MAX) throw CompileError("too many elements for one launch");
  spec.grid[0] = static_cast<std::uint32_t>(blocks < 1 ? 1 : blocks);
  spec.block[0] = static_cast<std::uint32_t>(threads);
}

}  // namespace edgert::codegen
