// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "ir/types.h"
#include "tune/records.h"

namespace {

using namespace edgert;
using tune::Record;
using tune::Records;

Record record(const std::string& tactic, double us) {
  Record r;
  r.signature = "conv: Conv f16[1,64,8,8] -> f16[1,64,8,8] #0123", r.tactic = tactic, r.kernel = "k-" + tactic;
  r.sm = 87, r.multiprocessors = 16, r.nvrtc = "12.6";
  r.profile = "orin-15w", r.device = "Orin \"NX\"", r.driver = "12.6", r.clock_khz = 918000;
  r.verdict = "ok";
  r.median_us = us, r.low_us = us, r.high_us = us * 1.5, r.cold_us = us * 2;
  return r;
}

const tune::Scope kScope{87, 16, "12.6", ""};
const std::vector<tune::Tactic> kTactics = {{"a", "k-a"}, {"b", "k-b"}, {"c", "k-c"}};

tune::Records::Known find(const std::vector<Record>& records, const std::string& network = "") {
  return Records(records, kScope).find(record("", 0).signature, kTactics, network);
}

std::string problem_of(const std::string& text) {
  try {
    (void)tune::parse_records(text, "orin.jsonl");
  } catch (const ir::BuildError& error) {
    return error.what();
  }
  return "";
}

/// The line with one field replaced.
std::string with(const std::string& field, const std::string& value) {
  std::string line = tune::to_line(record("a", 2));
  const std::size_t at = line.find("\"" + field + "\":") + field.size() + 3;
  const std::size_t end = line[at] == '"' ? line.find('"', at + 1) + 1 : line.find_first_of(",}", at);
  return line.replace(at, end - at, value);
}

TEST_CASE("a record is one line, and reads back as it was") {
  Record r = record("conv tile 4x16x64", 2.3125);
  r.network = "abcd", r.pin = true, r.detail = "line\nbreak";
  const std::string line = tune::to_line(r);
  CHECK(line.find('\n') == std::string::npos);
  const std::vector<Record> back = tune::parse_records("\n" + line + "\r\n  \n" + line, "f");
  REQUIRE(back.size() == 2);
  CHECK(tune::to_line(back[0]) == line);
  CHECK(back[0].detail == r.detail);
  CHECK(back[0].pin);
  CHECK(back[1].median_us == 2.3125);
  CHECK(tune::parse_records("", "f").empty());
}

TEST_CASE("whatever is wrong with a record is said with file and line") {
  const std::string good = tune::to_line(record("a", 2)) + "\n";
  CHECK(problem_of(good).empty());
  CHECK(problem_of(good + good + "{\"version\":1") == "orin.jsonl:3: tuning record: is no JSON");
  CHECK(problem_of(good + "[1]") == "orin.jsonl:2: tuning record: is no JSON object");
  CHECK(problem_of(with("version", "2")).find("has version 2") != std::string::npos);
  CHECK(problem_of("{}").find("\"version\" is missing") != std::string::npos);
  CHECK(problem_of(with("tactic", "7")).find("\"tactic\" is no text") != std::string::npos);
  CHECK(problem_of(with("tactic", "\"\"")).find("\"tactic\" is empty") != std::string::npos);
  CHECK(problem_of(with("tactic", "\"" + std::string(5000, 'x') + "\"")).find("too long") != std::string::npos);
  CHECK(problem_of(with("sm", "-87")).find("\"sm\" is no number") != std::string::npos);
  CHECK(problem_of(with("sm", "8.7")).find("\"sm\" is no number") != std::string::npos);
  CHECK(problem_of(with("multiprocessors", "99999999999")).find("\"multiprocessors\"") != std::string::npos);
  CHECK(problem_of(with("median_us", "-1")).find("\"median_us\" is no time") != std::string::npos);
  CHECK(problem_of(with("median_us", "1e300")).find("\"median_us\" is no time") != std::string::npos);
  CHECK(problem_of(with("median_us", "\"2\"")).find("\"median_us\" is no time") != std::string::npos);
  CHECK(problem_of(with("verdict", "\"splendid\"")).find("\"verdict\" is unknown: splendid") != std::string::npos);
  CHECK(problem_of(with("verdict", "\"wrong\",\"pin\":true")).find("pins a tactic") != std::string::npos);
  CHECK(problem_of(with("verdict", "\"ok\",\"pin\":1")).find("\"pin\" is neither") != std::string::npos);
  CHECK(problem_of("\"\xff\xfe\"").find("is no JSON") != std::string::npos);
  CHECK(problem_of(std::string(70000, ' ') + "x").find("longer than") != std::string::npos);
}

TEST_CASE("the fastest right tactic wins, of equally fast ones the first") {
  CHECK_FALSE(find({}).best.has_value());
  CHECK(find({record("c", 3), record("b", 2), record("a", 4)}).best == 1);
  CHECK(find({record("c", 2), record("b", 2), record("a", 4)}).best == 1);
  Record wrong = record("b", 1);
  wrong.verdict = "wrong";
  CHECK(find({record("c", 3), wrong}).best == 2);
  CHECK_FALSE(find({wrong}).best.has_value());
}

TEST_CASE("a later line supersedes an earlier one, so that files merge by being put one behind the other") {
  CHECK(find({record("a", 1), record("b", 2), record("a", 3)}).best == 1);
  Record wrong = record("a", 1);
  wrong.verdict = "unsteady";
  CHECK(find({record("a", 1), record("b", 2), wrong}).best == 1);
}

TEST_CASE("a pin wins over everything, what was chosen in a network over what was fastest alone") {
  Record chosen = record("c", 79);
  chosen.network = "n1";
  const std::vector<Record> records = {record("a", 1), record("b", 2), record("c", 3), chosen};
  CHECK(find(records).best == 0);
  CHECK(find(records, "n2").best == 0);
  CHECK(find(records, "n1").best == 2);
  CHECK(find(records, "n1").in_network);
  std::vector<Record> pinned = records;
  pinned.push_back(record("b", 2));
  pinned.back().pin = true;
  CHECK(find(pinned, "n1").best == 1);
  CHECK(find(pinned, "n1").pinned);
  pinned.push_back(record("a", 1));
  pinned.back().pin = true;
  CHECK(find(pinned, "n1").best == 0);  // the last pin
}

TEST_CASE("records of other devices, compilers and kernels are counted, not used") {
  Record other_sm = record("a", 1), fewer = record("a", 1), compiler = record("a", 1), kernel = record("a", 1), unknown = record("z", 1);
  other_sm.sm = 90, fewer.multiprocessors = 8, compiler.nvrtc = "13.0", kernel.kernel = "older";
  const Records records({other_sm, fewer, compiler, kernel, unknown, record("b", 2)}, kScope);
  CHECK(records.from_other_devices() == 2);
  CHECK(records.from_other_compilers() == 1);
  const auto known = records.find(record("", 0).signature, kTactics, "");
  CHECK(known.stale == 2);
  CHECK(known.best == 1);
}

TEST_CASE("a device profile is asked for where several fit") {
  Record other = record("a", 1);
  other.profile = "orin-30w";
  const std::vector<Record> records = {record("b", 2), other};
  CHECK_THROWS_WITH_AS(Records(records, kScope), doctest::Contains("--device-profile: 'orin-15w', 'orin-30w'"), ir::BuildError);
  tune::Scope scope = kScope;
  scope.profile = "orin-30w";
  const Records chosen(records, scope);
  CHECK(chosen.from_other_devices() == 1);
  CHECK(chosen.find(record("", 0).signature, kTactics, "").best == 0);
}

}  // namespace
