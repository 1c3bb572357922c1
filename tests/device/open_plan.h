// SPDX-License-Identifier: Apache-2.0
// What the programs for a real GPU share: a plan file in memory, and a session on it.
#pragma once

#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "edgert/cuda/session.h"

namespace edgert::device_tests {

/// Heap memory aligned to 64.
class Aligned {
 public:
  explicit Aligned(std::uint64_t size) : storage_(static_cast<std::size_t>(size) + 64), size_(static_cast<std::size_t>(size)) {}
  std::byte* data() { return reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uintptr_t>(storage_.data()), 64)); }
  Span<std::byte> span() { return {data(), size_}; }

 private:
  std::vector<std::byte> storage_;
  std::size_t size_;
};

/// The last line that the runtime logged.
struct LastLine {
  char text[512] = {};
  LogSink sink() {
    return {[](void* user, LogLevel, const char* line) { std::snprintf(static_cast<LastLine*>(user)->text, sizeof(text), "%s", line); }, this};
  }
};

inline std::vector<std::byte> read_file(const char* path) {
  std::vector<std::byte> bytes;
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) return bytes;
  std::byte piece[1 << 16];
  for (std::size_t count = std::fread(piece, 1, sizeof(piece), file); count > 0; count = std::fread(piece, 1, sizeof(piece), file)) {
    bytes.insert(bytes.end(), piece, piece + count);
  }
  std::fclose(file);
  return bytes;
}

/// A plan's bytes, checked.
struct Plan {
  Plan(const std::vector<std::byte>& file, LastLine& line) : bytes(file.size()) {
    std::memcpy(bytes.data(), file.data(), file.size());
    LoadOptions options;
    options.log = line.sink();
    const Result<PlanView> loaded = PlanView::load({bytes.data(), file.size()}, options);
    status = loaded.status();
    if (loaded.ok()) view = *loaded;
  }
  Aligned bytes;
  PlanView view;
  Status status;
};

/// A session with memory of its own on a prepared program.
struct Runner {
  Runner(const cuda::Program& program, LastLine& line, Span<const cuda::DevicePointer> bindings = {})
      : host(cuda::Session::host_bytes(program.plan())) {
    cuda::SessionOptions options;
    options.log = line.sink();
    options.bindings = bindings;
    status = session.prepare(program, host.span(), options);
  }
  Aligned host;
  cuda::Session session;
  Status status;
};

/// Bytes of input or output i of a profile.
inline std::size_t input_bytes(const PlanView& plan, std::uint32_t profile, std::uint32_t i) {
  const schema::Profile& p = plan.profile(profile);
  return p.storages()->Get(p.tensors()->Get(p.inputs()->Get(i))->storage())->size();
}
inline std::size_t output_bytes(const PlanView& plan, std::uint32_t profile, std::uint32_t i) {
  const schema::Profile& p = plan.profile(profile);
  return p.storages()->Get(p.tensors()->Get(p.outputs()->Get(i))->storage())->size();
}

/// Floats in [-1, 1), the same for the same seed.
inline std::vector<std::byte> some_floats(std::size_t bytes, std::uint32_t seed) {
  std::vector<std::byte> out(bytes);
  std::uint32_t state = seed * 2654435761u + 12345u;
  for (std::size_t i = 0; i + 4 <= bytes; i += 4) {
    state = state * 1664525u + 1013904223u;
    const float value = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
    std::memcpy(out.data() + i, &value, 4);
  }
  return out;
}

}  // namespace edgert::device_tests
