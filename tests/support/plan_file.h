// SPDX-License-Identifier: Apache-2.0
// Plans from files, and session memory of exactly the size asked for, without the builder: these tests run on targets too.
#pragma once

#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "support/test_session.h"

namespace edgert::test {

/// `size` bytes on the heap, aligned to 64, with nothing usable behind them: AddressSanitizer sees one byte too many.
class Block {
 public:
  explicit Block(std::size_t size, int fill = 0x5a) : size_(size) {
    void* data = nullptr;
    REQUIRE(posix_memalign(&data, 64, size == 0 ? 1 : size) == 0);
    data_.reset(static_cast<std::byte*>(data));
    std::memset(data, fill, size);
  }
  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  Span<std::byte> span() const { return {data_.get(), size_}; }
  float* floats() const { return reinterpret_cast<float*>(data_.get()); }

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };
  std::unique_ptr<std::byte[], Free> data_;
  std::size_t size_;
};

/// A plan's bytes and the view of them.
struct LoadedPlan {
  explicit LoadedPlan(const std::string& path) : bytes(read(path)) {
    const Result<PlanView> loaded = PlanView::load({bytes.data(), bytes.size()});
    REQUIRE(loaded.ok());
    view = *loaded;
  }
  static Block read(const std::string& path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
    REQUIRE_MESSAGE(file != nullptr, path);
    std::vector<char> content;
    char piece[65536];
    for (std::size_t got; (got = std::fread(piece, 1, sizeof(piece), file.get())) > 0;) {
      content.insert(content.end(), piece, piece + got);
    }
    Block block(content.size());
    std::memcpy(block.data(), content.data(), content.size());
    return block;
  }

  Block bytes;
  PlanView view;
};

inline std::uint64_t needed_bytes(const PlanView& plan, const SessionOptions& options = {}) {
  const Result<std::uint64_t> needed = TestSession::memory_bytes(plan, options);
  REQUIRE(needed.ok());
  return *needed;
}

/// A session in memory of its own.
struct OwnSession {
  explicit OwnSession(const PlanView& plan, const SessionOptions& options = {}, int fill = 0x5a)
      : memory(needed_bytes(plan, options), fill) {
    REQUIRE(session.prepare(plan, memory.span(), options).ok());
  }
  Block memory;
  TestSession session;
};

/// A digit-like picture, another one for each seed: values from 0 to 1.
inline std::vector<float> picture(std::int64_t elements, std::uint32_t seed) {
  std::vector<float> pixels;
  std::uint32_t state = seed * 2654435761u + 1;
  for (std::int64_t i = 0; i < elements; ++i) {
    state = state * 1664525u + 1013904223u;
    pixels.push_back(static_cast<float>(state >> 28) / 16.0f);
  }
  return pixels;
}

inline void write_picture(const TensorView& input, std::uint32_t seed) {
  const std::vector<float> pixels = picture(input.elements(), seed);
  std::memcpy(input.data, pixels.data(), pixels.size() * sizeof(float));
}

/// Input 0 filled with a picture, one run, output 0.
template <class AnySession>
std::vector<float> scores(AnySession&& session, std::uint32_t seed) {
  const Result<TensorView> input = session.input(0u);
  REQUIRE(input.ok());
  write_picture(*input, seed);
  REQUIRE(session.run().ok());
  const Result<TensorView> output = session.output(0u);
  REQUIRE(output.ok());
  const float* values = output->template as<float>();
  return {values, values + output->elements()};
}

/// Equal as bytes, so that a NaN or a negative zero counts too.
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float difference = a[i] > b[i] ? a[i] - b[i] : b[i] - a[i];
    // Written so that a NaN is the largest difference of all.
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

}  // namespace edgert::test
