// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target without libFuzzer: once over each file, or each file of each folder, on the command line. For
// compilers that have no libFuzzer and for replaying a corpus as a test.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

/// Sorted, so that a run can be repeated.
std::vector<std::string> files_of(const std::string& path) {
  if (!std::filesystem::is_directory(path)) return {path};
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool run(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::vector<char> content{std::istreambuf_iterator<char>(stream), {}};
  if (!stream) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    return false;
  }
  // Named before it runs, so that a crash has a culprit.
  std::fprintf(stderr, "%s: %zu bytes\n", path.c_str(), content.size());
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(content.data()), content.size());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  bool sound = true;
  std::size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    for (const std::string& file : files_of(argv[i])) {
      sound = run(file) && sound;
      ++count;
    }
  }
  std::fprintf(stderr, "%zu inputs\n", count);
  // A folder that turned out empty must not pass as a tested corpus.
  return sound && count > 0 ? 0 : 1;
}
