// SPDX-License-Identifier: Apache-2.0
// Optional: runs the steps of a plan that cuDNN computes (edgert build --tactics), with its graph API: convolution, bias,
// residual and activation as one graph of operations. Needs cuDNN's headers to compile and libcudnn at run time; nothing is
// linked.
//
//   cuda::Cudnn cudnn;                         // outlives the program
//   options.libraries.cudnn = cudnn.runner();  // of cuda::ProgramOptions
#pragma once

#include <cudnn.h>

#include "edgert/cuda/library/shared_library.h"
#include "edgert/cuda/library_call.h"

namespace edgert::cuda {

#define EDGERT_TEXT_OF(value) #value
#define EDGERT_TEXT(value) EDGERT_TEXT_OF(value)
inline constexpr const char* kCudnnName = "libcudnn.so." EDGERT_TEXT(CUDNN_MAJOR);
#undef EDGERT_TEXT
#undef EDGERT_TEXT_OF

namespace library {

struct CudnnFunctions {
  decltype(&::cudnnGetVersion) version = nullptr;
  decltype(&::cudnnCreate) create = nullptr;
  decltype(&::cudnnDestroy) destroy = nullptr;
  decltype(&::cudnnSetStream) set_stream = nullptr;
  decltype(&::cudnnGetErrorString) error_text = nullptr;
  decltype(&::cudnnBackendCreateDescriptor) create_descriptor = nullptr;
  decltype(&::cudnnBackendDestroyDescriptor) destroy_descriptor = nullptr;
  decltype(&::cudnnBackendSetAttribute) set = nullptr;
  decltype(&::cudnnBackendGetAttribute) get = nullptr;
  decltype(&::cudnnBackendFinalize) finalize = nullptr;
  decltype(&::cudnnBackendExecute) execute = nullptr;
};

/// Descriptors of one graph of operations. The first failure is kept, after it nothing is called any more.
class CudnnGraph {
 public:
  using Descriptor = cudnnBackendDescriptor_t;

  explicit CudnnGraph(const CudnnFunctions& functions) noexcept : functions_(functions) {}
  CudnnGraph(const CudnnGraph&) = delete;
  CudnnGraph& operator=(const CudnnGraph&) = delete;
  ~CudnnGraph() {
    while (count_ > 0) (void)functions_.destroy_descriptor(made_[--count_]);
  }

  cudnnStatus_t result() const noexcept { return result_; }
  bool ok() const noexcept { return result_ == CUDNN_STATUS_SUCCESS; }

  Descriptor make(cudnnBackendDescriptorType_t type) noexcept {
    Descriptor made = nullptr;
    if (!ok() || count_ == kMost) return nullptr;
    result_ = functions_.create_descriptor(type, &made);
    if (ok()) made_[count_++] = made;
    return ok() ? made : nullptr;
  }
  void set(Descriptor to, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count, const void* values) noexcept {
    if (ok()) result_ = functions_.set(to, name, type, count, values);
  }
  template <class T>
  void set_one(Descriptor to, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) noexcept {
    set(to, name, type, 1, &value);
  }
  void link(Descriptor to, cudnnBackendAttributeName_t name, Descriptor value) noexcept { set(to, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value); }
  void finalize(Descriptor descriptor) noexcept {
    if (ok()) result_ = functions_.finalize(descriptor);
  }

  /// [N, C, H, W] with pixels `pitch` elements apart, or for a pitch of 0 what lies in no memory.
  Descriptor tensor(std::int64_t id, cudnnDataType_t type, const std::int64_t (&dims)[4], std::int64_t pitch) noexcept {
    const std::int64_t step = pitch != 0 ? pitch : dims[1];
    const std::int64_t strides[4] = {dims[2] * dims[3] * step, 1, dims[3] * step, step};
    const Descriptor tensor = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set_one(tensor, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
    set(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(tensor, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set_one(tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id);
    set_one(tensor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::int64_t{16});
    set_one(tensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, pitch == 0);
    finalize(tensor);
    return tensor;
  }

  /// y = a `mode` b; b null for a function of one operand.
  void pointwise(cudnnPointwiseMode_t mode, Descriptor a, Descriptor b, Descriptor y) noexcept {
    const Descriptor how = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set_one(how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
    set_one(how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    finalize(how);
    const Descriptor operation = add_operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    link(operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    link(operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, a);
    if (b != nullptr) link(operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    link(operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    finalize(operation);
  }

  void convolution(const LibraryConv& c, Descriptor x, Descriptor weights, Descriptor y) noexcept {
    const std::int64_t dilation[2] = {c.dilation[0], c.dilation[1]}, stride[2] = {c.stride[0], c.stride[1]};
    const std::int64_t before[2] = {c.pad_begin[0], c.pad_begin[1]}, behind[2] = {c.pad_end[0], c.pad_end[1]};
    const Descriptor how = make(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set_one(how, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    set_one(how, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
    set(how, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    set(how, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(how, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    set(how, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, behind);
    set_one(how, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, std::int64_t{2});
    finalize(how);
    const Descriptor operation = add_operation(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    link(operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    link(operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, weights);
    link(operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    link(operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, how);
    set_one(operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1.0f);
    set_one(operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 0.0f);
    finalize(operation);
  }

  /// All operations so far.
  Descriptor graph(cudnnHandle_t handle) noexcept {
    const Descriptor graph = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, operation_count_, operations_);
    set_one(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle);
    finalize(graph);
    return graph;
  }

 private:
  static constexpr std::uint32_t kMost = 32;

  Descriptor add_operation(cudnnBackendDescriptorType_t type) noexcept {
    const Descriptor operation = make(type);
    if (operation != nullptr) operations_[operation_count_++] = operation;
    return operation;
  }

  const CudnnFunctions& functions_;
  cudnnStatus_t result_ = CUDNN_STATUS_SUCCESS;
  Descriptor made_[kMost] = {};
  std::uint32_t count_ = 0;
  Descriptor operations_[4] = {};
  std::int64_t operation_count_ = 0;
};

}  // namespace library

/// For one program at a time. Neither copied nor moved. Holds what was prepared of each different convolution, since the
/// library may keep machine code there.
class Cudnn {
 public:
  explicit Cudnn(const char* library = kCudnnName) noexcept : name_(library) {}
  Cudnn(const Cudnn&) = delete;
  Cudnn& operator=(const Cudnn&) = delete;

  LibraryRunner runner() noexcept { return {&enqueue, &release, this}; }

  /// Finds library and functions, which the first step would do. DeviceUnavailable where something is missing.
  Status open(const LogSink& log = {}) noexcept {
    if (library_.is_open() && functions_.execute != nullptr) return {};
    EDGERT_RETURN_IF_ERROR(library_.open(name_, log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.version, "cudnnGetVersion", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.create, "cudnnCreate", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.destroy, "cudnnDestroy", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.set_stream, "cudnnSetStream", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.error_text, "cudnnGetErrorString", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.create_descriptor, "cudnnBackendCreateDescriptor", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.destroy_descriptor, "cudnnBackendDestroyDescriptor", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.set, "cudnnBackendSetAttribute", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.get, "cudnnBackendGetAttribute", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.finalize, "cudnnBackendFinalize", log));
    return library_.find(functions_.execute, "cudnnBackendExecute", log);
  }
  /// As cuDNN counts: 91900. 0 before open().
  std::size_t version() const noexcept { return functions_.version != nullptr ? functions_.version() : 0; }

  static constexpr std::uint32_t kMaxPlans = 256;    ///< different convolutions in a program
  static constexpr std::uint32_t kMaxProposals = 16;  ///< of the library's heuristics that are looked at

 private:
  using Graph = library::CudnnGraph;
  using Descriptor = cudnnBackendDescriptor_t;
  struct Prepared {
    LibraryConv problem;
    bool bias;
    Descriptor plan, engine;
  };

  Status check(cudnnStatus_t result, const char* call, const LogSink& log) const noexcept {
    if (result == CUDNN_STATUS_SUCCESS) return {};
    Message message;
    message << "cuDNN: " << call << ": " << functions_.error_text(result);
    message.to(log);
    return {Error::DeviceFailed, 0, static_cast<std::uint64_t>(result)};
  }

  static cudnnPointwiseMode_t mode_of(LibraryActivation activation) noexcept {
    switch (activation) {
      case LibraryActivation::Relu: return CUDNN_POINTWISE_RELU_FWD;
      case LibraryActivation::GeluTanh: return CUDNN_POINTWISE_GELU_APPROX_TANH_FWD;
      case LibraryActivation::Gelu: return CUDNN_POINTWISE_GELU_FWD;
      case LibraryActivation::Silu: return CUDNN_POINTWISE_SWISH_FWD;
      default: return CUDNN_POINTWISE_SIGMOID_FWD;
    }
  }

  static std::int64_t id_of(LibraryArgument argument) noexcept { return static_cast<std::int64_t>(argument) + 1; }

  /// The operations of a call: each step but the last gives a tensor that lies in no memory.
  Descriptor describe(Graph& graph, const LibraryConv& c, bool bias) const noexcept {
    const cudnnDataType_t type = c.common.dtype == DType::F16 ? CUDNN_DATA_HALF : c.common.dtype == DType::BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    const std::int64_t in[4] = {c.batch, c.channels, c.height, c.width}, out[4] = {c.batch, c.out_channels, c.out_height, c.out_width};
    const std::int64_t taps[4] = {c.out_channels, c.channels / c.groups, c.kernel[0], c.kernel[1]}, along[4] = {1, c.out_channels, 1, 1};
    const bool adds = c.residual_pitch != 0, activates = c.common.activation != LibraryActivation::None;
    int left = (bias ? 1 : 0) + (adds ? 1 : 0) + (activates ? 1 : 0);
    std::int64_t next = 100;  // of the tensors between the operations
    const auto result = [&] { return left-- > 0 ? graph.tensor(next++, CUDNN_DATA_FLOAT, out, 0) : graph.tensor(id_of(LibraryArgument::Output), type, out, c.output_pitch); };
    const Descriptor x = graph.tensor(id_of(LibraryArgument::Input), type, in, c.input_pitch);
    const Descriptor weights = graph.tensor(id_of(LibraryArgument::Weights), type, taps, taps[1]);
    Descriptor last = result();
    graph.convolution(c, x, weights, last);
    const auto then = [&](cudnnPointwiseMode_t mode, Descriptor operand) {
      const Descriptor y = result();
      graph.pointwise(mode, last, operand, y);
      last = y;
    };
    if (bias) then(CUDNN_POINTWISE_ADD, graph.tensor(id_of(LibraryArgument::Bias), type, along, c.out_channels));
    if (adds) then(CUDNN_POINTWISE_ADD, graph.tensor(id_of(LibraryArgument::Residual), type, out, c.residual_pitch));
    if (activates) then(mode_of(c.common.activation), nullptr);
    return graph.graph(handle_);
  }

  /// The engines that the heuristics propose, best first; how many.
  std::uint32_t propose(Graph& graph, Descriptor operations, Descriptor (&engines)[kMaxProposals]) const noexcept {
    const Descriptor heuristics = graph.make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    graph.link(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, operations);
    graph.set_one(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
    graph.finalize(heuristics);
    if (!graph.ok()) return 0;
    std::uint32_t room = 0;
    while (room < kMaxProposals && functions_.create_descriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &engines[room]) == CUDNN_STATUS_SUCCESS) ++room;
    std::int64_t count = 0;
    const cudnnStatus_t asked =
        functions_.get(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(room), &count, engines);
    const std::uint32_t proposed = asked != CUDNN_STATUS_SUCCESS || count < 0 ? 0 : count < room ? static_cast<std::uint32_t>(count) : room;
    for (std::uint32_t i = proposed; i < room; ++i) (void)functions_.destroy_descriptor(engines[i]);
    return proposed;
  }

  /// A plan for the engine that keeps to the workspace; null where there is none.
  Descriptor finalize(Descriptor engine, std::uint64_t workspace_bytes) const noexcept {
    Descriptor plan = nullptr;
    if (functions_.create_descriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan) != CUDNN_STATUS_SUCCESS) return nullptr;
    std::int64_t wanted = 0, count = 0;
    const bool good = functions_.set(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle_) == CUDNN_STATUS_SUCCESS &&
                      functions_.set(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine) == CUDNN_STATUS_SUCCESS &&
                      functions_.finalize(plan) == CUDNN_STATUS_SUCCESS &&
                      functions_.get(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, &wanted) == CUDNN_STATUS_SUCCESS &&
                      wanted >= 0 && static_cast<std::uint64_t>(wanted) <= workspace_bytes;
    if (good) return plan;
    (void)functions_.destroy_descriptor(plan);
    return nullptr;
  }

  /// The plan for a call, prepared when it is first needed.
  Status prepare(const LibraryConv& c, bool bias, const LogSink& log, Descriptor& plan) noexcept {
    for (std::uint32_t i = 0; i < count_; ++i) {
      if (prepared_[i].bias != bias || std::memcmp(&prepared_[i].problem, &c, sizeof(c)) != 0) continue;
      plan = prepared_[i].plan;
      return {};
    }
    Prepared fresh = {c, bias, nullptr, nullptr};
    const char* why = count_ < kMaxPlans ? "" : "(too many different ones)";
    if (count_ < kMaxPlans) {
      Graph graph(functions_);
      Descriptor engines[kMaxProposals] = {};
      const std::uint32_t proposed = propose(graph, describe(graph, c, bias), engines);
      std::uint32_t usable = 0;
      for (std::uint32_t i = 0; i < proposed; ++i) {
        Descriptor made = fresh.plan == nullptr ? finalize(engines[i], c.common.workspace_bytes) : nullptr;
        if (made != nullptr && usable++ == c.common.algorithm) {
          fresh.plan = made, fresh.engine = engines[i];
          continue;
        }
        if (made != nullptr) (void)functions_.destroy_descriptor(made);
        (void)functions_.destroy_descriptor(engines[i]);
      }
      if (!graph.ok()) why = functions_.error_text(graph.result());
    }
    if (fresh.plan == nullptr) {
      Message message;
      message << "cuDNN has no engine " << c.common.algorithm << " for a convolution of " << c.channels << " to " << c.out_channels << " channels " << why;
      message.to(log);
      return {Error::UnknownOperator, 0, c.common.algorithm};
    }
    prepared_[count_++] = fresh;
    plan = fresh.plan;
    return {};
  }

  static Status enqueue(void* user, const schema::LibraryCall& call, const DevicePointer* addresses, Stream stream, const LogSink& log) noexcept {
    Cudnn& self = *static_cast<Cudnn*>(user);
    EDGERT_RETURN_IF_ERROR(self.open(log));
    const library::CudnnFunctions& functions = self.functions_;
    if (self.handle_ == nullptr) EDGERT_RETURN_IF_ERROR(self.check(functions.create(&self.handle_), "cudnnCreate", log));
    EDGERT_RETURN_IF_ERROR(self.check(functions.set_stream(self.handle_, reinterpret_cast<cudaStream_t>(stream)), "cudnnSetStream", log));
    LibraryConv c;
    std::memcpy(&c, call.problem()->Data(), sizeof(c));
    std::int64_t ids[kLibraryArguments] = {};
    void* pointers[kLibraryArguments] = {};
    std::int64_t count = 0;
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(LibraryArgument::Workspace); ++i) {
      if (addresses[i] == 0) continue;
      if (addresses[i] % 16 != 0) return {Error::ArenaMisaligned, i, 16};
      ids[count] = id_of(static_cast<LibraryArgument>(i));
      pointers[count++] = reinterpret_cast<void*>(addresses[i]);
    }
    Descriptor plan = nullptr;
    EDGERT_RETURN_IF_ERROR(self.prepare(c, addresses[static_cast<std::uint32_t>(LibraryArgument::Bias)] != 0, log, plan));
    Graph graph(functions);
    const Descriptor pack = graph.make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    void* const workspace = reinterpret_cast<void*>(addresses[static_cast<std::uint32_t>(LibraryArgument::Workspace)]);
    graph.set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers);
    graph.set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
    graph.set_one(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
    graph.finalize(pack);
    EDGERT_RETURN_IF_ERROR(self.check(graph.result(), "cudnnBackendFinalize", log));
    return self.check(functions.execute(self.handle_, plan, pack), "cudnnBackendExecute", log);
  }

  static void release(void* user) noexcept {
    Cudnn& self = *static_cast<Cudnn*>(user);
    while (self.count_ > 0) {
      const Prepared& last = self.prepared_[--self.count_];
      (void)self.functions_.destroy_descriptor(last.plan);
      (void)self.functions_.destroy_descriptor(last.engine);
    }
    if (self.handle_ != nullptr) (void)self.functions_.destroy(self.handle_);
    self.handle_ = nullptr;
  }

  const char* name_;
  library::SharedLibrary library_;
  library::CudnnFunctions functions_;
  cudnnHandle_t handle_ = nullptr;
  std::uint32_t count_ = 0;
  Prepared prepared_[kMaxPlans] = {};
};

}  // namespace edgert::cuda
