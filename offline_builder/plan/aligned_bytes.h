// SPDX-License-Identifier: Apache-2.0
// Plan bytes in memory that PlanView::load accepts.
#pragma once

#include <cstddef>
#include <vector>

#include "edgert/span.h"

namespace edgert::plan {

/// A copy of some bytes, aligned to 64.
class Bytes64 {
 public:
  explicit Bytes64(const std::vector<std::byte>& bytes);
  Span<const std::byte> span() const { return {lines_.empty() ? nullptr : lines_.data()->bytes, size_}; }
  Span<std::byte> mutable_span() { return {lines_.empty() ? nullptr : lines_.data()->bytes, size_}; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines_;
  std::size_t size_;
};

}  // namespace edgert::plan
