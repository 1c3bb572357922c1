// SPDX-License-Identifier: Apache-2.0
#include "cli/loaded_plan.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

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
    const auto small = static_cast<std::int64_t>(random.next() % 8);
    switch (view.dtype) {
      case DType::F32: view.as<float>()[i] = random.normal(); break;
      case DType::F64: view.as<double>()[i] = static_cast<double>(random.normal()); break;
      case DType::F16: view.as<scalar::Half>()[i] = scalar::to_half(random.normal()); break;
      case DType::BF16: view.as<scalar::BFloat16>()[i] = scalar::to_bfloat16(random.normal()); break;
      case DType::Bool: view.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(small & 1); break;
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

struct HostSession::State {
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<StaticThreadPool<>> pool;
  std::unique_ptr<std::byte, Free> memory;
  std::uint64_t bytes = 0;
  std::string message;  ///< what the runtime logged last
  Session<> session;
};

HostSession::HostSession(const LoadedPlan& plan, std::uint32_t threads) : state_(std::make_unique<State>()) {
  SessionOptions options;
  options.log = {&keep_message, &state_->message};
  if (threads > 1) {
    state_->pool = std::make_unique<StaticThreadPool<>>(threads);
    options.pool = state_->pool->hook();
  }
  const Result<std::uint64_t> bytes = Session<>::memory_bytes(plan.view(), options);
  if (!bytes.ok()) throw ir::BuildError(plan.path() + ": " + state_->message);
  state_->bytes = *bytes;
  state_->memory.reset(static_cast<std::byte*>(std::aligned_alloc(64, align_up(*bytes + 1, 64))));
  if (state_->memory == nullptr) throw std::bad_alloc();
  require(state_->session.prepare(plan.view(), {state_->memory.get(), *bytes}, options), plan.path());
}

HostSession::~HostSession() = default;

Status HostSession::run() { return state_->session.run(); }
Status HostSession::set_profile(std::uint32_t index) { return state_->session.set_profile(index); }
std::uint32_t HostSession::profile() const { return state_->session.profile(); }
const PlanView& HostSession::plan() const { return state_->session.plan(); }
TensorView HostSession::input(std::uint32_t i) const { return state_->session.input(i).value(); }
const TensorView& HostSession::tensor(std::uint32_t index) const { return state_->session.tensor(index); }
std::uint32_t HostSession::step_count() const { return state_->session.step_count(); }
Status HostSession::run_step(std::uint32_t step) { return state_->session.run_step(step); }
std::uint64_t HostSession::memory_bytes() const { return state_->bytes; }

const char* HostSession::isa_name() const {
  switch (state_->session.isa()) {
    case cpu::Isa::Baseline: return "baseline";
    case cpu::Isa::Avx2: return "AVX2+FMA";
    case cpu::Isa::Avx512: return "AVX-512";
  }
  return "unknown";
}

void HostSession::require(const Status& status, const std::string& what) const {
  if (status.ok()) return;
  throw ir::BuildError(what + ": " + (state_->message.empty() ? edgert::to_string(status.error()) : state_->message));
}

void HostSession::set_inputs(const io::Arrays& arrays) {
  const PlanView& plan = state_->session.plan();
  std::vector<TensorView> shapes;
  for (std::uint32_t i = 0; i < plan.input_count(); ++i) {
    const auto found = arrays.find(plan.input_name(i));
    if (found == arrays.end()) throw ir::BuildError(std::string("input '") + plan.input_name(i) + "' is not among the arrays given");
    const TensorView expected = plan.input(0, i);
    if (found->second.dtype != expected.dtype) {
      throw ir::BuildError(std::string("input '") + plan.input_name(i) + "' must be " + edgert::to_string(expected.dtype) +
                           ", the array is " + edgert::to_string(found->second.dtype));
    }
    if (found->second.dims.size() > kMaxRank) {
      throw ir::BuildError(std::string("array '") + plan.input_name(i) + "' has more than 8 dimensions");
    }
    TensorView shape;
    shape.rank = static_cast<std::uint8_t>(found->second.dims.size());
    for (std::size_t d = 0; d < shape.rank; ++d) shape.dims[d] = found->second.dims[d];
    shapes.push_back(shape);
  }
  for (const auto& [name, array] : arrays) {
    if (!state_->session.find_input(name.c_str()).ok()) throw ir::BuildError("the plan has no input '" + name + "'");
  }
  const Result<std::uint32_t> profile = state_->session.find_profile({shapes.data(), shapes.size()});
  if (!profile.ok()) {
    std::string text = "no profile of the plan takes inputs of these shapes:";
    for (std::uint32_t i = 0; i < plan.input_count(); ++i) {
      text += std::string(" ") + plan.input_name(i) + "=" + ir::to_string(arrays.at(plan.input_name(i)).dims);
    }
    text += "; it was built for:";
    for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
      for (std::uint32_t i = 0; i < plan.input_count(); ++i) text += " " + to_string(plan.input(p, i));
    }
    throw ir::BuildError(text);
  }
  require(set_profile(*profile), "profile");
  for (std::uint32_t i = 0; i < plan.input_count(); ++i) {
    const TensorView view = input(i);
    const io::Array& array = arrays.at(plan.input_name(i));
    if (!array.bytes.empty()) std::memcpy(view.data, array.bytes.data(), array.bytes.size());
  }
}

void HostSession::set_random_inputs(std::uint64_t seed) {
  Random random(seed);
  for (std::uint32_t i = 0; i < plan().input_count(); ++i) fill_random(input(i), random);
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

io::Arrays HostSession::outputs() const {
  io::Arrays arrays;
  for (std::uint32_t i = 0; i < plan().output_count(); ++i) {
    const Result<TensorView> view = state_->session.output(i);
    require(view.status(), plan().output_name(i));
    arrays[plan().output_name(i)] = to_array(*view);
  }
  return arrays;
}

}  // namespace edgert::cli
