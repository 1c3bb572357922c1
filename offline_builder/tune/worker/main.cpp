// SPDX-License-Identifier: Apache-2.0
// edgert-worker: runs launches on the GPU of this machine for the tuner, which talks to it on stdin and stdout. A launch
// that faults or hangs costs this process only.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "tune/worker/gpu.h"

namespace {

using namespace edgert::tune;

constexpr std::uint64_t kMaxStoredBytes = std::uint64_t{16} << 30;

class Server {
 public:
  Server(int in, int out, std::string driver) : in_(in), out_(out), driver_(std::move(driver)) {}

  /// The exit code.
  int serve() {
    for (;;) {
      Frame frame;
      const Transfer received = read_frame(in_, frame, {});
      if (received == Transfer::Closed) return 0;
      if (received != Transfer::Done) return 2;
      Response response;
      bool broken = false;
      try {
        std::string why;
        const std::optional<Request> request = decode_request(frame.table.span(), why);
        if (!request) throw BadRequest(why);
        response = answer(*request, frame.payload);
      } catch (const BadRequest& error) {
        response = {};
        response.error = std::string("the request ") + error.what();
      } catch (const DeviceFault& error) {
        // After an error the driver's context is of no use any more; whoever wants more starts a new worker.
        response = {};
        Result& result = response.result.emplace();
        result.verdict = Verdict::Failed;
        result.detail = error.what();
        broken = true;
      }
      const std::vector<std::byte> table = encode(response);
      if (write_frame(out_, {table.data(), table.size()}, {}, {}) != Transfer::Done) return 2;
      if (broken) {
        // No destructors: they would call a driver that may not come back.
        std::_Exit(3);
      }
    }
  }

 private:
  Response answer(const Request& request, AlignedBytes& payload) {
    Response response;
    if (request.store) {
      if (!(digest_of(payload.span()) == *request.store)) throw BadRequest("stores bytes under another name");
      if (payload.size() > kMaxStoredBytes - stored_) {
        store_.clear();
        stored_ = 0;
      }
      if (store_.count(*request.store) == 0) stored_ += payload.size();
      store_[*request.store] = std::move(payload);
      response.stored = true;
      return response;
    }
    if (request.hello) gpu_.reset();
    if (gpu_ == nullptr) gpu_ = std::make_unique<Gpu>(driver_, request.multiprocessors);
    if (request.hello) response.device = gpu_->describe();
    else response.result = gpu_->run(*request.job, payload.span(), store_);
    return response;
  }

  int in_, out_;
  std::string driver_;
  Store store_;
  std::uint64_t stored_ = 0;
  std::unique_ptr<Gpu> gpu_;
};

}  // namespace

int main(int argc, char** argv) {
  std::string driver = "libcuda.so.1";
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--driver") == 0 && i + 1 < argc) {
      driver = argv[++i];
      continue;
    }
    std::fprintf(stderr,
                 "edgert-worker %s: runs kernels for `edgert build --tune` and is started by it. It reads requests from stdin and\n"
                 "writes responses to stdout until stdin ends.\n"
                 "  --driver LIBRARY   the CUDA driver to open (libcuda.so.1)\n",
                 EDGERT_VERSION);
    return std::strcmp(argv[i], "--help") == 0 ? 0 : 1;
  }
  // Whatever else writes to stdout in this process must not end up between the messages.
  const int out = ::dup(STDOUT_FILENO);
  if (out < 0 || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return 2;
  (void)std::signal(SIGPIPE, SIG_IGN);
  return Server(STDIN_FILENO, out, driver).serve();
}
