// SPDX-License-Identifier: Apache-2.0
// Names from a model, made fit for messages, logs and JSON: valid UTF-8 without control characters, of bounded length.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace edgert::onnx_import {

inline constexpr std::size_t kMaxNameBytes = 512;

/// Whether the bytes are well-formed UTF-8 (no overlong forms, no surrogates).
bool is_utf8(std::string_view text);
/// `text` with control characters and bytes that are no UTF-8 written as \xNN, cut after `limit` bytes.
std::string printable(std::string_view text, std::size_t limit = kMaxNameBytes);
/// The same between single quotes.
std::string quoted(std::string_view text);

}  // namespace edgert::onnx_import
