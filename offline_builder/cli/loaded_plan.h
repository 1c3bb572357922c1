// SPDX-License-Identifier: Apache-2.0
// A plan file ready to run on the host: mapped, verified, prepared with memory of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "edgert/plan.h"
#include "io/file.h"
#include "io/npz.h"
#include "ir/types.h"

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

/// A session on a plan, on the CPU or on a GPU, as the commands use it. Inputs are filled in host memory and then
/// committed; results and what lies between are fetched.
class PlanSession {
 public:
  explicit PlanSession(const LoadedPlan& plan) : plan_(plan) {}
  virtual ~PlanSession() = default;
  PlanSession(const PlanSession&) = delete;
  PlanSession& operator=(const PlanSession&) = delete;

  virtual Status run() = 0;
  virtual Status set_profile(std::uint32_t index) = 0;
  virtual std::uint32_t profile() const = 0;
  virtual Status run_step(std::uint32_t step) = 0;
  /// Host memory of an input; commit_inputs() makes what was written there the input of the next run.
  virtual TensorView input(std::uint32_t i) = 0;
  virtual void commit_inputs() = 0;
  virtual TensorView output(std::uint32_t i) = 0;
  /// A tensor of the current profile as it is now, in host memory until the next call of any method; commit() writes back
  /// what was changed there.
  virtual TensorView fetch(std::uint32_t tensor) = 0;
  virtual void commit(std::uint32_t tensor) = 0;
  /// "AMD EPYC (AVX-512)", "NVIDIA H200 (sm_90)"
  virtual std::string device_name() const = 0;
  virtual std::uint64_t memory_bytes() const = 0;
  /// Throws BuildError when an output is not what the plan's golden vectors say, or where there are none.
  virtual void self_test() = 0;

  const PlanView& plan() const { return plan_.view(); }
  const LoadedPlan& loaded() const { return plan_; }
  std::uint32_t step_count() const;
  /// Throws BuildError with the last message unless `status` is Ok.
  void require(const Status& status, const std::string& what) const;
  /// Chooses the profile whose shapes these arrays have and copies them in, by binding name. Throws BuildError naming the
  /// array that is missing, superfluous, or of the wrong type or shape.
  void set_inputs(const io::Arrays& arrays);
  /// Fills every input of the current profile: floats normal, integers small, bools either; the same for one seed on
  /// every machine.
  void set_random_inputs(std::uint64_t seed);
  io::Arrays outputs();

 protected:
  LogSink log();
  std::string message_;  ///< what the runtime logged last

 private:
  const LoadedPlan& plan_;
};

/// A session in memory of exactly the size that it needs: on `threads` threads of this CPU, or on the GPU that a plan with
/// kernels needs. Throws BuildError when the machine lacks it.
std::unique_ptr<PlanSession> open_session(const LoadedPlan& plan, std::uint32_t threads);

/// Random values for each input of a profile, as set_random_inputs() makes them; dense, in binding order.
std::vector<ir::Bytes> random_inputs(const PlanView& plan, std::uint32_t profile, std::uint64_t seed);

/// A view's elements as a dense array.
io::Array to_array(const TensorView& view);
/// "f32[1,3,224,224]"
std::string to_string(const TensorView& view);

}  // namespace edgert::cli
