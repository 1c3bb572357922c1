// SPDX-License-Identifier: Apache-2.0
// For operators with several outputs: calls as a session would make them, and random operands.
#pragma once

#include "operator_test.h"

namespace edgert::test {

template <class Op>
const char* check_several(const std::vector<TensorView>& inputs, const std::vector<TensorView>& outputs,
                          const typename Op::Attributes& attributes) {
  alignas(16) const typename Op::Attributes aligned = attributes;
  const Call call(inputs, outputs, &aligned);
  return Op::check(call.operands());
}

/// One run in `parts` parts with the baseline instruction set; the first error of any part.
template <class Op>
Status run_several(const std::vector<TensorView>& inputs, const std::vector<TensorView>& outputs,
                   const typename Op::Attributes& attributes, std::uint32_t parts = 1) {
  return run_parts<Op>(inputs, outputs, attributes, cpu::Isa::Baseline, parts);
}

/// Runs whatever check() lets through of operands made at random around `like` and attributes with random bytes changed.
template <class Op>
void survive_random(const std::vector<TensorView>& inputs, const std::vector<TensorView>& outputs,
                    const typename Op::Attributes& valid, int trials) {
  std::mt19937 random(4321);
  int ran = 0;
  for (int trial = 0; trial < trials; ++trial) {
    alignas(16) typename Op::Attributes attributes = valid;
    if (random() % 4 == 0) reinterpret_cast<unsigned char*>(&attributes)[random() % sizeof attributes] = static_cast<unsigned char>(random());
    std::vector<std::shared_ptr<void>> storages;
    const auto vary = [&](const std::vector<TensorView>& like) {
      std::vector<TensorView> views(like.size());
      for (std::size_t i = 0; i < like.size(); ++i) {
        if (random() % 3 == 0) {
          storages.push_back(random_view(random, &like[i], views[i]));
          continue;
        }
        views[i] = like[i];
        std::uint64_t bytes = 0;
        REQUIRE(span_bytes(views[i], bytes));
        storages.emplace_back(std::malloc(bytes == 0 ? 1 : static_cast<std::size_t>(bytes)), std::free);
        views[i].data = storages.back().get();
        for (std::uint64_t b = 0; b < bytes; ++b) static_cast<unsigned char*>(views[i].data)[b] = static_cast<unsigned char>(random() % 3);
      }
      return views;
    };
    const std::vector<TensorView> in = vary(inputs);
    const std::vector<TensorView> out = vary(outputs);
    if (check_several<Op>(in, out, attributes) != nullptr) continue;
    ++ran;
    static_cast<void>(run_several<Op>(in, out, attributes, 1 + static_cast<std::uint32_t>(random() % 3)));
  }
  CHECK(ran > trials / 100);
}

}  // namespace edgert::test
