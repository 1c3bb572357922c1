// SPDX-License-Identifier: Apache-2.0
// The tuner's side of the worker: a child process that is given jobs, and killed and replaced when it does not answer.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ir/types.h"
#include "tune/protocol.h"

namespace edgert::tune {

/// Bytes with their name.
struct Blob {
  Digest digest;
  ir::Bytes bytes;
};
Blob make_blob(ir::Bytes bytes);

/// What the worker is to run. Bytes that several jobs share are sent once.
struct Job {
  std::vector<std::byte> plan;              ///< one profile, for a GPU
  std::vector<std::optional<Blob>> bindings;  ///< contents of inputs, then outputs; nothing: poison
  struct Expectation {
    Check check;  ///< its digests are set from the blobs
    Blob expected;
    std::optional<Blob> bound;
  };
  std::vector<Expectation> checks;
  JobRequest request;  ///< repetitions and timing; bindings and checks are set from the above
};

struct WorkerOptions {
  std::vector<std::string> command;  ///< program and arguments; its stdin and stdout carry the messages
  std::uint32_t multiprocessors = 0;  ///< of the device, where it has more; 0: all
  double start_seconds = 60;         ///< until the first answer: the driver has to start
  double job_seconds = 20;           ///< until the answer to a job
};

/// One at a time. Not thread-safe.
class Worker {
 public:
  explicit Worker(WorkerOptions options) : options_(std::move(options)) {}
  ~Worker() { stop(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// The device that it runs on, or the part of it. Throws ir::BuildError that says why there is none.
  const Device& device();
  /// Never throws for what a kernel does: a job that kills the worker, or has no answer in time, has the verdict Crashed,
  /// Hung or Failed, and the next job finds a new worker. Throws ir::BuildError when no worker can be started, or when it
  /// does not understand.
  Result run(const Job& job);

  /// How often a worker was started, and how long jobs took in all.
  std::uint32_t starts() const { return starts_; }
  double busy_seconds() const { return busy_seconds_; }

 private:
  void start();
  void stop() noexcept;
  /// One request and its answer; the reason when there is none.
  std::optional<Response> ask(const Request& request, Span<const std::byte> payload, double seconds, Result& failure);
  std::optional<Response> send_job(const Job& job, Result& failure);

  WorkerOptions options_;
  int socket_ = -1;
  int process_ = -1;
  std::set<Digest> known_;  ///< what the running worker has been sent
  std::optional<Device> device_;
  std::uint32_t starts_ = 0;
  double busy_seconds_ = 0;
};

}  // namespace edgert::tune
