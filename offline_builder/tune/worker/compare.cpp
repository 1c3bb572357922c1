// SPDX-License-Identifier: Apache-2.0
#include "tune/worker/compare.h"

#include <cmath>
#include <cstring>

#include "edgert/checked.h"
#include "edgert/scalar/convert.h"

namespace edgert::tune {
namespace {

template <class T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

bool is_float(DType dtype) { return dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F64; }

double element(const std::byte* from, DType dtype) {
  switch (dtype) {
    case DType::F16: return static_cast<double>(scalar::to_float(read<scalar::Half>(from)));
    case DType::BF16: return static_cast<double>(scalar::to_float(read<scalar::BFloat16>(from)));
    case DType::F64: return read<double>(from);
    default: return static_cast<double>(read<float>(from));
  }
}

/// From where on a number of the type becomes infinity.
double limit_of(DType dtype) { return dtype == DType::F16 ? 65504.0 : dtype == DType::F64 ? 1.7e308 : 3.38e38; }

/// |actual - expected| / bound: at most 1 when the element is right.
double deviation(double actual, double expected, double bound, DType dtype) {
  if (std::isnan(expected)) return std::isnan(actual) ? 0 : INFINITY;
  if (std::isnan(actual)) return INFINITY;
  if (std::isinf(actual)) return (actual > 0 ? expected : -expected) + bound >= limit_of(dtype) ? 0 : INFINITY;
  if (std::isinf(expected)) return std::fabs(actual) >= limit_of(dtype) * 0.999 && (actual > 0) == (expected > 0) ? 0 : INFINITY;
  const double difference = std::fabs(actual - expected);
  return difference == 0 ? 0 : difference / bound;
}

/// Calls visit(number in the window, index in the buffer) for each element.
template <class Visit>
void each(const Check& check, Visit visit) {
  std::uint64_t elements = 1;
  for (const std::int64_t dim : check.dims) elements *= static_cast<std::uint64_t>(dim);
  std::vector<std::int64_t> index(check.dims.size(), 0);
  std::uint64_t at = check.offset;
  for (std::uint64_t i = 0; i < elements; ++i) {
    visit(i, at);
    for (std::size_t d = check.dims.size(); d-- > 0;) {
      at += static_cast<std::uint64_t>(check.strides[d]);
      if (++index[d] < check.dims[d]) break;
      at -= static_cast<std::uint64_t>(check.strides[d]) * static_cast<std::uint64_t>(check.dims[d]);
      index[d] = 0;
    }
  }
}

std::string show(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.7g", value);
  return text;
}

}  // namespace

const char* problem_of(const CheckData& data, std::uint64_t bytes) {
  const Check& check = *data.check;
  const std::uint32_t bits = bits_of(check.dtype);
  if (bits < 8) return "a check of an unknown or packed type";
  const std::uint64_t size = bits / 8;
  std::uint64_t elements = 1, last = check.offset;
  for (std::size_t d = 0; d < check.dims.size(); ++d) {
    std::uint64_t reach = 0;
    if (check.dims[d] < 1 || check.strides[d] < 0 || !checked_mul(elements, static_cast<std::uint64_t>(check.dims[d]), elements) ||
        !checked_mul(static_cast<std::uint64_t>(check.dims[d] - 1), static_cast<std::uint64_t>(check.strides[d]), reach) ||
        !checked_add(last, reach, last)) {
      return "a check of a window that cannot be";
    }
  }
  if (last >= bytes / size || elements > bytes / size) return "a check outside of its buffer";
  const bool bounded = check.bound.has_value();
  if (bounded && !is_float(check.dtype)) return "a check with a bound of a type that is no floating-point one";
  const std::uint64_t wanted = elements * (bounded ? sizeof(float) : size);
  if (data.expected.size() != wanted || (bounded && data.bound.size() != wanted)) return "a check whose window and expectations differ in size";
  return nullptr;
}

Comparison compare(Span<const std::byte> initial, Span<const std::byte> actual, const std::vector<CheckData>& checks) {
  Comparison out;
  std::vector<bool> seen(actual.size(), false);
  const auto fail = [&out](const std::string& detail) {
    if (out.good) out.detail = detail;
    out.good = false;
  };
  for (const CheckData& data : checks) {
    const Check& check = *data.check;
    const std::size_t size = bits_of(check.dtype) / 8;
    std::uint64_t wrong = 0, first = 0, total = 0;
    each(check, [&](std::uint64_t i, std::uint64_t at) {
      const std::byte* there = actual.data() + at * size;
      for (std::size_t b = 0; b < size; ++b) seen[at * size + b] = true;
      double off = 0;
      if (check.bound) {
        off = deviation(element(there, check.dtype), static_cast<double>(read<float>(data.expected.data() + i * 4)),
                        static_cast<double>(read<float>(data.bound.data() + i * 4)), check.dtype);
      } else if (std::memcmp(there, data.expected.data() + i * size, size) != 0) {
        off = INFINITY;
      }
      ++total;
      if (!(off <= 1)) {
        if (wrong++ == 0) first = i;
      }
      if (!(off <= out.worst)) out.worst = off;
    });
    if (wrong == 0) continue;
    std::string detail = std::to_string(wrong) + " of " + std::to_string(total) + " elements are wrong, the first is element " + std::to_string(first);
    if (check.bound) {
      each(check, [&](std::uint64_t i, std::uint64_t at) {
        if (i != first) return;
        detail += ": " + show(element(actual.data() + at * size, check.dtype)) + " instead of " +
                  show(static_cast<double>(read<float>(data.expected.data() + i * 4))) + " within " +
                  show(static_cast<double>(read<float>(data.bound.data() + i * 4)));
      });
    }
    fail(detail);
  }
  for (std::size_t b = 0; b < actual.size() && out.good; ++b) {
    if (!seen[b] && initial[b] != actual[b]) fail("byte " + std::to_string(b) + " of a buffer was written, which lies outside of the result");
  }
  return out;
}

}  // namespace edgert::tune
