// SPDX-License-Identifier: Apache-2.0
// From bytes to a model: what is no model, limits, and what the model says of itself.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "onnx_models.h"

using namespace onnx_test;

namespace {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "edgert_onnx_XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

void write_file(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

}  // namespace

TEST_CASE("a model tells its inputs, outputs, opsets, metadata") {
  onnx::ModelProto proto = model_with_opset(17);
  add_input(*proto.mutable_graph(), "x", {"N", 3, "", -1});
  add_input(*proto.mutable_graph(), "w", {1});
  *proto.mutable_graph()->add_initializer() = float_tensor("w", {1}, {4});
  add_output(*proto.mutable_graph(), "y");
  auto* entry = proto.add_metadata_props();
  entry->set_key("labels");
  entry->set_value("cat,dog");
  auto* custom = proto.add_opset_import();
  custom->set_domain("com.example");
  custom->set_version(2);

  const oi::Model model = parse(proto);
  REQUIRE(model.inputs().size() == 2);
  CHECK(to_string(model.inputs()[0]) == "f32[N,3,?,?]");
  CHECK_FALSE(model.inputs()[0].has_default);
  CHECK(model.inputs()[1].has_default);
  CHECK(model.outputs().at(0).name == "y");
  CHECK(model.opsets() == std::map<std::string, int>{{"", 17}, {"com.example", 2}});
  CHECK(model.metadata() == std::vector<std::pair<std::string, std::string>>{{"labels", "cat,dog"}});
}

TEST_CASE("what is no model is refused with a reason") {
  CHECK(contains(error_of([] { parse_text(""); }), "not an ONNX model"));
  CHECK(contains(error_of([] { parse_text("hello, this is a text file\n"); }), "not an ONNX model"));
  CHECK(contains(error_of([] { parse_text(std::string(1000, '\0')); }), "not an ONNX model"));
  onnx::ModelProto no_graph = small_model();
  no_graph.clear_graph();
  CHECK(contains(error_of([&] { parse(no_graph); }), "no graph"));
  onnx::ModelProto no_opset = small_model();
  no_opset.clear_opset_import();
  CHECK(contains(error_of([&] { parse(no_opset); }), "no operator set"));
}

TEST_CASE("a model cut off at any byte is refused or is a model of its own") {
  onnx::ModelProto proto = small_model();
  *proto.mutable_graph()->add_initializer() = float_tensor("w", {2}, {1, 2});
  const std::string bytes = proto.SerializeAsString();
  std::size_t refused = 0;
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const std::string error = error_of([&] { oi::import(parse_text(bytes.substr(0, size)), test_options()); });
    refused += error.empty() ? 0 : 1;
  }
  // The operator sets come last, so nothing that is cut off holds together.
  CHECK(refused == bytes.size());
  CHECK(error_of([&] { oi::import(parse_text(bytes), test_options()); }).empty());
}

TEST_CASE("every single bit of a small model can be wrong without harm") {
  onnx::ModelProto proto = small_model();
  *proto.mutable_graph()->add_initializer() = float_tensor("w", {2}, {1, 2});
  proto.mutable_graph()->mutable_node(0)->add_input("w");
  const std::string bytes = proto.SerializeAsString();
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string broken = bytes;
    broken[bit / 8] = static_cast<char>(broken[bit / 8] ^ (1 << bit % 8));
    error_of([&] { oi::import(parse_text(broken), test_options()); });
  }
}

TEST_CASE("files: unreadable is another error than no model") {
  const TemporaryFolder folder;
  CHECK_THROWS_AS(oi::parse_file(folder.file("missing.onnx")), std::system_error);
  CHECK_THROWS_AS(oi::parse_file(folder.file(".")), std::system_error);
  write_file(folder.file("empty.onnx"), "");
  CHECK(contains(error_of([&] { oi::parse_file(folder.file("empty.onnx")); }),
                 "empty.onnx: not an ONNX model: the file is empty"));
  write_file(folder.file("text.onnx"), "some text");
  CHECK(contains(error_of([&] { oi::parse_file(folder.file("text.onnx")); }), "text.onnx: not an ONNX model"));
  write_file(folder.file("good.onnx"), small_model().SerializeAsString());
  const oi::Model model = oi::parse_file(folder.file("good.onnx"));
  CHECK(oi::import(model, test_options()).node_count() == 1);
}

TEST_CASE("size and depth are limited") {
  oi::ImportOptions options = test_options();
  options.max_model_bytes = 10;
  CHECK(contains(error_of([&] { parse(small_model(), "", options); }), "where the limit is 10"));

  onnx::ModelProto deep = small_model();
  onnx::GraphProto* graph = deep.mutable_graph();
  for (int level = 0; level < 200; ++level) {
    auto* attribute = add_node(*graph, "If", {"c"}, {"o"}).add_attribute();
    attribute->set_name("then_branch");
    attribute->set_type(onnx::AttributeProto::GRAPH);
    graph = attribute->mutable_g();
  }
  CHECK(contains(error_of([&] { parse(deep); }), "nested too deeply"));
}

TEST_CASE("metadata is bounded and must be text") {
  onnx::ModelProto proto = small_model();
  const auto add = [&proto](const std::string& key, const std::string& value) {
    auto* entry = proto.add_metadata_props();
    entry->set_key(key);
    entry->set_value(value);
  };
  add("good", "value");
  add("good", "again");
  add("", "no key");
  add(std::string(257, 'k'), "long key");
  add("long value", std::string((1 << 20) + 1, 'v'));
  add("not text", "\xff\xfe");
  for (int i = 0; i < 300; ++i) add("key" + std::to_string(i), "v");
  std::vector<std::string> notes;
  const ir::Graph graph = import(proto, test_options(), &notes);
  CHECK(graph.metadata.size() == 256);
  CHECK(graph.metadata[0] == std::pair<std::string, std::string>("good", "value"));
  CHECK(notes.size() == 6);
}

TEST_CASE("operator sets outside of the supported range are refused") {
  for (const int version : {oi::kOldestOpset, oi::kNewestOpset}) {
    onnx::ModelProto proto = small_model();
    proto.mutable_opset_import(0)->set_version(version);
    CHECK(error_of([&] { import(proto); }).empty());
  }
  for (const int version : {oi::kOldestOpset - 1, oi::kNewestOpset + 1}) {
    onnx::ModelProto proto = small_model();
    proto.mutable_opset_import(0)->set_version(version);
    CHECK(contains(error_of([&] { import(proto); }), "version " + std::to_string(version)));
  }
  onnx::ModelProto twice = small_model();
  auto* opset = twice.add_opset_import();
  opset->set_domain("ai.onnx");
  opset->set_version(18);
  CHECK(contains(error_of([&] { import(twice); }), "two versions"));
  onnx::ModelProto negative = small_model();
  negative.mutable_opset_import(0)->set_version(-3);
  CHECK(contains(error_of([&] { import(negative); }), "version -3"));
}

// AddressSanitizer keeps freed memory.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EDGERT_TEST_ASAN 1
#endif
#endif
#if !defined(__SANITIZE_ADDRESS__) && !defined(EDGERT_TEST_ASAN)
TEST_CASE("a model in memory takes at most two and a half times its file") {
  const TemporaryFolder folder;
  constexpr std::size_t kBytes = std::size_t{96} << 20;
  {
    onnx::ModelProto proto = small_model();
    onnx::TensorProto& tensor = *proto.mutable_graph()->add_initializer();
    tensor.set_name("w");
    tensor.set_data_type(onnx::TensorProto::FLOAT);
    tensor.add_dims(static_cast<std::int64_t>(kBytes / 4));
    tensor.set_raw_data(std::string(kBytes, 'x'));
    proto.mutable_graph()->mutable_node(0)->add_input("w");
    std::ofstream file(folder.file("large.onnx"), std::ios::binary);
    REQUIRE(proto.SerializeToOstream(&file));
  }
  // In a process of its own, so that other tests' peaks do not count.
  int channel[2];
  REQUIRE(pipe(channel) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  const auto resident = [] {
    std::size_t total = 0;
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> total >> pages;
    return pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  };
  if (child == 0) {
    const std::size_t before = resident();
    const ir::Graph graph = oi::import(oi::parse_file(folder.file("large.onnx")), test_options());
    std::size_t peak = 0;
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
      if (word == "VmHWM:") status >> peak;
    }
    const std::size_t used = peak * 1024 - std::min(before, peak * 1024);
    const bool written = write(channel[1], &used, sizeof(used)) == sizeof(used);
    _exit(written && graph.node_count() == 1 ? 0 : 1);
  }
  std::size_t used = 0;
  REQUIRE(read(channel[0], &used, sizeof(used)) == sizeof(used));
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  MESSAGE("peak: " << static_cast<double>(used) / kBytes << " times the file");
  CHECK(used > kBytes / 2);
  CHECK(used < kBytes * 5 / 2);
  close(channel[0]);
  close(channel[1]);
}
#endif

#ifdef EDGERT_ONNX_WHEEL_OPSET
TEST_CASE("the newest operator set is that of the pinned onnx wheel") {
  CHECK(oi::kNewestOpset == EDGERT_ONNX_WHEEL_OPSET);
}
#endif
