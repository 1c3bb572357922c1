// SPDX-License-Identifier: Apache-2.0
// The .npy format: a magic number, a Python dictionary that says type, order and shape, then the elements.
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <string>

#include "io/npz.h"

namespace edgert::io {

/// Magic number to the last byte before the elements, which then start at a multiple of 64. Throws as write_npy does;
/// `name` says in messages which array it is.
std::string npy_header(const Array& array, const std::string& name);

}  // namespace edgert::io
