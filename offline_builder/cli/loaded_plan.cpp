// SPDX-License-Identifier: Apache-2.0
#include "cli/loaded_plan.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "cli/device_session.h"
#include "edgert/scalar/convert.h"
#include "edgert/session.h"
#include "edgert/thread_pool.h"
#include "ir/types.h"

namespace edgert::cli {
namespace {

ir::TensorType type_of(const TensorView& view) {
  return {view.dtype, ir::Dims(view.dims, view.dims + view.rank)};
}

void keep_message(void* user, LogLevel, const char* text) { *static_cast<std::string*>(user) = text; }

/// SplitMix64 (Steele, Lea, Flood 2014): short, and the same on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// Sum of twelve uniforms: close to normal, exact in every bit on every machine.
  float normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(next() >> 11) * 0x1p-53;
    return static_cast<float>(sum);
  }

 private:
  std::uint64_t state_;
};

void fill_random(const TensorView& view, Random& random) {
  const std::int64_t count = view.elements();
  for (std::int64_t i = 0; i < count; ++i) {
    // Integers are mostly indices or masks, and tables may have two rows only, as token types do.
    const auto small = static_cast<std::int64_t>(random.next() % 2);
    switch (view.dtype) {
      case DType::F32: view.as<float>()[i] = random.normal(); break;
      case DType::F64: view.as<double>()[i] = static_cast<double>(random.normal()); break;
      case DType::F16: view.as<scalar::Half>()[i] = scalar::to_half(random.normal()); break;
      case DType::BF16: view.as<scalar::BFloat16>()[i] = scalar::to_bfloat16(random.normal()); break;
      case DType::Bool: view.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(small); break;
      case DType::I8: case DType::U8: view.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(small); break;
      case DType::I16: case DType::U16: view.as<std::uint16_t>()[i] = static_cast<std::uint16_t>(small); break;
      case DType::I32: case DType::U32: view.as<std::uint32_t>()[i] = static_cast<std::uint32_t>(small); break;
      case DType::I64: case DType::U64: view.as<std::int64_t>()[i] = small; break;
      default: throw ir::BuildError("cannot make random values of type " + std::string(edgert::to_string(view.dtype)));
    }
  }
}

}  // namespace

std::string to_string(const TensorView& view) { return ir::to_string(type_of(view)); }

LoadedPlan::LoadedPlan(const std::string& path) : path_(path), file_(path) {
  std::string message;
  LoadOptions options;
  options.log = {&keep_message, &message};
  const Result<PlanView> loaded = PlanView::load(file_.bytes(), options);
  if (!loaded.ok()) {
    throw ir::BuildError(path + ": " + (message.empty() ? to_string(loaded.status().error()) : message));
  }
  view_ = *loaded;
}

std::uint32_t PlanSession::step_count() const { return rules::count(plan().profile(profile()).lists()->Get(0)->steps()); }

LogSink PlanSession::log() { return {&keep_message, &message_}; }

void PlanSession::require(const Status& status, const std::string& what) const {
  if (status.ok()) return;
  throw ir::BuildError(what + ": " + (message_.empty() ? edgert::to_string(status.error()) : message_));
}

void PlanSession::set_inputs(const io::Arrays& arrays) {
  const PlanView& plan = this->plan();
  for (std::uint32_t i = 0; i < plan.input_count(); ++i) {
    const auto found = arrays.find(plan.input_name(i));
    if (found == arrays.end()) throw ir::BuildError(loaded().path() + ": input '" + plan.input_name(i) + "' is not among the arrays given");
    const TensorView expected = plan.input(0, i);
    if (found->second.dtype != expected.dtype) {
      throw ir::BuildError(loaded().path() + ": input '" + plan.input_name(i) + "' must be " + edgert::to_string(expected.dtype) +
                           ", the array is " + edgert::to_string(found->second.dtype));
    }
  }
  for (const auto& [name, array] : arrays) {
    bool known = false;
    for (std::uint32_t i = 0; i < plan.input_count(); ++i) known = known || name == plan.input_name(i);
    if (!known) throw ir::BuildError(loaded().path() + ": the plan has no input '" + name + "'");
  }
  const auto fits = [&](std::uint32_t p) {
    for (std::uint32_t i = 0; i < plan.input_count(); ++i) {
      const TensorView view = plan.input(p, i);
      if (arrays.at(plan.input_name(i)).dims != ir::Dims(view.dims, view.dims + view.rank)) return false;
    }
    return true;
  };
  std::uint32_t profile = 0;
  while (profile < plan.profile_count() && !fits(profile)) ++profile;
  if (profile == plan.profile_count()) {
    std::string text = loaded().path() + ": no profile of the plan takes inputs of these shapes:";
    for (std::uint32_t i = 0; i < plan.input_count(); ++i) {
      text += std::string(" ") + plan.input_name(i) + "=" + ir::to_string(arrays.at(plan.input_name(i)).dims);
    }
    text += "; it was built for:";
    for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
      for (std::uint32_t i = 0; i < plan.input_count(); ++i) text += " " + to_string(plan.input(p, i));
    }
    throw ir::BuildError(text);
  }
  require(set_profile(profile), "profile");
  for (std::uint32_t i = 0; i < plan.input_count(); ++i) {
    const TensorView view = input(i);
    const io::Array& array = arrays.at(plan.input_name(i));
    if (!array.bytes.empty()) std::memcpy(view.data, array.bytes.data(), array.bytes.size());
  }
  commit_inputs();
}

void PlanSession::set_random_inputs(std::uint64_t seed) {
  Random random(seed);
  for (std::uint32_t i = 0; i < plan().input_count(); ++i) fill_random(input(i), random);
  commit_inputs();
}

io::Arrays PlanSession::outputs() {
  io::Arrays arrays;
  for (std::uint32_t i = 0; i < plan().output_count(); ++i) arrays[plan().output_name(i)] = to_array(output(i));
  return arrays;
}

namespace {

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0 && line.find(": ") != std::string::npos) return line.substr(line.find(": ") + 2);
  }
  return "CPU";
}

class HostSession final : public PlanSession {
 public:
  HostSession(const LoadedPlan& plan, std::uint32_t threads) : PlanSession(plan) {
    SessionOptions options;
    options.log = log();
    if (threads > 1) {
      pool_ = std::make_unique<StaticThreadPool<>>(threads);
      options.pool = pool_->hook();
    }
    const Result<std::uint64_t> bytes = Session<>::memory_bytes(plan.view(), options);
    if (!bytes.ok()) throw ir::BuildError(plan.path() + ": " + message_);
    bytes_ = *bytes;
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(64, align_up(*bytes + 1, 64))));
    if (memory_ == nullptr) throw std::bad_alloc();
    require(session_.prepare(plan.view(), {memory_.get(), *bytes}, options), plan.path());
  }

  Status run() override { return session_.run(); }
  Status set_profile(std::uint32_t index) override { return session_.set_profile(index); }
  std::uint32_t profile() const override { return session_.profile(); }
  Status run_step(std::uint32_t step) override { return session_.run_step(step); }
  TensorView input(std::uint32_t i) override { return session_.input(i).value(); }
  void commit_inputs() override {}
  TensorView output(std::uint32_t i) override {
    const Result<TensorView> view = session_.output(i);
    require(view.status(), plan().output_name(i));
    return *view;
  }
  TensorView fetch(std::uint32_t tensor) override { return session_.tensor(tensor); }
  void commit(std::uint32_t) override {}
  std::uint64_t memory_bytes() const override { return bytes_; }
  void self_test() override {
    const Status status = session_.self_test();
    if (status.error() == Error::NameNotFound) throw ir::BuildError("the plan has no golden vectors: build it with --golden");
    require(status, "self-test");
  }
  std::string device_name() const override {
    const cpu::Isa isa = session_.isa();
    return cpu_name() + (isa == cpu::Isa::Avx512 ? " (AVX-512)" : isa == cpu::Isa::Avx2 ? " (AVX2+FMA)" : " (baseline)");
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<StaticThreadPool<>> pool_;
  std::unique_ptr<std::byte, Free> memory_;
  std::uint64_t bytes_ = 0;
  Session<> session_;
};

}  // namespace

struct HostSteps::State {
  Session<> session;
};
HostSteps::HostSteps() : state_(std::make_unique<State>()) {}
HostSteps::~HostSteps() = default;
Result<std::uint64_t> HostSteps::memory_bytes(const PlanView& plan, const SessionOptions& options) { return Session<>::memory_bytes(plan, options); }
Status HostSteps::prepare(const PlanView& plan, Span<std::byte> memory, const SessionOptions& options) {
  return state_->session.prepare(plan, memory, options);
}
Status HostSteps::set_profile(std::uint32_t index) { return state_->session.set_profile(index); }
Status HostSteps::run_step(std::uint32_t step) { return state_->session.run_step(step); }
const TensorView& HostSteps::tensor(std::uint32_t index) const { return state_->session.tensor(index); }
const PlanView& HostSteps::plan() const { return state_->session.plan(); }

std::unique_ptr<PlanSession> open_session(const LoadedPlan& plan, std::uint32_t threads) {
  if (plan.view().is_cuda()) return std::make_unique<DeviceSession>(plan);
  return std::make_unique<HostSession>(plan, threads);
}

std::vector<ir::Bytes> random_inputs(const PlanView& plan, std::uint32_t profile, std::uint64_t seed) {
  Random random(seed);
  std::vector<ir::Bytes> inputs;
  for (std::uint32_t i = 0; i < plan.input_count(); ++i) {
    TensorView view = plan.input(profile, i);
    std::vector<std::byte> bytes(ir::dense_bytes(type_of(view)));
    view.data = bytes.data();
    fill_random(view, random);
    inputs.push_back(ir::Bytes::adopt(std::move(bytes)));
  }
  return inputs;
}

io::Array to_array(const TensorView& view) {
  io::Array array;
  array.dtype = view.dtype;
  array.dims.assign(view.dims, view.dims + view.rank);
  const std::size_t element = bits_of(view.dtype) / 8;
  array.bytes.resize(ir::dense_bytes(type_of(view)));
  if (element == 0) {
    std::memcpy(array.bytes.data(), view.data, array.bytes.size());
    return array;
  }
  const std::int64_t count = view.elements();
  std::int64_t index[kMaxRank] = {};
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t offset = 0;
    for (std::uint32_t d = 0; d < view.rank; ++d) offset += index[d] * view.strides[d];
    std::memcpy(array.bytes.data() + static_cast<std::size_t>(i) * element,
                static_cast<const std::byte*>(view.data) + static_cast<std::size_t>(offset) * element, element);
    for (std::uint32_t d = view.rank; d-- > 0 && ++index[d] == view.dims[d];) index[d] = 0;
  }
  return array;
}

}  // namespace edgert::cli
