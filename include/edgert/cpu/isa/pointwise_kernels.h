// SPDX-License-Identifier: Apache-2.0
// Pointwise strips for every instruction set. The contract is in region.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise_functions.h"

#define EDGERT_ISA_SOURCE "edgert/cpu/isa/pointwise_kernels.inc"
#include "edgert/cpu/isa/for_each_isa.h"
