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
#include "edgert/golden.h"
#include "edgert/plan.h"
#include "edgert/session_memory.h"
#include "edgert/session_needs.h"
#include "edgert/shape.h"

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
  /// The plan's launches are somebody else's (cuda::SegmentedSession): run() is refused, run_step() takes CPU steps.
  bool skip_launches = false;
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
  static Result<SessionNeeds> needs(const PlanView& plan, const LogSink& log = {}, bool skip_launches = false) noexcept {
    return detail::session_needs<Operators>(plan, log, skip_launches);
  }

  /// Bytes that prepare() needs for these options.
  static Result<std::uint64_t> memory_bytes(const PlanView& plan, const SessionOptions& options = {}) noexcept {
    const Result<SessionNeeds> wanted = needs(plan, options.log, options.skip_launches);
    if (!wanted.ok()) return wanted.status();
    return session_bytes(*wanted, thread_count(options), options.external_io);
  }

  /// Lays the session out in `memory` (aligned to 64), zeroes it, resets the states and selects profile 0. `plan`'s bytes
  /// and `memory` must outlive the session's use. May be called again, also after a failure.
  Status prepare(const PlanView& plan, Span<std::byte> memory, const SessionOptions& options = {}) noexcept {
    prepared_ = false;
    plan_ = plan;
    options_ = options;
    const Result<SessionNeeds> wanted = needs(plan, options.log, options.skip_launches);
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
  /// Output i of the current profile, valid after run() until the next one. Bounded extents are the actual ones; the
  /// strides are always those of the largest, so an output with a bounded dimension behind another is not dense.
  Result<TensorView> output(std::uint32_t i) const noexcept {
    if (!prepared_) return Error::NotPrepared;
    if (i >= plan_.output_count()) return Status(Error::InvalidArgument, i);
    const std::uint32_t index = plan_.profile(profile_).outputs()->Get(i);
    TensorView view = tensors_[index];
    const Status status = read_extents(index, view, nullptr);
    return status.ok() ? Result<TensorView>(view) : Result<TensorView>(Status(status.error(), i));
  }
  /// The actual extents of output i: those of output(i), without its data.
  Result<Shape> output_shape(std::uint32_t i) const noexcept {
    const Result<TensorView> view = output(i);
    if (!view.ok()) return view.status();
    Shape shape;
    shape.rank = view->rank;
    for (std::uint32_t d = 0; d < view->rank; ++d) shape.dims[d] = view->dims[d];
    return shape;
  }
  Result<TensorView> output(const char* name) const noexcept {
    const Result<std::uint32_t> found = find_output(name);
    return found.ok() ? output(*found) : Result<TensorView>(found.status());
  }

  /// Runs the current profile once. Never allocates. After an error the outputs are undefined, the session stays usable.
  Status run() noexcept {
    if (!prepared_ || options_.skip_launches) return Error::NotPrepared;
    for (std::uint32_t b = 0; b < plan_.input_count() + plan_.output_count(); ++b) {
      if (bindings_[b] == nullptr) {
        log_line("an input or output has no memory: bind it first; binding number", b);
        return {Error::NotPrepared, b};
      }
    }
    return run_list(0);
  }

  /// Runs the golden vectors that the plan carries and compares the outputs with what they say, within their tolerances.
  /// NameNotFound when there are none, ResultMismatch (index: golden vector, value: output) at the first difference. All
  /// states are reset, before and after; the outputs hold what the last vector gave. Never allocates.
  Status self_test() noexcept {
    if (!prepared_) return Error::NotPrepared;
    const std::uint32_t vectors = rules::count(plan_.table().golden());
    if (vectors == 0) return Error::NameNotFound;
    const std::uint32_t profile = profile_;
    const std::uint32_t inputs = plan_.input_count();
    // The inputs are read where they lie in the plan; what was bound before is kept beside.
    void** const kept = bindings_ + inputs + plan_.output_count();
    for (std::uint32_t i = 0; i < inputs; ++i) kept[i] = bindings_[i];
    Status status;
    for (std::uint32_t g = 0; status.ok() && g < vectors; ++g) status = run_golden(*plan_.table().golden()->Get(g), g);
    for (std::uint32_t i = 0; i < inputs; ++i) bindings_[i] = kept[i];
    reset();
    EDGERT_RETURN_IF_ERROR(set_profile(profile));
    return status;
  }

  /// Step by step, for profilers and debuggers: list 0's steps are run in order by run_step(0), run_step(1), ...
  std::uint32_t step_count() const noexcept { return lists_[0].steps; }
  Status run_step(std::uint32_t step) noexcept {
    const std::uint32_t index = lists_[0].first_step + step;
    return steps_[index].entry != nullptr ? execute(index) : Status(Error::InvalidArgument, step);
  }
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
    bindings_ = reinterpret_cast<void**>(take(2 * std::uint64_t{needs.bindings} * sizeof(void*)));
    absent_ = &tensors_[needs.tensors - 1];
    arena_ = take(needs.arena_bytes);
    state_ = take(needs.state_bytes);
    for (std::uint32_t b = 0; b < needs.bindings; ++b) {
      bindings_[b] = options_.external_io ? nullptr : take(plan_.binding_bytes(b));
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
    prepared = {};
    if (step.launch() != nullptr) return;  // skipped: needs() refuses it otherwise
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
    for (std::uint32_t i = 0; i < prepared.entry->bodies; ++i) prepared.bodies[i] = step.bodies()->Get(i);
    prepared.bounded = false;
    for (std::uint32_t i = prepared.first_operand; i < operand_index; ++i) {
      prepared.bounded = prepared.bounded || extents_of(tensor_index(operands_[i])) != nullptr;
    }
  }

  using Extents = edgert_flatbuffers::Vector<edgert_flatbuffers::Offset<schema::Extent>>;

  std::uint32_t tensor_index(const TensorView* view) const noexcept { return static_cast<std::uint32_t>(view - tensors_); }

  /// The bounded extents of a tensor; null when it has none or is the absent operand.
  const Extents* extents_of(std::uint32_t index) const noexcept {
    const auto* tensors = plan_.profile(profile_).tensors();
    if (index >= rules::count(tensors)) return nullptr;
    const Extents* extents = tensors->Get(index)->extents();
    return rules::count(extents) == 0 ? nullptr : extents;
  }

  /// Gives a view the extents that this run has. Those that `step` itself is about to make are the largest possible.
  Status read_extents(std::uint32_t index, TensorView& view, const detail::PreparedStep* step) const noexcept {
    const Extents* extents = extents_of(index);
    const schema::Tensor* tensor = extents != nullptr ? plan_.profile(profile_).tensors()->Get(index) : nullptr;
    for (std::uint32_t e = 0; e < rules::count(extents); ++e) {
      const schema::Extent& extent = *extents->Get(e);
      const std::int64_t largest = tensor->dims()->Get(extent.dim());
      const TensorView* counted = &tensors_[extent.tensor()];
      view.dims[extent.dim()] = largest;
      if (step != nullptr && writes(*step, counted)) continue;
      if (counted->data == nullptr) return Error::NotPrepared;  // an external input that nobody bound yet
      const std::int64_t actual = *counted->template as<std::int64_t>();
      if (actual < 0 || actual > largest) return Error::ExtentMismatch;
      view.dims[extent.dim()] = actual;
    }
    return {};
  }

  bool writes(const detail::PreparedStep& step, const TensorView* view) const noexcept {
    for (std::uint32_t i = 0; i < step.outputs; ++i) {
      if (operands_[step.first_operand + step.inputs + i] == view) return true;
    }
    return false;
  }

  /// Gives the operands of a step the extents of this run. The kernel was checked for the largest ones only, so it is
  /// asked again.
  Status bound_operands(const detail::PreparedStep& step, const cpu::Operands& operands) noexcept {
    for (std::uint32_t i = 0; i < step.inputs + step.outputs; ++i) {
      const std::uint32_t index = tensor_index(operands_[step.first_operand + i]);
      EDGERT_RETURN_IF_ERROR(read_extents(index, tensors_[index], &step));
    }
    const char* problem = step.entry->check(operands);
    if (problem == nullptr && align_up(step.entry->scratch_bytes(operands), 64) <= scratch_bytes_) return {};
    Message message;
    message << step.entry->name << " cannot run with the extents that it met: " << (problem != nullptr ? problem : "it needs more scratch");
    message.to(options_.log);
    return Error::ExtentMismatch;
  }

  template <class Name>
  static Result<std::uint32_t> find_binding(std::uint32_t count, const char* name, Name name_of) noexcept {
    for (std::uint32_t i = 0; i < count; ++i) {
      if (std::strcmp(name_of(i), name) == 0) return i;
    }
    return Error::NameNotFound;
  }

  Status bind(std::uint32_t binding, void* data, std::size_t bytes) noexcept {
    const std::uint64_t needed = plan_.binding_bytes(binding);
    if (data == nullptr || bytes < needed) return {Error::ArenaTooSmall, binding, needed};
    if (reinterpret_cast<std::uintptr_t>(data) % 64 != 0) return {Error::ArenaMisaligned, binding, 64};
    bindings_[binding] = data;
    const schema::Profile& profile = plan_.profile(profile_);
    for (std::uint32_t i = 0; i < rules::count(profile.tensors()); ++i) resolve(profile, i);
    return {};
  }

  Status run_golden(const schema::Golden& golden, std::uint32_t index) noexcept {
    const std::byte* const data = plan_.golden().data();
    for (std::uint32_t i = 0; i < plan_.input_count(); ++i) {
      bindings_[i] = const_cast<std::byte*>(data + golden.input_offsets()->Get(i));
    }
    reset();
    EDGERT_RETURN_IF_ERROR(set_profile(golden.profile()));
    EDGERT_RETURN_IF_ERROR(run());
    for (std::uint32_t i = 0; i < plan_.output_count(); ++i) {
      const Result<TensorView> actual = output(i);
      EDGERT_RETURN_IF_ERROR(actual.status());
      const std::byte* const expected = data + golden.output_offsets()->Get(i);
      if (agrees_with_golden(*actual, plan_.output(golden.profile(), i), expected, golden.abs_tolerance(), golden.rel_tolerance())) {
        continue;
      }
      Message message;
      message << "self-test: golden vector " << index << ", output " << plan_.output_name(i) << " differs";
      message.to(options_.log);
      return {Error::ResultMismatch, index, i};
    }
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

  /// What a step with bodies calls to run one of them. The recursion ends, since bodies are later lists and nested no
  /// deeper than the rules allow.
  struct Bodies {
    Session* session;
    const detail::PreparedStep* step;
    bool failed = false;
  };
  static Status run_body(void* context, std::uint32_t body) {
    Bodies& bodies = *static_cast<Bodies*>(context);
    const Status status = bodies.session->run_list(bodies.step->bodies[body]);
    bodies.failed = !status.ok();
    return status;
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
    Bodies bodies{this, &step};
    if (step.entry->bodies != 0) {
      job.work.run_body = &run_body;
      job.work.body_context = &bodies;
    }
    if (step.bounded) job.status = bound_operands(step, job.work);
    if (job.status.ok() && step.parts > 1 && thread_count(options_) > 1) {
      // One a thread: with more, parts would compute more edges twice and read more weights.
      const std::uint32_t threads = thread_count(options_);
      job.work.parts = step.parts < threads ? step.parts : threads;
      current_ = step.entry;
      options_.pool.run(options_.pool.user, job.work.parts, &run_part, &job);
    } else if (job.status.ok()) {
      job.status = step.entry->run(job.work);
    }
    // A step inside a body has said already what went wrong.
    if (job.status.ok() || bodies.failed) return job.status;
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
