// SPDX-License-Identifier: Apache-2.0
// Any bytes as a file of tuning records: refused with file and line, or records that are written and read again as they
// were, and that never make a build choose what it does not have.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "ir/types.h"
#include "tune/records.h"

namespace tune = edgert::tune;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const std::vector<tune::Record> records = tune::parse_records(text, "records");
    std::string written;
    for (const tune::Record& record : records) written += tune::to_line(record) + "\n";
    const std::vector<tune::Record> again = tune::parse_records(written, "again");
    if (again.size() != records.size()) std::abort();
    for (std::size_t i = 0; i < records.size(); ++i) {
      if (tune::to_line(again[i]) != tune::to_line(records[i])) std::abort();
    }
    if (records.empty()) return 0;
    const tune::Record& first = records[0];
    const tune::Records kept(records, {first.sm, first.multiprocessors, first.nvrtc, first.profile});
    const auto known = kept.find(first.signature, {{"none", "none"}, {first.tactic, first.kernel}}, first.network);
    if (known.best && *known.best > 1) std::abort();
  } catch (const edgert::ir::BuildError& error) {
    if (std::string(error.what()).empty()) std::abort();
  }
  return 0;
}
