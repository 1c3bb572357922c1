// SPDX-License-Identifier: Apache-2.0
#include "codegen/compiler.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>
#include <thread>

#include "edgert/sha256.h"

namespace edgert::codegen {

namespace {

namespace fs = std::filesystem;

constexpr char kMagic[8] = {'E', 'R', 'T', 'K', 'C', '0', '0', '1'};

/// An entry of the cache: magic, lengths of cubin and log, SHA-256 of both, then both.
struct EntryHeader {
  char magic[8];
  std::uint64_t cubin_bytes;
  std::uint64_t log_bytes;
  std::uint8_t hash[32];
};

void hash_bytes(const void* data, std::size_t size, std::uint8_t (&digest)[32]) {
  Sha256 hash;
  hash.update(data, size);
  hash.finish(digest);
}

/// Lengths keep ("ab", "c") and ("a", "bc") apart.
void add(std::string& to, std::string_view text) { to.append(std::to_string(text.size())).append(":").append(text); }

/// The headers whose names stand in a job's source, or in such headers, in the job's order: all that it includes. A job
/// carries every header there is; what it does not read must not decide under which key its result is kept.
std::vector<const KernelFile*> included_headers(const CompileJob& job) {
  std::vector<bool> included(job.headers.size(), false);
  std::vector<std::string_view> unread{job.source};
  while (!unread.empty()) {
    const std::string_view text = unread.back();
    unread.pop_back();
    for (std::size_t i = 0; i < job.headers.size(); ++i) {
      if (included[i] || text.find(job.headers[i].name) == std::string_view::npos) continue;
      included[i] = true;
      unread.push_back(job.headers[i].text);
    }
  }
  std::vector<const KernelFile*> result;
  for (std::size_t i = 0; i < job.headers.size(); ++i) {
    if (included[i]) result.push_back(&job.headers[i]);
  }
  return result;
}

}  // namespace

std::string compile_key(const CompileJob& job, const std::string& nvrtc_version) {
  std::string all;
  add(all, nvrtc_version);
  add(all, std::to_string(job.arch) + (job.own_features ? "a" : ""));
  add(all, job.source);
  for (const std::string& option : job.options) add(all, option);
  all.append("headers");
  for (const KernelFile* header : included_headers(job)) {
    add(all, header->name);
    add(all, header->text);
  }
  std::uint8_t digest[32];
  hash_bytes(all.data(), all.size(), digest);
  std::string key;
  for (const std::uint8_t byte : digest) {
    key.push_back("0123456789abcdef"[byte >> 4]);
    key.push_back("0123456789abcdef"[byte & 15]);
  }
  return key;
}

Compiler::Compiler(CompilerOptions options) : options_(std::move(options)), version_(options_.cached_version) {
  if (options_.substitute) {
    version_ = "substitute";
  } else if (version_.empty()) {
    nvrtc_ = std::make_unique<Nvrtc>(Nvrtc::open(options_.nvrtc));
    version_ = nvrtc_->version();
  }
}

bool Compiler::has_own_features(std::uint32_t arch) const {
  return code_arch(arch) == arch && (options_.substitute != nullptr || std::atoi(version_.c_str()) >= 12);
}

std::vector<CompiledKernel> Compiler::compile(const std::vector<CompileJob>& jobs) {
  if (options_.code_arch == 0) return compile_as_given(jobs);
  std::vector<CompileJob> moved = jobs;
  for (CompileJob& job : moved) {
    if (job.source.empty()) continue;
    // The kernels ask this macro which instructions there are.
    job.source = "#undef __CUDA_ARCH__\n#define __CUDA_ARCH__ " + std::to_string(job.arch * 10) + "\n" + std::string(job.source);
    job.arch = options_.code_arch;
  }
  return compile_as_given(moved);
}

std::vector<CompiledKernel> Compiler::compile_as_given(const std::vector<CompileJob>& jobs) {
  std::map<std::string, std::size_t> first_of_key;
  std::vector<std::string> keys;
  std::vector<std::size_t> unique;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    keys.push_back(jobs[i].source.empty() ? std::string() : compile_key(jobs[i], version_));
    if (!keys.back().empty() && first_of_key.emplace(keys.back(), i).second) unique.push_back(i);
  }
  std::vector<CompiledKernel> results(jobs.size());
  std::vector<std::string> errors(jobs.size());
  std::atomic<std::size_t> next{0};
  std::atomic<std::uint32_t> hits{0};
  const auto work = [&] {
    for (std::size_t k = next++; k < unique.size(); k = next++) {
      const std::size_t i = unique[k];
      bool hit = false;
      try {
        results[i] = compile_one(jobs[i], keys[i], hit);
      } catch (const std::exception& error) {
        errors[i] = error.what();
      }
      hits += hit;
    }
  };
  std::vector<std::thread> threads;
  for (std::uint32_t t = 1; t < options_.threads && t < unique.size(); ++t) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  hits_ += hits;
  std::string message;
  for (const std::string& error : errors) {
    if (!error.empty()) message += (message.empty() ? "" : "\n") + error;
  }
  if (!message.empty()) throw CompileError(message);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const std::size_t source = keys[i].empty() ? i : first_of_key[keys[i]];
    if (source != i) results[i] = results[source];
  }
  return results;
}

CompiledKernel Compiler::compile_one(const CompileJob& job, const std::string& key, bool& hit) const {
  CompiledKernel result;
  hit = !options_.cache_directory.empty() && read_cache(key, result);
  if (hit) {
    result.kernels = parse_resources(result.log);
    return result;
  }
  if (options_.substitute) return options_.substitute(job);
  if (nvrtc_ == nullptr) throw CompileError(job.name + ": not in the cache " + options_.cache_directory);
  result = nvrtc_->compile(job);
  if (!options_.cache_directory.empty()) write_cache(key, result);
  return result;
}

bool Compiler::read_cache(const std::string& key, CompiledKernel& result) const {
  std::ifstream file(fs::path(options_.cache_directory) / (key + ".cubin"), std::ios::binary);
  EntryHeader header;
  if (!file.read(reinterpret_cast<char*>(&header), sizeof(header))) return false;
  constexpr std::uint64_t kLimit = std::uint64_t{1} << 30;
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0 || header.cubin_bytes > kLimit || header.log_bytes > kLimit) return false;
  std::string payload;
  const std::uint64_t bytes = header.cubin_bytes + header.log_bytes;
  // Read in pieces, so that a damaged length cannot ask for more memory than the file has bytes.
  char piece[1 << 16];
  while (payload.size() <= bytes && (file.read(piece, sizeof(piece)) || file.gcount() > 0)) {
    payload.append(piece, static_cast<std::size_t>(file.gcount()));
  }
  if (payload.size() != bytes) return false;
  std::uint8_t hash[32];
  hash_bytes(payload.data(), payload.size(), hash);
  if (std::memcmp(hash, header.hash, sizeof(hash)) != 0) return false;
  const auto* begin = reinterpret_cast<const std::byte*>(payload.data());
  result.cubin.assign(begin, begin + header.cubin_bytes);
  result.log = payload.substr(header.cubin_bytes);
  return true;
}

void Compiler::write_cache(const std::string& key, const CompiledKernel& result) const {
  std::error_code ignored;
  fs::create_directories(options_.cache_directory, ignored);
  std::string payload(reinterpret_cast<const char*>(result.cubin.data()), result.cubin.size());
  payload += result.log;
  EntryHeader header;
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.cubin_bytes = result.cubin.size();
  header.log_bytes = result.log.size();
  hash_bytes(payload.data(), payload.size(), header.hash);
  // Written beside and renamed, so that readers see a whole entry or none. A cache that cannot be written is no error.
  static std::atomic<unsigned> counter{0};
  const fs::path target = fs::path(options_.cache_directory) / (key + ".cubin");
  const fs::path temporary =
      fs::path(options_.cache_directory) / (key + "." + std::to_string(::getpid()) + "." + std::to_string(counter++));
  {
    std::ofstream file(temporary, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&header), sizeof(header));
    file.write(payload.data(), static_cast<std::streamsize>(payload.size()));
    if (!file.flush()) {
      file.close();
      fs::remove(temporary, ignored);
      return;
    }
  }
  fs::rename(temporary, target, ignored);
  if (ignored) fs::remove(temporary, ignored);
}

}  // namespace edgert::codegen
