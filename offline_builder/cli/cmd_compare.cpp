// SPDX-License-Identifier: Apache-2.0
// edgert compare: a plan against ONNX Runtime, recorded outputs, or another plan; per output, or step by step.
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/command.h"
#include "cli/loaded_plan.h"
#include "cli/reference.h"
#include "cli/step_text.h"
#include "edgert/scalar/convert.h"
#include "ir/types.h"

namespace edgert::cli {
namespace {

using nlohmann::json;

struct Options {
  std::string plan;
  std::string other;  ///< model or second plan
  std::string inputs;
  std::string reference;
  std::string python;
  std::uint64_t seed = 1;
  std::optional<double> tolerance;
  bool layers = false;
  bool json = false;
};

/// What a plan of 16 bits or TF32 is held to: noise of a thousandth of the output's power, and no single element off by more
/// than a tenth of the largest. Errors grow with a network's depth, so that single elements say little of a sound plan.
constexpr double kLeastSqnrDb = 30, kLargestErrorIn16Bits = 0.1;

double element(const io::Array& array, std::size_t i) {
  switch (array.dtype) {
    case DType::F32: return reinterpret_cast<const float*>(array.bytes.data())[i];
    case DType::F64: return reinterpret_cast<const double*>(array.bytes.data())[i];
    case DType::F16: return scalar::to_float(reinterpret_cast<const scalar::Half*>(array.bytes.data())[i]);
    case DType::BF16: return scalar::to_float(reinterpret_cast<const scalar::BFloat16*>(array.bytes.data())[i]);
    case DType::I64: return static_cast<double>(reinterpret_cast<const std::int64_t*>(array.bytes.data())[i]);
    case DType::U64: return static_cast<double>(reinterpret_cast<const std::uint64_t*>(array.bytes.data())[i]);
    case DType::I32: return reinterpret_cast<const std::int32_t*>(array.bytes.data())[i];
    case DType::U32: return reinterpret_cast<const std::uint32_t*>(array.bytes.data())[i];
    case DType::I16: return reinterpret_cast<const std::int16_t*>(array.bytes.data())[i];
    case DType::U16: return reinterpret_cast<const std::uint16_t*>(array.bytes.data())[i];
    case DType::I8: return reinterpret_cast<const std::int8_t*>(array.bytes.data())[i];
    case DType::U8: case DType::Bool: return reinterpret_cast<const std::uint8_t*>(array.bytes.data())[i];
    default: throw ir::BuildError(std::string("cannot compare values of type ") + edgert::to_string(array.dtype));
  }
}

/// How far `actual` is from `expected`.
struct Difference {
  double max_abs = 0;
  double max_rel = 0;        ///< of the elements whose reference is not tiny beside the largest one
  double relative_to_max = 0;  ///< max_abs / largest magnitude of the reference: what the tolerance is about
  double cosine = 1;
  double sqnr_db = std::numeric_limits<double>::infinity();
  bool finite = true;
};

Difference difference(const io::Array& actual, const io::Array& expected) {
  const auto count = static_cast<std::size_t>(ir::element_count(expected.dims));
  Difference out;
  double largest = 0;
  double dot = 0;
  double norm_actual = 0;
  double norm_expected = 0;
  double noise = 0;
  for (std::size_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(element(expected, i)));
  for (std::size_t i = 0; i < count; ++i) {
    const double a = element(actual, i);
    const double e = element(expected, i);
    if (!std::isfinite(a) || !std::isfinite(e)) {
      out.finite = out.finite && ((std::isnan(a) && std::isnan(e)) || a == e);
      continue;
    }
    const double error = std::fabs(a - e);
    out.max_abs = std::max(out.max_abs, error);
    if (std::fabs(e) > 1e-3 * largest) out.max_rel = std::max(out.max_rel, error / std::fabs(e));
    dot += a * e;
    norm_actual += a * a;
    norm_expected += e * e;
    noise += error * error;
  }
  out.relative_to_max = largest > 0 ? out.max_abs / largest : out.max_abs;
  if (norm_actual > 0 && norm_expected > 0) {
    out.cosine = dot / std::sqrt(norm_actual * norm_expected);
  } else if (norm_actual != norm_expected) {
    out.cosine = 0;
  }
  if (noise > 0) out.sqnr_db = 10 * std::log10(norm_expected / noise);
  return out;
}

json to_json(const Difference& d) {
  return {{"max_abs", d.max_abs}, {"max_rel", d.max_rel}, {"relative_to_max", d.relative_to_max}, {"cosine", d.cosine},
          {"sqnr_db", std::isinf(d.sqnr_db) ? json() : json(d.sqnr_db)}, {"finite", d.finite}};
}

/// Same name, type and shape; throws with both when they differ.
void require_comparable(const std::string& name, const io::Array& actual, const io::Array& expected) {
  if (actual.dtype == expected.dtype && actual.dims == expected.dims) return;
  throw ir::BuildError("output '" + name + "' is " + ir::to_string(ir::TensorType{actual.dtype, actual.dims}) + " here and " +
                       ir::to_string(ir::TensorType{expected.dtype, expected.dims}) + " in the reference");
}

bool is_onnx(const std::string& path) {
  const io::MappedFile file(path);
  return file.bytes().size() < sizeof(kPlanMagic) || std::memcmp(file.bytes().data(), kPlanMagic, sizeof(kPlanMagic)) != 0;
}

/// The array's elements as another floating-point type: what a GPU stores an f32 value as.
io::Array as_type(const io::Array& array, DType dtype) {
  if (array.dtype == dtype) return array;
  io::Array out;
  out.dtype = dtype;
  out.dims = array.dims;
  const auto count = static_cast<std::size_t>(ir::element_count(array.dims));
  out.bytes.resize(count * (bits_of(dtype) / 8));
  for (std::size_t i = 0; i < count; ++i) {
    const auto value = static_cast<float>(element(array, i));
    std::uint16_t bits = 0;
    if (dtype == DType::F16) bits = scalar::to_half(value).bits;
    if (dtype == DType::BF16) bits = scalar::to_bfloat16(value).bits;
    std::memcpy(out.bytes.data() + i * sizeof(bits), &bits, sizeof(bits));
  }
  return out;
}

io::Arrays inputs_of(PlanSession& session) {
  io::Arrays arrays;
  for (std::uint32_t i = 0; i < session.plan().input_count(); ++i) {
    arrays[session.plan().input_name(i)] = to_array(session.input(i));
  }
  return arrays;
}

/// Writes a dense array into a strided view that may repeat it.
void scatter(const io::Array& wide, TensorView view) {
  const io::Array array = as_type(wide, view.dtype);
  for (std::size_t d = 0; d < view.rank; ++d) view.dims[d] = array.dims[d];
  const std::size_t size = bits_of(view.dtype) / 8;
  std::int64_t index[kMaxRank] = {};
  for (std::int64_t i = 0; i < view.elements(); ++i) {
    std::int64_t offset = 0;
    for (std::uint32_t d = 0; d < view.rank; ++d) offset += index[d] * view.strides[d];
    std::memcpy(static_cast<std::byte*>(view.data) + static_cast<std::size_t>(offset) * size,
                array.bytes.data() + static_cast<std::size_t>(i) * size, size);
    for (std::uint32_t d = view.rank; d-- > 0 && ++index[d] == view.dims[d];) index[d] = 0;
  }
}

/// Whether the view shows an array of these extents, some of them 1 and repeated by a stride of 0.
bool repeats(const TensorView& view, const ir::Dims& dims) {
  if (dims.size() != view.rank) return false;
  for (std::size_t d = 0; d < view.rank; ++d) {
    if (dims[d] != view.dims[d] && (dims[d] != 1 || view.strides[d] != 0)) return false;
  }
  return true;
}

/// The reference value of a plan's tensor: same ONNX name, type (but for narrowed floats) and shape; null when the model has none such.
const io::Array* reference_of(const schema::Tensor& tensor, const TensorView& view, const io::Arrays& reference) {
  if (tensor.name() == nullptr) return nullptr;
  const auto found = reference.find(tensor.name()->str());
  if (found == reference.end()) return nullptr;
  const bool narrowed = found->second.dtype == DType::F32 && (view.dtype == DType::F16 || view.dtype == DType::BF16);
  if (found->second.dtype != view.dtype && !narrowed) return nullptr;
  return repeats(view, found->second.dims) ? &found->second : nullptr;
}

bool is_writable(const schema::Profile& profile, std::uint32_t tensor) {
  const schema::Region region = profile.storages()->Get(profile.tensors()->Get(tensor)->storage())->region();
  return region != schema::Region::Weights;
}

/// For each step: the error that has piled up so far, and the error that the step makes by itself on reference inputs.
json compare_layers(PlanSession& session, const io::Arrays& inputs, const io::Arrays& reference) {
  const schema::Profile& profile = session.plan().profile(session.profile());
  const auto* steps = profile.lists()->Get(0)->steps();
  json rows = json::array();
  session.set_inputs(inputs);
  const auto against_reference = [&](std::uint32_t step) -> json {
    if (rules::count(steps->Get(step)->outputs()) == 0) return json();
    const std::uint32_t tensor = steps->Get(step)->outputs()->Get(0);
    const TensorView view = session.fetch(tensor);
    const io::Array* expected = reference_of(*profile.tensors()->Get(tensor), view, reference);
    return expected == nullptr ? json() : to_json(difference(to_array(view), *expected));
  };
  for (std::uint32_t i = 0; i < session.step_count(); ++i) {
    const schema::Step& step = *steps->Get(i);
    session.require(session.run_step(i), "step " + std::to_string(i));
    json row{{"step", i}, {"accumulated", against_reference(i)}};
    const auto* name = rules::count(step.outputs()) == 0 ? nullptr : profile.tensors()->Get(step.outputs()->Get(0))->name();
    row["value"] = name != nullptr ? name->str() : "";
    const StepText text = describe_step(session.plan(), step);
    row["operator"] = text.name;
    row["nodes"] = text.nodes;
    rows.push_back(row);
  }
  // Every input is rewritten before each step, so what earlier steps left in the arena does not matter.
  for (std::uint32_t i = 0; i < session.step_count(); ++i) {
    bool all = true;
    for (std::uint32_t k = 0; k < rules::count(steps->Get(i)->inputs()); ++k) {
      const std::uint32_t tensor = steps->Get(i)->inputs()->Get(k);
      if (tensor == 0xffffffffu || !is_writable(profile, tensor)) continue;
      const TensorView view = session.fetch(tensor);
      const io::Array* expected = reference_of(*profile.tensors()->Get(tensor), view, reference);
      all = all && expected != nullptr;
      if (expected == nullptr) continue;
      scatter(*expected, view);
      session.commit(tensor);
    }
    session.require(session.run_step(i), "step " + std::to_string(i));
    rows[i]["local"] = all ? against_reference(i) : json();
  }
  return rows;
}

void print_layers(const json& rows) {
  std::printf("%5s  %-24s %-24s %s\n", "step", "accumulated (sqnr)", "local (sqnr)", "value: ONNX nodes");
  const auto cell = [](const json& d) {
    char text[64];
    if (d.is_null()) return std::string("-");
    std::snprintf(text, sizeof(text), "%.3g (%s)", d["max_abs"].get<double>(),
                  d["sqnr_db"].is_null() ? "exact" : (std::to_string(static_cast<int>(d["sqnr_db"].get<double>())) + " dB").c_str());
    return std::string(text);
  };
  for (const json& row : rows) {
    std::printf("%5u  %-24s %-24s %s: %s\n", row["step"].get<unsigned>(), cell(row["accumulated"]).c_str(),
                cell(row["local"]).c_str(), row["value"].get<std::string>().c_str(),
                joined(row["nodes"].get<std::vector<std::string>>()).c_str());
  }
}

/// Whether a step multiplies in 16 bits, or in tf32: then results differ from those in 32 bits by what these hold.
bool computes_in_16_bits(const PlanView& plan) {
  for (const schema::StepList* list : *plan.profile(0).lists()) {
    for (std::uint32_t i = 0; i < rules::count(list->steps()); ++i) {
      const std::string compute = compute_text(plan, *list->steps()->Get(i));
      if (compute == "f16" || compute == "bf16" || compute == "tf32") return true;
    }
  }
  return false;
}

int compare(const Options& options) {
  if (options.other.empty() == options.reference.empty()) {
    throw UsageError("compare: give a model, a second plan, or --reference out.npz (exactly one)");
  }
  const LoadedPlan plan(options.plan);
  const std::unique_ptr<PlanSession> opened = open_session(plan, 1);
  PlanSession& session = *opened;
  if (options.inputs.empty()) {
    session.set_random_inputs(options.seed);
  } else {
    session.set_inputs(io::read_npz(options.inputs));
  }
  const io::Arrays inputs = inputs_of(session);
  session.require(session.run(), options.plan);
  const io::Arrays outputs = session.outputs();

  io::Arrays reference;
  if (!options.reference.empty()) {
    reference = io::read_npz(options.reference);
  } else if (is_onnx(options.other)) {
    reference = run_reference(find_python(options.python), options.other, inputs, options.layers);
    if (options.layers) reference.insert(inputs.begin(), inputs.end());
  } else {
    const LoadedPlan second(options.other);
    const std::unique_ptr<PlanSession> other = open_session(second, 1);
    other->set_inputs(inputs);
    other->require(other->run(), options.other);
    reference = other->outputs();
  }

  const bool by_noise = !options.tolerance && computes_in_16_bits(plan.view());
  const double tolerance = options.tolerance.value_or(by_noise ? kLargestErrorIn16Bits : 1e-3);
  json report;
  report["tolerance"] = tolerance;
  if (by_noise) report["least_sqnr_db"] = kLeastSqnrDb;
  bool passed = true;
  for (const auto& [name, actual] : outputs) {
    const auto expected = reference.find(name);
    if (expected == reference.end()) throw ir::BuildError("the reference has no output '" + name + "'");
    require_comparable(name, actual, expected->second);
    const Difference d = difference(actual, expected->second);
    const bool ok = d.finite && d.relative_to_max <= tolerance && (!by_noise || d.sqnr_db >= kLeastSqnrDb);
    passed = passed && ok;
    json entry = to_json(d);
    entry["passed"] = ok;
    report["outputs"][name] = entry;
    if (!options.json) {
      std::printf("%s %-24s max abs %.3g, max rel %.3g, of largest %.3g, cosine %.9f, SQNR %.1f dB%s\n", ok ? "ok    " : "FAILED",
                  name.c_str(), d.max_abs, d.max_rel, d.relative_to_max, d.cosine, d.sqnr_db,
                  d.finite ? "" : ", infinities or NaNs differ");
    }
  }
  if (options.layers) {
    report["layers"] = compare_layers(session, inputs, reference);
    if (!options.json) print_layers(report["layers"]);
  }
  report["passed"] = passed;
  if (options.json) std::printf("%s\n", report.dump(2).c_str());
  return passed ? kOk : kComparisonFailed;
}

}  // namespace

void add_compare(CLI::App& program, std::function<int()>& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("compare", "Compare a plan's results with ONNX Runtime, recorded ones, or another plan");
  command->footer(
      "Examples:\n"
      "  edgert compare net.plan net.onnx\n"
      "  edgert compare net.plan net.onnx --inputs in.npz --layers\n"
      "  edgert compare net.plan --reference expected.npz --inputs in.npz\n"
      "  edgert compare net.plan other.plan\n"
      "Exit code 1 when an output is further from the reference than the tolerance.");
  command->add_option("plan", options->plan, "Plan file")->required();
  command->add_option("other", options->other, "ONNX model to run in ONNX Runtime, or a second plan");
  command->add_option("--inputs", options->inputs, "Inputs by name, npz; default: random ones");
  command->add_option("--random", options->seed, "Seed of the random inputs")->capture_default_str();
  command->add_option("--reference", options->reference, "Expected outputs by name, npz");
  command->add_option("--tolerance", options->tolerance, "Largest error allowed, as a fraction of the output's largest magnitude;\n"
                      "default: 0.001; of a plan that computes in 16 bits or TF32 0.1, and an SQNR of 30 dB besides")
      ->check(CLI::Range(0.0, 1e9));
  command->add_flag("--layers", options->layers, "Also every step: error piled up, and error of the step by itself");
  command->add_option("--python", options->python, "Python with onnxruntime; default: build/venv, then python3");
  command->add_flag("--json", options->json, "Print as JSON");
  command->callback([options, &run] { run = [options] { return compare(*options); }; });
}

}  // namespace edgert::cli
