// SPDX-License-Identifier: Apache-2.0
// A session behind a C interface, so that a Python process that has PyTorch in it can run one: with_torch.py.
#include "device/open_plan.h"

namespace {

using namespace edgert;
using namespace edgert::device_tests;

struct Handle {
  LastLine line;
  cuda::Driver driver;
  std::unique_ptr<Plan> plan;
  std::unique_ptr<Aligned> host;
  cuda::Program program;
  std::unique_ptr<Runner> runner;
};

}  // namespace

extern "C" {

/// A session in the thread's current context. `bindings`: device addresses of all inputs, then all outputs. Null with a text
/// in `message` when that fails.
void* edgert_device_open(const char* path, const unsigned long long* bindings, unsigned int count, char* message, unsigned int message_bytes) {
  auto handle = std::make_unique<Handle>();
  Status status = handle->driver.open(handle->line.sink());
  if (status.ok()) {
    handle->plan = std::make_unique<Plan>(read_file(path), handle->line);
    status = handle->plan->status;
  }
  if (status.ok()) {
    handle->host = std::make_unique<Aligned>(cuda::Program::host_bytes(handle->plan->view));
    status = handle->program.prepare(handle->driver, handle->plan->view, handle->host->span(), {handle->line.sink(), 0});
  }
  if (status.ok()) {
    handle->runner = std::make_unique<Runner>(handle->program, handle->line, Span<const cuda::DevicePointer>(bindings, count));
    status = handle->runner->status;
  }
  if (status.ok()) return handle.release();
  std::snprintf(message, message_bytes, "%s: %s", to_string(status.error()), handle->line.text);
  return nullptr;
}

/// Queues a run on `stream`. An error's number, 0 for none.
int edgert_device_enqueue(void* handle, void* stream) {
  return static_cast<int>(static_cast<Handle*>(handle)->runner->session.enqueue(static_cast<cuda::Stream>(stream)).error());
}

void edgert_device_close(void* handle) {
  const std::unique_ptr<Handle> owned(static_cast<Handle*>(handle));
  owned->runner.reset();
  owned->program.close();
}

}  // extern "C"
