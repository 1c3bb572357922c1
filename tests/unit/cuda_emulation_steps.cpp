// SPDX-License-Identifier: Apache-2.0
// Recurrent networks, linear attention and sampling between pixels in the host emulation against the CPU's kernels.
#include "codegen/recurrent_kernel.h"
#include "codegen/sample_kernel.h"
#include "edgert/cpu/ops/grid_sample.h"
#include "edgert/cpu/ops/linear_attention.h"
#include "edgert/cpu/ops/recurrent.h"
#include "edgert/cpu/ops/roi_align.h"
#include "generic_kernels.h"

using namespace edgert;
using namespace edgert::test;

namespace {

constexpr Tolerance kSums = {2e-5, 2e-5};

TEST_CASE("recurrent cells in both directions, with lengths and every optional operand") {
  std::mt19937 random(1);
  using Cell = cpu::RecurrentCell;
  const auto check = [&](Cell cell, cpu::RecurrentDirection direction, std::int64_t hidden, bool options, bool variant) {
    const std::int64_t steps = 4, batch = 3, directions = direction == cpu::RecurrentDirection::Both ? 2 : 1;
    const std::int64_t gates = cpu::recurrent_detail::gates_of(cell);
    Tensor x(DType::F32, {steps, batch, directions, gates * hidden}), r(DType::F32, {directions * gates, hidden, hidden}, Order::Reversed);
    Tensor h(DType::F32, {directions, batch, hidden}), c(DType::F32, {directions, batch, hidden}), p(DType::F32, {directions, 3 * hidden});
    Tensor b(DType::F32, {directions, hidden}), lengths(DType::I32, {batch});
    for (Tensor* tensor : {&x, &r, &h, &c, &p, &b}) tensor->fill(random, -0.7, 0.7);
    for (std::int64_t i = 0; i < batch; ++i) lengths.set_int(i, i == 0 ? 0 : steps - i + 1);
    Tensor y(DType::F32, {steps, directions, batch, hidden}), last_h(DType::F32, {directions, batch, hidden}), last_c(DType::F32, {directions, batch, hidden});
    cpu::RecurrentAttributes a = {};
    a.cell = cell, a.direction = direction, a.linear_before_reset = variant, a.input_forget = variant, a.clip = variant ? 0.5f : 0.0f;
    for (auto& of_direction : a.activation) {
      of_direction[0].op = cell == Cell::Rnn ? scalar::PointwiseOp::Tanh : scalar::PointwiseOp::Sigmoid;
      of_direction[1].op = scalar::PointwiseOp::Tanh;
      of_direction[2].op = scalar::PointwiseOp::LeakyRelu, of_direction[2].alpha = 0.1f;
    }
    const bool lstm = cell == Cell::Lstm;
    const std::vector<const Tensor*> inputs = {&x, &r, options ? &h : nullptr, options && lstm ? &c : nullptr, options && lstm ? &p : nullptr,
                                               options && variant && cell == Cell::Gru ? &b : nullptr, options ? &lengths : nullptr};
    std::vector<Tensor*> outputs = {&y, &last_h};
    if (lstm) outputs.push_back(&last_c);
    compare_all<cpu::Recurrent>(codegen::make_recurrent, inputs, outputs, a, kSums);
  };
  check(Cell::Rnn, cpu::RecurrentDirection::Reverse, 5, true, false);
  check(Cell::Gru, cpu::RecurrentDirection::Both, 37, true, true);
  check(Cell::Gru, cpu::RecurrentDirection::Forward, 8, false, false);
  check(Cell::Lstm, cpu::RecurrentDirection::Both, 7, true, false);
  check(Cell::Lstm, cpu::RecurrentDirection::Forward, 40, true, true);
}

TEST_CASE("recurrent cells divided among blocks, in clusters and through memory") {
  std::mt19937 random(5);
  using Cell = cpu::RecurrentCell;
  const auto check = [&](Cell cell, cpu::RecurrentDirection direction, std::int64_t hidden, bool options, std::uint32_t arch, std::size_t which) {
    const std::int64_t steps = 5, batch = options ? 3 : 1, directions = direction == cpu::RecurrentDirection::Both ? 2 : 1;
    const std::int64_t gates = cpu::recurrent_detail::gates_of(cell);
    Tensor x(DType::F32, {steps, batch, directions, gates * hidden}), r(DType::F32, {directions * gates, hidden, hidden});
    Tensor h(DType::F32, {directions, batch, hidden}), c(DType::F32, {directions, batch, hidden}), b(DType::F32, {directions, hidden}), lengths(DType::I32, {batch});
    for (Tensor* tensor : {&x, &r, &h, &c, &b}) tensor->fill(random, -0.7, 0.7);
    for (std::int64_t i = 0; i < batch; ++i) lengths.set_int(i, i == 0 ? 0 : steps - i + 1);
    Tensor y(DType::F32, {steps, directions, batch, hidden}), last_h(DType::F32, {directions, batch, hidden}), last_c(DType::F32, {directions, batch, hidden});
    alignas(16) cpu::RecurrentAttributes a = {};
    a.cell = cell, a.direction = direction, a.linear_before_reset = 1, a.input_forget = options, a.clip = options ? 0.5f : 0.0f;
    for (auto& of_direction : a.activation) {
      of_direction[0].op = cell == Cell::Rnn ? scalar::PointwiseOp::Tanh : scalar::PointwiseOp::Sigmoid;
      of_direction[1].op = scalar::PointwiseOp::Tanh;
      of_direction[2].op = scalar::PointwiseOp::LeakyRelu, of_direction[2].alpha = 0.1f;
    }
    const bool lstm = cell == Cell::Lstm;
    const std::vector<const Tensor*> inputs = {&x, &r, options ? &h : nullptr, options && lstm ? &c : nullptr, nullptr, options && cell == Cell::Gru ? &b : nullptr, options ? &lengths : nullptr};
    std::vector<Tensor*> outputs = {&y, &last_h};
    if (lstm) outputs.push_back(&last_c);
    std::vector<TensorView> views, expected_views, output_views;
    for (const Tensor* input : inputs) views.push_back(input == nullptr ? absent() : input->view());
    std::vector<Tensor> expected;
    for (Tensor* output : outputs) {
      output_views.push_back(output->view());
      expected.push_back(output->clone());
      expected_views.push_back(expected.back().view());
    }
    run_on_cpu<cpu::Recurrent>(views, expected_views, a);
    const Call call(views, output_views, &a);
    codegen::GenericCall generic;
    generic.operands = call.operands();
    generic.arch = arch, generic.multiprocessors = 32;
    const std::vector<codegen::RecurrentSplit> splits = codegen::recurrent_splits(generic);
    REQUIRE(splits.size() > which);
    const codegen::KernelSpec spec = codegen::make_recurrent_split(generic, splits[which]);
    CAPTURE(spec.job.name);
    std::vector<float> packed = codegen::pack_recurrent_weights(generic, splits[which], r.view().as<const float>());
    std::vector<std::uint8_t> workspace(spec.workspace_bytes);
    std::vector<std::uint32_t> counters(spec.counters + 1, 0);
    std::vector<void*> arguments = {x.view().data, packed.data()};
    for (const std::size_t i : {2, 3, 5, 6}) {
      if (inputs[i] != nullptr) arguments.push_back(inputs[i]->view().data);
    }
    for (Tensor* output : outputs) arguments.push_back(output->view().data);
    arguments.push_back(workspace.data());
    arguments.push_back(counters.data());
    std::vector<void*> parameters;
    for (void*& argument : arguments) parameters.push_back(&argument);
    // Blocks that meet in memory run at once as those of a cluster do.
    const fake_cuda::EmulatedKernel kernel(spec);
    for (unsigned run = 1; run <= 2; ++run) {
      kernel.run(spec.grid, spec.block, static_cast<unsigned>(splits[which].share), spec.shared_bytes, parameters.data(), run);
      for (std::size_t i = 0; i < outputs.size(); ++i) check_equal(*outputs[i], expected[i], kSums);
      for (const std::uint32_t counter : counters) CHECK(counter == 0);
    }
  };
  check(Cell::Lstm, cpu::RecurrentDirection::Both, 16, true, 90, 0);
  check(Cell::Lstm, cpu::RecurrentDirection::Forward, 32, false, 87, 1);
  check(Cell::Gru, cpu::RecurrentDirection::Both, 16, true, 87, 0);
  check(Cell::Gru, cpu::RecurrentDirection::Reverse, 64, false, 90, 0);
  check(Cell::Rnn, cpu::RecurrentDirection::Both, 128, true, 90, 0);
}

TEST_CASE("linear attention with and without past, decay and beta") {
  std::mt19937 random(2);
  for (const bool options : {false, true}) {
    const std::int64_t batch = 2, steps = 3, heads = 2, group = 2, keys = 5, values = 37;
    Tensor q(DType::F32, {batch, steps, heads * group, keys}), k(DType::F32, {batch, steps, heads, keys}), v(DType::F32, {batch, steps, heads, values}, Order::Reversed);
    Tensor past(DType::F32, {batch, heads, keys, values}), decay(DType::F32, {batch, steps, heads, keys}), beta(DType::F32, {batch, steps, heads});
    for (Tensor* tensor : {&q, &k, &v, &past, &decay, &beta}) tensor->fill(random, -0.7, 0.7);
    Tensor y(DType::F32, {batch, steps, heads * group, values}), last(DType::F32, {batch, heads, keys, values});
    compare_all<cpu::LinearAttention>(codegen::make_linear_attention,
                                      {&q, &k, &v, options ? &past : nullptr, options ? &decay : nullptr, options ? &beta : nullptr}, {&y, &last}, {0.5f}, kSums);
  }
}

TEST_CASE("grids in every mode, on one, two and three axes") {
  std::mt19937 random(3);
  const auto check = [&](const Dims& x_dims, const Dims& positions, int mode, int padding, int coordinates, Order order) {
    Dims grid_dims = {x_dims[0]}, y_dims = {x_dims[0], x_dims[1]};
    grid_dims.insert(grid_dims.end(), positions.begin(), positions.end());
    grid_dims.push_back(static_cast<std::int64_t>(positions.size()));
    y_dims.insert(y_dims.end(), positions.begin(), positions.end());
    Tensor x(DType::F32, x_dims, order), grid(DType::F32, grid_dims), y(DType::F32, y_dims, order);
    x.fill(random, -1, 1), grid.fill(random, coordinates == 2 ? -2 : -1.5, coordinates == 2 ? 8 : 1.5);
    grid.set(0, NAN), grid.set(1, 1e30);
    cpu::GridSampleAttributes a = {};
    a.mode = static_cast<cpu::GridMode>(mode), a.padding = static_cast<cpu::GridPadding>(padding), a.coordinates = static_cast<cpu::GridCoordinates>(coordinates);
    compare<cpu::GridSample>(codegen::make_grid_sample, {&x, &grid}, y, a, kSums);
  };
  check({2, 3, 6, 5}, {4, 7}, 1, 0, 0, Order::RowMajor);
  check({1, 9, 6, 5}, {4, 7}, 2, 1, 1, Order::ChannelsLast);
  check({1, 2, 6, 5}, {4, 7}, 0, 2, 0, Order::RowMajor);
  check({1, 2, 6, 5}, {4, 7}, 2, 2, 1, Order::RowMajor);
  check({1, 2, 4, 6, 5}, {2, 3, 4}, 1, 0, 2, Order::RowMajor);
  check({2, 2, 6}, {9}, 1, 1, 0, Order::RowMajor);
}

TEST_CASE("regions pooled by average and maximum") {
  std::mt19937 random(4);
  for (const bool maximum : {false, true}) {
    for (const bool half_pixel : {false, true}) {
      Tensor x(DType::F32, {2, 3, 9, 8}), rois(DType::F32, {4, 4}), images(DType::I64, {4}), y(DType::F32, {4, 3, 3, 2});
      x.fill(random, -1, 1), rois.fill(random, -3, 14);
      for (std::int64_t i = 0; i < 4; ++i) images.set_int(i, i % 2);
      cpu::RoiAlignAttributes a = {};
      a.height = 3, a.width = 2, a.sampling_ratio = maximum ? 2 : 0, a.spatial_scale = 0.7f, a.half_pixel = half_pixel;
      a.mode = maximum ? cpu::RoiMode::Max : cpu::RoiMode::Average;
      compare<cpu::RoiAlign>(codegen::make_roi_align, {&x, &rois, &images}, y, a, kSums);
    }
  }
}

}  // namespace
