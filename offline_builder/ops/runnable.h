// SPDX-License-Identifier: Apache-2.0
// Asks an operator's kernel whether it can run operands of these types, so that what it cannot run is reported when the
// node is imported, with its name and beside everything else that is wrong with the model.
#pragma once

#include <string>
#include <vector>

#include "ops/infer.h"

namespace edgert::ops {

inline TensorView dense_view(const ir::TensorType& type) {
  require_rank(type.dims);
  TensorView view;
  view.dtype = type.dtype;
  view.rank = static_cast<std::uint8_t>(type.dims.size());
  const ir::Dims strides = ir::dense_strides(type.dims);
  for (std::size_t i = 0; i < type.dims.size(); ++i) {
    view.dims[i] = type.dims[i];
    view.strides[i] = strides[i];
  }
  return view;
}

/// `outputs`, unless the kernel refuses them or the inputs. For kernels that read and write any strides; those that
/// want a certain layout or packed weights meet them only later.
inline std::vector<ir::TensorType> runnable(const cpu::OperatorEntry& kernel, const InferContext& context,
                                            std::vector<ir::TensorType> outputs) {
  std::vector<TensorView> views;
  for (std::size_t i = 0; i < context.inputs.size(); ++i) {
    views.push_back(context.has(i) ? dense_view(context.type(i)) : TensorView{});
  }
  for (const ir::TensorType& type : outputs) {
    ir::element_count(type.dims);
    views.push_back(dense_view(type));
  }
  std::vector<const TensorView*> pointers;
  for (const TensorView& view : views) pointers.push_back(&view);
  cpu::Operands operands;
  operands.inputs = {pointers.data(), context.inputs.size()};
  operands.outputs = {pointers.data() + context.inputs.size(), outputs.size()};
  operands.attributes = context.attributes.bytes().data();
  operands.attribute_bytes = static_cast<std::uint32_t>(context.attributes.bytes().size());
  if (const char* problem = kernel.check(operands)) {
    std::string types;
    for (std::size_t i = 0; i < context.inputs.size(); ++i) {
      if (context.has(i)) types += (types.empty() ? "" : ", ") + ir::to_string(context.type(i));
    }
    throw ir::BuildError(std::string("the CPU kernel ") + kernel.name + " cannot run this: " + problem + " (" + types +
                         ")");
  }
  return outputs;
}

}  // namespace edgert::ops
