// SPDX-License-Identifier: Apache-2.0
#include "cli/reference.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "io/file.h"
#include "ir/types.h"

extern char** environ;

namespace edgert::cli {
namespace {

namespace fs = std::filesystem;

const char kScript[] = R"py(
import sys, zipfile
import numpy as np, onnx, onnxruntime as ort
model_path, inputs_path, outputs_path, layers = sys.argv[1:5]
ort.set_default_logger_severity(3)
options = ort.SessionOptions()
options.log_severity_level = 3
source = model_path
if layers == "1":
    # Every intermediate value becomes an output, and nothing may be fused away.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = onnx.load(model_path)
    known = {o.name for o in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name and name not in known:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
    source = model.SerializeToString()
session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
feeds = dict(np.load(inputs_path))
names = [o.name for o in session.get_outputs()]
results = session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})
# Not np.savez, which has no place for an output called "file".
with zipfile.ZipFile(outputs_path, "w") as archive:
    for name, result in zip(names, results):
        if isinstance(result, np.ndarray):
            with archive.open(name + ".npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, result)
)py";

/// A private folder that goes away with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "edgert-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw io::IoError("cannot make a temporary folder: " + pattern);
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string file(const char* name) const { return (fs::path(path_) / name).string(); }

 private:
  std::string path_;
};

/// Runs a program without a shell, stderr and stdout into `log`; its exit status, or -1 when it could not be started.
int run_program(const std::vector<std::string>& arguments, const std::string& log) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t child = 0;
  const int started = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (started != 0) return -1;
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

std::string tail_of(const std::string& path) {
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  while (!text.empty() && text.back() == '\n') text.pop_back();
  constexpr std::size_t kMost = 600;
  return text.size() > kMost ? "..." + text.substr(text.size() - kMost) : text;
}

}  // namespace

std::string find_python(const std::string& wanted) {
  if (!wanted.empty()) return wanted;
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (!error) {
    const fs::path beside = self.parent_path() / "venv/bin/python";
    if (fs::exists(beside, error)) return beside.string();
  }
  return "python3";
}

std::string reference_version(const std::string& python) {
  const TemporaryFolder folder;
  const std::string log = folder.file("log");
  const int status = run_program({python, "-c",
                                  "import onnxruntime, onnx, numpy; "
                                  "print('onnxruntime ' + onnxruntime.__version__ + ', onnx ' + onnx.__version__)"},
                                 log);
  return status == 0 ? tail_of(log) : "";
}

io::Arrays run_reference(const std::string& python, const std::string& model, const io::Arrays& inputs, bool layers) {
  const TemporaryFolder folder;
  io::write_npz(folder.file("inputs.npz"), inputs);
  const int status = run_program({python, "-c", kScript, model, folder.file("inputs.npz"), folder.file("outputs.npz"), layers ? "1" : "0"},
                                 folder.file("log"));
  if (status == -1) throw io::IoError("cannot start " + python + "; run scripts/setup.sh or give --python");
  if (status != 0) {
    const std::string text = tail_of(folder.file("log"));
    if (text.find("ModuleNotFoundError") != std::string::npos) {
      throw io::IoError(python + " lacks onnxruntime, onnx or numpy; run scripts/setup.sh or give --python");
    }
    throw ir::BuildError("ONNX Runtime does not run " + model + ":\n" + text);
  }
  return io::read_npz(folder.file("outputs.npz"));
}

}  // namespace edgert::cli
