// SPDX-License-Identifier: Apache-2.0
// What the generic kernel families share on the host. Each takes the operands of the CPU operator of the same name and
// runs whatever that operator's check() accepts: any strides, extents and types. Extents and strides become constants.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/kernel_spec.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"

namespace edgert::codegen {

/// A kernel of one operator: its operands as the CPU operator takes them. Data pointers are not read. No output is empty.
/// The kernel's arguments are the addresses of the present inputs in their order, then those of the outputs.
struct GenericCall {
  cpu::Operands operands;
  std::uint32_t arch = 87;
  std::uint32_t alignment = 16;  ///< bytes of which every operand's address is a multiple
  std::int32_t multiprocessors = 16;
  /// The type of elements inside the attributes (Pad's constant) where it is not the operands': f32 for tensors stored as
  /// f16.
  DType attribute_type = DType::Undefined;
  /// Dimension `dim` of an operand (inputs first, then outputs) has an extent that only a run knows; the view has the most
  /// that it can be.
  struct Bound {
    std::size_t operand;
    std::uint32_t dim;
  };
  /// The kernel's last arguments are the addresses of these extents, an int64 each, in this order.
  std::vector<Bound> bounds;

  bool is_bounded(std::size_t operand, std::uint32_t dim) const;
};

/// Names in kernels/common/element.h. CompileError for types without arithmetic.
std::string type_name(DType dtype);
/// The same for elements that are only moved.
std::string raw_type_name(DType dtype);

/// "int" where all counts, offsets and their sums fit, else "long long".
std::string index_type(const cpu::Operands& operands);

/// The longest vector of at most 16 bytes, as a count of elements, that divides the nest's innermost dimension and starts
/// aligned everywhere, for operand 0 and those that step by 1: at least 1. `bytes` are the operands' element sizes.
template <int kOperands>
std::int32_t vector_length(const cpu::Nest<kOperands>& nest, const std::int64_t (&bytes)[kOperands], std::uint32_t alignment) {
  if (nest.rank == 0 || nest.inner_stride(0) != 1) return 1;
  const auto fits = [&](std::int64_t length) {
    if (nest.inner() % length != 0) return false;
    for (int k = 0; k < kOperands; ++k) {
      if (nest.inner_stride(k) != 1) continue;
      const std::int64_t vector = length * bytes[k];
      if (vector > 16 || alignment % static_cast<std::uint64_t>(vector) != 0) return false;
      for (std::uint32_t d = 0; d + 1 < nest.rank; ++d) {
        if (nest.strides[k][d] * bytes[k] % vector != 0) return false;
      }
    }
    return true;
  };
  std::int32_t length = 16;
  while (length > 1 && !fits(length)) length /= 2;
  return length;
}

/// The struct that kernels/common/nest.h describes, of the first `operands` operands, with the innermost dimension counted
/// in vectors of `vector` elements.
std::string nest_struct(const std::string& name, std::int64_t count, std::uint32_t rank, const std::int64_t* dims,
                        const std::vector<const std::int64_t*>& strides, std::int64_t vector);
template <int kOperands>
std::string nest_struct(const std::string& name, const cpu::Nest<kOperands>& nest, int operands = kOperands, std::int64_t vector = 1) {
  std::vector<const std::int64_t*> strides;
  for (int k = 0; k < operands; ++k) strides.push_back(nest.strides[k]);
  return nest_struct(name, nest.count, nest.rank, nest.dims, strides, vector);
}

/// `static Index NAME(int i)` with these values, constant after unrolling.
std::string index_function(const std::string& name, const std::vector<std::int64_t>& values);

/// "8x3x224x224" for messages.
std::string dims_text(const TensorView& view);

/// EDGERT_PARAMETERS and EDGERT_ARGUMENTS: "const type::F32::Storage* x0, ..., type::F32::Storage* y" and the names
/// alone. `types` are the present inputs' and then the output's.
void define_parameters(ProblemText& text, const std::vector<std::string>& types);

/// An operand by its name in the kernel.
struct Role {
  std::string name;  ///< begins with a small letter
  const TensorView* view;
  bool output = false;
};
/// EDGERT_PARAMETERS and EDGERT_ARGUMENTS of the present operands, in order, and for each `name_type`, `kHasName` and
/// `name_stride(dim)`. Absent ones become null pointers of the same name.
void define_roles(ProblemText& text, const std::vector<Role>& roles);

/// EDGERT_EXTENT_PARAMETERS, to stand behind the other parameters, and EDGERT_EXTENT_ARGUMENTS: ", const int64* extent0".
void define_extents(ProblemText& text, const GenericCall& call);
/// The extent of a dimension in a kernel that has these parameters: a number, or what it reads, at most the view's.
std::string extent_text(const GenericCall& call, std::size_t operand, std::uint32_t dim);
/// "{8, extent_at(extent0, 100), 4}": of all dimensions of an operand; "{1}" for a scalar.
std::string extents_text(const GenericCall& call, std::size_t operand);

/// At least one block. CompileError where the grid would be too large.
void set_grid(KernelSpec& spec, std::int64_t blocks, std::int32_t threads);

}  // namespace edgert::codegen
