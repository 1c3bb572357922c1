// SPDX-License-Identifier: Apache-2.0
// A picture through a network whose metadata says how: preprocessing before, classes or boxes after. The keys are
// described in examples/models/README.md.
#pragma once

#include <string>
#include <vector>

#include "edgert/plan.h"
#include "io/npz.h"

namespace edgert::cli {

class Picture {
 public:
  /// Reads and preprocesses the picture for the plan's one input [1, C, H, W] of floats. Throws IoError for the file and
  /// BuildError for what the metadata or the plan does not allow.
  Picture(const PlanView& plan, const std::string& path);

  const io::Arrays& inputs() const { return inputs_; }
  /// Prints the best classes, or the boxes that are left after non-maximum suppression, in the picture's own pixels.
  void print(const io::Arrays& outputs) const;

 private:
  void print_classes(const io::Array& scores) const;
  void print_boxes(const io::Arrays& outputs) const;
  std::string label(std::size_t index) const;

  const PlanView& plan_;
  io::Arrays inputs_;
  std::vector<std::string> labels_;
  // From network pixels to picture pixels: picture = (network - offset) / scale, x and y.
  double scale_[2] = {1, 1};
  double offset_[2] = {0, 0};
  double width_ = 0;
  double height_ = 0;
};

}  // namespace edgert::cli
