// SPDX-License-Identifier: Apache-2.0
#include "onnx/shapes.h"

#include <algorithm>
#include <set>

#include "onnx/text.h"

namespace edgert::onnx_import {
namespace {

/// The values of symbolic dimensions, each with who said so.
class Symbols {
 public:
  explicit Symbols(std::vector<Problem>& problems) : problems_(problems) {}

  void bind(const std::string& symbol, std::int64_t value, const std::string& source) {
    const auto [it, added] = bound_.emplace(symbol, Entry{value, source});
    if (added || it->second.value == value) return;
    problems_.push_back({source, "", "", 0,
                         "dimension " + quoted(symbol) + " would be " + std::to_string(value) + ", but is " +
                             std::to_string(it->second.value) + " by " + it->second.source});
  }
  /// Negative when unknown.
  std::int64_t value_of(const Dimension& dim) const {
    if (dim.value >= 0 || dim.symbol.empty()) return dim.value;
    const auto it = bound_.find(dim.symbol);
    return it == bound_.end() ? -1 : it->second.value;
  }

 private:
  struct Entry {
    std::int64_t value;
    std::string source;
  };
  std::map<std::string, Entry> bound_;
  std::vector<Problem>& problems_;
};

template <class Items>
std::string join(const Items& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ", ") + printable(item);
  return text.empty() ? "none" : text;
}

class ShapeBinder {
 public:
  ShapeBinder(const std::vector<TensorInfo>& inputs, const ImportOptions& options, std::vector<Problem>& problems,
              std::vector<std::string>& notes)
      : inputs_(inputs), options_(options), problems_(problems), notes_(notes), symbols_(problems) {}

  std::vector<std::optional<ir::Dims>> run() {
    for (const auto& [name, value] : options_.dims) bind_dim(name, value);
    for (const auto& [name, dims] : options_.shapes) bind_given("--shape " + printable(name), name, dims);
    for (const auto& [name, value] : options_.values) bind_value(name, value);
    for (const TensorInfo& input : inputs_) default_batch(input);
    std::vector<std::optional<ir::Dims>> result;
    for (const TensorInfo& input : inputs_) result.push_back(resolve(input));
    return result;
  }

 private:
  void problem(const std::string& what, const std::string& reason) { problems_.push_back({what, "", "", 0, reason}); }

  bool is_given(const std::string& name) const {
    return options_.shapes.count(name) + options_.values.count(name) != 0;
  }
  bool keeps_default(const TensorInfo& input) const {
    return input.has_default && !is_given(input.name) && options_.keep_inputs.count(input.name) == 0;
  }

  void bind_dim(const std::string& name, std::int64_t value) {
    const std::string source = "--dim " + printable(name);
    std::set<std::string> known;
    for (const TensorInfo& input : inputs_) {
      for (const Dimension& dim : input.dims) {
        if (!dim.symbol.empty()) known.insert(dim.symbol);
      }
    }
    if (known.count(name) == 0) {
      problem(source, "no input has such a dimension; the symbolic dimensions are: " + join(known));
    } else if (value < 0) {
      problem(source, "an extent cannot be negative");
    } else {
      symbols_.bind(name, value, source);
    }
  }

  const TensorInfo* find_input(const std::string& source, const std::string& name) {
    const auto it =
        std::find_if(inputs_.begin(), inputs_.end(), [&](const TensorInfo& input) { return input.name == name; });
    if (it != inputs_.end()) return &*it;
    std::vector<std::string> names;
    for (const TensorInfo& input : inputs_) names.push_back(input.name);
    problem(source, "the model has no such input; its inputs are: " + join(names));
    return nullptr;
  }

  void bind_given(const std::string& source, const std::string& name, const ir::Dims& dims) {
    const TensorInfo* input = find_input(source, name);
    if (input == nullptr) return;
    bool fits = !input->has_shape || input->dims.size() == dims.size();
    for (std::size_t i = 0; fits && i < dims.size(); ++i) {
      fits = dims[i] >= 0 && (!input->has_shape || input->dims[i].value < 0 || input->dims[i].value == dims[i]);
    }
    if (!fits) {
      problem(source, ir::to_string(dims) + " does not fit the input's type " + to_string(*input));
      rejected_.insert(name);
      return;
    }
    for (std::size_t i = 0; i < input->dims.size(); ++i) {
      if (!input->dims[i].symbol.empty()) symbols_.bind(input->dims[i].symbol, dims[i], source);
    }
  }

  void bind_value(const std::string& name, const ConstantTensor& value) {
    const std::string source = "--value " + printable(name);
    bind_given(source, name, value.type.dims);
    for (const TensorInfo& input : inputs_) {
      if (input.name == name && input.dtype != value.type.dtype) {
        problem(source, std::string("the value is ") + edgert::to_string(value.type.dtype) + " but the input is " +
                            to_string(input));
      }
    }
    const auto shape = options_.shapes.find(name);
    if (shape != options_.shapes.end() && shape->second != value.type.dims) {
      problem(source, "the value has shape " + ir::to_string(value.type.dims) + ", but --shape says another");
    }
  }

  /// The first dimension of an input, when nobody says anything, is a batch of one.
  void default_batch(const TensorInfo& input) {
    if (is_given(input.name) || keeps_default(input) || input.dims.empty() || symbols_.value_of(input.dims[0]) >= 0)
      return;
    notes_.push_back("input " + quoted(input.name) + " " + to_string(input) +
                     ": the first dimension is not known and taken as a batch of 1; set it with --shape");
    if (!input.dims[0].symbol.empty()) symbols_.bind(input.dims[0].symbol, 1, "the default batch of 1");
  }

  std::optional<ir::Dims> resolve(const TensorInfo& input) {
    if (keeps_default(input) || rejected_.count(input.name) != 0) return std::nullopt;
    const std::string what = "input " + quoted(input.name);
    if (input.dtype == DType::Undefined) {
      problem(what, "inputs of type " + input.type_name + " are not supported");
      return std::nullopt;
    }
    ir::Dims dims;
    const auto shape = options_.shapes.find(input.name);
    const auto value = options_.values.find(input.name);
    if (shape != options_.shapes.end()) {
      dims = shape->second;
    } else if (value != options_.values.end()) {
      dims = value->second.type.dims;
    } else if (!input.has_shape) {
      problem(what, "its rank is not known; add --shape " + printable(input.name) + "=...");
      return std::nullopt;
    } else if (input.dims.size() <= kMaxRank) {
      dims = resolve_declared(input);
      if (dims.size() != input.dims.size()) return std::nullopt;
    }
    if (dims.size() > kMaxRank || input.dims.size() > kMaxRank) {
      problem(what, "tensors of more than " + std::to_string(kMaxRank) + " dimensions are not supported");
      return std::nullopt;
    }
    try {
      ir::element_count(dims);
    } catch (const ir::BuildError& error) {
      problem(what, error.what());
      return std::nullopt;
    }
    return dims;
  }

  /// Fewer extents than dimensions, and a problem, when one of them is unknown.
  ir::Dims resolve_declared(const TensorInfo& input) {
    ir::Dims dims;
    std::string suggestion;
    for (std::size_t i = 0; i < input.dims.size(); ++i) {
      std::int64_t extent = symbols_.value_of(input.dims[i]);
      if (extent < 0 && i == 0) extent = 1;
      if (extent >= 0) dims.push_back(extent);
      const std::string symbol = printable(input.dims[i].symbol);
      suggestion +=
          (i == 0 ? "" : "x") + (extent >= 0 ? std::to_string(extent) : "<" + (symbol.empty() ? "?" : symbol) + ">");
    }
    if (dims.size() != input.dims.size()) {
      problem("input " + quoted(input.name), to_string(input) + " has dimensions that are not known; add --shape " +
                                                 printable(input.name) + "=" + suggestion +
                                                 " with numbers for those in <>");
    }
    return dims;
  }

  const std::vector<TensorInfo>& inputs_;
  const ImportOptions& options_;
  std::vector<Problem>& problems_;
  std::vector<std::string>& notes_;
  Symbols symbols_;
  std::set<std::string> rejected_;  ///< inputs that were given a shape which does not fit
};

}  // namespace

std::vector<std::optional<ir::Dims>> bind_shapes(const std::vector<TensorInfo>& inputs, const ImportOptions& options,
                                                 std::vector<Problem>& problems, std::vector<std::string>& notes) {
  return ShapeBinder(inputs, options, problems, notes).run();
}

}  // namespace edgert::onnx_import
