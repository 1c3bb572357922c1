// SPDX-License-Identifier: Apache-2.0
// ONNX Einsum: operands are multiplied one after the other; each product is a matrix product whose batch, row, column
// and contracted dimensions are those that the labels say.
#include <algorithm>

#include "edgert/cpu/ops/reduce.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

/// A value and the label of each of its dimensions. The dimensions of "..." have digits, counted from the right.
struct Labelled {
  ValueId value = ir::kNone;
  std::string labels;
};

struct Equation {
  std::vector<std::string> inputs;
  std::string output;
};

std::string expand_ellipsis(const OnnxNode& node, const std::string& term, std::size_t dots) {
  const std::size_t position = term.find("...");
  std::string labels = term;
  if (position != std::string::npos) {
    std::string digits;
    for (std::size_t i = dots; i-- > 0;) digits += static_cast<char>('0' + i);
    labels = term.substr(0, position) + digits + term.substr(position + 3);
  }
  for (const char c : labels) {
    if (!std::isalnum(static_cast<unsigned char>(c))) node.fail("equation: '" + term + "' is no list of labels");
  }
  return labels;
}

Equation parse(const OnnxNode& node, const std::vector<std::size_t>& ranks) {
  std::string text;
  for (const char c : node.string_or("equation", "")) {
    if (c != ' ') text += c;
    if (std::isdigit(static_cast<unsigned char>(c))) node.fail("equation: digits are no labels");
  }
  const std::size_t arrow = text.find("->");
  const std::string left = text.substr(0, arrow);
  std::vector<std::string> terms(1);
  for (const char c : left) {
    if (c == ',') {
      terms.emplace_back();
    } else {
      terms.back() += c;
    }
  }
  if (terms.size() != ranks.size()) {
    node.fail("equation has " + std::to_string(terms.size()) + " terms for " + std::to_string(ranks.size()) +
              " inputs");
  }
  Equation equation;
  std::size_t most_dots = 0;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const bool has_dots = terms[i].find("...") != std::string::npos;
    const std::size_t letters = terms[i].size() - (has_dots ? 3 : 0);
    if (has_dots ? letters > ranks[i] : letters != ranks[i]) {
      node.fail("equation: '" + terms[i] + "' does not fit an input of rank " + std::to_string(ranks[i]));
    }
    most_dots = std::max(most_dots, ranks[i] - letters);
    equation.inputs.push_back(expand_ellipsis(node, terms[i], ranks[i] - letters));
  }
  if (arrow != std::string::npos) {
    equation.output = expand_ellipsis(node, text.substr(arrow + 2), most_dots);
    return equation;
  }
  // Without "->": the dimensions of "...", then every label that occurs once, in the order of the alphabet.
  equation.output = expand_ellipsis(node, "...", most_dots);
  std::string all;
  for (const std::string& labels : equation.inputs) all += labels;
  std::string once;
  for (const char c : all) {
    if (std::isalpha(static_cast<unsigned char>(c)) && std::count(all.begin(), all.end(), c) == 1) once += c;
  }
  std::sort(once.begin(), once.end());
  equation.output += once;
  return equation;
}

Labelled permute(OnnxNode& node, const Labelled& x, const std::string& labels) {
  std::vector<std::int64_t> perm;
  for (const char c : labels) perm.push_back(static_cast<std::int64_t>(x.labels.find(c)));
  return {transpose(node, x.value, perm), labels};
}

/// Dimensions that share a label become one: the diagonal, whose elements lie n + 1 apart.
Labelled take_diagonals(OnnxNode& node, Labelled x) {
  for (std::size_t i = 0; i < x.labels.size(); ++i) {
    const std::size_t again = x.labels.find(x.labels[i], i + 1);
    if (again == std::string::npos) continue;
    Dims dims = dims_of(node, x.value);
    if (dims[i] != dims[again]) node.fail(std::string("equation: extents of label '") + x.labels[i] + "' differ");
    std::vector<std::int64_t> perm;
    for (std::size_t k = 0; k < dims.size(); ++k) {
      if (k != i && k != again) perm.push_back(static_cast<std::int64_t>(k));
    }
    Dims flat;
    std::string labels;
    for (const std::int64_t k : perm) {
      flat.push_back(dims[static_cast<std::size_t>(k)]);
      labels += x.labels[static_cast<std::size_t>(k)];
    }
    perm.insert(perm.end(), {static_cast<std::int64_t>(i), static_cast<std::int64_t>(again)});
    const std::int64_t extent = dims[i];
    flat.push_back(ir::element_count({extent, extent}));
    const ValueId square = reshape(node, transpose(node, x.value, perm), flat);
    x = take_diagonals(node, {slice(node, square, flat.size() - 1, 0, extent, extent + 1), labels + x.labels[i]});
    break;
  }
  return x;
}

/// Sums over every label that `needed` does not name.
Labelled sum_out(OnnxNode& node, const Labelled& x, const std::string& needed) {
  std::vector<std::size_t> axes;
  std::string kept;
  for (std::size_t i = 0; i < x.labels.size(); ++i) {
    if (needed.find(x.labels[i]) == std::string::npos) {
      axes.push_back(i);
    } else {
      kept += x.labels[i];
    }
  }
  if (axes.empty()) return x;
  return {reduce(node, static_cast<unsigned>(cpu::ReduceKind::Sum), x.value, axes, false), kept};
}

/// The product of two operands, with the labels in `needed` left over.
Labelled multiply(OnnxNode& node, const Labelled& a, const Labelled& b, const std::string& needed) {
  std::string batch;
  std::string contracted;
  std::string rows;
  std::string columns;
  for (const char c : a.labels) {
    if (b.labels.find(c) == std::string::npos) {
      rows += c;
    } else {
      (needed.find(c) == std::string::npos ? contracted : batch) += c;
    }
  }
  for (const char c : b.labels) {
    if (a.labels.find(c) == std::string::npos) columns += c;
  }
  const auto extents = [&](const Labelled& x, const std::string& labels) {
    const Dims dims = dims_of(node, x.value);
    Dims out;
    for (const char c : labels) out.push_back(dims[x.labels.find(c)]);
    return out;
  };
  if (extents(a, contracted) != extents(b, contracted)) node.fail("equation: extents of a label differ");
  const auto matrices = [&](const Labelled& x, const std::string& first, const std::string& second) {
    Dims dims = extents(x, batch);
    dims.insert(dims.end(), {ir::element_count(extents(x, first)), ir::element_count(extents(x, second))});
    return reshape(node, permute(node, x, batch + first + second).value, dims);
  };
  const ValueId product = matmul(node, matrices(a, rows, contracted), matrices(b, contracted, columns));
  Dims dims = dims_of(node, product);
  dims.resize(batch.size());
  for (const std::int64_t extent : extents(a, rows)) dims.push_back(extent);
  for (const std::int64_t extent : extents(b, columns)) dims.push_back(extent);
  return {reshape(node, product, dims), batch + rows + columns};
}

void import_einsum(OnnxNode& node) {
  std::vector<std::size_t> ranks;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) ranks.push_back(node.type(i).dims.size());
  if (ranks.empty()) node.fail("no inputs");
  const Equation equation = parse(node, ranks);
  const DType dtype = node.type(0).dtype;
  Labelled result;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    std::string needed = equation.output;
    for (std::size_t later = i + 1; later < ranks.size(); ++later) needed += equation.inputs[later];
    const Labelled operand = take_diagonals(node, {cast_narrow(node, node.input(i)), equation.inputs[i]});
    if (i == 0) {
      result = sum_out(node, operand, needed);
    } else {
      result = multiply(node, result, sum_out(node, operand, needed + result.labels), needed);
      result = sum_out(node, result, needed);
    }
  }
  for (const char c : equation.output) {
    if (result.labels.find(c) == std::string::npos ||
        std::count(equation.output.begin(), equation.output.end(), c) != 1) {
      node.fail(std::string("equation: the output's label '") + c + "' occurs in no input, or twice in the output");
    }
  }
  node.set_output(0, cast(node, permute(node, result, equation.output).value, dtype));
}

}  // namespace

void register_einsum(Registry& registry) { registry.add_onnx("Einsum", &import_einsum, 12); }

}  // namespace edgert::ops
