// SPDX-License-Identifier: Apache-2.0
// What tuner and worker say to each other: frames over a pipe, each a table of schema/worker.fbs and bulk bytes. Nothing
// that arrives is believed: lengths are bounded before memory is taken for them, tables are verified, and what they name
// is checked where it is used.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "edgert/span.h"
#include "edgert/types.h"

namespace edgert::tune {

/// SHA-256 of some bytes, which is how they are named.
struct Digest {
  std::uint64_t words[4] = {};
  bool operator==(const Digest& o) const { return words[0] == o.words[0] && words[1] == o.words[1] && words[2] == o.words[2] && words[3] == o.words[3]; }
  bool operator<(const Digest& o) const;
};
Digest digest_of(Span<const std::byte> bytes);

struct Timing {
  double median = 0, low = 0, high = 0;  ///< microseconds; 5th and 95th percentile
  std::uint32_t samples = 0;
};

/// Numbers of schema::worker::Verdict; the last two are the tuner's own.
enum class Verdict : std::uint8_t { Good = 0, Wrong = 1, OutOfBounds = 2, Unsteady = 3, Failed = 4, Hung = 5, Crashed = 6 };
/// As records say it: "ok", "wrong", ...
const char* to_string(Verdict verdict);

/// See schema/worker.fbs.
struct Check {
  std::uint32_t binding = 0;
  DType dtype = DType::F32;
  std::uint64_t offset = 0;
  std::vector<std::int64_t> dims, strides;
  Digest expected;
  std::optional<Digest> bound;
};
struct JobRequest {
  std::vector<std::optional<Digest>> bindings;
  std::vector<Check> checks;
  std::uint32_t repetitions = 3;
  std::uint32_t rounds = 0, copies = 1;
  std::uint32_t samples = 0, cold_samples = 0;
  double hopeless_us = 0;
};
struct Request {
  bool hello = false;
  std::uint32_t multiprocessors = 0;
  std::optional<Digest> store;
  std::optional<JobRequest> job;
};

struct Device {
  std::string name;
  std::uint32_t arch = 0, multiprocessors = 0, shared_bytes = 0;
  std::uint64_t l2_bytes = 0;
  std::uint32_t driver = 0;  ///< 13000 for CUDA 13.0
  std::uint32_t clock_khz = 0, memory_clock_khz = 0;
};
struct Result {
  Verdict verdict = Verdict::Failed;
  std::string detail;
  double worst = 0;
  Timing warm, cold;
  bool stopped = false;
};
struct Response {
  std::optional<Device> device;
  bool stored = false;
  std::optional<Result> result;
  std::string error;
};

std::vector<std::byte> encode(const Request& request);
std::vector<std::byte> encode(const Response& response);
/// Empty, with the reason in `why`, for bytes that are no such message.
std::optional<Request> decode_request(Span<const std::byte> table, std::string& why);
std::optional<Response> decode_response(Span<const std::byte> table, std::string& why);

/// Memory aligned to 64, as plans must be.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(std::size_t size);
  Span<std::byte> span() { return {data_.get(), size_}; }
  Span<const std::byte> span() const { return {data_.get(), size_}; }
  std::byte* data() { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

inline constexpr std::uint32_t kMaxTableBytes = 16u << 20;
inline constexpr std::uint64_t kMaxPayloadBytes = std::uint64_t{4} << 30;

struct Frame {
  AlignedBytes table, payload;
};

using Deadline = std::optional<std::chrono::steady_clock::time_point>;

enum class Transfer { Done, Closed, TimedOut, Bad };
/// One frame from or to a file descriptor; Closed also where it breaks. Without a deadline they wait for ever.
Transfer read_frame(int fd, Frame& frame, const Deadline& deadline);
Transfer write_frame(int fd, Span<const std::byte> table, Span<const std::byte> payload, const Deadline& deadline);

}  // namespace edgert::tune
