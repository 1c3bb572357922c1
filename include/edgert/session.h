// SPDX-License-Identifier: Apache-2.0
// Running a plan on the CPU: prepare once in the caller's memory, then run as often as needed without any allocation.
//
//   alignas(64) static std::byte memory[...];                        // or memory_bytes() at run time
//   edgert::Session<> session;
//   session.prepare(plan, memory)   ->  session.input("image")  ->  session.run()  ->  session.output("logits")
#pragma once

#include <atomic>
#include <cstring>
#include <new>

#include "edgert/cpu/isa/detect.h"
#include "edgert/cpu/operator.h"
#include "edgert/generated/all_operators.h"
#include "edgert/plan.h"
#include "edgert/session_memory.h"

namespace edgert {

/// Threads of the caller. `run` calls body(context, part, thread) once for every part in [0, parts), with
/// thread < `threads` and never two calls at once with the same thread number, and returns when all have returned.
struct ThreadPool {
  void (*run)(void* user, std::uint32_t parts, void (*body)(void* context, std::uint32_t part, std::uint32_t thread),
              void* context) = nullptr;
  void* user = nullptr;
  std::uint32_t threads = 1;
};

struct SessionOptions {
  LogSink log;
  ThreadPool pool;  ///< without one, everything runs on the calling thread
  /// The caller binds all inputs and outputs to memory of its own, so the session holds none for them.
  bool external_io = false;
};

/// A plan ready to run, in memory that the caller keeps. One caller at a time; several sessions may share one plan. Not
/// movable while prepared. `Operators` is what the program can run: cpu::AllOperators or the set that a plan needs.
template <class Operators = cpu::AllOperators>
class Session {
 public:
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// What prepare() will need. Runs every operator's check, so a plan that passes here passes in prepare().
  static Result<SessionNeeds> needs(const PlanView& plan, const LogSink& log = {}) noexcept {
    SessionNeeds total;
    total.bindings = plan.input_count() + plan.output_count();
    total.state_bytes = plan.table().state_bytes();
    for (std::uint32_t b = 0; b < total.bindings; ++b) total.io_bytes += align_up(binding_bytes(plan, b), 64);
    for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
      EDGERT_RETURN_IF_ERROR(add_profile_needs(plan, p, log, total));
    }
    return total;
  }

  /// Bytes that prepare() needs for these options.
  static Result<std::uint64_t> memory_bytes(const PlanView& plan, const SessionOptions& options = {}) noexcept {
    const Result<SessionNeeds> wanted = needs(plan, options.log);
    if (!wanted.ok()) return wanted.status();
    return session_bytes(*wanted, thread_count(options), options.external_io);
  }

  /// Lays the session out in `memory` (aligned to 64), zeroes it, resets the states and selects profile 0. `plan`'s bytes
  /// and `memory` must outlive the session's use. May be called again, also after a failure.
  Status prepare(const PlanView& plan, Span<std::byte> memory, const SessionOptions& options = {}) noexcept {
    prepared_ = false;
    plan_ = plan;
    options_ = options;
    const Result<SessionNeeds> wanted = needs(plan, options.log);
    if (!wanted.ok()) return wanted.status();
    const std::uint64_t bytes = session_bytes(*wanted, thread_count(options), options.external_io);
    if (reinterpret_cast<std::uintptr_t>(memory.data()) % 64 != 0) {
      log_line("session memory must be aligned to 64 bytes", 0);
      return {Error::ArenaMisaligned, 0, 64};
    }
    if (memory.size() < bytes) {
      Message message;
      message << "session memory has " << static_cast<std::uint64_t>(memory.size()) << " bytes, the plan needs " << bytes;
      message.to(options.log);
      return {Error::ArenaTooSmall, 0, bytes};
    }
    std::memset(memory.data(), 0, static_cast<std::size_t>(bytes));
    isa_ = cpu::detect_isa();
    carve(memory.data(), *wanted);
    prepared_ = true;
    reset();
    return set_profile(0);
  }

  /// Makes profile `index` the one that run() executes. Bound buffers stay bound; arena contents are lost.
  Status set_profile(std::uint32_t index) noexcept {
    if (!prepared_) return Error::NotPrepared;
    if (index >= plan_.profile_count()) return {Error::InvalidArgument, index};
    profile_ = index;
    const schema::Profile& profile = plan_.profile(index);
    for (std::uint32_t i = 0; i < rules::count(profile.tensors()); ++i) resolve(profile, i);
    std::uint32_t step_index = 0;
    std::uint32_t operand_index = 0;
    for (std::uint32_t l = 0; l < rules::count(profile.lists()); ++l) {
      const schema::StepList& list = *profile.lists()->Get(l);
      lists_[l] = {step_index, rules::count(list.steps())};
      for (std::uint32_t i = 0; i < rules::count(list.steps()); ++i) {
        add_step(*list.steps()->Get(i), steps_[step_index++], operand_index);
      }
    }
    return {};
  }
  std::uint32_t profile() const noexcept { return profile_; }

  /// The profile whose input shapes are those of `inputs`, in binding order; NameNotFound when there is none.
  Result<std::uint32_t> find_profile(Span<const TensorView> inputs) const noexcept {
    if (!prepared_) return Error::NotPrepared;
    for (std::uint32_t p = 0; p < plan_.profile_count(); ++p) {
      bool equal = inputs.size() == plan_.input_count();
      for (std::uint32_t i = 0; equal && i < plan_.input_count(); ++i) equal = same_dims(inputs[i], plan_.input(p, i));
      if (equal) return p;
    }
    return Error::NameNotFound;
  }

  /// Writes the initial values of all persistent tensors (or zeros). Does nothing before prepare().
  void reset() noexcept {
    if (!prepared_) return;
    for (std::uint32_t i = 0; i < rules::count(plan_.table().states()); ++i) {
      const schema::State& state = *plan_.table().states()->Get(i);
      if (state.size() == 0) continue;
      if (state.has_initial()) {
        std::memcpy(state_ + state.offset(), plan_.weights().data() + state.initial_offset(), static_cast<std::size_t>(state.size()));
      } else {
        std::memset(state_ + state.offset(), 0, static_cast<std::size_t>(state.size()));
      }
    }
  }

  /// Number of the input or output of that name.
  Result<std::uint32_t> find_input(const char* name) const noexcept {
    if (!prepared_) return Error::NotPrepared;
    return find_binding(plan_.input_count(), name, [this](std::uint32_t i) { return plan_.input_name(i); });
  }
  Result<std::uint32_t> find_output(const char* name) const noexcept {
    if (!prepared_) return Error::NotPrepared;
    return find_binding(plan_.output_count(), name, [this](std::uint32_t i) { return plan_.output_name(i); });
  }

  /// Uses the caller's memory for input i or output i from now on, in every profile: aligned to 64, of the size of the
  /// binding in its largest profile, kept alive by the caller. For inputs nothing is ever written there.
  Status bind_input(std::uint32_t i, const void* data, std::size_t bytes) noexcept {
    if (!prepared_) return Error::NotPrepared;
    if (i >= plan_.input_count()) return {Error::InvalidArgument, i};
    return bind(i, const_cast<void*>(data), bytes);
  }
  Status bind_output(std::uint32_t i, void* data, std::size_t bytes) noexcept {
    if (!prepared_) return Error::NotPrepared;
    if (i >= plan_.output_count()) return {Error::InvalidArgument, i};
    return bind(plan_.input_count() + i, data, bytes);
  }

  /// Input i of the current profile: write the data there before run(). `data` is null for unbound external I/O.
  Result<TensorView> input(std::uint32_t i) const noexcept {
    if (!prepared_) return Error::NotPrepared;
    if (i >= plan_.input_count()) return Status(Error::InvalidArgument, i);
    return tensors_[plan_.profile(profile_).inputs()->Get(i)];
  }
  Result<TensorView> input(const char* name) const noexcept {
    const Result<std::uint32_t> found = find_input(name);
    return found.ok() ? input(*found) : Result<TensorView>(found.status());
  }
  /// Output i of the current profile, valid after run() until the next one. Bounded extents are the actual ones.
  Result<TensorView> output(std::uint32_t i) const noexcept {
    if (!prepared_) return Error::NotPrepared;
    if (i >= plan_.output_count()) return Status(Error::InvalidArgument, i);
    const schema::Profile& profile = plan_.profile(profile_);
    const std::uint32_t index = profile.outputs()->Get(i);
    TensorView view = tensors_[index];
    const schema::Tensor& tensor = *profile.tensors()->Get(index);
    for (std::uint32_t e = 0; e < rules::count(tensor.extents()); ++e) {
      const schema::Extent& extent = *tensor.extents()->Get(e);
      const std::int64_t* counted = tensors_[extent.tensor()].template as<std::int64_t>();
      if (counted == nullptr) return Status(Error::NotPrepared, i);  // an external input that nobody bound yet
      const std::int64_t actual = *counted;
      if (actual < 0 || actual > view.dims[extent.dim()]) return Status(Error::ExtentMismatch, i);
      view.dims[extent.dim()] = actual;
    }
    return view;
  }
  Result<TensorView> output(const char* name) const noexcept {
    const Result<std::uint32_t> found = find_output(name);
    return found.ok() ? output(*found) : Result<TensorView>(found.status());
  }

  /// Runs the current profile once. Never allocates. After an error the outputs are undefined, the session stays usable.
  Status run() noexcept {
    if (!prepared_) return Error::NotPrepared;
    for (std::uint32_t b = 0; b < plan_.input_count() + plan_.output_count(); ++b) {
      if (bindings_[b] == nullptr) {
        log_line("an input or output has no memory: bind it first; binding number", b);
        return {Error::NotPrepared, b};
      }
    }
    return run_list(0);
  }

  /// Step by step, for profilers and debuggers: list 0's steps are run in order by run_step(0), run_step(1), ...
  std::uint32_t step_count() const noexcept { return lists_[0].steps; }
  Status run_step(std::uint32_t step) noexcept { return execute(lists_[0].first_step + step); }
  /// Tensor `index` of the current profile, for the same use; its bytes are shared with others in the arena.
  const TensorView& tensor(std::uint32_t index) const noexcept { return tensors_[index]; }

  const PlanView& plan() const noexcept { return plan_; }
  cpu::Isa isa() const noexcept { return isa_; }
  /// Chooses a lesser instruction set than the CPU's best, for tests; call after prepare().
  void limit_isa(cpu::Isa isa) noexcept {
    if (isa < isa_) isa_ = isa;
  }

 private:
  static std::uint32_t thread_count(const SessionOptions& options) noexcept {
    return options.pool.run == nullptr || options.pool.threads == 0 ? 1u : options.pool.threads;
  }

  /// Of input b, or of output b - input_count, in its largest profile.
  static std::uint64_t binding_bytes(const PlanView& plan, std::uint32_t binding) noexcept {
    std::uint64_t largest = 0;
    for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
      const schema::Profile& profile = plan.profile(p);
      const std::uint32_t tensor = binding < plan.input_count() ? profile.inputs()->Get(binding)
                                                                : profile.outputs()->Get(binding - plan.input_count());
      const std::uint64_t size = profile.storages()->Get(profile.tensors()->Get(tensor)->storage())->size();
      if (size > largest) largest = size;
    }
    return largest;
  }

  static void maximize(std::uint32_t& value, std::uint32_t other) noexcept {
    if (other > value) value = other;
  }
  static void maximize(std::uint64_t& value, std::uint64_t other) noexcept {
    if (other > value) value = other;
  }

  static Status add_profile_needs(const PlanView& plan, std::uint32_t p, const LogSink& log, SessionNeeds& total) noexcept {
    const schema::Profile& profile = plan.profile(p);
    std::uint32_t operands = 0;
    std::uint32_t steps = 0;
    for (std::uint32_t l = 0; l < rules::count(profile.lists()); ++l) {
      const schema::StepList& list = *profile.lists()->Get(l);
      steps += rules::count(list.steps());
      for (std::uint32_t i = 0; i < rules::count(list.steps()); ++i) {
        const schema::Step& step = *list.steps()->Get(i);
        operands += rules::count(step.inputs()) + rules::count(step.outputs());
        std::uint64_t scratch = 0;
        EDGERT_RETURN_IF_ERROR(check_operator(plan, p, step, i, log, scratch));
        maximize(total.scratch_bytes, scratch);
      }
    }
    // One more tensor stands for every absent operand.
    maximize(total.tensors, rules::count(profile.tensors()) + 1);
    maximize(total.operands, operands);
    maximize(total.steps, steps);
    maximize(total.lists, rules::count(profile.lists()));
    maximize(total.arena_bytes, profile.arena_bytes());
    return {};
  }

  /// The operator's own check on views without data, and the scratch it asks for.
  static Status check_operator(const PlanView& plan, std::uint32_t profile, const schema::Step& step, std::uint32_t index,
                               const LogSink& log, std::uint64_t& scratch) noexcept {
    const cpu::OperatorEntry* entry = Operators::find(step.op());
    if (entry == nullptr) {
      Message message;
      message << "step " << index << ": this program's operator set has no operator " << std::uint32_t{step.op()};
      message.to(log);
      return {Error::UnknownOperator, index, step.op()};
    }
    if (rules::count(step.attributes()) != entry->attribute_bytes) {
      return rules::violated(log, Rule::OperatorAttributes, entry->name, index, "attributes have the wrong size");
    }
    constexpr std::uint32_t kMaxOperands = 64;
    const std::uint32_t inputs = rules::count(step.inputs());
    const std::uint32_t outputs = rules::count(step.outputs());
    if (inputs + outputs > kMaxOperands) return rules::violated(log, Rule::OperatorOperands, entry->name, index, "too many operands");
    TensorView views[kMaxOperands];
    const TensorView* pointers[kMaxOperands];
    for (std::uint32_t i = 0; i < inputs + outputs; ++i) {
      const std::uint32_t tensor = i < inputs ? step.inputs()->Get(i) : step.outputs()->Get(i - inputs);
      if (tensor != 0xffffffffu) views[i] = plan.tensor(profile, tensor);
      pointers[i] = &views[i];
    }
    cpu::Operands operands;
    operands.inputs = {pointers, inputs};
    operands.outputs = {pointers + inputs, outputs};
    operands.attributes = step.attributes() != nullptr ? step.attributes()->Data() : nullptr;
    operands.attribute_bytes = entry->attribute_bytes;
    const char* problem = entry->check(operands);
    if (problem != nullptr) return rules::violated(log, Rule::OperatorOperands, entry->name, index, problem);
    scratch = entry->scratch_bytes(operands);
    if (scratch > rules::kMaxRegionBytes) return rules::violated(log, Rule::OperatorOperands, entry->name, index, "needs too much scratch");
    scratch = align_up(scratch, 64);
    return {};
  }

  void carve(std::byte* memory, const SessionNeeds& needs) noexcept {
    const auto take = [&memory](std::uint64_t bytes) {
      std::byte* piece = memory;
      memory += align_up(bytes, 64);
      return piece;
    };
    tensors_ = new (take(std::uint64_t{needs.tensors} * sizeof(TensorView))) TensorView[needs.tensors];
    operands_ = reinterpret_cast<const TensorView**>(take(std::uint64_t{needs.operands} * sizeof(const TensorView*)));
    steps_ = reinterpret_cast<detail::PreparedStep*>(take(std::uint64_t{needs.steps} * sizeof(detail::PreparedStep)));
    lists_ = reinterpret_cast<detail::PreparedList*>(take(std::uint64_t{needs.lists} * sizeof(detail::PreparedList)));
    bindings_ = reinterpret_cast<void**>(take(std::uint64_t{needs.bindings} * sizeof(void*)));
    absent_ = &tensors_[needs.tensors - 1];
    arena_ = take(needs.arena_bytes);
    state_ = take(needs.state_bytes);
    for (std::uint32_t b = 0; b < needs.bindings; ++b) {
      bindings_[b] = options_.external_io ? nullptr : take(binding_bytes(plan_, b));
    }
    scratch_ = memory;
    scratch_bytes_ = needs.scratch_bytes;
  }

  void resolve(const schema::Profile& profile, std::uint32_t index) noexcept {
    const schema::Tensor& tensor = *profile.tensors()->Get(index);
    const schema::Storage& storage = *profile.storages()->Get(tensor.storage());
    TensorView& view = tensors_[index];
    (void)rules::describe(tensor, view);
    std::byte* base = nullptr;
    switch (storage.region()) {
      case schema::Region::Arena: base = arena_ + storage.offset(); break;
      case schema::Region::Weights: base = const_cast<std::byte*>(plan_.weights().data()) + storage.offset(); break;
      case schema::Region::State: base = state_ + storage.offset(); break;
      case schema::Region::Input: base = static_cast<std::byte*>(bindings_[storage.binding()]); break;
      case schema::Region::Output:
        base = static_cast<std::byte*>(bindings_[plan_.input_count() + storage.binding()]);
        break;
    }
    view.data = base == nullptr ? nullptr : base + tensor.offset();
  }

  void add_step(const schema::Step& step, detail::PreparedStep& prepared, std::uint32_t& operand_index) noexcept {
    prepared.entry = Operators::find(step.op());
    prepared.attributes = step.attributes() != nullptr ? step.attributes()->Data() : nullptr;
    prepared.attribute_bytes = prepared.entry->attribute_bytes;
    prepared.first_operand = operand_index;
    prepared.inputs = rules::count(step.inputs());
    prepared.outputs = rules::count(step.outputs());
    prepared.parts = step.parts();
    for (std::uint32_t i = 0; i < prepared.inputs; ++i) {
      const std::uint32_t tensor = step.inputs()->Get(i);
      operands_[operand_index++] = tensor == 0xffffffffu ? absent_ : &tensors_[tensor];
    }
    for (std::uint32_t i = 0; i < prepared.outputs; ++i) operands_[operand_index++] = &tensors_[step.outputs()->Get(i)];
  }

  template <class Name>
  static Result<std::uint32_t> find_binding(std::uint32_t count, const char* name, Name name_of) noexcept {
    for (std::uint32_t i = 0; i < count; ++i) {
      if (std::strcmp(name_of(i), name) == 0) return i;
    }
    return Error::NameNotFound;
  }

  Status bind(std::uint32_t binding, void* data, std::size_t bytes) noexcept {
    const std::uint64_t needed = binding_bytes(plan_, binding);
    if (data == nullptr || bytes < needed) return {Error::ArenaTooSmall, binding, needed};
    if (reinterpret_cast<std::uintptr_t>(data) % 64 != 0) return {Error::ArenaMisaligned, binding, 64};
    bindings_[binding] = data;
    const schema::Profile& profile = plan_.profile(profile_);
    for (std::uint32_t i = 0; i < rules::count(profile.tensors()); ++i) resolve(profile, i);
    return {};
  }

  Status run_list(std::uint32_t list) noexcept {
    const detail::PreparedList& range = lists_[list];
    for (std::uint32_t i = 0; i < range.steps; ++i) EDGERT_RETURN_IF_ERROR(execute(range.first_step + i));
    return {};
  }

  /// The first failure of a step's parts, kept by whichever thread meets it first.
  struct Job {
    Session* session;
    cpu::Work work;
    std::atomic_flag failed = ATOMIC_FLAG_INIT;
    Status status;
  };
  static void run_part(void* context, std::uint32_t part, std::uint32_t thread) {
    Job& job = *static_cast<Job*>(context);
    cpu::Work work = job.work;
    work.part = part;
    work.scratch = job.session->scratch_ + thread * job.session->scratch_bytes_;
    const Status status = job.session->current_->run(work);
    if (!status.ok() && !job.failed.test_and_set()) job.status = status;
  }

  Status execute(std::uint32_t index) noexcept {
    const detail::PreparedStep& step = steps_[index];
    Job job;
    job.session = this;
    job.work.inputs = {operands_ + step.first_operand, step.inputs};
    job.work.outputs = {operands_ + step.first_operand + step.inputs, step.outputs};
    job.work.attributes = step.attributes;
    job.work.attribute_bytes = step.attribute_bytes;
    job.work.isa = isa_;
    job.work.scratch = scratch_;
    if (step.parts > 1 && thread_count(options_) > 1) {
      job.work.parts = step.parts;
      current_ = step.entry;
      options_.pool.run(options_.pool.user, step.parts, &run_part, &job);
    } else {
      job.status = step.entry->run(job.work);
    }
    if (job.status.ok()) return {};
    Message message;
    message << "step " << index << " (" << step.entry->name << ") failed: " << to_string(job.status.error());
    message.to(options_.log);
    return {job.status.error(), index, job.status.value()};
  }

  void log_line(const char* text, std::uint32_t number) const noexcept {
    Message message;
    message << text << " " << number;
    message.to(options_.log);
  }

  PlanView plan_;
  SessionOptions options_;
  bool prepared_ = false;
  cpu::Isa isa_ = cpu::Isa::Baseline;
  std::uint32_t profile_ = 0;
  TensorView* tensors_ = nullptr;
  TensorView* absent_ = nullptr;
  const TensorView** operands_ = nullptr;
  detail::PreparedStep* steps_ = nullptr;
  detail::PreparedList* lists_ = nullptr;
  void** bindings_ = nullptr;
  std::byte* arena_ = nullptr;
  std::byte* state_ = nullptr;
  std::byte* scratch_ = nullptr;
  std::uint64_t scratch_bytes_ = 0;
  const cpu::OperatorEntry* current_ = nullptr;
};

}  // namespace edgert
