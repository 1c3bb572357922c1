// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace edgert::cli {

Progress::Progress(std::string title, bool quiet) : title_(std::move(title)), quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (!quiet_ && terminal_ && !last_.empty()) std::fprintf(stderr, "\n");
}

void Progress::update(const std::string& what, double fraction) {
  if (quiet_) return;
  if (!terminal_) {
    if (what != last_) std::fprintf(stderr, "%s: %3.0f %% %s\n", title_.c_str(), 100 * fraction, what.c_str());
    last_ = what;
    return;
  }
  constexpr int kWidth = 30;
  const int filled = std::clamp(static_cast<int>(fraction * kWidth), 0, kWidth);
  std::fprintf(stderr, "\r%s [%s%s] %3.0f %% %-28.28s", title_.c_str(), std::string(static_cast<std::size_t>(filled), '#').c_str(),
               std::string(static_cast<std::size_t>(kWidth - filled), '.').c_str(), 100 * fraction, what.c_str());
  std::fflush(stderr);
  last_ = what;
}

}  // namespace edgert::cli
