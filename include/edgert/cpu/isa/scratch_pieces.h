// SPDX-License-Identifier: Apache-2.0
// Laying out a thread's scratch: one piece of code both adds up its size and hands it out, so the two cannot differ.
#pragma once

#include <cstdint>

#include "edgert/checked.h"

namespace edgert::cpu {

/// Hands out pieces of a thread's scratch, each aligned to 64 bytes; with a null base it only adds up their sizes.
class ScratchPieces {
 public:
  explicit ScratchPieces(void* base) noexcept : base_(static_cast<unsigned char*>(base)) {}
  template <class T>
  T* take(std::int64_t count) noexcept {
    T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += align_up(static_cast<std::uint64_t>(count) * sizeof(T), 64);
    return piece;
  }
  std::uint64_t used() const noexcept { return used_; }

 private:
  unsigned char* base_;
  std::uint64_t used_ = 0;
};

}  // namespace edgert::cpu
