// SPDX-License-Identifier: Apache-2.0
// Profiles and weights to the bytes of a plan file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "edgert/plan_format.h"
#include "plan/lower.h"

namespace edgert::plan {

/// An input or output of the plan.
struct BindingSpec {
  std::string name;
  DType dtype = DType::Undefined;
  ir::Dims dims;  ///< -1 where profiles differ
  std::vector<std::string> dim_names;
};

/// A recorded run: inputs and expected outputs of one profile, dense, in binding order.
struct GoldenSpec {
  std::uint16_t profile = 0;
  std::vector<ir::Bytes> inputs;
  std::vector<ir::Bytes> outputs;
  float abs_tolerance = 0;
  float rel_tolerance = 0;
};

/// Machine code of one kernel.
struct ModuleSpec {
  std::uint32_t arch = 0;
  std::string entry;
  std::vector<std::byte> cubin;
};

struct PlanSpec {
  std::string target = "cpu";
  std::string model_name;
  std::vector<BindingSpec> inputs;
  std::vector<BindingSpec> outputs;
  std::vector<ProfileSpec> profiles;
  WeightStore weights;
  std::vector<ModuleSpec> modules;
  std::vector<GoldenSpec> golden;
  std::vector<std::pair<std::string, std::string>> metadata;
};

/// A plan file, which need not lie in memory as a whole: the same bytes for the same PlanSpec, on every host.
class PlanFile {
 public:
  /// Receives the file from its first byte to its last.
  using Sink = std::function<void(const std::byte* data, std::uint64_t size)>;

  explicit PlanFile(PlanSpec spec);

  std::uint64_t size() const { return size_; }
  /// Last call. Each piece of the weights that nobody else holds is released as it is written, and spilled ones are in memory
  /// only meanwhile.
  void write(const Sink& sink);
  std::vector<std::byte> in_memory();  ///< write() into a vector
  /// The plan as it would be if all its weights were zeros: what the rules of loading look at. `data` is null for zeros.
  void write_without_weights(const Sink& sink);

  struct Piece {
    std::uint64_t offset;  ///< in the section
    ir::Bytes bytes;
  };

 private:
  struct Section {
    SectionKind kind;
    std::uint64_t offset, size;
    std::vector<Piece> pieces;  ///< by ascending offset; zeros between them
  };
  enum class Weights { Keep, Release, Zeros };
  static void visit(Section& section, Weights weights, const Sink& sink);
  void write_start(Weights weights, const Sink& sink);
  void write_sections(Weights weights, const Sink& sink);

  std::vector<Section> sections_;
  std::uint64_t size_ = 0;
};

/// The plan file's bytes.
std::vector<std::byte> write(PlanSpec spec);

}  // namespace edgert::plan
