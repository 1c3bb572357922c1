// SPDX-License-Identifier: Apache-2.0
// One specialised kernel, ready to be compiled and launched: what a family of kernels/ makes of a layer and a tile.
#pragma once

#include <cstdint>
#include <string>

#include "codegen/nvrtc.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::codegen {

enum class ElementType : std::uint8_t { F16, BF16, TF32, F32 };
/// Whether elements lie in memory as floats, each of which kernels that move 16-bit elements take for two.
inline bool is_wide(ElementType element) { return element == ElementType::TF32 || element == ElementType::F32; }

struct KernelSpec {
  CompileJob job;
  std::string entry;
  std::string tile;  ///< how the work is cut, in words: with `entry` it names a tactic; empty where there is one way only
  std::uint32_t grid[3] = {1, 1, 1};
  std::uint32_t block[3] = {1, 1, 1};
  std::uint32_t cluster = 1;          ///< blocks along x that form a cluster
  std::uint32_t shared_bytes = 0;     ///< dynamic
  std::uint64_t workspace_bytes = 0;  ///< scratch of this launch alone
  std::uint32_t counters = 0;         ///< 32-bit numbers that are zero before the first launch
};

/// Whether the kernel rounds the floats that it multiplies to TF32, which its entry's name says ("conv_tf32").
inline bool rounds_to_tf32(const KernelSpec& spec) {
  const std::string suffix = "_tf32";
  return spec.entry.size() > suffix.size() && spec.entry.compare(spec.entry.size() - suffix.size(), suffix.size(), suffix) == 0;
}

/// Writes problem.h: the constants that specialise a kernel source.
class ProblemText {
 public:
  ProblemText() = default;
  explicit ProblemText(ElementType element);
  ProblemText& set(const std::string& name, std::int64_t value);
  ProblemText& set(const std::string& name, bool value);
  ProblemText& set(const std::string& name, float value);
  ProblemText& set(const std::string& name, const std::string& type, const std::string& value);
  ProblemText& define(const std::string& macro, const std::string& value);
  ProblemText& epilogue(const scalar::Epilogue& epilogue);
  /// Declarations as they are.
  ProblemText& code(const std::string& text);
  std::string text() const;

 private:
  std::string macros_;
  std::string constants_;
};

/// A literal that reads back as the same bits.
std::string float_literal(float value);

/// A job that compiles kernels/<file> with `problem` as problem.h. `name` is for messages.
CompileJob make_job(const std::string& name, const std::string& file, const std::string& problem, std::uint32_t arch);

}  // namespace edgert::codegen
