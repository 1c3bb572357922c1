// SPDX-License-Identifier: Apache-2.0
// cuDNN without a device: the backend functions that edgert/cuda/library/cudnn.h calls. Descriptors keep what they are given,
// and copies of the descriptors among it; a plan is a graph of a convolution and pointwise operations, computed on the host
// when the fake driver's stream comes to it. Proposes three engines, of which the first wants more workspace than anybody has.
#include <cudnn.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "fake_library.h"

using namespace edgert::fake_cuda;

namespace {

constexpr std::int64_t kEngines = 3;
constexpr std::int64_t kHuge = std::int64_t{1} << 40;

struct Content {
  cudnnBackendDescriptorType_t type;
  bool finalized = false;
  std::map<int, std::vector<char>> values;
  std::map<int, std::vector<std::shared_ptr<Content>>> links;
  std::int64_t engine = 0;

  template <class T>
  std::vector<T> all(cudnnBackendAttributeName_t name) const {
    const std::vector<char>& bytes = values.at(name);
    std::vector<T> out(bytes.size() / sizeof(T));
    std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
    return out;
  }
  template <class T>
  T one(cudnnBackendAttributeName_t name) const {
    T value;
    std::memcpy(&value, values.at(name).data(), sizeof(value));
    return value;
  }
  const Content& link(cudnnBackendAttributeName_t name) const { return *links.at(name).at(0); }
};
using Handle = std::shared_ptr<Content>;

Content& content(cudnnBackendDescriptor_t descriptor) { return **static_cast<Handle*>(descriptor); }

std::size_t bytes_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_HANDLE: return sizeof(cudnnHandle_t);
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    case CUDNN_TYPE_INT64: return sizeof(std::int64_t);
    case CUDNN_TYPE_FLOAT: return sizeof(float);
    case CUDNN_TYPE_VOID_PTR: return sizeof(void*);
    case CUDNN_TYPE_DATA_TYPE: case CUDNN_TYPE_CONVOLUTION_MODE: case CUDNN_TYPE_POINTWISE_MODE: case CUDNN_TYPE_HEUR_MODE: return sizeof(int);
    default: return 0;
  }
}

/// What a tensor is, and its elements while the graph runs, dense in the order of its dims.
struct Tensor {
  std::vector<std::int64_t> dims, strides;
  Element type;
  bool is_virtual;
  std::int64_t id;

  explicit Tensor(const Content& from)
      : dims(from.all<std::int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS)), strides(from.all<std::int64_t>(CUDNN_ATTR_TENSOR_STRIDES)),
        is_virtual(from.one<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL)), id(from.one<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID)) {
    const auto data_type = from.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
    type = data_type == CUDNN_DATA_HALF ? Element::F16 : data_type == CUDNN_DATA_BFLOAT16 ? Element::BF16 : Element::F32;
  }
  std::int64_t offset(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const {
    const std::int64_t index[4] = {n, c, h, w};
    std::int64_t at = 0;
    for (int d = 0; d < 4; ++d) at += (dims[static_cast<std::size_t>(d)] == 1 ? 0 : index[d]) * strides[static_cast<std::size_t>(d)];
    return at;
  }
};

struct Run {
  std::vector<Handle> operations;
  std::map<std::int64_t, std::uint64_t> addresses;
  std::map<std::int64_t, std::map<std::int64_t, float>> made;  ///< of virtual tensors, by offset

  float get(const Tensor& t, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
    const std::int64_t at = t.offset(n, c, h, w);
    return t.is_virtual ? made.at(t.id).at(at) : load(addresses.at(t.id), at, t.type);
  }
  void put(const Tensor& t, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, float value) {
    const std::int64_t at = t.offset(n, c, h, w);
    if (t.is_virtual) made[t.id][at] = value;
    else store(addresses.at(t.id), at, t.type, value);
  }

  void convolve(const Content& operation) {
    const Tensor x(operation.link(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X)), weights(operation.link(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W));
    const Tensor y(operation.link(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y));
    const Content& how = operation.link(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
    const auto stride = how.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES), pad = how.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    const auto dilation = how.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS);
    const std::int64_t depth = weights.dims[1], groups = x.dims[1] / depth;
    for (std::int64_t n = 0; n < y.dims[0]; ++n)
      for (std::int64_t k = 0; k < y.dims[1]; ++k)
        for (std::int64_t p = 0; p < y.dims[2]; ++p)
          for (std::int64_t q = 0; q < y.dims[3]; ++q) {
            float sum = 0;
            for (std::int64_t c = 0; c < depth; ++c)
              for (std::int64_t r = 0; r < weights.dims[2]; ++r)
                for (std::int64_t s = 0; s < weights.dims[3]; ++s) {
                  const std::int64_t h = p * stride[0] - pad[0] + r * dilation[0], w = q * stride[1] - pad[1] + s * dilation[1];
                  if (h < 0 || h >= x.dims[2] || w < 0 || w >= x.dims[3]) continue;
                  sum += get(x, n, k / (y.dims[1] / groups) * depth + c, h, w) * get(weights, k, c, r, s);
                }
            put(y, n, k, p, q, sum);
          }
  }
  void apply(const Content& operation) {
    const Tensor x(operation.link(CUDNN_ATTR_OPERATION_POINTWISE_XDESC)), y(operation.link(CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
    const auto mode = operation.link(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR).one<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
    const bool two = operation.links.count(CUDNN_ATTR_OPERATION_POINTWISE_BDESC) != 0;
    const Tensor b(two ? operation.link(CUDNN_ATTR_OPERATION_POINTWISE_BDESC) : operation.link(CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
    for (std::int64_t n = 0; n < y.dims[0]; ++n)
      for (std::int64_t c = 0; c < y.dims[1]; ++c)
        for (std::int64_t h = 0; h < y.dims[2]; ++h)
          for (std::int64_t w = 0; w < y.dims[3]; ++w) {
            const float v = get(x, n, c, h, w);
            float out = v;
            if (mode == CUDNN_POINTWISE_ADD && two) out = v + get(b, n, c, h, w);
            else if (mode == CUDNN_POINTWISE_RELU_FWD) out = std::fmax(v, 0.0f);
            else if (mode == CUDNN_POINTWISE_SIGMOID_FWD) out = 1 / (1 + std::exp(-v));
            else if (mode == CUDNN_POINTWISE_SWISH_FWD) out = v / (1 + std::exp(-v));
            else library_state.note("a pointwise mode that the fake does not know");
            put(y, n, c, h, w, out);
          }
  }
  void run() {
    for (const Handle& operation : operations) {
      if (operation->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR) convolve(*operation);
      else apply(*operation);
    }
  }
};

/// Work of a stream outlives what queued it; it is never given back, as little as the fake driver's graphs.
struct Queued {
  const Run* run_of;
  void run() const {
    Run copy = *run_of;
    copy.run();
  }
};

}  // namespace

EDGERT_FAKE_LIBRARY_CONTROLS()

#define COUNT_CALL() \
  if (library_state.fails()) return CUDNN_STATUS_INTERNAL_ERROR

extern "C" {

size_t cudnnGetVersion() { return CUDNN_VERSION; }
const char* cudnnGetErrorString(cudnnStatus_t) { return "an error of the fake"; }
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  COUNT_CALL();
  if (captures()) library_state.note("a handle is made in a capture");
  *handle = reinterpret_cast<cudnnHandle_t>(new cudaStream_t());
  ++library_state.alive;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete reinterpret_cast<cudaStream_t*>(handle);
  --library_state.alive;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  COUNT_CALL();
  *reinterpret_cast<cudaStream_t*>(handle) = stream;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
  COUNT_CALL();
  auto* made = new Handle(std::make_shared<Content>());
  (*made)->type = type;
  *descriptor = made;
  ++library_state.alive;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete static_cast<Handle*>(descriptor);
  --library_state.alive;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                       int64_t count, const void* values) {
  COUNT_CALL();
  Content& to = content(descriptor);
  if (to.finalized) library_state.note("an attribute after finalize");
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    const auto* descriptors = static_cast<const cudnnBackendDescriptor_t*>(values);
    for (int64_t i = 0; i < count; ++i) {
      const Handle& other = *static_cast<Handle*>(descriptors[i]);
      if (!other->finalized && other->type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) library_state.note("a descriptor that is not finalized");
      to.links[name].push_back(other);
    }
    return CUDNN_STATUS_SUCCESS;
  }
  if (bytes_of(type) == 0) return CUDNN_STATUS_NOT_SUPPORTED;
  const auto* begin = static_cast<const char*>(values);
  to.values[name].assign(begin, begin + static_cast<std::size_t>(count) * bytes_of(type));
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t, int64_t wanted,
                                       int64_t* count, void* values) {
  COUNT_CALL();
  Content& from = content(descriptor);
  if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
    const std::int64_t bytes = from.link(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).engine == 0 ? kHuge : 512;
    std::memcpy(values, &bytes, sizeof(bytes));
    *count = 1;
    return CUDNN_STATUS_SUCCESS;
  }
  if (name != CUDNN_ATTR_ENGINEHEUR_RESULTS) return CUDNN_STATUS_NOT_SUPPORTED;
  auto* engines = static_cast<cudnnBackendDescriptor_t*>(values);
  *count = std::min(wanted, kEngines);
  for (std::int64_t i = 0; i < *count; ++i) {
    content(engines[i]).engine = i;
    content(engines[i]).links[CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH] = from.links.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
  }
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  COUNT_CALL();
  content(descriptor).finalized = true;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  COUNT_CALL();
  static std::vector<std::unique_ptr<Run>> queued;
  const Content& what = content(plan).link(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).link(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
  auto run = std::make_unique<Run>();
  run->operations = what.links.at(CUDNN_ATTR_OPERATIONGRAPH_OPS);
  const auto ids = content(pack).all<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = content(pack).all<std::uint64_t>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  for (std::size_t i = 0; i < ids.size(); ++i) run->addresses[ids[i]] = pointers[i];
  access(content(pack).one<std::uint64_t>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE), 512);
  submit(*reinterpret_cast<cudaStream_t*>(handle), Queued{run.get()});
  queued.push_back(std::move(run));
  return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
