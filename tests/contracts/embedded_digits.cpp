// SPDX-License-Identifier: Apache-2.0
// A firmware's view: plan linked in, memory static, operators named by the emitted header. Runs one digit and exits with
// its class; 100 and more are failures.
#include "digits.h"

namespace {

alignas(64) std::byte memory[digits::memory_bytes()];

// A "3" of scikit-learn's digits, scaled to 0..1 (sixteenths).
constexpr unsigned char kThree[64] = {0, 0, 7,  15, 13, 1,  0, 0, 0, 8, 13, 6,  15, 4,  0, 0, 0, 2, 1, 13, 13, 0,
                                      0, 0, 0,  0,  2,  15, 11, 1, 0, 0, 0,  0,  0,  1,  12, 12, 1, 0, 0, 0,  0,  0,
                                      1, 10, 8, 0,  0,  0,  8,  4, 5, 14, 9, 0,  0,  0,  7,  13, 13, 9, 0, 0};

}  // namespace

int main() {
  const auto plan = edgert::PlanView::load({reinterpret_cast<const std::byte*>(digits::digits_plan), digits::kPlanBytes});
  if (!plan.ok()) return 100;
  static digits::Session session;
  if (!session.prepare(*plan, memory).ok()) return 101;
  float* pixels = session.input(digits::Input0::kIndex)->as<float>();
  for (int i = 0; i < 64; ++i) pixels[i] = static_cast<float>(kThree[i]) / 16.0f;
  if (!session.run().ok()) return 102;
  const float* scores = session.output(digits::Output0::kIndex)->as<float>();
  int best = 0;
  for (int i = 1; i < digits::Output0::kElements; ++i) best = scores[i] > scores[best] ? i : best;
  return best;
}
