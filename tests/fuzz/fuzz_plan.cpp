// SPDX-License-Identifier: Apache-2.0
// Any bytes as a plan: refused by a rule, or prepared in memory of exactly the size asked for and run, without a sanitizer
// report. plan_mutator.cpp makes inputs that get behind the checksums.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "support/test_session.h"

namespace {

using edgert::PlanView;
using edgert::TensorView;

constexpr std::uint64_t kMaxMemory = 16u << 20;

struct Free {
  void operator()(std::byte* data) const { std::free(data); }
};
using Bytes = std::unique_ptr<std::byte[], Free>;

/// On the heap, aligned to 64 and not a byte longer, so that a step outside is seen.
Bytes exact(std::size_t size) {
  void* data = nullptr;
  if (posix_memalign(&data, 64, size == 0 ? 1 : size) != 0) std::abort();
  return Bytes(static_cast<std::byte*>(data));
}

/// Broadcasts let a small plan describe endless loops, which are no defect. No operator takes more than (elements
/// written) x (elements read) steps.
bool is_small(const PlanView& plan) {
  for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
    const auto& lists = *plan.profile(p).lists();
    double work = 0;
    for (std::uint32_t l = 0; l < lists.size(); ++l) {
      for (std::uint32_t s = 0; s < edgert::rules::count(lists.Get(l)->steps()); ++s) {
        const edgert::schema::Step& step = *lists.Get(l)->steps()->Get(s);
        double largest[2] = {1, 1};
        const auto measure = [&](const auto* operands, double& most) {
          for (std::uint32_t i = 0; i < edgert::rules::count(operands); ++i) {
            if (operands->Get(i) == 0xffffffffu) continue;
            const auto elements = static_cast<double>(plan.tensor(p, operands->Get(i)).elements());
            most = elements > most ? elements : most;
          }
        };
        measure(step.inputs(), largest[0]);
        measure(step.outputs(), largest[1]);
        work += largest[0] * largest[1];
      }
    }
    if (work > 1e8) return false;
  }
  return true;
}

/// Small numbers of either sign, as floats and as integers, so that indices and masks are met in and out of range.
void fill(const TensorView& view, std::uint32_t seed) {
  std::uint64_t bytes = 0;
  if (!edgert::span_bytes(view, bytes)) return;
  auto* to = static_cast<unsigned char*>(view.data);
  const std::uint32_t width = edgert::bits_of(view.dtype) < 8 ? 1 : edgert::bits_of(view.dtype) / 8;
  for (std::uint64_t i = 0; i + width <= bytes; i += width) {
    seed = seed * 1664525u + 1013904223u;
    const auto number = static_cast<std::int64_t>(seed >> 29) - 2;
    const float real = static_cast<float>(number) * 0.75f;
    const bool floating = view.dtype == edgert::DType::F32;
    std::memcpy(to + i, floating ? static_cast<const void*>(&real) : &number, width);
  }
}

void run(const PlanView& plan) {
  edgert::test::TestSession session;
  const edgert::Result<std::uint64_t> needed = edgert::test::TestSession::memory_bytes(plan);
  if (!needed.ok() || *needed > kMaxMemory || !is_small(plan)) return;
  const auto size = static_cast<std::size_t>(*needed);
  const Bytes memory = exact(size);
  std::memset(memory.get(), 0xcd, size);
  if (!session.prepare(plan, {memory.get(), size}).ok()) std::abort();  // what memory_bytes() accepted must pass
  // Each plan on one instruction set, which its bytes decide.
  session.limit_isa(static_cast<edgert::cpu::Isa>(edgert::crc32c(plan.bytes().data(), plan.bytes().size()) % 3));
  for (std::uint32_t p = 0; p < plan.profile_count() && p < 4; ++p) {
    if (!session.set_profile(p).ok()) std::abort();
    for (std::uint32_t i = 0; i < plan.input_count(); ++i) fill(*session.input(i), i + 1);
    (void)session.run();
    for (std::uint32_t i = 0; i < plan.output_count(); ++i) (void)session.output(i);
    session.reset();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes bytes = exact(size);
  if (size != 0) std::memcpy(bytes.get(), data, size);
  const edgert::Result<PlanView> plan = PlanView::load({bytes.get(), size});
  if (plan.ok()) run(*plan);
  return 0;
}
