// SPDX-License-Identifier: Apache-2.0
// What can only be seen on a real GPU, for plans whose inputs and outputs are floats. Each check runs in a process of its own:
//
//   device_checks runs PLAN COUNT      the same bits COUNT times, all profiles in turn, errors in between, nothing allocated
//   device_checks sessions PLAN COUNT  four sessions of one program at once, each on its stream
//   device_checks memory PLAN          a device without room: an error, and nothing stays allocated
//   device_checks failed PLAN          kernels that fault: the session fails and makes no further call
//   device_checks damage PLAN          flipped bytes in every module
//
// A run is waited for 1 second; with a fourth argument, as under a sanitizer, so many.
// Exit codes: 0 good, 1 not, 77 no GPU.
#include <cstdarg>
#include <cstdlib>

#include "cli/allocation_counter.h"
#include "device/open_plan.h"
#include "edgert/crc32c.h"

namespace {

using namespace edgert;
using namespace edgert::device_tests;

constexpr int kNoDevice = 77;

LastLine line;

[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("%s%s\n", line.text[0] != '\0' ? ": " : "", line.text);
  std::exit(1);
}
void require(const Status& status, const char* what) {
  if (!status.ok()) fail("%s: %s", what, to_string(status.error()));
}
void must(const cuda::Driver& driver, cuda::DriverResult result, const char* call) {
  if (result != cuda::DriverResult::Success) fail("%s: %s", call, driver.name_of(result));
}

/// The driver with its allocators counted.
struct Counted {
  static inline cuda::Driver original;
  static inline std::uint64_t calls = 0;
  static cuda::Driver wrap(const cuda::Driver& driver) {
    original = driver;
    cuda::Driver counted = driver;
    counted.memory_alloc = [](cuda::DevicePointer* pointer, std::size_t bytes) { return ++calls, original.memory_alloc(pointer, bytes); };
    counted.host_alloc = [](void** pointer, std::size_t bytes, unsigned int flags) { return ++calls, original.host_alloc(pointer, bytes, flags); };
    return counted;
  }
};

struct World {
  explicit World(const std::vector<std::byte>& file) : plan(file, line) {
    if (!driver.open(line.sink()).ok()) {
      std::printf("no GPU: %s\n", line.text);
      std::exit(kNoDevice);
    }
    driver = Counted::wrap(driver);
    require(plan.status, "the plan does not load");
    host = std::make_unique<Aligned>(cuda::Program::host_bytes(plan.view));
    require(program.prepare(driver, plan.view, host->span(), {line.sink(), 0}), "the program cannot be prepared");
  }
  cuda::Driver driver;
  Plan plan;
  std::unique_ptr<Aligned> host;
  cuda::Program program;
};

/// Inputs and expected outputs of one profile.
struct Case {
  std::vector<std::vector<std::byte>> inputs, expected, got;
};

void write_inputs(cuda::Session& session, const Case& data) {
  for (std::uint32_t i = 0; i < data.inputs.size(); ++i) require(session.write_input(i, data.inputs[i].data(), data.inputs[i].size()), "write_input");
}
void read_outputs(cuda::Session& session, std::vector<std::vector<std::byte>>& outputs) {
  for (std::uint32_t i = 0; i < outputs.size(); ++i) require(session.read_output(i, outputs[i].data(), outputs[i].size()), "read_output");
}

Case make_case(cuda::Session& session, const PlanView& plan, std::uint32_t profile, std::uint32_t seed) {
  Case data;
  require(session.select(profile), "select");
  for (std::uint32_t i = 0; i < plan.input_count(); ++i) data.inputs.push_back(some_floats(input_bytes(plan, profile, i), seed + i));
  for (std::uint32_t i = 0; i < plan.output_count(); ++i) data.expected.emplace_back(output_bytes(plan, profile, i));
  data.got = data.expected;
  write_inputs(session, data);
  require(session.run(), "run");
  read_outputs(session, data.expected);
  bool any = false;
  for (const std::byte b : data.expected[0]) any = any || b != std::byte{0};
  if (!any) fail("the first output is all zeros");
  return data;
}

/// Calls that must be refused, and leave the session as it is.
void misuse(cuda::Session& session, const PlanView& plan, Case& data) {
  const auto expect = [](const Status& status, Error error, const char* what) {
    if (status.error() != error) fail("%s answers %s", what, to_string(status.error()));
  };
  expect(session.select(plan.profile_count()), Error::InvalidArgument, "select of no profile");
  expect(session.select(0, 1), Error::InvalidArgument, "select of no set");
  expect(session.write_input(plan.input_count(), data.inputs[0].data(), 1), Error::InvalidArgument, "write_input of no input");
  expect(session.read_output(0, data.got[0].data(), std::size_t{1} << 40), Error::InvalidArgument, "read_output of too much");
  expect(session.run_step(1u << 30), Error::InvalidArgument, "run_step of no step");
  expect(session.read_storage(1u << 30, data.got[0].data()), Error::InvalidArgument, "read_storage of none");
}

int check_runs(const std::vector<std::byte>& file, long count, std::uint64_t deadline) {
  World world(file);
  Runner runner(world.program, line);
  require(runner.status, "the session cannot be prepared");
  const PlanView& plan = world.plan.view;
  std::vector<Case> cases;
  for (std::uint32_t p = 0; p < plan.profile_count(); ++p) cases.push_back(make_case(runner.session, plan, p, 7 * p + 1));
  const std::uint64_t device_before = Counted::calls;
  cli::start_counting_allocations();
  for (long run = 0; run < count; ++run) {
    const auto profile = static_cast<std::uint32_t>(run) % plan.profile_count();
    Case& data = cases[profile];
    if (run % 1000 < plan.profile_count()) misuse(runner.session, plan, data);
    require(runner.session.select(profile), "select");
    // Profiles share the buffers of inputs and outputs.
    if (plan.profile_count() > 1 || run % 1000 == 0) write_inputs(runner.session, data);
    if (run % 2 == 0) {
      require(runner.session.run(), "run");
    } else {
      require(runner.session.enqueue(runner.session.stream()), "enqueue");
      require(runner.session.wait(deadline), "wait");
    }
    read_outputs(runner.session, data.got);
    for (std::size_t i = 0; i < data.got.size(); ++i) {
      if (std::memcmp(data.got[i].data(), data.expected[i].data(), data.got[i].size()) != 0) fail("run %ld gives other bits than the first", run + 1);
    }
  }
  const auto host = cli::stop_counting_allocations();
  const std::uint64_t device = Counted::calls - device_before;
  if (!host) fail("host allocations cannot be counted in this build");
  std::printf("%ld runs, %u profiles, the same bits; allocations: %llu on the host, %llu on the device; the driver's own on the host: %llu\n", count,
              plan.profile_count(), static_cast<unsigned long long>(host->own), static_cast<unsigned long long>(device),
              static_cast<unsigned long long>(host->libraries));
  return host->own == 0 && device == 0 ? 0 : 1;
}

int check_sessions(const std::vector<std::byte>& file, long count, std::uint64_t deadline) {
  constexpr std::uint32_t kSessions = 4;
  World world(file);
  const PlanView& plan = world.plan.view;
  std::vector<std::unique_ptr<Runner>> runners;
  std::vector<Case> cases;
  for (std::uint32_t s = 0; s < kSessions; ++s) {
    runners.push_back(std::make_unique<Runner>(world.program, line));
    require(runners.back()->status, "a session cannot be prepared");
    cases.push_back(make_case(runners.back()->session, plan, 0, 100 * s + 1));
  }
  if (cases[0].expected == cases[1].expected) fail("different inputs give the same outputs");
  for (long round = 0; round < count; ++round) {
    // Several rounds are queued before anybody waits, so that graphs of different sessions run side by side.
    for (std::uint32_t depth = 0; depth < 3; ++depth) {
      for (const auto& runner : runners) require(runner->session.enqueue(runner->session.stream()), "enqueue");
    }
    for (std::uint32_t s = 0; s < kSessions; ++s) {
      require(runners[s]->session.wait(deadline), "wait");
      read_outputs(runners[s]->session, cases[s].got);
      if (cases[s].got != cases[s].expected) fail("session %u gives other bits in round %ld than alone", s, round + 1);
    }
  }
  std::printf("%u sessions at once, %ld rounds of 3 runs, each with the bits that it gives alone\n", kSessions, count);
  return 0;
}

std::size_t free_bytes(const cuda::Driver& driver) {
  std::size_t free = 0, total = 0;
  must(driver, driver.memory_info(&free, &total), "cuMemGetInfo");
  return free;
}

int check_memory(const std::vector<std::byte>& file) {
  World world(file);
  const cuda::ContextScope scope(world.driver, world.program.context());
  const cuda::Driver& driver = world.driver;
  // Everything is taken, down to pieces smaller than what a session needs.
  std::vector<cuda::DevicePointer> taken;
  const std::uint64_t least = cuda::Session::device_bytes(world.plan.view) / 2 + 1;
  for (std::size_t piece = free_bytes(driver); piece >= least && piece > 4096;) {
    cuda::DevicePointer pointer = 0;
    if (driver.memory_alloc(&pointer, piece) == cuda::DriverResult::Success) taken.push_back(pointer);
    else piece = piece / 8 * 7;
  }
  {
    Runner runner(world.program, line);
    if (runner.status.ok()) fail("a session was prepared although there is no memory");
    if (std::strstr(line.text, "OUT_OF_MEMORY") == nullptr) fail("the error does not say that memory is short");
    if (runner.session.run().error() != Error::NotPrepared) fail("a session that was not prepared runs");
  }
  const std::string said = line.text;
  for (const cuda::DevicePointer pointer : taken) must(driver, driver.memory_free(pointer), "cuMemFree");
  const std::size_t before = free_bytes(driver);
  for (int i = 0; i < 20; ++i) {
    Runner runner(world.program, line);
    require(runner.status, "a session cannot be prepared although memory is free again");
    require(runner.session.run(), "run");
  }
  const std::size_t lost = before - std::min(before, free_bytes(driver));
  if (lost > (std::size_t{16} << 20)) fail("%zu bytes of device memory are gone after 20 sessions", lost);
  std::printf("refused with \"%s\"; works again once there is room\n", said.c_str());
  return 0;
}

int check_failed(const std::vector<std::byte>& file) {
  World world(file);
  const PlanView& plan = world.plan.view;
  const cuda::ContextScope scope(world.driver, world.program.context());
  // The caller's buffers, large enough that the driver gives their pages back; then they are freed under the session.
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  std::vector<cuda::DevicePointer> bindings(plan.input_count() + plan.output_count());
  for (cuda::DevicePointer& binding : bindings) must(world.driver, world.driver.memory_alloc(&binding, kBytes), "cuMemAlloc");
  Runner runner(world.program, line, {bindings.data(), bindings.size()});
  require(runner.status, "the session cannot be prepared");
  require(runner.session.run(), "run");
  for (const cuda::DevicePointer binding : bindings) must(world.driver, world.driver.memory_free(binding), "cuMemFree");
  const Status failed = runner.session.run();
  if (failed.error() != Error::DeviceFailed || !runner.session.failed()) fail("a run on freed memory answers %s", to_string(failed.error()));
  const std::string said = line.text;
  line.text[0] = '\0';
  const Status later[] = {runner.session.run(), runner.session.poll(), runner.session.wait(1000), runner.session.reset(),
                          runner.session.enqueue(runner.session.stream())};
  for (const Status& status : later) {
    if (status.error() != Error::DeviceFailed) fail("a failed session answers %s", to_string(status.error()));
  }
  if (line.text[0] != '\0') fail("a failed session calls the driver again");
  runner.session.close();
  std::printf("failed with \"%s\"; later calls return DeviceFailed without reaching the driver\n", said.c_str());
  return 0;
}

/// Checksums as they should be for what the file holds.
void reseal(std::vector<std::byte>& file) {
  PlanHeader header;
  std::memcpy(&header, file.data(), sizeof(header));
  std::vector<SectionEntry> entries(header.section_count);
  std::memcpy(entries.data(), file.data() + sizeof(header), entries.size() * sizeof(SectionEntry));
  for (SectionEntry& entry : entries) entry.crc32c = crc32c(file.data() + entry.offset, entry.size);
  header.section_table_crc = crc32c(entries.data(), entries.size() * sizeof(SectionEntry));
  header.header_crc = crc32c(&header, offsetof(PlanHeader, header_crc));
  std::memcpy(file.data(), &header, sizeof(header));
  std::memcpy(file.data() + sizeof(header), entries.data(), entries.size() * sizeof(SectionEntry));
}

int check_damage(const std::vector<std::byte>& file) {
  World world(file);
  PlanHeader header;
  std::memcpy(&header, file.data(), sizeof(header));
  int flips = 0, refused = 0, resealed = 0, caught = 0;
  for (std::uint32_t s = 0; s < header.section_count; ++s) {
    SectionEntry entry;
    std::memcpy(&entry, file.data() + sizeof(header) + s * sizeof(entry), sizeof(entry));
    if (entry.kind != SectionKind::Module) continue;
    constexpr std::size_t kHeader[4] = {0, 4, 7, 18};  // magic, class, ABI and machine of an ELF image
    for (std::size_t i = 0; i < 8; ++i) {
      std::vector<std::byte> damaged = file;
      const std::size_t at = entry.offset + (i < 4 ? kHeader[i] : entry.size / 9 * i);
      damaged[at] ^= std::byte{0x10};
      ++flips;
      refused += Plan(damaged, line).status.ok() ? 0 : 1;
      if (i >= 4) continue;
      // With its checksum made right again, damage of the image's header meets the checks before the driver sees it.
      reseal(damaged);
      const Plan plan(damaged, line);
      require(plan.status, "a plan with right checksums does not load");
      Aligned host(cuda::Program::host_bytes(plan.view));
      cuda::Program program;
      ++resealed;
      caught += program.prepare(world.driver, plan.view, host.span(), {line.sink(), 0}).ok() ? 0 : 1;
    }
  }
  std::printf("%d of %d flipped bytes refused; with checksums made right, %d of %d in ELF headers\n", refused, flips, caught, resealed);
  return refused == flips && flips > 0 && caught == resealed ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: device_checks runs|sessions|memory|failed|damage PLAN [COUNT [SECONDS]]\n");
    return 2;
  }
  const std::string what = argv[1];
  const std::vector<std::byte> file = read_file(argv[2]);
  const long count = argc > 3 ? std::atol(argv[3]) : 1000;
  const std::uint64_t deadline = (argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 1) * 1000000000;
  if (what == "runs") return check_runs(file, count, deadline);
  if (what == "sessions") return check_sessions(file, count, deadline);
  if (what == "memory") return check_memory(file);
  if (what == "failed") return check_failed(file);
  if (what == "damage") return check_damage(file);
  std::fprintf(stderr, "device_checks: unknown check %s\n", argv[1]);
  return 2;
}
