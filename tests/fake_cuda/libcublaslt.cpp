// SPDX-License-Identifier: Apache-2.0
// cuBLASLt without a device: the functions that edgert/cuda/library/cublaslt.h calls, for column-major products with the left
// matrix transposed, computed on the host when the fake driver's stream comes to them. Proposes two algorithms.
#include <cublasLt.h>

#include <cmath>
#include <cstring>

#include "fake_library.h"

using namespace edgert::fake_cuda;

namespace {

constexpr int kAlgorithms = 2;
constexpr std::size_t kWorkspace = 1024;  // that the second one wants

Element element_of(cudaDataType_t type) { return type == CUDA_R_16F ? Element::F16 : type == CUDA_R_16BF ? Element::BF16 : Element::F32; }

struct Operation {
  cublasOperation_t transpose_a = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  cudaDataType_t bias_type = CUDA_R_32F;
};
struct Layout {
  cudaDataType_t type;
  std::uint64_t rows, columns;
  std::int64_t pitch;
};
struct Preference {
  std::uint64_t workspace = 0;
  std::uint32_t alignment[4] = {};
};

struct Product {
  std::uint64_t a, b, c, d, bias;
  Layout la, lb, lc, ld;
  Element bias_type;
  float alpha, beta;
  cublasLtEpilogue_t epilogue;

  void run() const {
    for (std::int64_t n = 0; n < static_cast<std::int64_t>(ld.columns); ++n) {
      for (std::int64_t m = 0; m < static_cast<std::int64_t>(ld.rows); ++m) {
        float sum = 0;
        for (std::int64_t k = 0; k < static_cast<std::int64_t>(la.rows); ++k) {
          sum += load(a, m * la.pitch + k, element_of(la.type)) * load(b, n * lb.pitch + k, element_of(lb.type));
        }
        sum *= alpha;
        if (beta != 0) sum += beta * load(c, n * lc.pitch + m, element_of(lc.type));
        const bool biased = epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
        if (biased) sum += load(bias, m, bias_type);
        if (epilogue == CUBLASLT_EPILOGUE_RELU || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS) sum = std::fmax(sum, 0.0f);
        if (epilogue == CUBLASLT_EPILOGUE_GELU || epilogue == CUBLASLT_EPILOGUE_GELU_BIAS) {
          sum = 0.5f * sum * (1 + std::tanh(0.7978845608f * (sum + 0.044715f * sum * sum * sum)));
        }
        store(d, n * ld.pitch + m, element_of(ld.type), sum);
      }
    }
  }
};

template <class T>
T* make() {
  ++library_state.alive;
  return new T();
}
template <class T>
cublasStatus_t drop(const void* object) {
  --library_state.alive;
  delete static_cast<const T*>(object);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

EDGERT_FAKE_LIBRARY_CONTROLS()

#define COUNT_CALL() \
  if (library_state.fails()) return CUBLAS_STATUS_INTERNAL_ERROR

extern "C" {

size_t cublasLtGetVersion() { return CUBLAS_VERSION; }
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  COUNT_CALL();
  if (captures()) library_state.note("a handle is made in a capture");
  *handle = reinterpret_cast<cublasLtHandle_t>(make<int>());
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return drop<int>(handle); }
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows, uint64_t columns, int64_t pitch) {
  COUNT_CALL();
  auto* made = make<Layout>();
  *made = {type, rows, columns, pitch};
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(made);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(const cublasLtMatrixLayout_t layout) { return drop<Layout>(layout); }
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t, cudaDataType_t) {
  COUNT_CALL();
  *operation = reinterpret_cast<cublasLtMatmulDesc_t>(make<Operation>());
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(const cublasLtMatmulDesc_t operation) { return drop<Operation>(operation); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t which, const void* value, size_t bytes) {
  COUNT_CALL();
  auto& to = *reinterpret_cast<Operation*>(operation);
  const auto copy = [&](auto& field) {
    if (bytes != sizeof(field)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (which) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return copy(to.transpose_a);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return copy(to.epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return copy(to.bias);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return copy(to.bias_type);
    default: return CUBLAS_STATUS_INVALID_VALUE;
  }
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  COUNT_CALL();
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(make<Preference>());
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(const cublasLtMatmulPreference_t preference) { return drop<Preference>(preference); }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t which, const void* value,
                                                    size_t bytes) {
  COUNT_CALL();
  auto& to = *reinterpret_cast<Preference*>(preference);
  if (which == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
    if (bytes != sizeof(to.workspace)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&to.workspace, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  }
  const int operand = static_cast<int>(which) - static_cast<int>(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
  if (operand < 0 || operand > 3 || bytes != sizeof(std::uint32_t)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to.alignment[operand], value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  COUNT_CALL();
  const auto& left = *reinterpret_cast<Layout*>(a);
  const auto& right = *reinterpret_cast<Layout*>(b);
  const auto& result = *reinterpret_cast<Layout*>(d);
  if (reinterpret_cast<Operation*>(operation)->transpose_a != CUBLAS_OP_T || left.rows != right.rows || left.columns != result.rows ||
      right.columns != result.columns) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  *count = 0;
  for (int i = 0; i < kAlgorithms && i < wanted; ++i) {
    results[i] = {};
    results[i].algo.data[0] = static_cast<std::uint64_t>(i) + 1;
    results[i].workspaceSize = i * kWorkspace;
    results[i].state = results[i].workspaceSize <= reinterpret_cast<Preference*>(preference)->workspace ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    ++*count;
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha, const void* a, cublasLtMatrixLayout_t la, const void* b,
                              cublasLtMatrixLayout_t lb, const void* beta, const void* c, cublasLtMatrixLayout_t lc, void* d, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  COUNT_CALL();
  if (algorithm->data[0] < 1 || algorithm->data[0] > kAlgorithms) library_state.note("an algorithm that was not proposed");
  const std::size_t wanted = (algorithm->data[0] - 1) * kWorkspace;
  if (workspace_bytes < wanted) library_state.note("too small a workspace");
  if (wanted > 0) access(reinterpret_cast<std::uint64_t>(workspace), wanted);
  const auto& how = *reinterpret_cast<Operation*>(operation);
  const auto address = [](const void* p) { return reinterpret_cast<std::uint64_t>(p); };
  const auto layout = [](cublasLtMatrixLayout_t l) { return *reinterpret_cast<Layout*>(l); };
  submit(stream, Product{address(a), address(b), address(c), address(d), address(how.bias), layout(la), layout(lb), layout(lc), layout(ld),
                         element_of(how.bias_type), *static_cast<const float*>(alpha), *static_cast<const float*>(beta), how.epilogue});
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
