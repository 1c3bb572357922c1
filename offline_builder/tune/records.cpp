// SPDX-License-Identifier: Apache-2.0
#include "tune/records.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "ir/types.h"

namespace edgert::tune {
namespace {

constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kMaxLine = 1 << 16;
constexpr std::size_t kMaxText = 4096;
constexpr double kMaxMicroseconds = 1e9;
constexpr const char* kVerdicts[] = {"ok", "wrong", "out of bounds", "unsteady", "failed", "hung", "crashed"};

/// Reads the fields of one line; what() says which is wrong.
class Fields {
 public:
  explicit Fields(const nlohmann::json& json) : json_(json) {}

  std::string text(const char* key, bool required) const {
    const nlohmann::json* value = find(key, required);
    if (value == nullptr) return {};
    if (!value->is_string()) fail(key, "is no text");
    std::string out = value->get<std::string>();
    if (out.size() > kMaxText) fail(key, "is too long");
    if (required && out.empty()) fail(key, "is empty");
    return out;
  }
  std::uint32_t number(const char* key, bool required, std::uint32_t limit) const {
    const nlohmann::json* value = find(key, required);
    if (value == nullptr) return 0;
    if (!value->is_number_unsigned() || value->get<std::uint64_t>() > limit) fail(key, "is no number from 0 to " + std::to_string(limit));
    return value->get<std::uint32_t>();
  }
  double microseconds(const char* key) const {
    const nlohmann::json* value = find(key, false);
    if (value == nullptr) return 0;
    const double out = value->is_number() ? value->get<double>() : -1;
    if (!(out >= 0 && out <= kMaxMicroseconds)) fail(key, "is no time in microseconds");
    return out;
  }
  bool flag(const char* key) const {
    const nlohmann::json* value = find(key, false);
    if (value == nullptr) return false;
    if (!value->is_boolean()) fail(key, "is neither true nor false");
    return value->get<bool>();
  }
  [[noreturn]] static void fail(const std::string& key, const std::string& why) { throw ir::BuildError("\"" + key + "\" " + why); }

 private:
  const nlohmann::json* find(const char* key, bool required) const {
    const auto found = json_.find(key);
    if (found != json_.end()) return &*found;
    if (required) fail(key, "is missing");
    return nullptr;
  }
  const nlohmann::json& json_;
};

Record parse_line(std::string_view line) {
  if (line.size() > kMaxLine) throw ir::BuildError("the line is longer than " + std::to_string(kMaxLine) + " bytes");
  const nlohmann::json json = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
  if (json.is_discarded()) throw ir::BuildError("is no JSON");
  if (!json.is_object()) throw ir::BuildError("is no JSON object");
  const Fields fields(json);
  const std::uint32_t version = fields.number("version", true, UINT32_MAX);
  if (version != kVersion) throw ir::BuildError("has version " + std::to_string(version) + ", this builder reads version " + std::to_string(kVersion));
  Record r;
  r.signature = fields.text("signature", true), r.tactic = fields.text("tactic", true), r.kernel = fields.text("kernel", true);
  r.sm = fields.number("sm", true, 10000), r.multiprocessors = fields.number("multiprocessors", true, 1u << 20);
  r.nvrtc = fields.text("nvrtc", true), r.network = fields.text("network", false);
  r.profile = fields.text("profile", true), r.device = fields.text("device", false), r.driver = fields.text("driver", false);
  r.clock_khz = fields.number("clock_khz", false, UINT32_MAX), r.memory_clock_khz = fields.number("memory_clock_khz", false, UINT32_MAX);
  r.verdict = fields.text("verdict", true), r.detail = fields.text("detail", false);
  r.median_us = fields.microseconds("median_us"), r.low_us = fields.microseconds("low_us"), r.high_us = fields.microseconds("high_us");
  r.cold_us = fields.microseconds("cold_us");
  r.pin = fields.flag("pin");
  if (std::find(std::begin(kVerdicts), std::end(kVerdicts), r.verdict) == std::end(kVerdicts)) Fields::fail("verdict", "is unknown: " + r.verdict.substr(0, 64));
  if (r.pin && !r.ok()) throw ir::BuildError("pins a tactic whose verdict is \"" + r.verdict + "\"");
  return r;
}

}  // namespace

std::string to_line(const Record& r) {
  nlohmann::ordered_json json;
  json["version"] = kVersion;
  json["signature"] = r.signature, json["tactic"] = r.tactic, json["kernel"] = r.kernel;
  json["sm"] = r.sm, json["multiprocessors"] = r.multiprocessors, json["nvrtc"] = r.nvrtc;
  if (!r.network.empty()) json["network"] = r.network;
  json["profile"] = r.profile, json["device"] = r.device, json["driver"] = r.driver;
  json["clock_khz"] = r.clock_khz, json["memory_clock_khz"] = r.memory_clock_khz;
  json["verdict"] = r.verdict;
  if (!r.detail.empty()) json["detail"] = r.detail;
  json["median_us"] = r.median_us, json["low_us"] = r.low_us, json["high_us"] = r.high_us;
  if (r.cold_us > 0) json["cold_us"] = r.cold_us;
  if (r.pin) json["pin"] = true;
  // Names of devices and messages of drivers are not always UTF-8.
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::vector<Record> parse_records(std::string_view text, const std::string& name) {
  std::vector<Record> records;
  for (std::size_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    try {
      records.push_back(parse_line(line));
    } catch (const ir::BuildError& error) {
      throw ir::BuildError(name + ":" + std::to_string(number) + ": tuning record: " + error.what());
    }
  }
  return records;
}

Records::Records(const std::vector<Record>& all, const Scope& scope) {
  std::set<std::string> profiles;
  for (const Record& record : all) {
    if (record.sm != scope.sm || record.multiprocessors != scope.multiprocessors || (!scope.profile.empty() && record.profile != scope.profile)) {
      ++other_devices_;
    } else if (record.nvrtc != scope.nvrtc) {
      ++other_compilers_;
    } else {
      kept_.push_back(record);
      profiles.insert(record.profile);
    }
  }
  if (profiles.size() < 2) return;
  std::string names;
  for (const std::string& profile : profiles) names += (names.empty() ? "'" : ", '") + profile + "'";
  throw ir::BuildError("the tuning records are of several devices or power modes: choose one with --device-profile: " + names);
}

Records::Known Records::find(const std::string& signature, const std::vector<Tactic>& tactics, const std::string& network) const {
  Known known;
  known.alone.resize(tactics.size());
  std::optional<std::size_t> pinned, chosen, fastest;
  for (const Record& record : kept_) {
    if (record.signature != signature) continue;
    const auto found = std::find_if(tactics.begin(), tactics.end(), [&](const Tactic& t) { return t.name == record.tactic && t.kernel == record.kernel; });
    if (found == tactics.end()) {
      ++known.stale;
      continue;
    }
    const auto index = static_cast<std::size_t>(found - tactics.begin());
    if (record.pin) pinned = index;
    if (record.network.empty()) known.alone[index] = record;
    else if (record.network == network && record.ok()) chosen = index;
  }
  for (std::size_t i = 0; i < tactics.size(); ++i) {
    if (!known.alone[i] || !known.alone[i]->ok()) continue;
    if (!fastest || known.alone[i]->median_us < known.alone[*fastest]->median_us) fastest = i;
  }
  known.pinned = pinned.has_value();
  known.in_network = pinned || chosen;
  known.best = pinned ? pinned : chosen ? chosen : fastest;
  return known;
}

}  // namespace edgert::tune
