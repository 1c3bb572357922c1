// SPDX-License-Identifier: Apache-2.0
// From an optimised graph to one profile of a plan for the CPU: steps, tensors as windows of storages, storages at
// arena offsets, proved by the memory checker. Bodies of If and Loop become step lists of their own.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "codegen/library_call.h"
#include "ir/graph.h"
#include "ir/windows.h"
#include "memory/planner.h"
#include "plan/launch_work.h"

namespace edgert::plan {

/// The numbers of schema::Region.
enum class Region : std::uint8_t { Arena = 0, Weights = 1, State = 2, Input = 3, Output = 4 };

struct StorageSpec {
  Region region = Region::Arena;
  std::uint16_t binding = 0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint32_t alignment = 64;
  std::uint32_t first_step = 0;
  std::uint32_t last_step = 0;
};

struct TensorSpec {
  ir::TensorType type;
  WeightFormat format = WeightFormat::Strided;
  std::uint32_t storage = 0;
  std::uint64_t offset = 0;  ///< bytes
  ir::Dims strides;          ///< elements; empty for packed formats
  std::vector<std::pair<std::uint32_t, std::uint32_t>> extents;  ///< bounded dimension, tensor with its extent
  std::string name;
};

/// A parameter of a launch: the numbers of schema::ArgumentKind; `storage` is an index into ProfileSpec::storages.
struct LaunchArgumentSpec {
  enum class Kind : std::uint8_t { Immediate = 0, Address = 1 } kind = Kind::Immediate;
  std::uint8_t bytes = 8;
  std::uint64_t value = 0;  ///< the immediate, or bytes added to the storage's address
  std::uint32_t storage = 0;
};

struct LaunchSpec {
  std::uint16_t module = 0;  ///< index into PlanSpec::modules, whose only entry is launched
  std::uint32_t grid[3] = {1, 1, 1};
  std::uint32_t block[3] = {1, 1, 1};
  std::uint32_t cluster = 1;  ///< blocks along x
  std::uint32_t shared_bytes = 0;
  bool programmatic = false;
  std::vector<LaunchArgumentSpec> arguments;
  std::optional<codegen::LibraryCall> call{};  ///< then there is no module
};

struct StepSpec {
  const ir::OperatorDef* op = nullptr;  ///< null for a launch
  std::optional<LaunchSpec> launch;
  std::vector<std::byte> attributes;
  std::vector<std::uint32_t> inputs;  ///< tensors; ir::kNone: absent
  std::vector<std::uint32_t> outputs;
  std::uint32_t parts = 1;
  DType compute = DType::F32;
  std::vector<std::string> nodes;  ///< ONNX nodes that it stands for
  std::vector<std::uint16_t> bodies;  ///< numbers of step lists
  LaunchWork work;                    ///< of a launch
};

/// A tensor that lives from run to run.
struct StateSpec {
  std::string name;
  std::uint64_t offset = 0;  ///< in the session's memory for states
  std::uint64_t size = 0;
  bool has_initial = false;
  std::uint64_t initial_offset = 0;  ///< in the weights
};

struct ProfileSpec {
  std::string name;
  std::vector<StorageSpec> storages;
  std::vector<TensorSpec> tensors;
  std::vector<StepSpec> steps;                ///< list 0
  std::vector<std::vector<StepSpec>> bodies;  ///< lists 1 and later
  std::vector<StateSpec> states;
  std::vector<std::uint32_t> inputs;   ///< tensor of each graph input
  std::vector<std::uint32_t> outputs;  ///< tensor of each graph output
  memory::Placement arena;
  std::uint64_t state_bytes = 0;
};

/// The weights section: constants of all profiles, equal ones once, each aligned to 64.
class WeightStore {
 public:
  /// Offset of these bytes in the section; adds them when no equal ones are there.
  std::uint64_t add(const ir::Bytes& bytes);
  std::uint64_t size() const { return size_; }
  struct Piece {
    std::uint64_t offset;
    ir::Bytes bytes;
  };
  const std::vector<Piece>& pieces() const { return pieces_; }
  /// Hands the pieces over; the store is not added to any more.
  std::vector<Piece> take_pieces() { return std::move(pieces_); }

 private:
  std::multimap<std::uint64_t, std::size_t> by_hash_;
  std::map<const std::byte*, std::size_t> by_address_;  ///< of the pieces, which keep their bytes
  std::vector<Piece> pieces_;
  std::uint64_t size_ = 0;
};

/// Lowers a graph on which the whole pass pipeline has run. Throws BuildError for what the CPU backend cannot run and
/// std::logic_error when the memory checker finds a fault.
ProfileSpec lower(const ir::Graph& graph, WeightStore& weights);

}  // namespace edgert::plan
