// SPDX-License-Identifier: Apache-2.0
// External data under attack: paths, links, files that are no files, regions, keys. The same attacks run against both
// ways of opening a path, and, through tests/fuzz/onnx_attacks, against whole model files.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "onnx/external_data.h"
#include "onnx_models.h"

using namespace onnx_test;

namespace {

/// A model's folder inside an outer folder that holds a secret.
class Folders {
 public:
  Folders() {
    std::string pattern = (std::filesystem::temp_directory_path() / "edgert_onnx_XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    outer_ = pattern;
    std::filesystem::create_directories(outer_ + "/model/sub/deeper");
    write("../secret.bin");
    write("weights.bin");
    write("sub/weights.bin");
    write("sub/deeper/weights.bin");
  }
  ~Folders() { std::filesystem::remove_all(outer_); }

  std::string model() const { return outer_ + "/model"; }
  std::string path(const std::string& name) const { return model() + "/" + name; }
  std::string outer(const std::string& name) const { return outer_ + "/" + name; }
  void write(const std::string& name) const { std::ofstream(path(name), std::ios::binary) << content(); }
  static std::string content() { return "0123456789abcdef"; }

 private:
  std::string outer_;
};

/// Why `location` is refused; empty when it opens.
std::string refusal(const Folders& folders, const std::string& location, oi::PathWalk walk) {
  const oi::FileDescriptor folder(open(folders.model().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  return error_of([&] { oi::open_beneath(folder.get(), location, walk); });
}

using Entries = std::vector<std::pair<std::string, std::string>>;

/// A model with one external float tensor of `count` elements that is its output.
onnx::ModelProto external_model(const Entries& entries, std::int64_t count = 2) {
  onnx::ModelProto model = model_with_opset();
  onnx::TensorProto& tensor = *model.mutable_graph()->add_initializer();
  tensor.set_name("w");
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  tensor.add_dims(count);
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  for (const auto& [key, value] : entries) {
    auto* entry = tensor.add_external_data();
    entry->set_key(key);
    entry->set_value(value);
  }
  add_output(*model.mutable_graph(), "w");
  return model;
}

std::string import_error(const Folders& folders, const onnx::ModelProto& model,
                         const oi::ImportOptions& options = test_options()) {
  return error_of([&] { oi::import(parse(model, folders.model(), options), options); });
}

std::string bytes_of(const Folders& folders, const Entries& entries) {
  const ir::Graph graph = oi::import(parse(external_model(entries), folders.model()), test_options());
  const ir::Bytes& bytes = only_output(graph).constant;
  return std::string(bytes.as<char>(), bytes.size());
}

}  // namespace

TEST_CASE("external data beside and below the model is read") {
  const Folders folders;
  CHECK(bytes_of(folders, {{"location", "weights.bin"}}) == "01234567");
  CHECK(bytes_of(folders, {{"location", "weights.bin"}, {"offset", "3"}, {"length", "8"}}) == "3456789a");
  CHECK(bytes_of(folders, {{"location", "sub/weights.bin"}, {"offset", "8"}}) == "89abcdef");
  CHECK(bytes_of(folders, {{"location", "./sub//deeper/./weights.bin"}, {"checksum", "da39a3ee"}}) == "01234567");
}

TEST_CASE("paths that leave the folder, links, and what is no regular file") {
  const Folders folders;
  namespace fs = std::filesystem;
  fs::create_symlink("weights.bin", folders.path("link.bin"));
  fs::create_symlink("../secret.bin", folders.path("escape.bin"));
  fs::create_directory_symlink("sub", folders.path("sublink"));
  fs::create_directory_symlink("..", folders.path("up"));
  fs::create_symlink("/proc/self/fd/0", folders.path("magic"));
  fs::create_hard_link(folders.outer("secret.bin"), folders.path("hard.bin"));
  REQUIRE(mkfifo(folders.path("fifo").c_str(), 0600) == 0);

  for (const oi::PathWalk walk : {oi::PathWalk::OneStep, oi::PathWalk::ByComponent}) {
    CAPTURE(static_cast<int>(walk));
    const auto refused = [&](const std::string& location, const std::string& reason) {
      CAPTURE(location);
      const std::string text = refusal(folders, location, walk);
      CAPTURE(text);
      return contains(text, reason);
    };
    CHECK(refusal(folders, "weights.bin", walk).empty());
    CHECK(refusal(folders, "sub/deeper/weights.bin", walk).empty());
    CHECK(refused("../secret.bin", "'..' is not allowed"));
    CHECK(refused("sub/../../secret.bin", "'..' is not allowed"));
    CHECK(refused("sub/..", "'..' is not allowed"));
    CHECK(refused(folders.outer("secret.bin"), "absolute"));
    CHECK(refused("/etc/passwd", "absolute"));
    CHECK(refused("", "empty"));
    CHECK(refused(".", "names no file"));
    CHECK(refused(std::string("weights.bin\0.txt", 16), "zero byte"));
    CHECK(refused(std::string(5000, 'a'), "too long"));
    CHECK(refused("link.bin", "symbolic links"));
    CHECK(refused("escape.bin", "symbolic links"));
    CHECK(refused("sublink/weights.bin", "symbolic links"));
    CHECK(refused("up/secret.bin", "symbolic links"));
    CHECK(refused("magic", "symbolic links"));
    CHECK(refused("hard.bin", "hard links"));
    CHECK(refused("fifo", "not a regular file"));
    CHECK(refused("sub", "not a regular file"));
    CHECK(refused("missing.bin", "no such file"));
    CHECK(refused("missing/weights.bin", "no such file"));
    CHECK(refused("weights.bin/more", "not a directory"));
  }
}

TEST_CASE("regions outside of the file and numbers that are none") {
  const Folders folders;
  const auto refused = [&](const Entries& extra, const std::string& reason) {
    Entries entries{{"location", "weights.bin"}};
    entries.insert(entries.end(), extra.begin(), extra.end());
    const std::string text = import_error(folders, external_model(entries));
    CAPTURE(text);
    return contains(text, reason);
  };
  CHECK(refused({{"offset", "9"}}, "beyond the end of the file of 16 bytes"));
  CHECK(refused({{"offset", "18446744073709551615"}}, "beyond the end"));
  CHECK(refused({{"offset", "18446744073709551616"}}, "not a number"));
  CHECK(refused({{"offset", "99999999999999999999999999"}}, "not a number"));
  CHECK(refused({{"offset", "-1"}}, "not a number"));
  CHECK(refused({{"offset", ""}}, "not a number"));
  CHECK(refused({{"offset", "0x8"}}, "not a number"));
  CHECK(refused({{"offset", " 8"}}, "not a number"));
  CHECK(refused({{"offset", "1e1"}}, "not a number"));
  CHECK(refused({{"length", "-8"}}, "not a number"));
  CHECK(refused({{"length", "7"}}, "the length is 7 bytes where the tensor's type needs 8"));
  CHECK(refused({{"length", "9"}}, "needs 8"));
  CHECK(refused({{"length", "0"}}, "needs 8"));
}

TEST_CASE("keys: a list of four, each once") {
  const Folders folders;
  CHECK(contains(import_error(folders, external_model({{"offset", "0"}})), "the location is empty"));
  CHECK(contains(import_error(folders, external_model({})), "the location is empty"));
  CHECK(contains(import_error(folders, external_model({{"location", "weights.bin"}, {"basepath", "/etc"}})),
                 "unknown key 'basepath'"));
  CHECK(contains(import_error(folders, external_model({{"location", "weights.bin"}, {"__class__", "x"}})),
                 "unknown key"));
  CHECK(contains(import_error(folders, external_model({{"location", "weights.bin"}, {"location", "../secret.bin"}})),
                 "given twice"));
}

TEST_CASE("external data can be forbidden, and is for models in memory") {
  const Folders folders;
  const onnx::ModelProto model = external_model({{"location", "weights.bin"}});
  oi::ImportOptions options = test_options();
  options.external_data = false;
  CHECK(contains(import_error(folders, model, options), "switched off"));
  CHECK(contains(error_of([&] { import(model); }), "no folder to look in"));
}

TEST_CASE("the bytes of all external tensors together are limited") {
  const Folders folders;
  onnx::ModelProto model = external_model({{"location", "weights.bin"}});
  for (int i = 0; i < 9; ++i) {
    onnx::TensorProto tensor = model.graph().initializer(0);
    tensor.set_name("w" + std::to_string(i));
    *model.mutable_graph()->add_initializer() = tensor;
  }
  oi::ImportOptions options = test_options();
  options.max_external_bytes = 80;
  CHECK(import_error(folders, model, options).empty());
  options.max_external_bytes = 79;
  CHECK(contains(import_error(folders, model, options), "more external data than the limit"));
}

TEST_CASE("data inside and outside at once, and huge shapes") {
  const Folders folders;
  onnx::ModelProto both = external_model({{"location", "weights.bin"}});
  both.mutable_graph()->mutable_initializer(0)->set_raw_data("01234567");
  CHECK(contains(import_error(folders, both), "both here and outside"));
  onnx::ModelProto inside = external_model({{"location", "weights.bin"}});
  inside.mutable_graph()->mutable_initializer(0)->clear_data_location();
  CHECK(contains(import_error(folders, inside), "the location is inside the model"));
  CHECK(contains(import_error(folders, external_model({{"location", "weights.bin"}}, std::int64_t{1} << 50)),
                 "beyond the end"));
  CHECK(contains(import_error(folders, external_model({{"location", "weights.bin"}}, -2)), "negative"));
}

TEST_CASE("attributes of nodes and functions obey the same rules") {
  const Folders folders;
  onnx::ModelProto model = model_with_opset();
  auto* attribute = add_node(*model.mutable_graph(), "Constant", {}, {"w"}).add_attribute();
  attribute->set_name("value");
  attribute->set_type(onnx::AttributeProto::TENSOR);
  *attribute->mutable_t() = external_model({{"location", "../secret.bin"}}).graph().initializer(0);
  add_output(*model.mutable_graph(), "w");
  CHECK(contains(import_error(folders, model), "'..' is not allowed"));
  attribute->mutable_t()->mutable_external_data(0)->set_value("weights.bin");
  CHECK(import_error(folders, model).empty());
}

TEST_CASE("a file on disk finds its data beside it, whatever the working directory") {
  const Folders folders;
  std::ofstream(folders.path("model.onnx"), std::ios::binary)
      << external_model({{"location", "sub/weights.bin"}}).SerializeAsString();
  const oi::Model model = oi::parse_file(folders.path("model.onnx"));
  const ir::Graph graph = oi::import(model, test_options());
  CHECK(std::string(only_output(graph).constant.as<char>(), 8) == "01234567");
}
