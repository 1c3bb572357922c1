// SPDX-License-Identifier: Apache-2.0
#include "tune/worker_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

extern char** environ;

namespace edgert::tune {
namespace {

using Clock = std::chrono::steady_clock;

Deadline after(double seconds) { return Clock::now() + std::chrono::milliseconds(static_cast<long long>(seconds * 1000)); }

}  // namespace

Blob make_blob(ir::Bytes bytes) {
  const Digest digest = digest_of({bytes.data(), bytes.size()});
  return {digest, std::move(bytes)};
}

void Worker::start() {
  if (process_ > 0) return;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw ir::BuildError(std::string("tuning: ") + std::strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  std::vector<char*> arguments;
  for (std::string& argument : options_.command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  pid_t child = -1;
  const int failed = arguments.size() < 2 ? ENOENT : ::posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (failed != 0) {
    ::close(ends[0]);
    throw ir::BuildError("tuning: cannot start " + (options_.command.empty() ? std::string("a worker") : options_.command[0]) + ": " + std::strerror(failed));
  }
  socket_ = ends[0];
  process_ = child;
  ++starts_;
}

void Worker::stop() noexcept {
  if (process_ <= 0) return;
  ::close(socket_);
  // A worker that is well ends when its input does; one that hangs in the driver does not.
  ::kill(process_, SIGKILL);
  int status = 0;
  while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) continue;
  process_ = socket_ = -1;
  known_.clear();
}

std::optional<Response> Worker::ask(const Request& request, Span<const std::byte> payload, double seconds, Result& failure) {
  const std::vector<std::byte> table = encode(request);
  const Deadline deadline = after(seconds);
  Transfer state = write_frame(socket_, {table.data(), table.size()}, payload, deadline);
  Frame frame;
  if (state == Transfer::Done) state = read_frame(socket_, frame, deadline);
  std::string why;
  std::optional<Response> response;
  if (state == Transfer::Done) response = decode_response(frame.table.span(), why);
  if (response) return response;
  stop();
  failure = {};
  failure.verdict = state == Transfer::TimedOut ? Verdict::Hung : Verdict::Crashed;
  failure.detail = state == Transfer::TimedOut ? "no answer in " + std::to_string(static_cast<int>(seconds)) + " s"
                   : state == Transfer::Closed ? "the worker ended"
                                               : "the worker's answer " + (why.empty() ? "is damaged" : why);
  return std::nullopt;
}

const Device& Worker::device() {
  if (device_ && process_ > 0) return *device_;
  start();
  Request request;
  request.hello = true;
  request.multiprocessors = options_.multiprocessors;
  Result failure;
  const std::optional<Response> response = ask(request, {}, options_.start_seconds, failure);
  if (response && response->device) {
    device_ = response->device;
    return *device_;
  }
  stop();
  if (response) failure.detail = response->result ? response->result->detail : response->error;
  throw ir::BuildError("tuning: " + options_.command[0] + " has no GPU: " + failure.detail);
}

std::optional<Response> Worker::send_job(const Job& job, Result& failure) {
  Request request;
  JobRequest& body = request.job.emplace(job.request);
  std::vector<const Blob*> blobs;
  body.bindings.clear(), body.checks.clear();
  for (const std::optional<Blob>& content : job.bindings) {
    body.bindings.push_back(content ? std::optional<Digest>(content->digest) : std::nullopt);
    if (content) blobs.push_back(&*content);
  }
  for (const Job::Expectation& each : job.checks) {
    Check& check = body.checks.emplace_back(each.check);
    check.expected = each.expected.digest;
    blobs.push_back(&each.expected);
    if (!each.bound) continue;
    check.bound = each.bound->digest;
    blobs.push_back(&*each.bound);
  }
  for (const Blob* blob : blobs) {
    if (known_.count(blob->digest) != 0) continue;
    Request store;
    store.store = blob->digest;
    const std::optional<Response> stored = ask(store, {blob->bytes.data(), blob->bytes.size()}, options_.start_seconds, failure);
    if (!stored || !stored->stored) return stored;
    known_.insert(blob->digest);
  }
  return ask(request, {job.plan.data(), job.plan.size()}, options_.job_seconds, failure);
}

Result Worker::run(const Job& job) {
  (void)device();  // the driver's start is not the job's time
  const Clock::time_point begin = Clock::now();
  Result failure;
  std::optional<Response> response = send_job(job, failure);
  if (response && !response->result) {
    // The worker may have dropped what it was sent earlier.
    known_.clear();
    response = send_job(job, failure);
  }
  busy_seconds_ += std::chrono::duration<double>(Clock::now() - begin).count();
  if (!response) return failure;
  if (!response->result) {
    stop();
    throw ir::BuildError("tuning: the worker does not understand: " + response->error);
  }
  if (response->result->verdict == Verdict::Failed) stop();  // its context is of no use any more
  return *response->result;
}

}  // namespace edgert::tune
