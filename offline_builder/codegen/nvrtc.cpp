// SPDX-License-Identifier: Apache-2.0
#include "codegen/nvrtc.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <utility>

namespace edgert::codegen {

namespace {

using Program = struct ProgramHandle*;

/// The paths that are tried when none is given, newest first; EDGERT_NVRTC in the environment comes before all.
std::vector<std::string> default_libraries() {
  if (const char* chosen = std::getenv("EDGERT_NVRTC"); chosen != nullptr && *chosen != '\0') return {chosen};
  std::vector<std::string> paths;
  for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"}) {
    paths.emplace_back(name);
    for (const char* folder : {"/usr/local/cuda/lib64/", "/usr/local/cuda/lib/"}) paths.push_back(std::string(folder) + name);
  }
  return paths;
}

std::string first_line_of_dlerror() {
  const char* text = ::dlerror();
  return text == nullptr ? "unknown" : text;
}

/// The number before `unit` in a line such as "0 bytes stack frame, 8 bytes spill stores"; 0 when there is none.
std::uint32_t number_before(const std::string& line, const std::string& unit) {
  const std::size_t at = line.find(" " + unit);
  if (at == std::string::npos) return 0;
  std::size_t begin = at;
  while (begin > 0 && line[begin - 1] >= '0' && line[begin - 1] <= '9') --begin;
  return begin == at ? 0 : static_cast<std::uint32_t>(std::stoul(line.substr(begin, at - begin)));
}

}  // namespace

/// NVRTC's C interface; declared here because the library is opened at run time and needs no toolkit.
struct Nvrtc::Library {
  void* handle = nullptr;
  const char* (*error_string)(int) = nullptr;
  int (*get_version)(int*, int*) = nullptr;
  int (*architecture_count)(int*) = nullptr;
  int (*architecture_list)(int*) = nullptr;
  int (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*) = nullptr;
  int (*destroy)(Program*) = nullptr;
  int (*compile)(Program, int, const char* const*) = nullptr;
  int (*cubin_size)(Program, std::size_t*) = nullptr;
  int (*cubin)(Program, char*) = nullptr;
  int (*log_size)(Program, std::size_t*) = nullptr;
  int (*log)(Program, char*) = nullptr;
  int major = 0;
  std::string version;
  std::vector<std::uint32_t> architectures;

  Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  template <class T>
  bool find(T& function, const char* symbol) {
    function = reinterpret_cast<T>(::dlsym(handle, symbol));
    return function != nullptr;
  }

  /// An empty string, or what is wrong with the library.
  std::string load(const std::string& path) {
    handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return first_line_of_dlerror();
    const bool complete = find(error_string, "nvrtcGetErrorString") && find(get_version, "nvrtcVersion") &&
                          find(architecture_count, "nvrtcGetNumSupportedArchs") &&
                          find(architecture_list, "nvrtcGetSupportedArchs") && find(create, "nvrtcCreateProgram") &&
                          find(destroy, "nvrtcDestroyProgram") && find(compile, "nvrtcCompileProgram") &&
                          find(cubin_size, "nvrtcGetCUBINSize") && find(cubin, "nvrtcGetCUBIN") &&
                          find(log_size, "nvrtcGetProgramLogSize") && find(log, "nvrtcGetProgramLog");
    if (!complete) return path + " is no NVRTC of CUDA 11.2 or later";
    int minor = 0;
    int count = 0;
    if (get_version(&major, &minor) != 0 || architecture_count(&count) != 0 || count <= 0) return path + " does not answer";
    version = std::to_string(major) + "." + std::to_string(minor);
    std::vector<int> list(static_cast<std::size_t>(count));
    if (architecture_list(list.data()) != 0) return path + " does not answer";
    architectures.assign(list.begin(), list.end());
    return {};
  }
};

Nvrtc Nvrtc::open(const std::string& path) {
  std::string tried;
  for (const std::string& candidate : path.empty() ? default_libraries() : std::vector<std::string>{path}) {
    // Never closed: the library keeps threads and state of its own.
    auto library = std::make_shared<Library>();
    const std::string problem = library->load(candidate);
    if (problem.empty()) {
      Nvrtc nvrtc;
      nvrtc.library_ = std::move(library);
      return nvrtc;
    }
    tried += "\n  " + problem;
  }
  throw CompileError("no NVRTC (install the nvidia-cuda-nvrtc wheel or a CUDA toolkit, or give its path); tried:" + tried);
}

const std::string& Nvrtc::version() const { return library_->version; }
const std::vector<std::uint32_t>& Nvrtc::architectures() const { return library_->architectures; }

CompiledKernel Nvrtc::compile(const CompileJob& job) const {
  const Library& nvrtc = *library_;
  if (std::find(nvrtc.architectures.begin(), nvrtc.architectures.end(), job.arch) == nvrtc.architectures.end()) {
    throw CompileError(job.name + ": NVRTC " + nvrtc.version + " does not compile for sm_" + std::to_string(job.arch));
  }
  // NVRTC wants terminated strings; views of embedded files are not promised to be.
  std::vector<std::string> texts, names;
  for (const KernelFile& header : job.headers) {
    texts.emplace_back(header.text);
    names.emplace_back(header.name);
  }
  std::vector<const char*> text_pointers, name_pointers, options;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    text_pointers.push_back(texts[i].c_str());
    name_pointers.push_back(names[i].c_str());
  }
  const std::string arch = "--gpu-architecture=sm_" + std::to_string(job.arch) + (job.own_features ? "a" : "");
  for (const char* option : {arch.c_str(), "--std=c++17", "--ptxas-options=-v"}) options.push_back(option);
  // From a cache of its own NVRTC 13 answers a second time without the assembler's report.
  if (nvrtc.major >= 13) options.push_back("--no-cache");
  for (const std::string& option : job.options) options.push_back(option.c_str());

  Program program = nullptr;
  const auto fail = [&](const char* call, int code, const std::string& log) {
    if (program != nullptr) nvrtc.destroy(&program);
    throw CompileError(job.name + ": " + call + ": " + nvrtc.error_string(code) + (log.empty() ? "" : "\n" + log));
  };
  // The name goes into the image, so it is the same for every job.
  int code = nvrtc.create(&program, job.source.c_str(), "kernel.cu", static_cast<int>(texts.size()), text_pointers.data(),
                          name_pointers.data());
  if (code != 0) fail("nvrtcCreateProgram", code, "");
  const int compiled = nvrtc.compile(program, static_cast<int>(options.size()), options.data());
  CompiledKernel result;
  std::size_t bytes = 0;
  if (nvrtc.log_size(program, &bytes) == 0 && bytes > 1) {
    result.log.resize(bytes);
    if (nvrtc.log(program, result.log.data()) != 0) result.log.clear();
    result.log.resize(std::strlen(result.log.c_str()));
  }
  if (compiled != 0) fail("nvrtcCompileProgram", compiled, result.log);
  code = nvrtc.cubin_size(program, &bytes);
  if (code != 0) fail("nvrtcGetCUBINSize", code, result.log);
  result.cubin.resize(bytes);
  code = nvrtc.cubin(program, reinterpret_cast<char*>(result.cubin.data()));
  if (code != 0) fail("nvrtcGetCUBIN", code, result.log);
  nvrtc.destroy(&program);
  result.kernels = parse_resources(result.log);
  return result;
}

std::vector<KernelResources> parse_resources(const std::string& log) {
  std::vector<KernelResources> kernels;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t entry = line.find("Compiling entry function '");
    if (entry != std::string::npos) {
      const std::size_t begin = line.find('\'', entry) + 1;
      kernels.emplace_back();
      kernels.back().entry = line.substr(begin, line.find('\'', begin) - begin);
    } else if (!kernels.empty() && line.find("bytes stack frame") != std::string::npos) {
      kernels.back().stack_bytes = number_before(line, "bytes stack frame");
      kernels.back().spill_bytes = number_before(line, "bytes spill stores") + number_before(line, "bytes spill loads");
    } else if (!kernels.empty() && line.find("Used ") != std::string::npos) {
      kernels.back().registers = number_before(line, "registers");
      kernels.back().shared_bytes = number_before(line, "bytes smem");
    }
  }
  return kernels;
}

}  // namespace edgert::codegen
