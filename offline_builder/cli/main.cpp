// SPDX-License-Identifier: Apache-2.0
// edgert: builds plans, runs, times, inspects and compares them.
#include <CLI/CLI.hpp>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cstdio>
#include <system_error>

#include "cli/command.h"
#include "codegen/nvrtc.h"
#include "io/file.h"
#include "ir/types.h"

namespace {

using namespace edgert::cli;

/// Weights that were packed go back to the system at once, so that a build holds them about once: glibc would keep them,
/// since it takes what was freed before for a sign that as much will be wanted again.
void return_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 64 * 1024);
#endif
}

int report(const char* what, int code) {
  std::fprintf(stderr, "edgert: %s\n", what);
  return code;
}

int run_program(int argc, char** argv) {
  CLI::App program("Builds an ONNX model into a plan and runs plans without allocating.\n\n"
                   "Examples:\n"
                   "  edgert build model.onnx -o model.plan\n"
                   "  edgert run model.plan --image photo.png\n"
                   "  edgert bench model.plan --threads 2 --json\n"
                   "  edgert compare model.plan model.onnx --layers\n\n"
                   "Exit codes: 0 ok, 1 comparison failed, 2 usage, 3 bad or unsupported input, 4 I/O, 5 internal.");
  program.name("edgert");
  program.set_version_flag("--version", std::string("edgert ") + EDGERT_VERSION);
  program.require_subcommand(1);
  std::function<int()> run;
  for (const AddCommand add : {&add_build, &add_run, &add_bench, &add_inspect, &add_compare, &add_doctor}) add(program, run);
  // CLI11 would only say that a command is missing.
  const auto is_wanted = [&](const CLI::App* command) { return command->get_name() == argv[1]; };
  if (argc > 1 && argv[1][0] != '-' && program.get_subcommands(std::function<bool(CLI::App*)>(is_wanted)).empty()) {
    throw UsageError(std::string("unknown command '") + argv[1] + "'; edgert --help lists them");
  }
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return program.exit(error) == 0 ? kOk : kUsage;
  }
  const int code = run();
  // Results that did not arrive, on a full disk for example, are no success.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) throw edgert::io::IoError("cannot write to the standard output");
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  return_freed_memory();
  try {
    return run_program(argc, argv);
  } catch (const UsageError& error) {
    return report(error.what(), kUsage);
  } catch (const edgert::ir::BuildError& error) {
    return report(error.what(), kBadInput);
  } catch (const edgert::codegen::CompileError& error) {
    return report(error.what(), kBadInput);
  } catch (const edgert::io::IoError& error) {
    return report(error.what(), kIo);
  } catch (const std::system_error& error) {
    return report(error.what(), kIo);
  } catch (const std::bad_alloc&) {
    return report("out of memory", kIo);
  } catch (const std::exception& error) {
    return report((std::string("internal error: ") + error.what()).c_str(), kInternal);
  }
}
