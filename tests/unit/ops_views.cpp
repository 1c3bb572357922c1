// SPDX-License-Identifier: Apache-2.0
// The windows that view operators make, against counting elements one by one.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>

#include "ir/graph.h"
#include "ops/definitions.h"
#include "ops/infer.h"
#include "ops/operator.h"
#include "support/test_session.h"

namespace {

using namespace edgert;
using ir::Dims;
using ops::StridedView;

/// Offset of the element with row-major number `n`.
std::int64_t offset_of(const StridedView& view, std::int64_t n) {
  std::int64_t offset = view.offset;
  for (std::size_t i = view.dims.size(); i-- > 0;) {
    offset += n % view.dims[i] * view.strides[i];
    n /= view.dims[i];
  }
  return offset;
}

/// A view of some tensor with its dimensions in random order, some of them cut, some of them broadcast.
StridedView random_view(std::mt19937& random) {
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  StridedView view;
  view.offset = pick(0, 5);
  const int rank = pick(0, 4);
  std::vector<int> order;
  for (int i = 0; i < rank; ++i) {
    static constexpr std::int64_t kExtents[] = {1, 2, 3, 4, 6};
    view.dims.push_back(kExtents[pick(0, 4)]);
    order.insert(order.begin() + pick(0, static_cast<int>(order.size())), i);
  }
  if (pick(0, 1) == 0) std::sort(order.begin(), order.end());
  view.strides.resize(view.dims.size());
  std::int64_t stride = 1;
  for (std::size_t k = order.size(); k-- > 0;) {
    const auto i = static_cast<std::size_t>(order[k]);
    const bool broadcast = pick(0, 7) == 0;
    view.strides[i] = broadcast ? 0 : stride;
    if (!broadcast) stride *= view.dims[i] + (pick(0, 5) == 0 ? 1 : 0);
  }
  return view;
}

/// `count` as a product of random factors with some ones among them.
Dims random_factors(std::int64_t count, std::mt19937& random) {
  Dims dims;
  while (count > 1) {
    std::vector<std::int64_t> divisors;
    for (std::int64_t d = 2; d <= count; ++d) {
      if (count % d == 0) divisors.push_back(d);
    }
    dims.push_back(divisors[random() % divisors.size()]);
    count /= dims.back();
  }
  while (dims.size() < 8 && random() % 3 == 0)
    dims.insert(dims.begin() + static_cast<long>(random() % (dims.size() + 1)), 1);
  return dims;
}

/// The only strides that could describe the reshaped elements, when they do.
bool expressible(const StridedView& input, const Dims& out) {
  StridedView guess{input.offset, out, Dims(out.size(), 0)};
  std::int64_t step = 1;
  for (std::size_t i = out.size(); i-- > 0;) {
    if (out[i] > 1) guess.strides[i] = offset_of(input, step) - input.offset;
    step *= out[i];
  }
  for (std::int64_t n = 0; n < step; ++n) {
    if (offset_of(guess, n) != offset_of(input, n)) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("Reshape is a view exactly where strides can say it") {
  std::mt19937 random(7);
  int views = 0;
  int copies = 0;
  for (int round = 0; round < 4000; ++round) {
    const StridedView input = random_view(random);
    const std::int64_t count = ir::element_count(input.dims);
    const Dims out = random_factors(count, random);
    const std::optional<StridedView> view = ops::kReshape.view({}, input, out);
    REQUIRE(view.has_value() == expressible(input, out));
    if (!view) {
      ++copies;
      continue;
    }
    ++views;
    REQUIRE(view->dims == out);
    for (std::int64_t n = 0; n < count; ++n) REQUIRE(offset_of(*view, n) == offset_of(input, n));
  }
  CHECK(views > 500);
  CHECK(copies > 500);
}

TEST_CASE("An empty tensor can be reshaped to any empty shape") {
  const StridedView input{0, {4, 0, 3}, {1, 4, 0}};
  const std::optional<StridedView> view = ops::kReshape.view({}, input, {0, 7});
  REQUIRE(view.has_value());
  CHECK(view->dims == Dims{0, 7});
}

TEST_CASE("Slice, Transpose and Expand walk the elements that they name") {
  const StridedView input{5, {4, 6, 2}, {100, 10, 1}};
  ops::SliceAttributes slice{};
  slice.rank = 3;
  const std::int64_t starts[] = {1, 5, 0};
  const std::int64_t steps[] = {2, 1, 1};
  const std::int64_t sizes[] = {2, 1, 2};
  for (int i = 0; i < 3; ++i) {
    slice.start[i] = starts[i];
    slice.step[i] = steps[i];
    slice.size[i] = sizes[i];
  }
  const std::optional<StridedView> cut = ops::kSlice.view(ir::AttributeBlob::of(slice), input, {2, 1, 2});
  REQUIRE(cut.has_value());
  CHECK(offset_of(*cut, 0) == 5 + 100 + 50);
  CHECK(offset_of(*cut, 3) == 5 + 300 + 50 + 1);

  ops::TransposeAttributes transpose{};
  transpose.rank = 3;
  transpose.perm[0] = 2;
  transpose.perm[1] = 0;
  transpose.perm[2] = 1;
  const std::optional<StridedView> turned = ops::kTranspose.view(ir::AttributeBlob::of(transpose), input, {2, 4, 6});
  REQUIRE(turned.has_value());
  CHECK(turned->strides == Dims{1, 100, 10});

  const StridedView row{3, {1, 6}, {60, 10}};
  const std::optional<StridedView> wide = ops::kExpand.view({}, row, {2, 4, 6});
  REQUIRE(wide.has_value());
  CHECK(wide->strides == Dims{0, 0, 10});
  CHECK(wide->offset == 3);
}

TEST_CASE("A slice with one element or none never multiplies its step") {
  const StridedView input{0, {4}, {std::int64_t{1} << 40}};
  ops::SliceAttributes slice{};
  slice.rank = 1;
  slice.step[0] = INT64_MAX;
  slice.size[0] = 1;
  slice.start[0] = 3;
  const std::optional<StridedView> one = ops::kSlice.view(ir::AttributeBlob::of(slice), input, {1});
  REQUIRE(one.has_value());
  CHECK(one->offset == 3 * (std::int64_t{1} << 40));
  slice.size[0] = 0;
  slice.start[0] = 4;
  const std::optional<StridedView> none = ops::kSlice.view(ir::AttributeBlob::of(slice), input, {0});
  REQUIRE(none.has_value());
  CHECK(none->offset == 0);
}

TEST_CASE("Shape rules refuse attributes that don't fit") {
  ir::Graph graph;
  const ir::ValueId x = graph.add_input("x", {DType::F32, {2, 3}});
  const auto refused = [&](const ops::OperatorDef& op, const ir::AttributeBlob& blob) {
    CHECK_THROWS_AS(graph.add_node(op, {x}, blob, {}), ir::BuildError);
  };
  ops::ReshapeAttributes reshape{};
  reshape.rank = 9;
  refused(ops::kReshape, ir::AttributeBlob::of(reshape));
  reshape.rank = 1;
  reshape.dims[0] = 7;
  refused(ops::kReshape, ir::AttributeBlob::of(reshape));
  reshape.dims[0] = -6;
  refused(ops::kReshape, ir::AttributeBlob::of(reshape));

  ops::TransposeAttributes transpose{};
  transpose.rank = 2;
  refused(ops::kTranspose, ir::AttributeBlob::of(transpose));
  transpose.perm[1] = 200;
  refused(ops::kTranspose, ir::AttributeBlob::of(transpose));

  ops::SliceAttributes slice{};
  slice.rank = 2;
  refused(ops::kSlice, ir::AttributeBlob::of(slice));
  slice.step[0] = slice.step[1] = 1;
  slice.size[0] = 3;
  refused(ops::kSlice, ir::AttributeBlob::of(slice));
  slice.size[0] = 2;
  slice.start[0] = 1;
  refused(ops::kSlice, ir::AttributeBlob::of(slice));
  slice.start[0] = INT64_MIN;
  refused(ops::kSlice, ir::AttributeBlob::of(slice));

  ops::ExpandAttributes expand{};
  expand.rank = 2;
  expand.dims[0] = 4;
  expand.dims[1] = 3;
  refused(ops::kExpand, ir::AttributeBlob::of(expand));

  refused(ops::kConcat, ir::AttributeBlob::of(ops::ConcatAttributes{2, 0}));
  refused(ops::kConcat, ir::AttributeBlob::of(ops::ConcatAttributes{-1, 0}));
}

TEST_CASE("the registry has the kernel of every number in operators.def, and no other") {
  for (std::uint32_t id = 0; id < 65536; ++id) {
    const cpu::OperatorEntry* expected = test::CompiledOperators::find(static_cast<std::uint16_t>(id));
    const cpu::OperatorEntry* known = ops::Registry::instance().find_kernel(static_cast<std::uint16_t>(id));
    if (expected == nullptr && known == nullptr) continue;
    REQUIRE(expected != nullptr);
    REQUIRE(known != nullptr);
    CHECK(std::string(known->name) == expected->name);
  }
}
