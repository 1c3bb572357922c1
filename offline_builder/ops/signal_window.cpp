// SPDX-License-Identifier: Apache-2.0
// ONNX operators that make constants for signal processing: HannWindow, HammingWindow, BlackmanWindow, MelWeightMatrix.
#include "edgert/scalar/trigonometry.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

/// The one element of input i, any number, which must be known when the plan is built.
double known_number(OnnxNode& node, std::size_t i, const char* what) {
  require_constant(node, i, what);
  const ir::Value& value = node.graph.value(cast(node, node.input(i), DType::F64));
  if (!value.is_constant() || ir::element_count(value.type.dims) != 1) node.fail(std::string(what) + " must be a scalar");
  return *value.constant.as<double>();
}

ValueId float64_constant(OnnxNode& node, const Dims& dims, const std::vector<double>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(double));
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return constant(node, {DType::F64, dims}, ir::Bytes::adopt(std::move(bytes)));
}

/// a0 - a1 cos(2 pi i / n) + a2 cos(4 pi i / n)
void import_cosine_window(OnnxNode& node, double a0, double a1, double a2) {
  const std::int64_t size = known_ints(node, 0, "the window's size").at(0);
  if (size < 0) node.fail("the window's size is " + std::to_string(size));
  checked_constant_size(node, {size});
  const std::int64_t period = node.int_or("periodic", 1) != 0 ? size : size - 1;
  std::vector<double> values(static_cast<std::size_t>(size), 1.0);
  for (std::int64_t i = 0; i < size && period > 0; ++i) {
    const double angle = 6.283185307179586476925 * static_cast<double>(i) / static_cast<double>(period);
    values[static_cast<std::size_t>(i)] = a0 - a1 * scalar::cos(angle) + a2 * scalar::cos(2 * angle);
  }
  const DType dtype = dtype_from_onnx(node, node.int_or("output_datatype", 1));
  node.set_output(0, cast(node, float64_constant(node, {size}, values), dtype));
}

void import_hann(OnnxNode& node) { import_cosine_window(node, 0.5, 0.5, 0); }
void import_hamming(OnnxNode& node) { import_cosine_window(node, 25.0 / 46, 21.0 / 46, 0); }
void import_blackman(OnnxNode& node) { import_cosine_window(node, 0.42, 0.5, 0.08); }

/// Triangles over the spectrum whose corners lie at equal distances on the mel scale, 2595 log10(1 + f / 700).
void import_mel_weight_matrix(OnnxNode& node) {
  const std::int64_t bands = known_ints(node, 0, "num_mel_bins").at(0);
  const std::int64_t length = known_ints(node, 1, "dft_length").at(0);
  const std::int64_t rate = known_ints(node, 2, "sample_rate").at(0);
  const double lower = known_number(node, 3, "lower_edge_hertz");
  const double upper = known_number(node, 4, "upper_edge_hertz");
  if (bands < 1 || length < 1 || rate < 1 || !(lower >= 0) || !(upper >= lower) || !(upper < 1e9)) {
    node.fail("no such mel bands");
  }
  checked_constant_size(node, {bands + 2});
  checked_constant_size(node, {length});
  const std::int64_t bins = length / 2 + 1;
  std::vector<double> weights(static_cast<std::size_t>(checked_constant_size(node, {bins, bands})), 0.0);
  const double ten = scalar::log(10.0);
  const auto mel = [&](double hertz) { return 2595 * scalar::log1p(hertz / 700) / ten; };
  const double step = (mel(upper) - mel(lower)) / static_cast<double>(bands + 2);
  const auto corner = [&](std::int64_t i) {
    const double hertz = 700 * scalar::expm1((static_cast<double>(i) * step + mel(lower)) / 2595 * ten);
    const double bin = scalar::floor(static_cast<double>(length + 1) * hertz / static_cast<double>(rate));
    if (bin >= static_cast<double>(bins)) node.fail("upper_edge_hertz is above half the sample rate");
    return static_cast<std::int64_t>(bin);
  };
  for (std::int64_t band = 0; band < bands; ++band) {
    const std::int64_t left = corner(band);
    const std::int64_t centre = corner(band + 1);
    const std::int64_t right = corner(band + 2);
    const auto weight = [&](std::int64_t bin) -> double& { return weights[static_cast<std::size_t>(bin * bands + band)]; };
    if (left == centre) weight(centre) = 1;
    for (std::int64_t bin = left; bin <= centre && left != centre; ++bin) {
      weight(bin) = static_cast<double>(bin - left) / static_cast<double>(centre - left);
    }
    for (std::int64_t bin = centre; bin < right; ++bin) {
      weight(bin) = static_cast<double>(right - bin) / static_cast<double>(right - centre);
    }
  }
  const DType dtype = dtype_from_onnx(node, node.int_or("output_datatype", 1));
  node.set_output(0, cast(node, float64_constant(node, {bins, bands}, weights), dtype));
}

}  // namespace

void register_signal_window(Registry& registry) {
  registry.add_onnx("HannWindow", &import_hann, 17);
  registry.add_onnx("HammingWindow", &import_hamming, 17);
  registry.add_onnx("BlackmanWindow", &import_blackman, 17);
  registry.add_onnx("MelWeightMatrix", &import_mel_weight_matrix, 17);
}

}  // namespace edgert::ops
