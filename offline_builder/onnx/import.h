// SPDX-License-Identifier: Apache-2.0
// ONNX in, graph out. A file is parsed once and imported once per shape profile; the graphs share the constants.
// Everything in the file is hostile until checked: sizes, depths, names, shapes and paths of external data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "edgert/span.h"
#include "ir/graph.h"

namespace edgert::ops {
class Registry;
}

namespace edgert::onnx_import {

/// Versions of ONNX's own operator set that are imported, both included.
inline constexpr int kOldestOpset = 1;
inline constexpr int kNewestOpset = 28;

struct ConstantTensor {
  ir::TensorType type;
  ir::Bytes bytes;  ///< dense, row-major; two elements a byte for 4-bit types, the first in the low half
};

struct ImportOptions {
  // What import() reads.
  std::map<std::string, ir::Dims> shapes;        ///< extents of graph inputs, by input name: one profile's worth
  std::map<std::string, std::int64_t> dims;      ///< symbolic dimensions by name
  std::map<std::string, ConstantTensor> values;  ///< graph inputs that become constants, by input name
  std::set<std::string> keep_inputs;             ///< inputs that stay inputs though the model has a default for them
  std::optional<std::int64_t> most_turns;        ///< of loops whose outputs grow with the turns, where the model says none
  const ops::Registry* registry = nullptr;       ///< the operators to import with; null: Registry::instance()
  std::uint64_t max_nodes = 1'000'000;           ///< ONNX nodes imported, those of inlined functions included
  std::uint32_t max_depth = 64;                  ///< function calls inside function calls

  // What parse_file() and parse_bytes() read.
  bool external_data = true;                                   ///< whether tensors may lie in other files
  std::uint64_t max_model_bytes = 0x7fffffff;                  ///< protobuf's own limit, and not more than that
  std::uint64_t max_external_bytes = std::uint64_t{16} << 30;  ///< of all tensors in other files together
  std::uint64_t max_densified_bytes = std::uint64_t{1} << 30;  ///< of all sparse tensors together, made dense
};

/// One thing that stops the import. `op_type` is empty when it is not about a node.
struct Problem {
  std::string node;  ///< the node's name, or the thing at fault, such as "input 'x'"
  std::string op_type;
  std::string domain;
  int opset = 0;
  std::string reason;
};

/// Everything that was found wrong with a model, at once.
class ImportError : public ir::BuildError {
 public:
  ImportError(const std::string& model, std::vector<Problem> problems);
  const std::vector<Problem>& problems() const { return *problems_; }

 private:
  // Shared, because exceptions are copied and copying must not throw.
  std::shared_ptr<const std::vector<Problem>> problems_;
};

/// One dimension as the model declares it: a number, a symbol, or nothing.
struct Dimension {
  std::int64_t value = -1;  ///< negative: not known
  std::string symbol;       ///< empty when unnamed
};

/// A declared input or output.
struct TensorInfo {
  std::string name;
  DType dtype = DType::Undefined;  ///< Undefined for what is no tensor of a supported element type
  std::string type_name;           ///< ONNX's name of the type, "FLOAT" or "sequence"
  bool has_shape = false;
  std::vector<Dimension> dims;
  bool has_default = false;  ///< inputs: an initializer gives its value unless a shape or value is given
};
/// "f32[N,3,224,224]"
std::string to_string(const TensorInfo& info);

/// A parsed ONNX file. Copies are cheap and share everything. Safe to read from several threads.
class Model {
 public:
  struct Data;
  explicit Model(std::shared_ptr<const Data> data) : data_(std::move(data)) {}

  const std::string& name() const;  ///< the file's path, for messages
  const std::vector<TensorInfo>& inputs() const;
  const std::vector<TensorInfo>& outputs() const;
  const std::vector<std::pair<std::string, std::string>>& metadata() const;
  const std::map<std::string, int>& opsets() const;  ///< by domain, "" for ONNX's own
  std::int64_t ir_version() const;
  std::string producer() const;
  const std::vector<std::string>& notes() const;  ///< what was passed over while parsing
  const Data& data() const { return *data_; }     ///< for this folder only

 private:
  std::shared_ptr<const Data> data_;
};

/// Reads and parses a file, and the external data beside it. Throws std::system_error when the file cannot be read,
/// ir::BuildError ("FILE: not an ONNX model: ...") when its content is no model.
Model parse_file(const std::string& path, const ImportOptions& options = {});
/// The same for bytes in memory. `folder` is where external data lies; when it is empty, there is none. `name` is used
/// in messages.
Model parse_bytes(Span<const std::byte> bytes, const std::string& folder, const ImportOptions& options = {},
                  const std::string& name = "model");

/// The default that the model has for an input (an initializer of its name), dense; empty when there is none.
ir::Bytes default_of(const Model& model, const std::string& input);

/// Builds the graph of one shape profile. Throws ImportError with all problems. What the user should know but need not
/// act on is appended to `notes` when that is given, the model's own notes included.
ir::Graph import(const Model& model, const ImportOptions& options = {}, std::vector<std::string>* notes = nullptr);

}  // namespace edgert::onnx_import
