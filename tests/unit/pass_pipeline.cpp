// SPDX-License-Identifier: Apache-2.0
// The passes together: what a block of a network comes down to, packing, dumps, and graphs of ten thousand nodes.
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "io/file.h"
#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

namespace {

using Op = PointwiseOp;

/// Convolution, batch normalization, ReLU6 from Max and Min, squeeze-and-excite, residual: what exporters write.
void add_block(Net& net, ValueId x) {
  ValueId y = net.conv(net.pad(x, {0, 0, 1, 1}, {0, 0, 1, 1}), 4, 3);
  y = net.binary(Op::Mul, y, net.channels(4, 1, 4));
  y = net.binary(Op::Add, y, net.channels(4, 1, 4));
  y = net.binary(Op::Min, net.binary(Op::Max, y, 0.0f), 6.0f);
  const ValueId squeezed = net.conv(net.mean(y, 12), 4);
  const ValueId gate = net.unary(Op::Clip, net.binary(Op::Add, squeezed, 3.0f), 0, 6);
  y = net.binary(Op::Mul, y, net.binary(Op::Div, gate, 6.0f));
  net.output(net.unary(Op::Relu, net.binary(Op::Add, net.conv(y, 4), x)));
}

/// The passes before the layout is chosen, as the pipeline orders them; the interpreter knows no packed weights.
int logical_passes(ir::Graph& graph) {
  int rewrites = 0;
  for (const passes::Pass& pass : passes::pipeline()) {
    if (std::string(pass.name) == "choose_layout") break;
    rewrites += pass.run(graph);
    ir::verify(graph);
  }
  return rewrites;
}

struct TemporaryFolder {
  std::filesystem::path path;
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "edgert_passes_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("a residual block comes down to its convolutions") {
  Net net;
  add_block(net, net.input({2, 4, 6, 6}));
  CHECK(net.check(&logical_passes) > 0);
  CHECK(net.count(ops::kConv) == 3);
  CHECK(net.count(ops::kPad) == 0);
  // Only the gate's product is left.
  CHECK(net.count(ops::kPointwise) == 1);
  // Every node is accounted for.
  std::vector<std::string> names;
  for (ir::NodeId id = 0; id < net.graph.node_count(); ++id) {
    if (!net.graph.node(id).alive) continue;
    names.insert(names.end(), net.graph.node(id).provenance.begin(), net.graph.node(id).provenance.end());
  }
  for (const char* name : {"n0", "n1", "n3", "n5", "n7", "n9"})
    CHECK(std::count(names.begin(), names.end(), name) >= 1);
}

TEST_CASE("channels-last exports of a block lose their transposes") {
  Net net;
  const ValueId x = net.input({1, 6, 6, 3});
  ValueId y = net.conv(net.transpose(x, {0, 3, 1, 2}), 4, 3, 1);
  y = net.transpose(y, {0, 2, 3, 1});
  y = net.unary(Op::Relu, net.binary(Op::Add, y, net.random({4})));
  y = net.conv(net.transpose(y, {0, 3, 1, 2}), 4);
  net.output(net.unary(Op::Sigmoid, net.transpose(y, {0, 2, 3, 1})));
  net.check(&logical_passes);
  CHECK(net.count(ops::kPointwise) == 1);
  CHECK(net.count(ops::kTranspose) == 2);
}

TEST_CASE("one-dimensional convolutions, as importers write them, meet their activation") {
  Net net;
  ValueId x = net.input({2, 3, 9});
  for (int i = 0; i < 2; ++i) {
    const Dims dims = net.dims(x);
    ValueId y = net.conv(net.reshape(x, {dims[0], dims[1], 1, dims[2]}), 3);
    y = net.reshape(y, dims);
    y = net.binary(Op::Add, net.binary(Op::Mul, y, net.channels(3, 1, 3)), net.channels(3, 1, 3));
    x = net.unary(Op::Relu, net.binary(Op::Add, y, x));
  }
  net.output(net.matmul(net.reshape(x, {2, 27}), net.random({27, 4})));
  net.check(&logical_passes);
  CHECK(net.count(ops::kPointwise) == 0);
}

TEST_CASE("run_pipeline packs weights, verifies and reports") {
  Net net;
  add_block(net, net.input({2, 4, 6, 6}));
  std::vector<std::string> seen;
  passes::PipelineOptions options;
  options.progress = [&](const passes::Pass& pass, std::size_t index, std::size_t count) {
    CHECK(index == seen.size());
    CHECK(count == passes::pipeline().size());
    seen.push_back(pass.name);
  };
  const std::vector<passes::PassReport> reports = passes::run_pipeline(net.graph, options);
  CHECK(reports.size() == passes::pipeline().size());
  CHECK(seen.size() == reports.size());
  for (ir::NodeId id = 0; id < net.graph.node_count(); ++id) {
    const ir::Node& node = net.graph.node(id);
    if (node.alive && node.op == &ops::kConv)
      CHECK(net.graph.value(node.inputs[1]).format == WeightFormat::PanelF32x16);
  }
  CHECK(passes::pack_weights(net.graph) == 0);
}

TEST_CASE("dumps show the graph before and after each pass that changed it") {
  const TemporaryFolder folder;
  Net net;
  net.output(net.unary(Op::Relu, net.conv(net.input({1, 3, 4, 4}), 4)));
  passes::PipelineOptions options;
  options.dump_folder = (folder.path / "new" / "dumps").string();
  const std::vector<passes::PassReport> reports = passes::run_pipeline(net.graph, options);
  std::size_t changed = 0;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    char number[8];
    std::snprintf(number, sizeof(number), "%02u-", static_cast<unsigned>(i));
    const std::string stem = options.dump_folder + "/" + number + reports[i].name;
    for (const char* suffix : {".before.txt", ".after.txt", ".before.dot", ".after.dot"}) {
      CHECK(std::filesystem::exists(stem + suffix) == (reports[i].rewrites != 0));
    }
    changed += reports[i].rewrites != 0;
  }
  CHECK(changed >= 2);
  const auto read = [&](const std::string& name) {
    for (const auto& entry : std::filesystem::directory_iterator(options.dump_folder)) {
      if (entry.path().filename().string().find(name) == std::string::npos) continue;
      std::ifstream file(entry.path());
      return std::string(std::istreambuf_iterator<char>(file), {});
    }
    return std::string();
  };
  CHECK(read("fuse_epilogue.before.txt").find("Pointwise") != std::string::npos);
  CHECK(read("fuse_epilogue.after.txt").find("Pointwise") == std::string::npos);
  CHECK(read("fuse_epilogue.after.dot").find("digraph") == 0);
}

TEST_CASE("a dump folder that cannot be made is an error that names it") {
  Net net;
  net.output(net.unary(Op::Relu, net.conv(net.input({1, 3, 4, 4}), 4)));
  passes::PipelineOptions options;
  options.dump_folder = "/dev/null/dumps";
  CHECK_THROWS_WITH_AS(passes::run_pipeline(net.graph, options), doctest::Contains("/dev/null/dumps"), io::IoError);
}

TEST_CASE("ten thousand nodes take seconds, not minutes") {
  Net net;
  ValueId x = net.input({1, 4});
  for (int i = 0; i < 2000; ++i) {
    ValueId y = net.transpose(net.binary(Op::Mul, x, 0.5f), {1, 0});
    y = net.unary(Op::Tanh, net.transpose(y, {1, 0}));
    x = net.binary(Op::Add, y, net.reshape(net.reshape(x, {4}), {1, 4}));
  }
  net.output(x);
  const auto start = std::chrono::steady_clock::now();
  logical_passes(net.graph);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
  CHECK(net.count(ops::kTranspose) == 0);
  CHECK(net.nodes() < 3000);
}
