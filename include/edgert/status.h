// SPDX-License-Identifier: Apache-2.0
// Error codes, Status and Result: the one error channel of the runtime. Nothing here allocates or throws.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

namespace edgert {

/// What went wrong, in bands: 1-99 misuse by the caller, 100-199 the plan's bytes, 200-299 data met while running,
/// 300-399 the device, 900 a defect of EdgeRT itself. Numbers never change their meaning.
enum class Error : std::uint16_t {
  Ok = 0,
  // The caller
  InvalidArgument = 1,
  NotPrepared = 2,
  NameNotFound = 3,
  WrongShape = 4,
  WrongType = 5,
  ArenaTooSmall = 6,    ///< Status::value() says how many bytes are needed
  ArenaMisaligned = 7,  ///< Status::value() says the alignment needed
  NotAsync = 8,
  // The plan
  PlanTruncated = 100,
  PlanMisaligned = 101,
  BadMagic = 102,
  UnsupportedVersion = 103,
  HeaderCorrupt = 104,
  SectionCorrupt = 105,
  HashMismatch = 106,
  SignatureInvalid = 107,
  TableInvalid = 108,
  RuleViolated = 109,     ///< Status::rule() is a number from plan_rules.h
  UnknownOperator = 110,  ///< the program's operator set lacks an operator of the plan
  // Data
  IndexOutOfRange = 200,
  ExtentMismatch = 201,
  ValueOutOfRange = 202,
  ResultMismatch = 203,  ///< an output is not what a golden vector of the plan says
  // The device
  DeviceUnavailable = 300,
  DeviceFailed = 301,
  DeviceMismatch = 302,
  Timeout = 303,
  // EdgeRT
  Internal = 900,
};

/// The code's name, for messages. Never null.
constexpr const char* to_string(Error error) noexcept {
  switch (error) {
    case Error::Ok: return "Ok";
    case Error::InvalidArgument: return "InvalidArgument";
    case Error::NotPrepared: return "NotPrepared";
    case Error::NameNotFound: return "NameNotFound";
    case Error::WrongShape: return "WrongShape";
    case Error::WrongType: return "WrongType";
    case Error::ArenaTooSmall: return "ArenaTooSmall";
    case Error::ArenaMisaligned: return "ArenaMisaligned";
    case Error::NotAsync: return "NotAsync";
    case Error::PlanTruncated: return "PlanTruncated";
    case Error::PlanMisaligned: return "PlanMisaligned";
    case Error::BadMagic: return "BadMagic";
    case Error::UnsupportedVersion: return "UnsupportedVersion";
    case Error::HeaderCorrupt: return "HeaderCorrupt";
    case Error::SectionCorrupt: return "SectionCorrupt";
    case Error::HashMismatch: return "HashMismatch";
    case Error::SignatureInvalid: return "SignatureInvalid";
    case Error::TableInvalid: return "TableInvalid";
    case Error::RuleViolated: return "RuleViolated";
    case Error::UnknownOperator: return "UnknownOperator";
    case Error::IndexOutOfRange: return "IndexOutOfRange";
    case Error::ExtentMismatch: return "ExtentMismatch";
    case Error::ValueOutOfRange: return "ValueOutOfRange";
    case Error::ResultMismatch: return "ResultMismatch";
    case Error::DeviceUnavailable: return "DeviceUnavailable";
    case Error::DeviceFailed: return "DeviceFailed";
    case Error::DeviceMismatch: return "DeviceMismatch";
    case Error::Timeout: return "Timeout";
    case Error::Internal: return "Internal";
  }
  return "unknown error";
}

/// The outcome of a call: an Error and, where that helps, the violated plan rule, the index of the thing at fault
/// (step, tensor, section: the log message says which) and a number such as the bytes needed.
class [[nodiscard]] Status {
 public:
  constexpr Status() noexcept = default;
  constexpr Status(Error error, std::uint32_t index = 0, std::uint64_t value = 0) noexcept  // NOLINT: implicit
      : error_(error), index_(index), value_(value) {}
  static constexpr Status violation(std::uint16_t rule, std::uint32_t index) noexcept {
    Status status(Error::RuleViolated, index);
    status.rule_ = rule;
    return status;
  }

  constexpr bool ok() const noexcept { return error_ == Error::Ok; }
  constexpr Error error() const noexcept { return error_; }
  constexpr std::uint16_t rule() const noexcept { return rule_; }
  constexpr std::uint32_t index() const noexcept { return index_; }
  constexpr std::uint64_t value() const noexcept { return value_; }

 private:
  Error error_ = Error::Ok;
  std::uint16_t rule_ = 0;
  std::uint32_t index_ = 0;
  std::uint64_t value_ = 0;
};

/// A T or the Status that says why there is none. T must be trivially destructible, as all types of the runtime are.
/// An Ok status given as the error becomes Internal, so that "no value" always means "an error".
template <class T>
class [[nodiscard]] Result {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  constexpr Result(const T& value) noexcept : value_(value) {}  // NOLINT: implicit
  constexpr Result(Status status) noexcept                      // NOLINT: implicit
      : value_(), status_(status.ok() ? Status(Error::Internal) : status) {}
  constexpr Result(Error error) noexcept : Result(Status(error)) {}  // NOLINT: implicit

  constexpr bool ok() const noexcept { return status_.ok(); }
  constexpr Status status() const noexcept { return status_; }
  /// Only after ok().
  constexpr const T& value() const noexcept { return value_; }
  constexpr T& value() noexcept { return value_; }
  constexpr const T& operator*() const noexcept { return value_; }
  constexpr const T* operator->() const noexcept { return &value_; }

 private:
  T value_;
  Status status_;
};

}  // namespace edgert

/// Returns from the calling function with the status of `expression` unless that is Ok.
#define EDGERT_RETURN_IF_ERROR(expression)                    \
  do {                                                        \
    const ::edgert::Status edgert_status_ = (expression);     \
    if (!edgert_status_.ok()) return edgert_status_;          \
  } while (false)
