// SPDX-License-Identifier: Apache-2.0
// ONNX model, plan, run.
#include <doctest/doctest.h>

#include "onnx_models.h"
#include "plan/aligned_bytes.h"
#include "plan/build.h"
#include "support/test_session.h"

TEST_CASE("a model with the new operator is built and runs") {
  using namespace edgert;
  onnx::ModelProto model = onnx_test::model_with_opset();
  auto* opset = model.add_opset_import();
  opset->set_domain("test.edgert");
  opset->set_version(1);
  onnx_test::add_input(*model.mutable_graph(), "x", {2, 3});
  onnx::NodeProto& node = onnx_test::add_node(*model.mutable_graph(), "Dummy", {"x"}, {"y"}, "dummy");
  node.set_domain("test.edgert");
  onnx::AttributeProto& addend = *node.add_attribute();
  addend.set_name("addend");
  addend.set_type(onnx::AttributeProto::FLOAT);
  addend.set_f(0.25f);
  onnx_test::add_output(*model.mutable_graph(), "y");

  const plan::Bytes64 bytes(plan::build(onnx_test::parse(model, "", {})).bytes);
  const Result<PlanView> view = PlanView::load(bytes.span());
  REQUIRE(view.ok());
  CHECK(view->profile(0).lists()->Get(0)->steps()->Get(0)->op() == 60000);
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> memory(test::TestSession::memory_bytes(*view).value() / 64);
  test::TestSession session;
  REQUIRE(session.prepare(*view, {memory.data()->bytes, memory.size() * 64}).ok());
  session.input("x")->as<float>()[5] = 2.0f;
  REQUIRE(session.run().ok());
  CHECK(session.output("y")->as<float>()[5] == 2.25f);
  CHECK(session.output("y")->as<float>()[0] == 0.25f);
}
