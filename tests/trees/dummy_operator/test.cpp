// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "edgert/cpu/ops/dummy.h"

TEST_CASE("the kernel adds") {
  using namespace edgert;
  float x[2] = {1, 2};
  float y[2] = {};
  TensorView views[2];
  for (TensorView& view : views) {
    view.dtype = DType::F32;
    view.rank = 1;
    view.dims[0] = 2;
    view.strides[0] = 1;
  }
  views[0].data = x;
  views[1].data = y;
  const TensorView* pointers[2] = {&views[0], &views[1]};
  alignas(16) const cpu::DummyAttributes attributes{0.5f};
  cpu::Work work;
  work.inputs = {pointers, 1};
  work.outputs = {pointers + 1, 1};
  work.attributes = &attributes;
  REQUIRE(cpu::Dummy::check(work) == nullptr);
  REQUIRE(cpu::Dummy::run(work).ok());
  CHECK(y[1] == 2.5f);
}
