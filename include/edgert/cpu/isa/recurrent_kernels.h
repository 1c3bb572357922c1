// SPDX-License-Identifier: Apache-2.0
// The arithmetic between the gates of recurrent cells, on rows whose length is a multiple of 16.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/region.h"

#define EDGERT_ISA_SOURCE "edgert/cpu/isa/recurrent_kernels.inc"
#include "edgert/cpu/isa/for_each_isa.h"
