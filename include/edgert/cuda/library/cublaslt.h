// SPDX-License-Identifier: Apache-2.0
// Optional: runs the steps of a plan that cuBLASLt computes (edgert build --tactics). Needs cuBLAS's headers to compile and
// libcublasLt at run time; nothing is linked.
//
//   cuda::CublasLt cublaslt;                         // outlives the program
//   options.libraries.cublaslt = cublaslt.runner();  // of cuda::ProgramOptions
#pragma once

#include <cublasLt.h>

#include "edgert/cuda/library/shared_library.h"
#include "edgert/cuda/library_call.h"

namespace edgert::cuda {

#define EDGERT_TEXT_OF(value) #value
#define EDGERT_TEXT(value) EDGERT_TEXT_OF(value)
inline constexpr const char* kCublasLtName = "libcublasLt.so." EDGERT_TEXT(CUBLAS_VER_MAJOR);
#undef EDGERT_TEXT
#undef EDGERT_TEXT_OF

/// For one program at a time. Neither copied nor moved.
class CublasLt {
 public:
  explicit CublasLt(const char* library = kCublasLtName) noexcept : name_(library) {}
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  LibraryRunner runner() noexcept { return {&enqueue, &release, this}; }

  /// Finds library and functions, which the first step would do. DeviceUnavailable where something is missing.
  Status open(const LogSink& log = {}) noexcept {
    if (library_.is_open() && functions_.matmul != nullptr) return {};
    EDGERT_RETURN_IF_ERROR(library_.open(name_, log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.version, "cublasLtGetVersion", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.create, "cublasLtCreate", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.destroy, "cublasLtDestroy", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.create_layout, "cublasLtMatrixLayoutCreate", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.destroy_layout, "cublasLtMatrixLayoutDestroy", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.create_operation, "cublasLtMatmulDescCreate", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.destroy_operation, "cublasLtMatmulDescDestroy", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.set_operation, "cublasLtMatmulDescSetAttribute", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.create_preference, "cublasLtMatmulPreferenceCreate", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.destroy_preference, "cublasLtMatmulPreferenceDestroy", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.set_preference, "cublasLtMatmulPreferenceSetAttribute", log));
    EDGERT_RETURN_IF_ERROR(library_.find(functions_.heuristic, "cublasLtMatmulAlgoGetHeuristic", log));
    return library_.find(functions_.matmul, "cublasLtMatmul", log);
  }
  /// As cuBLASLt counts: 130200. 0 before open().
  std::size_t version() const noexcept { return functions_.version != nullptr ? functions_.version() : 0; }

  /// How many algorithms a plan can choose among.
  static constexpr std::uint32_t kMaxAlgorithms = 8;

 private:
  struct Functions {
    decltype(&::cublasLtGetVersion) version = nullptr;
    decltype(&::cublasLtCreate) create = nullptr;
    decltype(&::cublasLtDestroy) destroy = nullptr;
    decltype(&::cublasLtMatrixLayoutCreate) create_layout = nullptr;
    decltype(&::cublasLtMatrixLayoutDestroy) destroy_layout = nullptr;
    decltype(&::cublasLtMatmulDescCreate) create_operation = nullptr;
    decltype(&::cublasLtMatmulDescDestroy) destroy_operation = nullptr;
    decltype(&::cublasLtMatmulDescSetAttribute) set_operation = nullptr;
    decltype(&::cublasLtMatmulPreferenceCreate) create_preference = nullptr;
    decltype(&::cublasLtMatmulPreferenceDestroy) destroy_preference = nullptr;
    decltype(&::cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;
    decltype(&::cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
    decltype(&::cublasLtMatmul) matmul = nullptr;
  };

  /// What describes one product to the library, for as long as it is being queued.
  struct Product {
    const Functions& functions;
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t weights = nullptr, input = nullptr, residual = nullptr, output = nullptr;
    cublasLtMatmulPreference_t preference = nullptr;

    explicit Product(const Functions& table) noexcept : functions(table) {}
    Product(const Product&) = delete;
    Product& operator=(const Product&) = delete;
    ~Product() {
      if (preference != nullptr) (void)functions.destroy_preference(preference);
      for (cublasLtMatrixLayout_t layout : {output, residual, input, weights}) {
        if (layout != nullptr) (void)functions.destroy_layout(layout);
      }
      if (operation != nullptr) (void)functions.destroy_operation(operation);
    }
  };

  static Status check(cublasStatus_t result, const char* call, const LogSink& log) noexcept {
    if (result == CUBLAS_STATUS_SUCCESS) return {};
    Message message;
    message << "cuBLASLt: " << call << " returned " << static_cast<std::uint32_t>(result);
    message.to(log);
    return {Error::DeviceFailed, 0, static_cast<std::uint64_t>(result)};
  }

  template <class T>
  Status set(Product& product, cublasLtMatmulDescAttributes_t which, const T& value, const LogSink& log) const noexcept {
    return check(functions_.set_operation(product.operation, which, &value, sizeof(value)), "cublasLtMatmulDescSetAttribute", log);
  }
  template <class T>
  Status prefer(Product& product, cublasLtMatmulPreferenceAttributes_t which, const T& value, const LogSink& log) const noexcept {
    return check(functions_.set_preference(product.preference, which, &value, sizeof(value)), "cublasLtMatmulPreferenceSetAttribute", log);
  }
  Status lay_out(cublasLtMatrixLayout_t& layout, cudaDataType_t type, std::uint64_t rows, std::uint64_t columns, std::int64_t pitch, const LogSink& log) const noexcept {
    return check(functions_.create_layout(&layout, type, rows, columns, pitch), "cublasLtMatrixLayoutCreate", log);
  }

  static cublasLtEpilogue_t epilogue_of(LibraryActivation activation, bool bias) noexcept {
    switch (activation) {
      case LibraryActivation::Relu: return bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
      case LibraryActivation::GeluTanh: return bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
      default: return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    }
  }

  /// The library's matrices are column by column, so what it computes is the transpose: output^T = weights * input^T.
  Status describe(Product& product, const LibraryMatMul& m, const DevicePointer* addresses, const LogSink& log) const noexcept {
    const cudaDataType_t type = m.common.dtype == DType::F16 ? CUDA_R_16F : m.common.dtype == DType::BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const cublasComputeType_t compute = m.common.rounds != 0 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    EDGERT_RETURN_IF_ERROR(check(functions_.create_operation(&product.operation, compute, CUDA_R_32F), "cublasLtMatmulDescCreate", log));
    EDGERT_RETURN_IF_ERROR(set(product, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T, log));
    const DevicePointer bias = addresses[static_cast<std::uint32_t>(LibraryArgument::Bias)];
    EDGERT_RETURN_IF_ERROR(set(product, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(m.common.activation, bias != 0), log));
    if (bias != 0) {
      EDGERT_RETURN_IF_ERROR(set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, reinterpret_cast<const void*>(bias), log));
      EDGERT_RETURN_IF_ERROR(set(product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type, log));
    }
    EDGERT_RETURN_IF_ERROR(lay_out(product.weights, type, m.depth, m.columns, m.depth, log));
    EDGERT_RETURN_IF_ERROR(lay_out(product.input, type, m.depth, m.rows, m.input_pitch, log));
    EDGERT_RETURN_IF_ERROR(lay_out(product.output, type, m.columns, m.rows, m.output_pitch, log));
    const std::uint32_t residual_pitch = m.residual_pitch != 0 ? m.residual_pitch : m.output_pitch;
    EDGERT_RETURN_IF_ERROR(lay_out(product.residual, type, m.columns, m.rows, residual_pitch, log));
    EDGERT_RETURN_IF_ERROR(check(functions_.create_preference(&product.preference), "cublasLtMatmulPreferenceCreate", log));
    EDGERT_RETURN_IF_ERROR(prefer(product, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, m.common.workspace_bytes, log));
    const DevicePointer weights = addresses[static_cast<std::uint32_t>(LibraryArgument::Weights)];
    const DevicePointer input = addresses[static_cast<std::uint32_t>(LibraryArgument::Input)];
    const DevicePointer output = addresses[static_cast<std::uint32_t>(LibraryArgument::Output)];
    const DevicePointer residual = addresses[static_cast<std::uint32_t>(LibraryArgument::Residual)];
    EDGERT_RETURN_IF_ERROR(prefer(product, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(weights), log));
    EDGERT_RETURN_IF_ERROR(prefer(product, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(input), log));
    EDGERT_RETURN_IF_ERROR(prefer(product, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(residual != 0 ? residual : output), log));
    return prefer(product, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(output), log);
  }

  /// The largest power of two, up to what allocations have, that divides the address.
  static std::uint32_t alignment_of(DevicePointer address) noexcept {
    std::uint32_t alignment = 256;
    while (address % alignment != 0) alignment /= 2;
    return alignment;
  }

  static Status enqueue(void* user, const schema::LibraryCall& call, const DevicePointer* addresses, Stream stream, const LogSink& log) noexcept {
    CublasLt& self = *static_cast<CublasLt*>(user);
    EDGERT_RETURN_IF_ERROR(self.open(log));
    const Functions& functions = self.functions_;
    if (self.handle_ == nullptr) EDGERT_RETURN_IF_ERROR(check(functions.create(&self.handle_), "cublasLtCreate", log));
    LibraryMatMul m;
    std::memcpy(&m, call.problem()->Data(), sizeof(m));
    Product product(functions);
    EDGERT_RETURN_IF_ERROR(self.describe(product, m, addresses, log));
    cublasLtMatmulHeuristicResult_t found[kMaxAlgorithms] = {};
    int count = 0;
    const int wanted = static_cast<int>(m.common.algorithm < kMaxAlgorithms ? m.common.algorithm + 1 : kMaxAlgorithms);
    const cublasStatus_t asked = functions.heuristic(self.handle_, product.operation, product.weights, product.input, product.residual,
                                                     product.output, product.preference, wanted, found, &count);
    if (asked != CUBLAS_STATUS_NOT_SUPPORTED) EDGERT_RETURN_IF_ERROR(check(asked, "cublasLtMatmulAlgoGetHeuristic", log));
    if (count < 0 || m.common.algorithm >= static_cast<std::uint32_t>(count) || found[m.common.algorithm].state != CUBLAS_STATUS_SUCCESS) {
      Message message;
      message << "cuBLASLt has no algorithm " << m.common.algorithm << " for a product of " << m.rows << "x" << m.depth << " and " << m.columns;
      message.to(log);
      return {Error::UnknownOperator, 0, m.common.algorithm};
    }
    const auto at = [addresses](LibraryArgument argument) { return reinterpret_cast<void*>(addresses[static_cast<std::uint32_t>(argument)]); };
    const float one = 1.0f;
    const float residual_factor = m.residual_pitch != 0 ? 1.0f : 0.0f;
    const void* residual = m.residual_pitch != 0 ? at(LibraryArgument::Residual) : at(LibraryArgument::Output);
    return check(functions.matmul(self.handle_, product.operation, &one, at(LibraryArgument::Weights), product.weights, at(LibraryArgument::Input),
                                  product.input, &residual_factor, residual, product.residual, at(LibraryArgument::Output), product.output,
                                  &found[m.common.algorithm].algo, at(LibraryArgument::Workspace), m.common.workspace_bytes,
                                  reinterpret_cast<cudaStream_t>(stream)),
                 "cublasLtMatmul", log);
  }

  static void release(void* user) noexcept {
    CublasLt& self = *static_cast<CublasLt*>(user);
    if (self.handle_ != nullptr) (void)self.functions_.destroy(self.handle_);
    self.handle_ = nullptr;
  }

  const char* name_;
  library::SharedLibrary library_;
  Functions functions_;
  cublasLtHandle_t handle_ = nullptr;
};

}  // namespace edgert::cuda
