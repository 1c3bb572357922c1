// SPDX-License-Identifier: Apache-2.0
// Progress of long work on stderr: a bar on a terminal, a line a stage otherwise.
#pragma once

#include <string>

namespace edgert::cli {

class Progress {
 public:
  /// `title` stands before the bar. Silent when `quiet`.
  Progress(std::string title, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `what` is being done, `fraction` of the whole is behind.
  void update(const std::string& what, double fraction);

 private:
  std::string title_;
  std::string last_;
  bool quiet_;
  bool terminal_;
};

}  // namespace edgert::cli
