// SPDX-License-Identifier: Apache-2.0
#include "codegen/kernel_spec.h"

#include <cstdio>
#include <cstring>
#include <mutex>
#include <set>

namespace edgert::codegen {

namespace {

/// Views in a CompileJob must stay valid: texts made here live as long as the process, each once.
std::string_view keep(const std::string& text) {
  static std::mutex mutex;
  static std::set<std::string> texts;
  const std::lock_guard<std::mutex> lock(mutex);
  return *texts.insert(text).first;
}

}  // namespace

namespace {

/// Floats that are not finite, as constant expressions: the compiler of CUDA 11 casts no bits, others divide by no zero.
constexpr const char* kFloatMacro =
    "#if defined(__CUDACC_RTC__) && __CUDACC_VER_MAJOR__ < 12\n"
    "#define EDGERT_FLOAT(bits, value) (value)\n"
    "#else\n"
    "#define EDGERT_FLOAT(bits, value) __builtin_bit_cast(float, bits)\n"
    "#endif\n";

}  // namespace

std::string float_literal(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  char text[48];
  if ((bits & 0x7f800000u) == 0x7f800000u) {
    std::snprintf(text, sizeof(text), "%s", (bits & 0x7fffffu) != 0 ? "EDGERT_FLOAT(0x7fc00000u, 0.0f / 0.0f)"
                                            : (bits >> 31) != 0     ? "EDGERT_FLOAT(0xff800000u, -1.0f / 0.0f)"
                                                                    : "EDGERT_FLOAT(0x7f800000u, 1.0f / 0.0f)");
  } else {
    std::snprintf(text, sizeof(text), "%af", static_cast<double>(value));
  }
  return text;
}

ProblemText::ProblemText(ElementType element) {
  constants_ = std::string("using Element = ") + (element == ElementType::F16 ? "F16" : element == ElementType::BF16 ? "BF16" : element == ElementType::TF32 ? "TF32" : "F32") + ";\n";
}

ProblemText& ProblemText::set(const std::string& name, std::int64_t value) {
  constants_ += "constexpr int " + name + " = " + std::to_string(value) + ";\n";
  return *this;
}
ProblemText& ProblemText::set(const std::string& name, bool value) {
  constants_ += "constexpr bool " + name + " = " + (value ? "true" : "false") + ";\n";
  return *this;
}
ProblemText& ProblemText::set(const std::string& name, float value) {
  constants_ += "constexpr float " + name + " = " + float_literal(value) + ";\n";
  return *this;
}
ProblemText& ProblemText::set(const std::string& name, const std::string& type, const std::string& value) {
  constants_ += "constexpr " + type + " " + name + " = " + value + ";\n";
  return *this;
}
ProblemText& ProblemText::define(const std::string& macro, const std::string& value) {
  macros_ += "#define " + macro + " " + value + "\n";
  return *this;
}
ProblemText& ProblemText::epilogue(const scalar::Epilogue& epilogue) {
  set("kActivation", "scalar::PointwiseOp", "static_cast<scalar::PointwiseOp>(" + std::to_string(static_cast<unsigned>(epilogue.activation)) + ")");
  set("kResidual", "scalar::ResidualMode", "static_cast<scalar::ResidualMode>(" + std::to_string(static_cast<unsigned>(epilogue.residual)) + ")");
  return set("kAlpha", epilogue.alpha).set("kBeta", epilogue.beta);
}

ProblemText& ProblemText::code(const std::string& text) {
  constants_ += text;
  return *this;
}

std::string ProblemText::text() const {
  return std::string("#pragma once\n") + kFloatMacro + macros_ + "namespace edgert::device::problem {\n" + constants_ +
         "}  // namespace edgert::device::problem\n";
}

CompileJob make_job(const std::string& name, const std::string& file, const std::string& problem, std::uint32_t arch) {
  CompileJob job;
  job.name = name;
  job.arch = arch;
  for (const KernelFile& entry : kernel_files()) {
    if (entry.name == file) job.source = entry.text;
    else if (entry.name.substr(entry.name.size() - 3) != ".cu") job.headers.push_back(entry);
  }
  if (job.source.empty()) throw CompileError(name + ": the builder carries no " + file);
  job.headers.push_back({"problem.h", keep(problem)});
  return job;
}

}  // namespace edgert::codegen
