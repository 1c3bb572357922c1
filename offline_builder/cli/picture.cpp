// SPDX-License-Identifier: Apache-2.0
#include "cli/picture.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "io/image.h"

namespace edgert::cli {
namespace {

/// The value of a key, or `fallback`.
std::string metadata(const PlanView& plan, const char* key, const char* fallback) {
  const char* value = plan.metadata(key);
  return value != nullptr ? value : fallback;
}

double number(const PlanView& plan, const char* key, double fallback) {
  const char* value = plan.metadata(key);
  if (value == nullptr) return fallback;
  char* end = nullptr;
  const double parsed = std::strtod(value, &end);
  if (end == value || *end != '\0' || !std::isfinite(parsed)) throw ir::BuildError(std::string("metadata ") + key + " = '" + value + "' is no number");
  return parsed;
}

/// A number a channel, or one for all.
std::vector<double> per_channel(const PlanView& plan, const char* key, double fallback, int channels) {
  std::vector<double> values;
  std::stringstream text(metadata(plan, key, ""));
  for (std::string part; std::getline(text, part, ',');) {
    char* end = nullptr;
    values.push_back(std::strtod(part.c_str(), &end));
    if (end == part.c_str() || *end != '\0' || !std::isfinite(values.back())) {
      throw ir::BuildError(std::string("metadata ") + key + ": '" + part + "' is no number");
    }
  }
  if (values.empty()) values.push_back(fallback);
  if (values.size() == 1) values.resize(static_cast<std::size_t>(channels), values[0]);
  if (values.size() != static_cast<std::size_t>(channels)) {
    throw ir::BuildError(std::string("metadata ") + key + " needs one number or " + std::to_string(channels));
  }
  return values;
}

const io::Array& float_output(const io::Arrays& outputs, const std::string& name) {
  const auto found = outputs.find(name);
  if (found == outputs.end() || found->second.dtype != DType::F32) throw ir::BuildError("the plan has no float output '" + name + "'");
  return found->second;
}

struct Box {
  float corner[4];  // x0 y0 x1 y1 in network pixels
  float score;
  std::size_t kind;
};

float overlap(const Box& a, const Box& b) {
  const float width = std::min(a.corner[2], b.corner[2]) - std::max(a.corner[0], b.corner[0]);
  const float height = std::min(a.corner[3], b.corner[3]) - std::max(a.corner[1], b.corner[1]);
  if (width <= 0 || height <= 0) return 0;
  const auto area = [](const Box& box) { return (box.corner[2] - box.corner[0]) * (box.corner[3] - box.corner[1]); };
  return width * height / (area(a) + area(b) - width * height);
}

/// Greedy non-maximum suppression, class by class: the best box first, those that overlap it too much go.
std::vector<Box> suppress(std::vector<Box> boxes, float threshold) {
  std::stable_sort(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.score > b.score; });
  std::vector<Box> kept;
  for (const Box& box : boxes) {
    const bool covered = std::any_of(kept.begin(), kept.end(),
                                     [&](const Box& other) { return other.kind == box.kind && overlap(other, box) > threshold; });
    if (!covered) kept.push_back(box);
  }
  return kept;
}

}  // namespace

Picture::Picture(const PlanView& plan, const std::string& path) : plan_(plan) {
  const TensorView input = plan.input_count() == 1 ? plan.input(0, 0) : TensorView{};
  if (input.rank != 4 || input.dtype != DType::F32 || input.dims[0] != 1 || (input.dims[1] != 1 && input.dims[1] != 3) ||
      input.dims[2] > 16384 || input.dims[3] > 16384) {
    throw ir::BuildError("--image needs a plan with one float input [1, 1 or 3, height, width]");
  }
  const int channels = static_cast<int>(input.dims[1]);
  const int height = static_cast<int>(input.dims[2]);
  const int width = static_cast<int>(input.dims[3]);
  const std::string color = metadata(plan, "edgert.image.color", channels == 1 ? "gray" : "rgb");
  if (color != "gray" && color != "rgb" && color != "bgr") throw ir::BuildError("metadata edgert.image.color must be gray, rgb or bgr, not '" + color + "'");
  if ((color == "gray") != (channels == 1)) {
    throw ir::BuildError("metadata edgert.image.color is '" + color + "' and the input has " + std::to_string(channels) + " channels");
  }
  const io::Image source = io::with_channels(io::read_image(path), channels);
  io::Placement placement;
  const std::string resize = metadata(plan, "edgert.image.resize", "stretch");
  if (resize != "stretch" && resize != "letterbox") throw ir::BuildError("metadata edgert.image.resize must be stretch or letterbox, not '" + resize + "'");
  const io::Image fitted = resize == "letterbox" ? io::resize_letterbox(source, width, height, &placement)
                                                 : io::resize_stretch(source, width, height, &placement);
  scale_[0] = placement.scale_x;
  scale_[1] = placement.scale_y;
  offset_[0] = placement.offset_x;
  offset_[1] = placement.offset_y;
  width_ = source.width;
  height_ = source.height;

  const double scale = number(plan, "edgert.image.scale", 1.0 / 255);
  const std::vector<double> mean = per_channel(plan, "edgert.image.mean", 0, channels);
  const std::vector<double> deviation = per_channel(plan, "edgert.image.std", 1, channels);
  if (std::count(deviation.begin(), deviation.end(), 0.0) != 0) throw ir::BuildError("metadata edgert.image.std: a deviation of 0");
  io::Array array;
  array.dtype = DType::F32;
  array.dims = {1, channels, height, width};
  array.bytes.resize(fitted.pixels.size() * sizeof(float));
  auto* values = reinterpret_cast<float*>(array.bytes.data());
  const std::size_t plane = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
    const std::size_t from = color == "bgr" ? 2 - c : c;
    for (std::size_t i = 0; i < plane; ++i) {
      const double sample = fitted.pixels[i * static_cast<std::size_t>(channels) + from];
      values[c * plane + i] = static_cast<float>((sample * scale - mean[c]) / deviation[c]);
    }
  }
  inputs_.emplace(plan.input_name(0), std::move(array));
  std::stringstream labels(metadata(plan, "edgert.labels", ""));
  for (std::string line; std::getline(labels, line);) labels_.push_back(line);
}

std::string Picture::label(std::size_t index) const { return index < labels_.size() ? labels_[index] : "class " + std::to_string(index); }

void Picture::print(const io::Arrays& outputs) const {
  const std::string task = metadata(plan_, "edgert.task", "classify");
  if (task == "detect") return print_boxes(outputs);
  if (task != "classify") throw ir::BuildError("metadata edgert.task must be classify or detect, not '" + task + "'");
  print_classes(float_output(outputs, plan_.output_name(0)));
}

void Picture::print_classes(const io::Array& scores) const {
  const auto* values = reinterpret_cast<const float*>(scores.bytes.data());
  const std::size_t count = scores.bytes.size() / sizeof(float);
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  // NaNs come last: they have no order of their own.
  std::stable_sort(order.begin(), order.end(), [values](std::size_t a, std::size_t b) {
    return std::isnan(values[b]) ? !std::isnan(values[a]) : values[a] > values[b];
  });
  // Logits to probabilities; outputs that are probabilities already (they sum to 1) stay.
  double sum = 0;
  double exponentials = 0;
  for (std::size_t i = 0; i < count; ++i) {
    sum += static_cast<double>(values[i]);
    exponentials += std::exp(static_cast<double>(values[i]) - static_cast<double>(values[order[0]]));
  }
  const bool probabilities = std::fabs(sum - 1) < 1e-3 && values[order[count - 1]] >= 0;
  for (std::size_t i = 0; i < std::min<std::size_t>(count, 5); ++i) {
    const double value = static_cast<double>(values[order[i]]);
    const double share = probabilities ? value : std::exp(value - static_cast<double>(values[order[0]])) / exponentials;
    std::printf("%6.2f %%  %s\n", 100 * share, label(order[i]).c_str());
  }
}

void Picture::print_boxes(const io::Arrays& outputs) const {
  const io::Array& boxes = float_output(outputs, metadata(plan_, "edgert.detect.boxes", "boxes"));
  const io::Array& scores = float_output(outputs, metadata(plan_, "edgert.detect.scores", "scores"));
  if (boxes.dims.size() != 3 || scores.dims.size() != 3 || boxes.dims[0] != 1 || scores.dims[0] != 1 || boxes.dims[2] != 4 || boxes.dims[1] != scores.dims[1] || scores.dims[2] < 1) {
    throw ir::BuildError("a detector needs boxes [1, N, 4] and scores [1, N, classes]");
  }
  const double threshold = number(plan_, "edgert.detect.score_threshold", 0.5);
  const auto classes = static_cast<std::size_t>(scores.dims[2]);
  std::vector<Box> found;
  for (std::size_t i = 0; i < static_cast<std::size_t>(boxes.dims[1]); ++i) {
    const float* row = reinterpret_cast<const float*>(scores.bytes.data()) + i * classes;
    const float* best = std::max_element(row, row + classes);
    if (!(static_cast<double>(*best) >= threshold)) continue;  // nor NaN
    Box box{};
    std::memcpy(box.corner, boxes.bytes.data() + i * sizeof(box.corner), sizeof(box.corner));
    box.score = *best;
    box.kind = static_cast<std::size_t>(best - row);
    found.push_back(box);
  }
  found = suppress(std::move(found), static_cast<float>(number(plan_, "edgert.detect.iou_threshold", 0.5)));
  if (found.empty()) std::printf("nothing found\n");
  for (const Box& box : found) {
    double corner[4];
    for (int k = 0; k < 4; ++k) {
      const double limit = k % 2 == 0 ? width_ : height_;
      corner[k] = std::clamp((static_cast<double>(box.corner[k]) - offset_[k % 2]) / scale_[k % 2], 0.0, limit);
    }
    std::printf("%6.2f %%  %-16s x %.1f to %.1f, y %.1f to %.1f\n", 100 * static_cast<double>(box.score), label(box.kind).c_str(),
                corner[0], corner[2], corner[1], corner[3]);
  }
}

}  // namespace edgert::cli
