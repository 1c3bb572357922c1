// SPDX-License-Identifier: Apache-2.0
// Any bytes as an ONNX model: parse and import end in a graph that passes verification or in a BuildError, without a
// sanitizer report, within limits that keep one input fast.
#include <cstddef>
#include <cstdint>

#include "onnx/import.h"

namespace oi = edgert::onnx_import;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  oi::ImportOptions options;
  options.max_nodes = 2'000;
  options.max_densified_bytes = 1 << 20;
  try {
    const oi::Model model = oi::parse_bytes({reinterpret_cast<const std::byte*>(data), size}, "", options);
    // Whatever the declared shapes are, small ones let more of the graph be reached.
    for (const oi::TensorInfo& input : model.inputs()) {
      edgert::ir::Dims dims;
      for (const oi::Dimension& dim : input.dims) dims.push_back(dim.value >= 0 ? dim.value : 2);
      if (!input.has_default && input.has_shape) options.shapes[input.name] = dims;
    }
    std::vector<std::string> notes;
    edgert::ir::verify(oi::import(model, options, &notes));
  } catch (const edgert::ir::BuildError&) {
  }
  return 0;
}
