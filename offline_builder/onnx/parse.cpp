// SPDX-License-Identifier: Apache-2.0
// Bytes → Model: protobuf under limits, tensors taken out of the protobuf, indices of what it declares.
#include <fcntl.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <system_error>
#include <unordered_set>

#include "onnx/model_data.h"
#include "onnx/text.h"

namespace edgert::onnx_import {
namespace {

// A subgraph is three messages deep, so this is some thirty levels of them.
constexpr int kMaxMessageDepth = 100;
constexpr std::size_t kMaxMetadataEntries = 256;
constexpr std::size_t kMaxMetadataKey = 256;
constexpr std::size_t kMaxMetadataValue = std::size_t{1} << 20;

[[noreturn]] void not_a_model(const std::string& name, const std::string& reason) {
  throw ir::BuildError(printable(name) + ": not an ONNX model: " + reason);
}

/// A file read block by block, so that it is never in memory beside what is parsed from it.
class FileStream : public google::protobuf::io::CopyingInputStream {
 public:
  explicit FileStream(int fd) : fd_(fd) {}
  int Read(void* buffer, int size) override {
    ssize_t count = 0;
    do {
      count = read(fd_, buffer, static_cast<std::size_t>(size));
    } while (count < 0 && errno == EINTR);
    if (count < 0) error_ = errno;
    return static_cast<int>(count);
  }
  int error() const { return error_; }

 private:
  int fd_;
  int error_ = 0;
};

bool parse(google::protobuf::io::CodedInputStream& stream, std::uint64_t limit, proto::ModelProto& model) {
  stream.SetTotalBytesLimit(static_cast<int>(std::min<std::uint64_t>(limit, INT_MAX)));
  stream.SetRecursionLimit(kMaxMessageDepth);
  return model.ParseFromCodedStream(&stream) && stream.ConsumedEntireMessage();
}

/// Takes the data of every tensor in the model out of the protobuf.
class TensorLoader {
 public:
  TensorLoader(Model::Data& data, ExternalData& external, std::uint64_t densified_budget)
      : data_(data), external_(external), densified_budget_(densified_budget) {}

  // The depth of subgraphs, and with it of this recursion, was bounded by the parser.
  void load(proto::GraphProto& graph) {
    for (auto& tensor : *graph.mutable_initializer()) add(tensor);
    for (auto& sparse : *graph.mutable_sparse_initializer()) add(sparse);
    load(*graph.mutable_node());
  }
  void load(Repeated<proto::NodeProto>& nodes) {
    for (auto& node : nodes) load(*node.mutable_attribute());
  }
  void load(Repeated<proto::AttributeProto>& attributes) {
    for (auto& attribute : attributes) {
      if (attribute.has_t()) add(*attribute.mutable_t());
      if (attribute.has_sparse_tensor()) add(*attribute.mutable_sparse_tensor());
      if (attribute.has_g()) load(*attribute.mutable_g());
      for (auto& graph : *attribute.mutable_graphs()) load(graph);
    }
  }

 private:
  void add(proto::TensorProto& tensor) { data_.tensors[&tensor] = load_tensor(tensor, external_); }
  void add(proto::SparseTensorProto& sparse) {
    data_.tensors[&sparse] = load_sparse_tensor(sparse, external_, densified_budget_);
  }

  Model::Data& data_;
  ExternalData& external_;
  std::uint64_t densified_budget_;
};

std::vector<std::pair<std::string, std::string>> read_metadata(const proto::ModelProto& model,
                                                               std::vector<std::string>& notes) {
  std::vector<std::pair<std::string, std::string>> metadata;
  std::unordered_set<std::string> keys;
  for (const auto& entry : model.metadata_props()) {
    const std::string& key = entry.key();
    if (metadata.size() == kMaxMetadataEntries) {
      notes.push_back("metadata: only the first " + std::to_string(kMaxMetadataEntries) + " entries are kept");
      break;
    }
    const char* reason = key.empty()                                ? "its key is empty"
                         : key.size() > kMaxMetadataKey             ? "its key is too long"
                         : entry.value().size() > kMaxMetadataValue ? "its value is longer than 1 MiB"
                         : !is_utf8(key) || !is_utf8(entry.value()) ? "it is not UTF-8"
                         : !keys.insert(key).second                 ? "the key occurs twice"
                                                                    : nullptr;
    if (reason == nullptr) {
      metadata.emplace_back(key, entry.value());
    } else if (notes.size() < kMaxMetadataEntries) {
      notes.push_back("metadata " + quoted(key) + " is left out: " + reason);
    }
  }
  return metadata;
}

void index_model(Model::Data& data) {
  const proto::ModelProto& model = data.model;
  data.opsets = opsets_of(model.opset_import());
  std::unordered_set<std::string> defaults;
  for (const auto& tensor : model.graph().initializer()) defaults.insert(tensor.name());
  for (const auto& sparse : model.graph().sparse_initializer()) defaults.insert(sparse.values().name());
  for (const auto& input : model.graph().input()) {
    data.inputs.push_back(describe(input));
    data.inputs.back().has_default = defaults.count(input.name()) != 0;
  }
  for (const auto& output : model.graph().output()) data.outputs.push_back(describe(output));
  data.metadata = read_metadata(model, data.notes);
  for (const auto& function : model.functions()) {
    const std::string key = function_key(function.domain(), function.name(), function.overload());
    if (!data.functions.emplace(key, &function).second) {
      throw ir::BuildError("function " + quoted(function.name()) + " of domain " + quoted(function.domain()) +
                           " is defined twice");
    }
  }
}

Model finish(std::shared_ptr<Model::Data> data, const std::string& folder, const ImportOptions& options) {
  if (!data->model.has_graph()) not_a_model(data->name, "it holds no graph");
  if (data->model.opset_import_size() == 0) not_a_model(data->name, "it names no operator set");
  ExternalData external(folder, options.external_data, options.max_external_bytes);
  TensorLoader loader(*data, external, options.max_densified_bytes);
  loader.load(*data->model.mutable_graph());
  for (auto& function : *data->model.mutable_functions()) {
    loader.load(*function.mutable_node());
    loader.load(*function.mutable_attribute_proto());
  }
  try {
    index_model(*data);
  } catch (const ir::BuildError& error) {
    throw ir::BuildError(printable(data->name) + ": " + error.what());
  }
  return Model(std::move(data));
}

void check_size(const std::string& name, std::uint64_t size, const ImportOptions& options) {
  const std::uint64_t limit = std::min<std::uint64_t>(options.max_model_bytes, INT_MAX);
  if (size <= limit) return;
  throw ir::BuildError(printable(name) + ": the model has " + std::to_string(size) + " bytes where the limit is " +
                       std::to_string(limit) + "; larger models keep their tensors in external data");
}

/// The folder of a file, "." when the path names none.
std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

std::map<std::string, int> opsets_of(const Repeated<proto::OperatorSetIdProto>& imports) {
  std::map<std::string, int> opsets;
  for (const auto& import : imports) {
    if (import.version() < 1 || import.version() > INT_MAX) {
      throw ir::BuildError("operator set " + quoted(import.domain()) + " has version " +
                           std::to_string(import.version()));
    }
    const auto [it, added] = opsets.emplace(normalized_domain(import.domain()), static_cast<int>(import.version()));
    if (!added && it->second != import.version()) {
      throw ir::BuildError("operator set " + quoted(import.domain()) + " is imported in two versions");
    }
  }
  return opsets;
}

std::string function_key(const std::string& domain, const std::string& name, const std::string& overload) {
  return normalized_domain(domain) + '\0' + name + '\0' + overload;
}

TensorInfo describe(const proto::ValueInfoProto& value) {
  TensorInfo info;
  info.name = value.name();
  // A plan is built for the case that an optional tensor is there.
  const bool optional_tensor = value.type().has_optional_type() && value.type().optional_type().elem_type().has_tensor_type();
  const proto::TypeProto& type = optional_tensor ? value.type().optional_type().elem_type() : value.type();
  switch (type.value_case()) {
    case proto::TypeProto::kTensorType: break;
    case proto::TypeProto::kSequenceType: info.type_name = "sequence"; return info;
    case proto::TypeProto::kMapType: info.type_name = "map"; return info;
    case proto::TypeProto::kOptionalType: info.type_name = "optional"; return info;
    case proto::TypeProto::kSparseTensorType: info.type_name = "sparse tensor"; return info;
    case proto::TypeProto::kOpaqueType: info.type_name = "opaque"; return info;
    case proto::TypeProto::VALUE_NOT_SET: info.type_name = "untyped"; return info;
  }
  info.dtype = dtype_of(type.tensor_type().elem_type());
  info.type_name = type_name_of(type.tensor_type().elem_type());
  info.has_shape = type.tensor_type().has_shape();
  for (const auto& dim : type.tensor_type().shape().dim()) {
    Dimension dimension;
    if (dim.has_dim_value()) dimension.value = std::max<std::int64_t>(dim.dim_value(), -1);
    if (dim.has_dim_param()) dimension.symbol = dim.dim_param();
    info.dims.push_back(std::move(dimension));
  }
  return info;
}

Model parse_file(const std::string& path, const ImportOptions& options) {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  struct stat info {};
  if (!file.valid() || fstat(file.get(), &info) != 0) throw std::system_error(errno, std::generic_category(), path);
  if (S_ISREG(info.st_mode)) {
    check_size(path, static_cast<std::uint64_t>(info.st_size), options);
    if (info.st_size == 0) not_a_model(path, "the file is empty");
  }
  auto data = std::make_shared<Model::Data>();
  data->name = path;
  FileStream source(file.get());
  google::protobuf::io::CopyingInputStreamAdaptor adaptor(&source, 1 << 16);
  google::protobuf::io::CodedInputStream stream(&adaptor);
  const bool parsed = parse(stream, options.max_model_bytes, data->model);
  if (source.error() != 0) throw std::system_error(source.error(), std::generic_category(), path);
  if (!parsed) not_a_model(path, "it is damaged, cut off, nested too deeply, or another kind of file");
  return finish(std::move(data), folder_of(path), options);
}

Model parse_bytes(Span<const std::byte> bytes, const std::string& folder, const ImportOptions& options,
                  const std::string& name) {
  check_size(name, bytes.size(), options);
  if (bytes.empty()) not_a_model(name, "it is empty");
  auto data = std::make_shared<Model::Data>();
  data->name = name;
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  if (!parse(stream, options.max_model_bytes, data->model)) {
    not_a_model(name, "it is damaged, cut off, nested too deeply, or another kind of file");
  }
  return finish(std::move(data), folder, options);
}

}  // namespace edgert::onnx_import
