// SPDX-License-Identifier: Apache-2.0
// Messages for people go through a function that the caller gives; without one they go nowhere.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgert {

enum class LogLevel : std::uint8_t { Error = 0, Warning = 1, Info = 2 };

/// The caller's sink. `write` gets one finished line without a newline; the text is only valid during the call.
/// It may be called from the thread that called into EdgeRT, never from another.
struct LogSink {
  void (*write)(void* user, LogLevel level, const char* message) = nullptr;
  void* user = nullptr;
};

/// Puts a line together in a fixed buffer; what doesn't fit is cut off. No printf, no allocation.
class Message {
 public:
  Message& operator<<(const char* text) noexcept {
    if (text == nullptr) text = "(null)";
    while (*text != '\0') put(*text++);
    return *this;
  }
  Message& operator<<(std::uint64_t number) noexcept {
    char digits[20];
    int count = 0;
    do {
      digits[count++] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    while (count > 0) put(digits[--count]);
    return *this;
  }
  Message& operator<<(std::int64_t number) noexcept {
    if (number < 0) {
      put('-');
      return *this << (std::uint64_t{0} - static_cast<std::uint64_t>(number));
    }
    return *this << static_cast<std::uint64_t>(number);
  }
  Message& operator<<(std::uint32_t number) noexcept { return *this << static_cast<std::uint64_t>(number); }
  Message& operator<<(std::int32_t number) noexcept { return *this << static_cast<std::int64_t>(number); }

  const char* text() const noexcept { return text_; }
  void to(const LogSink& sink, LogLevel level = LogLevel::Error) const noexcept {
    if (sink.write != nullptr) sink.write(sink.user, level, text_);
  }

 private:
  void put(char c) noexcept {
    if (size_ + 1 < sizeof(text_)) {
      text_[size_++] = c;
      text_[size_] = '\0';
    }
  }
  char text_[256] = {};
  std::size_t size_ = 0;
};

}  // namespace edgert
