// SPDX-License-Identifier: Apache-2.0
#include "tune/protocol.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "edgert/plan_schema.h"
#include "edgert/sha256.h"
#include "worker_generated.h"

namespace edgert::tune {
namespace {

namespace fbs = schema::worker;
using edgert_flatbuffers::FlatBufferBuilder;
using edgert_flatbuffers::Offset;

constexpr std::uint32_t kVersion = 2;
constexpr char kMagic[4] = {'E', 'R', 'T', 'F'};
constexpr std::uint32_t kMaxItems = 4096;
constexpr std::uint32_t kMaxMultiprocessors = 1024;

struct FrameHeader {
  char magic[4];
  std::uint32_t table_bytes;
  std::uint64_t payload_bytes;
};
static_assert(sizeof(FrameHeader) == 16);

fbs::Digest to_table(const Digest& digest) { return {digest.words[0], digest.words[1], digest.words[2], digest.words[3]}; }
Digest from_table(const fbs::Digest& digest) { return {{digest.a(), digest.b(), digest.c(), digest.d()}}; }

template <class T>
std::uint32_t count(const edgert_flatbuffers::Vector<T>* items) {
  return items == nullptr ? 0 : items->size();
}
std::string text(const edgert_flatbuffers::String* string) { return string == nullptr ? std::string() : string->str().substr(0, 4096); }

std::vector<std::byte> finish(FlatBufferBuilder& builder, fbs::Message kind, Offset<void> message) {
  fbs::FinishEnvelopeBuffer(builder, fbs::CreateEnvelope(builder, kind, message));
  const auto* data = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  return {data, data + builder.GetSize()};
}

Offset<fbs::Job> write_job(FlatBufferBuilder& builder, const JobRequest& job) {
  std::vector<Offset<fbs::Binding>> bindings;
  for (const std::optional<Digest>& content : job.bindings) {
    const fbs::Digest digest = content ? to_table(*content) : fbs::Digest();
    bindings.push_back(fbs::CreateBinding(builder, content ? &digest : nullptr));
  }
  std::vector<Offset<fbs::Check>> checks;
  for (const Check& check : job.checks) {
    const fbs::Digest expected = to_table(check.expected);
    const fbs::Digest bound = check.bound ? to_table(*check.bound) : fbs::Digest();
    checks.push_back(fbs::CreateCheckDirect(builder, check.binding, static_cast<std::uint8_t>(check.dtype), check.offset, &check.dims,
                                            &check.strides, &expected, check.bound ? &bound : nullptr));
  }
  return fbs::CreateJobDirect(builder, &bindings, &checks, job.repetitions, job.rounds, job.copies, job.samples, job.cold_samples, job.hopeless_us);
}

Offset<fbs::Timing> write_timing(FlatBufferBuilder& builder, const Timing& timing) {
  return fbs::CreateTiming(builder, timing.median, timing.low, timing.high, timing.samples);
}

const fbs::Envelope* verified(Span<const std::byte> table, fbs::Message kind, std::string& why) {
  // FlatBuffers reads the offset and the identifier before it verifies anything.
  edgert_flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(table.data()), table.size(), 16, 1u << 20);
  if (table.size() < 16 || table.size() > kMaxTableBytes || !fbs::VerifyEnvelopeBuffer(verifier)) {
    why = "is no message of this protocol";
    return nullptr;
  }
  const fbs::Envelope* envelope = fbs::GetEnvelope(table.data());
  if (envelope->message_type() != kind || envelope->message() == nullptr) {
    why = "is a message of the other side";
    return nullptr;
  }
  return envelope;
}

bool is_time(double value) { return std::isfinite(value) && value >= 0 && value <= 1e12; }

/// FlatBuffers' verifier looks at the alignment of a vector's length, not of its elements.
bool is_aligned(const edgert_flatbuffers::Vector<std::int64_t>* items) {
  return count(items) == 0 || reinterpret_cast<std::uintptr_t>(items->data()) % alignof(std::int64_t) == 0;
}

bool read_check(const fbs::Check& from, Check& check, std::string& why) {
  if (!is_aligned(from.dims()) || !is_aligned(from.strides())) {
    why = "has a misaligned window";
    return false;
  }
  if (count(from.dims()) > kMaxRank || count(from.dims()) != count(from.strides()) || from.expected() == nullptr) {
    why = "a check lacks its window or what to expect";
    return false;
  }
  check.binding = from.binding();
  check.dtype = static_cast<DType>(from.dtype());
  check.offset = from.offset();
  for (std::uint32_t d = 0; d < count(from.dims()); ++d) {
    check.dims.push_back(from.dims()->Get(d));
    check.strides.push_back(from.strides()->Get(d));
  }
  check.expected = from_table(*from.expected());
  if (from.bound() != nullptr) check.bound = from_table(*from.bound());
  return true;
}

bool read_job(const fbs::Job& from, JobRequest& job, std::string& why) {
  if (count(from.bindings()) > kMaxItems || count(from.checks()) > kMaxItems || from.repetitions() > 1000 || from.rounds() > 1000 ||
      from.copies() < 1 || from.copies() > 1000 || from.samples() > 100000 || from.cold_samples() > 100000 || !is_time(from.hopeless_us())) {
    why = "a job asks for too much";
    return false;
  }
  for (std::uint32_t i = 0; i < count(from.bindings()); ++i) {
    const fbs::Digest* content = from.bindings()->Get(i)->content();
    job.bindings.push_back(content == nullptr ? std::nullopt : std::optional<Digest>(from_table(*content)));
  }
  job.checks.resize(count(from.checks()));
  for (std::uint32_t i = 0; i < count(from.checks()); ++i) {
    if (!read_check(*from.checks()->Get(i), job.checks[i], why)) return false;
  }
  job.repetitions = from.repetitions(), job.rounds = from.rounds(), job.copies = from.copies();
  job.samples = from.samples(), job.cold_samples = from.cold_samples(), job.hopeless_us = from.hopeless_us();
  return true;
}

bool read_timing(const fbs::Timing* from, Timing& timing) {
  if (from == nullptr) return true;
  timing = {from->median(), from->low(), from->high(), from->samples()};
  return is_time(timing.median) && is_time(timing.low) && is_time(timing.high);
}

/// Waits until `fd` is ready for `events`.
Transfer wait(int fd, short events, const Deadline& deadline) {
  for (;;) {
    int milliseconds = -1;
    if (deadline) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now()).count();
      if (left <= 0) return Transfer::TimedOut;
      milliseconds = static_cast<int>(std::min<long long>(left, 1000 * 1000));
    }
    pollfd item = {fd, events, 0};
    const int ready = ::poll(&item, 1, milliseconds);
    if (ready > 0) return Transfer::Done;
    if (ready < 0 && errno != EINTR) return Transfer::Closed;
  }
}

Transfer read_all(int fd, std::byte* to, std::size_t size, const Deadline& deadline) {
  while (size > 0) {
    const Transfer ready = wait(fd, POLLIN, deadline);
    if (ready != Transfer::Done) return ready;
    const ssize_t got = ::read(fd, to, std::min<std::size_t>(size, 1u << 24));
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return Transfer::Closed;
    to += got;
    size -= static_cast<std::size_t>(got);
  }
  return Transfer::Done;
}

Transfer write_all(int fd, const std::byte* from, std::size_t size, const Deadline& deadline) {
  while (size > 0) {
    const Transfer ready = wait(fd, POLLOUT, deadline);
    if (ready != Transfer::Done) return ready;
    // A peer that died must be an error, not a signal, and one that does not read must not outlast the deadline: sockets
    // have flags for that, pipes take PIPE_BUF bytes without waiting once they are ready.
    ssize_t put = ::send(fd, from, std::min<std::size_t>(size, 1u << 20), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0 && errno == ENOTSOCK) put = ::write(fd, from, std::min<std::size_t>(size, PIPE_BUF));
    if (put < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (put <= 0) return Transfer::Closed;
    from += put;
    size -= static_cast<std::size_t>(put);
  }
  return Transfer::Done;
}

}  // namespace

bool Digest::operator<(const Digest& o) const { return std::lexicographical_compare(words, words + 4, o.words, o.words + 4); }

Digest digest_of(Span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes.data(), bytes.size());
  std::uint8_t out[Sha256::kDigestBytes];
  hash.finish(out);
  Digest digest;
  std::memcpy(digest.words, out, sizeof(digest.words));
  return digest;
}

const char* to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::Good: return "ok";
    case Verdict::Wrong: return "wrong";
    case Verdict::OutOfBounds: return "out of bounds";
    case Verdict::Unsteady: return "unsteady";
    case Verdict::Failed: return "failed";
    case Verdict::Hung: return "hung";
    case Verdict::Crashed: return "crashed";
  }
  return "failed";
}

std::vector<std::byte> encode(const Request& request) {
  FlatBufferBuilder builder;
  Offset<fbs::Store> store;
  if (request.store) {
    const fbs::Digest digest = to_table(*request.store);
    store = fbs::CreateStore(builder, &digest);
  }
  Offset<fbs::Job> job;
  if (request.job) job = write_job(builder, *request.job);
  return finish(builder, fbs::Message::Request, fbs::CreateRequest(builder, kVersion, request.hello, request.multiprocessors, store, job).Union());
}

std::vector<std::byte> encode(const Response& response) {
  FlatBufferBuilder builder;
  Offset<fbs::Device> device;
  if (response.device) {
    const Device& d = *response.device;
    device = fbs::CreateDeviceDirect(builder, d.name.c_str(), d.arch, d.multiprocessors, d.shared_bytes, d.l2_bytes, d.driver, d.clock_khz, d.memory_clock_khz);
  }
  Offset<fbs::Result> result;
  if (response.result) {
    const Result& r = *response.result;
    const Offset<fbs::Timing> warm = write_timing(builder, r.warm), cold = write_timing(builder, r.cold);
    result = fbs::CreateResultDirect(builder, static_cast<fbs::Verdict>(r.verdict), r.detail.c_str(), r.worst, warm, cold, r.stopped);
  }
  const Offset<fbs::Response> message = fbs::CreateResponseDirect(builder, kVersion, device, response.stored, result, response.error.c_str());
  return finish(builder, fbs::Message::Response, message.Union());
}

std::optional<Request> decode_request(Span<const std::byte> table, std::string& why) {
  const fbs::Envelope* envelope = verified(table, fbs::Message::Request, why);
  if (envelope == nullptr) return std::nullopt;
  const fbs::Request& from = *envelope->message_as_Request();
  if (from.version() != kVersion) {
    why = "is of version " + std::to_string(from.version()) + ", this is version " + std::to_string(kVersion);
    return std::nullopt;
  }
  Request request;
  request.hello = from.hello();
  request.multiprocessors = from.multiprocessors();
  if (request.multiprocessors > (request.hello ? kMaxMultiprocessors : 0)) return why = "asks for a part that no device has, or too late", std::nullopt;
  if (from.store() != nullptr) {
    if (from.store()->digest() == nullptr) return why = "names no bytes to keep", std::nullopt;
    request.store = from_table(*from.store()->digest());
  }
  if (from.job() != nullptr && !read_job(*from.job(), request.job.emplace(), why)) return std::nullopt;
  if (int{request.hello} + int{request.store.has_value()} + int{request.job.has_value()} != 1) return why = "asks for nothing, or for several things", std::nullopt;
  return request;
}

std::optional<Response> decode_response(Span<const std::byte> table, std::string& why) {
  const fbs::Envelope* envelope = verified(table, fbs::Message::Response, why);
  if (envelope == nullptr) return std::nullopt;
  const fbs::Response& from = *envelope->message_as_Response();
  if (from.version() != kVersion) return why = "is of another version: worker and builder are not of the same build", std::nullopt;
  Response response;
  response.error = text(from.error());
  response.stored = from.stored();
  if (const fbs::Device* d = from.device(); d != nullptr) {
    response.device = Device{text(d->name()), d->arch(), d->multiprocessors(), d->shared_bytes(), d->l2_bytes(), d->driver(), d->clock_khz(), d->memory_clock_khz()};
    if (d->arch() == 0 || d->arch() > 1000 || d->multiprocessors() < 1 || d->multiprocessors() > kMaxMultiprocessors || d->shared_bytes() > (1u << 24)) {
      return why = "describes no device", std::nullopt;
    }
  }
  if (const fbs::Result* r = from.result(); r != nullptr) {
    Result& result = response.result.emplace();
    if (r->verdict() > fbs::Verdict::Failed || !read_timing(r->warm(), result.warm) || !read_timing(r->cold(), result.cold)) {
      return why = "is no result", std::nullopt;
    }
    result.verdict = static_cast<Verdict>(r->verdict());
    result.detail = text(r->detail());
    result.worst = std::isfinite(r->worst()) ? r->worst() : -1;
    result.stopped = r->stopped();
  }
  return response;
}

void AlignedBytes::Free::operator()(std::byte* memory) const { std::free(memory); }

AlignedBytes::AlignedBytes(std::size_t size) : size_(size) {
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(64, (size + 64) / 64 * 64)));
  if (data_ == nullptr) throw std::bad_alloc();
}

Transfer read_frame(int fd, Frame& frame, const Deadline& deadline) {
  FrameHeader header;
  Transfer state = read_all(fd, reinterpret_cast<std::byte*>(&header), sizeof(header), deadline);
  if (state != Transfer::Done) return state;
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0 || header.table_bytes > kMaxTableBytes || header.payload_bytes > kMaxPayloadBytes) return Transfer::Bad;
  try {
    frame.table = AlignedBytes(header.table_bytes);
    frame.payload = AlignedBytes(static_cast<std::size_t>(header.payload_bytes));
  } catch (const std::bad_alloc&) {
    return Transfer::Bad;
  }
  state = read_all(fd, frame.table.data(), frame.table.size(), deadline);
  return state == Transfer::Done ? read_all(fd, frame.payload.data(), frame.payload.size(), deadline) : state;
}

Transfer write_frame(int fd, Span<const std::byte> table, Span<const std::byte> payload, const Deadline& deadline) {
  FrameHeader header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.table_bytes = static_cast<std::uint32_t>(table.size());
  header.payload_bytes = payload.size();
  Transfer state = write_all(fd, reinterpret_cast<const std::byte*>(&header), sizeof(header), deadline);
  if (state == Transfer::Done) state = write_all(fd, table.data(), table.size(), deadline);
  return state == Transfer::Done ? write_all(fd, payload.data(), payload.size(), deadline) : state;
}

}  // namespace edgert::tune
