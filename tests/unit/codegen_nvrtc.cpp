// SPDX-License-Identifier: Apache-2.0
// Compilation with NVRTC and its cache. Without an NVRTC on the machine the cases that compile say so and pass, unless
// EDGERT_REQUIRE_NVRTC=1 is set.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "codegen/compiler.h"
#include "codegen/kernel_files.h"
#include "edgert/cuda/cubin.h"

namespace {

namespace fs = std::filesystem;
using namespace edgert;
using codegen::CompileError;
using codegen::CompileJob;
using codegen::Compiler;
using codegen::CompilerOptions;
using codegen::Nvrtc;

/// A folder that goes away with the test.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("edgert-nvrtc-" + std::to_string(::getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

std::optional<Nvrtc> find_nvrtc() {
  try {
    return Nvrtc::open();
  } catch (const CompileError& error) {
    const char* required = std::getenv("EDGERT_REQUIRE_NVRTC");
    if (required != nullptr && std::string(required) == "1") FAIL(error.what());
    MESSAGE("SKIPPED: " << error.what());
    return std::nullopt;
  }
}

CompileJob scale_job() {
  CompileJob job;
  job.name = "scale";
  job.source = "#include \"factor.h\"\nextern \"C\" __global__ void scale(float* x) { x[threadIdx.x] *= kFactor; }\n";
  job.headers = {{"factor.h", "constexpr float kFactor = 3.0f;\n"}};
  job.arch = 87;
  return job;
}

TEST_CASE("resources are read from the assembler's report") {
  const auto kernels = codegen::parse_resources(
      "ptxas info    : 0 bytes gmem\n"
      "ptxas info    : Compiling entry function 'conv' for 'sm_87'\n"
      "ptxas info    : Function properties for conv\n"
      "    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n"
      "ptxas info    : Used 128 registers, used 1 barriers, 1024 bytes smem, 400 bytes cmem[0]\n"
      "ptxas info    : Compiling entry function 'pool' for 'sm_87'\n"
      "ptxas info    : Used 9 registers, 360 bytes cmem[0]\n");
  REQUIRE(kernels.size() == 2);
  CHECK(kernels[0].entry == "conv");
  CHECK(kernels[0].registers == 128);
  CHECK(kernels[0].stack_bytes == 16);
  CHECK(kernels[0].spill_bytes == 20);
  CHECK(kernels[0].shared_bytes == 1024);
  CHECK(kernels[1].entry == "pool");
  CHECK(kernels[1].registers == 9);
  CHECK(kernels[1].spill_bytes == 0);
}

TEST_CASE("a missing library lists what was tried") {
  CHECK_THROWS_WITH_AS(Nvrtc::open("/nowhere/libnvrtc.so"), doctest::Contains("/nowhere/libnvrtc.so"), CompileError);
  CHECK_THROWS_WITH_AS(Nvrtc::open("libc.so.6"), doctest::Contains("no NVRTC"), CompileError);
}

TEST_CASE("the key depends on everything that the result depends on") {
  const CompileJob job = scale_job();
  const std::string key = codegen::compile_key(job, "13.0");
  CHECK(key.size() == 64);
  CHECK(key == codegen::compile_key(job, "13.0"));
  CHECK(key != codegen::compile_key(job, "12.6"));
  CompileJob other = job;
  other.name = "another name";
  CHECK(key == codegen::compile_key(other, "13.0"));
  other = job;
  other.arch = 90;
  CHECK(key != codegen::compile_key(other, "13.0"));
  other = job;
  other.source += " ";
  CHECK(key != codegen::compile_key(other, "13.0"));
  other = job;
  other.options = {"-DA"};
  CHECK(key != codegen::compile_key(other, "13.0"));
  other = job;
  other.headers[0].text = "constexpr float kFactor = 4.0f;\n";
  CHECK(key != codegen::compile_key(other, "13.0"));
  other = job;
  other.headers[0].name = "other.h";
  CHECK(key != codegen::compile_key(other, "13.0"));
  other = job;
  other.headers.push_back({"unread.h", "constexpr int kUnread = 1;\n"});
  CHECK(key == codegen::compile_key(other, "13.0"));
  other.headers[0].text = "#include \"unread.h\"\nconstexpr float kFactor = 3.0f;\n";
  const std::string through = codegen::compile_key(other, "13.0");
  other.headers[1].text = "constexpr int kUnread = 2;\n";
  CHECK(through != codegen::compile_key(other, "13.0"));
}

TEST_CASE("kernels are embedded under the names that they include each other by") {
  bool math = false;
  bool conv = false;
  for (const codegen::KernelFile& file : codegen::kernel_files()) {
    CHECK_FALSE(file.text.empty());
    math = math || file.name == "edgert/scalar/math.h";
    conv = conv || file.name == "kernels/conv.cu";
  }
  CHECK(math);
  CHECK(conv);
}

TEST_CASE("a cubin for each SM, with its kernel, and no path in it") {
  const auto nvrtc = find_nvrtc();
  if (!nvrtc) return;
  for (const std::uint32_t arch : {87u, 90u}) {
    CompileJob job = scale_job();
    job.arch = arch;
    const auto result = nvrtc->compile(job);
    const auto cubin = cuda::Cubin::check({result.cubin.data(), result.cubin.size()}, arch);
    REQUIRE(cubin.ok());
    CHECK(cubin->has_kernel("scale"));
    REQUIRE(result.kernels.size() == 1);
    CHECK(result.kernels[0].entry == "scale");
    CHECK(result.kernels[0].registers > 0);
    const std::string bytes(reinterpret_cast<const char*>(result.cubin.data()), result.cubin.size());
    CHECK(bytes.find(fs::current_path().string()) == std::string::npos);
    CHECK(bytes == std::string(reinterpret_cast<const char*>(nvrtc->compile(job).cubin.data()), result.cubin.size()));
  }
}

TEST_CASE("errors name the job and carry the compiler's words") {
  const auto nvrtc = find_nvrtc();
  if (!nvrtc) return;
  CompileJob job = scale_job();
  job.name = "broken convolution";
  job.source = "extern \"C\" __global__ void scale(float* x) { x[0] = undefined_name; }\n";
  CHECK_THROWS_WITH_AS(nvrtc->compile(job), doctest::Contains("broken convolution"), CompileError);
  CHECK_THROWS_WITH_AS(nvrtc->compile(job), doctest::Contains("undefined_name"), CompileError);
  job.arch = 12345;
  CHECK_THROWS_WITH_AS(nvrtc->compile(job), doctest::Contains("sm_12345"), CompileError);
}

TEST_CASE("the cache answers, survives damage, and is all that an offline compiler uses") {
  if (!find_nvrtc()) return;
  const Folder folder;
  CompilerOptions options;
  options.cache_directory = (folder.path / "cache").string();
  options.threads = 2;
  CompileJob second = scale_job();
  second.options = {"-DSECOND"};
  const std::vector<CompileJob> jobs = {scale_job(), second, scale_job()};
  Compiler first(options);
  const auto compiled = first.compile(jobs);
  CHECK(first.cache_hits() == 0);
  CHECK(compiled[0].cubin == compiled[2].cubin);
  const auto files = [&] { return std::distance(fs::directory_iterator(options.cache_directory), fs::directory_iterator()); };
  CHECK(files() == 2);

  options.cached_version = first.nvrtc_version();
  Compiler offline(options);
  const auto cached = offline.compile(jobs);
  CHECK(offline.cache_hits() == 2);
  CHECK(cached[1].cubin == compiled[1].cubin);
  CHECK(cached[1].log == compiled[1].log);
  REQUIRE(cached[1].kernels.size() == 1);

  // Every entry truncated or with one byte changed counts as missing.
  const fs::path entry = fs::path(options.cache_directory) / (codegen::compile_key(second, first.nvrtc_version()) + ".cubin");
  std::string bytes;
  {
    std::ifstream file(entry, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
  }
  const auto misses = [&](const std::string& content) {
    std::ofstream(entry, std::ios::binary | std::ios::trunc) << content;
    try {
      Compiler(options).compile({second});
    } catch (const CompileError& error) {
      return std::string(error.what()).find("not in the cache") != std::string::npos;
    }
    return false;
  };
  for (const std::size_t size : {std::size_t{0}, std::size_t{10}, std::size_t{60}, bytes.size() - 1}) CHECK(misses(bytes.substr(0, size)));
  for (const std::size_t at : {std::size_t{0}, std::size_t{9}, std::size_t{15}, std::size_t{20}, std::size_t{40}, bytes.size() / 2, bytes.size() - 1}) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    CHECK(misses(damaged));
  }
  CHECK(misses(bytes + "x"));
  options.cached_version.clear();
  CHECK(Compiler(options).compile({second})[0].cubin == compiled[1].cubin);
  CHECK_FALSE(misses(bytes));
}

}  // namespace
