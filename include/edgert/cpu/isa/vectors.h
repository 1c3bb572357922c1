// SPDX-License-Identifier: Apache-2.0
// Vector types and helpers in every instruction set's namespace. Other kernel headers get this through
// for_each_isa.h, so this one spells the sequence out.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/region.h"
#include "edgert/scalar/math.h"
#include "edgert/scalar/pointwise.h"

#define EDGERT_ISA_LEVEL 0
#include "edgert/cpu/isa/region_begin.h"
#include "edgert/cpu/isa/vectors.inc"
#include "edgert/cpu/isa/region_end.h"
#undef EDGERT_ISA_LEVEL

#if EDGERT_ISA_X86
#define EDGERT_ISA_LEVEL 1
#include "edgert/cpu/isa/region_begin.h"
#include "edgert/cpu/isa/vectors.inc"
#include "edgert/cpu/isa/region_end.h"
#undef EDGERT_ISA_LEVEL

#define EDGERT_ISA_LEVEL 2
#include "edgert/cpu/isa/region_begin.h"
#include "edgert/cpu/isa/vectors.inc"
#include "edgert/cpu/isa/region_end.h"
#undef EDGERT_ISA_LEVEL
#endif
