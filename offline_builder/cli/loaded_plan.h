// SPDX-License-Identifier: Apache-2.0
// A plan file ready to run on the host: mapped, verified, prepared with memory of its own.
#pragma once

#include <memory>
#include <string>

#include "edgert/plan.h"
#include "io/file.h"
#include "io/npz.h"

namespace edgert::cli {

/// A mapped and verified plan. Throws IoError when the file cannot be read and BuildError with the runtime's message
/// when it is refused.
class LoadedPlan {
 public:
  explicit LoadedPlan(const std::string& path);
  const PlanView& view() const { return view_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  io::MappedFile file_;
  PlanView view_;
};

/// A session in heap memory of exactly the size that it needs, on `threads` threads. The runtime's headers with all
/// operators are compiled in one file, behind this class; what the methods do is said in edgert/session.h.
class HostSession {
 public:
  HostSession(const LoadedPlan& plan, std::uint32_t threads);
  ~HostSession();
  HostSession(const HostSession&) = delete;
  HostSession& operator=(const HostSession&) = delete;

  Status run();
  Status set_profile(std::uint32_t index);
  std::uint32_t profile() const;
  const PlanView& plan() const;
  TensorView input(std::uint32_t i) const;
  const TensorView& tensor(std::uint32_t index) const;
  std::uint32_t step_count() const;
  Status run_step(std::uint32_t step);
  /// "AVX-512": the instruction set that kernels run with.
  const char* isa_name() const;

  std::uint64_t memory_bytes() const;
  /// Throws BuildError with the last message unless `status` is Ok.
  void require(const Status& status, const std::string& what) const;

  /// Chooses the profile whose shapes these arrays have and copies them in, by binding name. Throws BuildError naming the
  /// array that is missing, superfluous, or of the wrong type or shape.
  void set_inputs(const io::Arrays& arrays);
  /// Fills every input of the current profile: floats normal, integers small, bools either; the same for one seed on
  /// every machine.
  void set_random_inputs(std::uint64_t seed);
  io::Arrays outputs() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A view's elements as a dense array.
io::Array to_array(const TensorView& view);
/// "f32[1,3,224,224]"
std::string to_string(const TensorView& view);

}  // namespace edgert::cli
