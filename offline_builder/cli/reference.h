// SPDX-License-Identifier: Apache-2.0
// Runs a model in ONNX Runtime, in a Python process, as the reference of `compare`.
#pragma once

#include <string>

#include "io/npz.h"

namespace edgert::cli {

/// The Python to use: `wanted` if given, else build/venv beside this program, else python3 of the PATH.
std::string find_python(const std::string& wanted);
/// "onnxruntime 1.31.1, onnx 1.23.2", or an empty string when that Python lacks one of them.
std::string reference_version(const std::string& python);

/// Outputs of the model for these inputs; with `layers`, every intermediate value of the graph too. Throws IoError when
/// Python or ONNX Runtime is missing and BuildError with its message when the model does not run there.
io::Arrays run_reference(const std::string& python, const std::string& model, const io::Arrays& inputs, bool layers);

}  // namespace edgert::cli
