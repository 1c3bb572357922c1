// SPDX-License-Identifier: Apache-2.0
#include "plan/session_needs.h"

#include <memory>

#include "edgert/session.h"
#include "ops/operator.h"
#include "plan/aligned_bytes.h"

namespace edgert::plan {
namespace {

/// All operators; their kernels were compiled with the operators' definitions.
struct KnownOperators {
  static const cpu::OperatorEntry* find(std::uint16_t id) noexcept { return ops::Registry::instance().find_kernel(id); }
};
using BuilderSession = Session<KnownOperators>;

/// An output at its largest, all ones where this run's extents do not reach.
ir::Bytes record(const TensorView& actual, const TensorView& largest) {
  std::uint64_t size = 0;
  if (!span_bytes(largest, size)) throw std::logic_error("an output has no size");
  const std::size_t element = bits_of(largest.dtype) / 8;
  std::vector<std::byte> bytes(size);
  if (size != 0) std::memcpy(bytes.data(), actual.data, size);
  for (std::int64_t i = 0; element != 0 && i < largest.elements(); ++i) {
    bool inside = true;
    std::int64_t rest = i;
    for (std::uint32_t d = largest.rank; d-- > 0; rest /= largest.dims[d]) inside = inside && rest % largest.dims[d] < actual.dims[d];
    if (!inside) std::memset(bytes.data() + static_cast<std::size_t>(i) * element, 0xff, element);
  }
  return ir::Bytes::adopt(std::move(bytes));
}

}  // namespace

std::vector<ir::Bytes> record_outputs(const PlanView& view, std::uint32_t profile, const std::vector<ir::Bytes>& inputs, cpu::Isa isa) {
  std::string message;
  SessionOptions options;
  options.log.user = &message;
  options.log.write = [](void* user, LogLevel, const char* text) { *static_cast<std::string*>(user) = text; };
  const auto require = [&](const Status& status) {
    if (!status.ok()) throw ir::BuildError("golden vector: " + (message.empty() ? edgert::to_string(status.error()) : message));
  };
  const Result<std::uint64_t> needed = BuilderSession::memory_bytes(view, options);
  require(needed.status());
  Bytes64 memory(std::vector<std::byte>(static_cast<std::size_t>(*needed)));
  const auto session = std::make_unique<BuilderSession>();
  require(session->prepare(view, memory.mutable_span(), options));
  session->limit_isa(isa);
  require(session->set_profile(profile));
  for (std::uint32_t i = 0; i < view.input_count(); ++i) {
    const TensorView target = *session->input(i);
    std::uint64_t size = 0;
    if (!span_bytes(target, size) || i >= inputs.size() || inputs[i].size() != size) {
      throw ir::BuildError(std::string("golden vector: input '") + view.input_name(i) + "' has the wrong size");
    }
    if (size != 0) std::memcpy(target.data, inputs[i].data(), size);
  }
  require(session->run());
  std::vector<ir::Bytes> outputs;
  for (std::uint32_t i = 0; i < view.output_count(); ++i) {
    const Result<TensorView> actual = session->output(i);
    require(actual.status());
    outputs.push_back(record(*actual, view.output(profile, i)));
  }
  return outputs;
}

Result<SessionNeeds> session_needs(const PlanView& view, const LogSink& log) { return BuilderSession::needs(view, log, view.is_cuda()); }

}  // namespace edgert::plan
