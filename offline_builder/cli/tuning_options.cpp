// SPDX-License-Identifier: Apache-2.0
#include "cli/tuning_options.h"

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/command.h"
#include "cli/progress.h"
#include "io/file.h"

namespace edgert::cli {
namespace {

/// The program beside this one.
std::string default_worker() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    const std::filesystem::path beside = self.parent_path() / "edgert-worker";
    if (std::filesystem::exists(beside, error)) return beside.string();
  }
  return "edgert-worker";
}

std::vector<std::string> split(const std::string& command) {
  std::istringstream stream(command);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::vector<tune::Record> read_records(const std::string& path, bool may_be_missing) {
  std::error_code error;
  if (may_be_missing && !std::filesystem::exists(path, error)) return {};
  const io::MappedFile file(path);
  return tune::parse_records({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path);
}

/// Appends lines, each at once: what was measured survives whatever comes later.
class RecordFile {
 public:
  explicit RecordFile(const std::string& path) : path_(path) {
    std::error_code error;
    bool ends = true;  // with a newline; else the first record would continue its last line
    if (std::filesystem::is_regular_file(path, error) && std::filesystem::file_size(path, error) > 0) {
      std::ifstream old(path, std::ios::binary);
      old.seekg(-1, std::ios::end);
      ends = old.get() == '\n';
    }
    stream_.open(path, std::ios::binary | std::ios::app);
    if (!ends) stream_ << '\n';
    check();
  }
  void append(const tune::Record& record) {
    stream_ << tune::to_line(record) << '\n' << std::flush;
    check();
  }

 private:
  void check() {
    if (!stream_) throw io::IoError("--tuning-records " + path_ + ": " + std::strerror(errno));
  }
  std::string path_;
  std::ofstream stream_;
};

}  // namespace

void add_tuning_options(CLI::App& command, TuningArguments& a) {
  command.add_flag("--tune", a.tune, "For a GPU: verify and time tactics on the device of this machine, which must be the target; --target local does so too");
  command.add_option("--tune-seconds", a.seconds, "What the device may be kept busy for in all; every shape is measured once in any case")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  command.add_option("--tuning-records", a.records, "JSON lines with what was measured: tactics are taken from there, and what is measured is added");
  command.add_option("--device-profile", a.profile, "Name of device and power mode in the records, such as orin-15w; default: the device's name");
  command.add_flag("--error-on-miss", a.error_on_miss, "Fail where the records do not say which tactic to take, instead of estimating");
  command.add_option("--worker", a.worker, "Command that runs edgert-worker; default: the one beside this program");
}

std::shared_ptr<tune::Worker> open_worker(const TuningArguments& a, const CudaArguments& cuda) {
  const bool measures = a.tune || cuda.target == "local";
  if (cuda.target == "cpu" && (a.tune || !a.records.empty() || !a.profile.empty() || a.error_on_miss)) {
    throw UsageError("--tune, --tuning-records, --device-profile and --error-on-miss are for GPUs: give --target sm_87 or the like");
  }
  if (a.error_on_miss && a.records.empty()) throw UsageError("--error-on-miss needs --tuning-records");
  if (a.error_on_miss && measures) throw UsageError("--error-on-miss and tuning exclude each other: tuning measures what the records miss");
  if (!measures) return nullptr;
  tune::WorkerOptions options;
  options.command = a.worker.empty() ? std::vector<std::string>{default_worker()} : split(a.worker);
  options.multiprocessors = static_cast<std::uint32_t>(cuda.multiprocessors);
  return std::make_shared<tune::Worker>(std::move(options));
}

std::optional<plan::TuningOptions> tuning_options(const TuningArguments& a, std::shared_ptr<tune::Worker> worker, Progress& progress) {
  if (worker == nullptr && a.records.empty()) return std::nullopt;
  plan::TuningOptions options;
  options.worker = std::move(worker);
  options.seconds = a.seconds;
  options.profile = a.profile;
  options.error_on_miss = a.error_on_miss;
  if (!a.records.empty()) {
    options.records = read_records(a.records, options.worker != nullptr);
    if (options.worker != nullptr) {
      options.on_record = [file = std::make_shared<RecordFile>(a.records)](const tune::Record& record) { file->append(record); };
    }
  }
  options.progress = [&progress](const std::string& what, double fraction) { progress.update("tune " + what, 0.8 + 0.2 * fraction); };
  return options;
}

void print_tuning(const plan::TuningReport& r) {
  std::printf("  tactics: %zu shapes, %zu from records, %zu measured (%zu kernels, %zu not right), %zu estimated", r.shapes, r.from_records, r.measured,
              r.kernels, r.rejected.size(), r.missed);
  if (r.seconds > 0) std::printf(", %.1f s on %s", r.seconds, r.device.c_str());
  std::printf("\n");
  if (r.tuned_us > 0) std::printf("  network: %.1f us with estimated tactics, %.1f us tuned (%zu trials)\n", r.untuned_us, r.tuned_us, r.trials);
  if (r.other_devices + r.other_compilers + r.stale > 0) {
    std::printf("  records not used: %zu of other devices, %zu of other NVRTC versions, %zu of older kernels\n", r.other_devices, r.other_compilers, r.stale);
  }
  for (const std::string& rejected : r.rejected) std::printf("  not used: %s\n", rejected.c_str());
}

}  // namespace edgert::cli
