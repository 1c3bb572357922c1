// SPDX-License-Identifier: Apache-2.0
// Copies, gathers, padding and resizing in the host emulation against the CPU's kernels.
#include "codegen/move_kernel.h"
#include "codegen/pointwise_kernel.h"
#include "edgert/cpu/ops/copy.h"
#include "edgert/cpu/ops/gather.h"
#include "edgert/cpu/ops/pad.h"
#include "edgert/cpu/ops/resize.h"
#include "generic_kernels.h"

using namespace edgert;
using namespace edgert::test;

namespace {

TEST_CASE("copies between orders, widths and strides") {
  std::mt19937 random(1);
  const auto check = [&](DType type, const Dims& dims, Order from, Order to, std::uint32_t alignment) {
    Tensor x(type, dims, from, from == Order::RowMajor ? 1 : 0), y(type, dims, to);
    x.fill_bits(random);
    compare<cpu::Copy>(codegen::make_copy, {&x}, y, {}, {}, alignment);
  };
  check(DType::F32, {2, 70, 13, 3}, Order::RowMajor, Order::ChannelsLast, 16);  // squares through shared memory
  check(DType::U8, {2, 70, 13, 3}, Order::ChannelsLast, Order::RowMajor, 16);
  check(DType::F64, {33, 20}, Order::RowMajor, Order::Reversed, 16);
  check(DType::F32, {2, 3, 5, 7}, Order::RowMajor, Order::ChannelsLast, 4);
  check(DType::F16, {3, 5, 16}, Order::RowMajor, Order::RowMajor, 2);
  Tensor x(DType::I64, {3, 5, 16}, Order::RowMajor, 0, 0b101), y(DType::I64, {3, 5, 16});
  x.fill_bits(random);
  compare<cpu::Copy>(codegen::make_copy, {&x}, y, {}, {});
}

TEST_CASE("a copy to another floating-point type rounds once") {
  std::mt19937 random(2);
  for (const Order order : {Order::RowMajor, Order::ChannelsLast}) {
    Tensor x(DType::F32, {2, 24, 5, 5}), y(DType::F16, {2, 24, 5, 5}, order);
    x.fill(random, -3, 3);
    const Call call({x.view()}, {y.view()}, nullptr);
    codegen::GenericCall generic;
    generic.operands = call.operands();
    emulate(codegen::make_copy(generic), {&x}, {&y});
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < x.elements(); ++i) {
      wrong += y.get_int(i) != scalar::to_half(static_cast<float>(x.get(i))).bits;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("gathers along any axis, with negative indices of both types") {
  std::mt19937 random(3);
  const auto check = [&](DType type, const Dims& dims, const Dims& index_dims, int axis, DType index_type, Order order, std::uint32_t alignment) {
    Tensor x(type, dims, order), indices(index_type, index_dims);
    x.fill_bits(random);
    const std::int64_t extent = dims[static_cast<std::size_t>(axis)];
    for (std::int64_t i = 0; i < indices.elements(); ++i) indices.set_int(i, static_cast<std::int64_t>(random() % static_cast<unsigned>(2 * extent)) - extent);
    Dims out(dims.begin(), dims.begin() + axis);
    out.insert(out.end(), index_dims.begin(), index_dims.end());
    out.insert(out.end(), dims.begin() + axis + 1, dims.end());
    Tensor y(type, out);
    compare<cpu::Gather>(codegen::make_gather, {&x, &indices}, y, {axis, 0}, {}, alignment);
  };
  check(DType::F32, {9, 24}, {5}, 0, DType::I64, Order::RowMajor, 16);
  check(DType::F16, {9, 24}, {2, 3}, 0, DType::I32, Order::RowMajor, 16);
  check(DType::F32, {4, 9, 6}, {2, 3}, 1, DType::I64, Order::Reversed, 4);
  check(DType::U8, {4, 9}, {7}, 1, DType::I64, Order::RowMajor, 16);
  check(DType::F64, {4, 9}, {}, 1, DType::I64, Order::RowMajor, 16);
}

TEST_CASE("an index out of range reads nothing and gives zero") {
  Tensor x(DType::F32, {4, 8}), indices(DType::I64, {3}), y(DType::F32, {3, 8});
  for (std::int64_t i = 0; i < x.elements(); ++i) x.set(i, 1.0 + static_cast<double>(i));
  indices.set_int(0, 4), indices.set_int(1, -5), indices.set_int(2, -1);
  const cpu::GatherAttributes attributes = {0, 0};
  const Call call({x.view(), indices.view()}, {y.view()}, &attributes);
  codegen::GenericCall generic;
  generic.operands = call.operands();
  emulate(codegen::make_gather(generic), {&x, &indices}, {&y});
  for (std::int64_t i = 0; i < 16; ++i) CHECK(y.get(i) == 0.0);
  for (std::int64_t i = 0; i < 8; ++i) CHECK(y.get(16 + i) == 25.0 + static_cast<double>(i));
}

TEST_CASE("padding in every mode") {
  std::mt19937 random(4);
  const auto check = [&](DType type, const Dims& dims, const Dims& before, const Dims& out, cpu::PadMode mode, Order order) {
    Tensor x(type, dims, order), y(type, out, order);
    x.fill_bits(random);
    cpu::PadAttributes attributes = {};
    std::copy(before.begin(), before.end(), attributes.before);
    for (unsigned char& byte : attributes.value) byte = 0x3c;
    attributes.mode = mode;
    compare<cpu::Pad>(codegen::make_pad, {&x}, y, attributes, {});
  };
  for (const cpu::PadMode mode : {cpu::PadMode::Constant, cpu::PadMode::Reflect, cpu::PadMode::Edge, cpu::PadMode::Wrap}) {
    check(DType::F32, {2, 5, 3, 4}, {0, 0, 2, 1}, {2, 5, 6, 9}, mode, Order::RowMajor);
    check(DType::F16, {2, 8, 3, 4}, {0, 0, 2, 1}, {2, 8, 6, 6}, mode, Order::ChannelsLast);
    check(DType::I64, {3}, {7}, {15}, mode, Order::RowMajor);
  }
  check(DType::U8, {0, 3}, {1, 0}, {2, 3}, cpu::PadMode::Constant, Order::RowMajor);
}

TEST_CASE("resizing in every mode") {
  std::mt19937 random(5);
  const auto check = [&](DType type, const Dims& dims, const Dims& out, cpu::ResizeMode mode, cpu::ResizeCoordinates coordinates, Order order, bool exclude = false) {
    Tensor x(type, dims, order), y(type, out, order);
    x.fill(random, -3, 3);
    cpu::ResizeAttributes attributes = {};
    for (std::size_t d = 0; d < dims.size(); ++d) {
      attributes.scale[d] = static_cast<float>(out[d]) / static_cast<float>(dims[d]);
      attributes.roi_begin[d] = dims[d] == out[d] ? 0.0f : -0.1f, attributes.roi_end[d] = dims[d] == out[d] ? 1.0f : 0.8f;
    }
    attributes.cubic_coefficient = -0.75f, attributes.extrapolation_value = 7.5f;
    attributes.mode = mode, attributes.coordinates = coordinates, attributes.exclude_outside = exclude;
    compare<cpu::Resize>(codegen::make_resize, {&x}, y, attributes, {1e-5, 1e-5});
  };
  using Mode = cpu::ResizeMode;
  using Coordinates = cpu::ResizeCoordinates;
  check(DType::F32, {1, 3, 5, 4}, {1, 3, 11, 7}, Mode::Linear, Coordinates::HalfPixel, Order::RowMajor);
  check(DType::F32, {1, 8, 5, 4}, {1, 8, 11, 7}, Mode::Linear, Coordinates::AlignCorners, Order::ChannelsLast);
  check(DType::F32, {1, 8, 5, 4}, {1, 8, 3, 9}, Mode::Cubic, Coordinates::HalfPixel, Order::ChannelsLast, true);
  check(DType::F32, {1, 2, 5, 4}, {1, 2, 3, 9}, Mode::Linear, Coordinates::TfCropAndResize, Order::RowMajor);
  check(DType::F32, {1, 2, 5, 4}, {1, 2, 3, 9}, Mode::Nearest, Coordinates::TfCropAndResize, Order::RowMajor);
  check(DType::F16, {1, 8, 5, 4}, {1, 8, 10, 8}, Mode::Nearest, Coordinates::Asymmetric, Order::ChannelsLast);
  check(DType::U8, {1, 3, 5, 4}, {1, 3, 9, 2}, Mode::Nearest, Coordinates::HalfPixel, Order::RowMajor);
  check(DType::F32, {3, 4, 5}, {4, 6, 7}, Mode::Linear, Coordinates::PytorchHalfPixel, Order::Reversed);
}

}  // namespace
