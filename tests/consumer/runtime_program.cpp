// SPDX-License-Identifier: Apache-2.0
// A user's program on the runtime alone.
#include <edgert/edgert.h>

#include <cstdio>

int main(int argc, char**) {
  alignas(64) static std::byte bytes[64];
  const edgert::Result<edgert::PlanView> plan = edgert::PlanView::load(bytes);
  if (plan.ok()) {
    edgert::Session<> session;
    return session.prepare(*plan, bytes).ok() ? argc : 2;
  }
  std::printf("refused as it should be: %s\n", edgert::to_string(plan.status().error()));
  return plan.status().error() == edgert::Error::BadMagic ? 0 : 1;
}
