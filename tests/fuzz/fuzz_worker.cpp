// SPDX-License-Identifier: Apache-2.0
// Any bytes as a message of the tuner's protocol, to the worker or from it: refused with a reason, or a message that is
// written and read again as it was. What a job asks to be checked stays inside its buffers.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "tune/protocol.h"
#include "tune/worker/compare.h"

namespace tune = edgert::tune;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

template <class Message, class Decode>
void require_stable(const Message& message, Decode decode) {
  const std::vector<std::byte> once = tune::encode(message);
  std::string why;
  const auto again = decode({once.data(), once.size()}, why);
  require(again.has_value());
  require(tune::encode(*again) == once);
}

/// Runs the checks that make sense on buffers of a few sizes.
void run_checks(const tune::JobRequest& job) {
  for (const std::size_t bytes : {0u, 1u, 64u, 1000u}) {
    const std::vector<std::byte> buffer(bytes, std::byte{0x3c}), other(bytes, std::byte{0x42});
    std::vector<tune::CheckData> checks;
    for (const tune::Check& check : job.checks) {
      const edgert::Span<const std::byte> content{buffer.data(), bytes};
      const tune::CheckData data{&check, content, check.bound ? content : edgert::Span<const std::byte>()};
      if (tune::problem_of(data, bytes) == nullptr) checks.push_back(data);
    }
    const tune::Comparison comparison = tune::compare({buffer.data(), bytes}, {other.data(), bytes}, checks);
    require(comparison.good == comparison.detail.empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // FlatBuffers wants its bytes aligned, as they are when they come in a frame.
  tune::AlignedBytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes.data()[i] = static_cast<std::byte>(data[i]);
  const tune::AlignedBytes& table = bytes;
  std::string why;
  if (const auto request = tune::decode_request(table.span(), why)) {
    require_stable(*request, tune::decode_request);
    if (request->job) run_checks(*request->job);
  } else {
    require(!why.empty());
  }
  why.clear();
  if (const auto response = tune::decode_response(table.span(), why)) {
    require_stable(*response, tune::decode_response);
  } else {
    require(!why.empty());
  }
  return 0;
}
