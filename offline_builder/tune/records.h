// SPDX-License-Identifier: Apache-2.0
// What was measured, kept: one JSON object a line, so that files are merged by putting one behind the other. A later line
// supersedes an earlier one that says the same thing. Records come from anywhere and are checked before they are used.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace edgert::tune {

/// A tactic and what came of it, or the tactic that a network as a whole is fastest with.
struct Record {
  // What it is about: equal for equal work, kernels and compilers.
  std::string signature;             ///< the operator with its operands
  std::string tactic;
  std::string kernel;                ///< hash of the tactic's sources and launch extents
  std::uint32_t sm = 0;              ///< 87 for sm_87
  std::uint32_t multiprocessors = 0;
  std::string nvrtc;                 ///< "13.0"
  std::string network;               ///< hash of a network: this tactic was chosen in it; empty: measured alone
  // Where it was measured.
  std::string profile;               ///< the user's name for device and power mode; the device's where there is none
  std::string device;
  std::string driver;                ///< "13.0"
  std::uint32_t clock_khz = 0, memory_clock_khz = 0;
  // What came of it.
  std::string verdict;               ///< "ok", or why the tactic is not used: "wrong", "out of bounds", "unsteady", "failed", "hung", "crashed"
  std::string detail;
  double median_us = 0, low_us = 0, high_us = 0;  ///< with operands in the L2 cache; low and high: 5th and 95th percentile
  double cold_us = 0;                ///< median with an empty L2 cache; 0: not measured
  bool pin = false;                  ///< wins over whatever was measured; set by people

  bool ok() const { return verdict == "ok"; }
};

/// One line without a newline.
std::string to_line(const Record& record);
/// All lines of `text`; empty ones are skipped. Throws ir::BuildError "name:line: what is wrong".
std::vector<Record> parse_records(std::string_view text, const std::string& name);

/// What a build is for.
struct Scope {
  std::uint32_t sm = 0;
  std::uint32_t multiprocessors = 0;
  std::string nvrtc;
  std::string profile;  ///< empty: of whatever device, if it is one only
};

/// A way to compute something, as a build offers it.
struct Tactic {
  std::string name;
  std::string kernel;  ///< as in Record
};

/// Records that a build may use.
class Records {
 public:
  Records() = default;
  /// Keeps those that fit the scope. Throws ir::BuildError when none is asked for by name and several device profiles fit.
  Records(const std::vector<Record>& all, const Scope& scope);

  void add(Record record) { kept_.push_back(std::move(record)); }
  std::size_t size() const { return kept_.size(); }
  /// Records for another SM, number of multiprocessors or device profile; and those from another NVRTC.
  std::size_t from_other_devices() const { return other_devices_; }
  std::size_t from_other_compilers() const { return other_compilers_; }

  /// What is known of one piece of work.
  struct Known {
    /// Index of the tactic to use: the last pinned one, else the last that was chosen in `network`, else the fastest alone,
    /// of equally fast ones the first. Empty when no record says.
    std::optional<std::size_t> best;
    bool pinned = false;
    bool in_network = false;                   ///< `best` was chosen in the network, or is pinned
    std::vector<std::optional<Record>> alone;  ///< what was measured of each tactic
    std::size_t stale = 0;                     ///< records of tactics that no longer exist, or whose kernels have changed
  };
  Known find(const std::string& signature, const std::vector<Tactic>& tactics, const std::string& network) const;

 private:
  std::vector<Record> kept_;
  std::size_t other_devices_ = 0;
  std::size_t other_compilers_ = 0;
};

}  // namespace edgert::tune
