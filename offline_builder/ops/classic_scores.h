// SPDX-License-Identifier: Apache-2.0
// What the classifiers and regressors of ai.onnx.ml do with their scores. Where ONNX's text is open, the results are those
// of ONNX Runtime.
#pragma once

#include "ops/compose.h"

namespace edgert::ops {

/// scores [rows, n] by the node's attribute post_transform.
ValueId transformed_scores(OnnxNode& node, ValueId scores);
/// How many class labels the node names; fails when they are none, or strings that an output would have to hold.
std::int64_t class_count(OnnxNode& node);
/// Index of the first largest score of each row: [rows], int64.
ValueId largest_class(OnnxNode& node, ValueId scores);
/// Sets both outputs: the labels of the classes `index` [rows], and the scores as float.
void set_classes(OnnxNode& node, ValueId scores, ValueId index);
/// The same for two classes and one score a row, [rows, 1]: the second class's probability, or a margin.
void set_two_classes(OnnxNode& node, ValueId score, bool is_probability);

}  // namespace edgert::ops
