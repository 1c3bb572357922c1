// SPDX-License-Identifier: Apache-2.0
// Compiles the file named by EDGERT_ISA_SOURCE once per instruction set. Meant to be included many times, hence
// without a guard. How to use it: region.h.

#include "edgert/cpu/isa/vectors.h"

#define EDGERT_ISA_LEVEL 0
#include "edgert/cpu/isa/region_begin.h"
#include EDGERT_ISA_SOURCE
#include "edgert/cpu/isa/region_end.h"
#undef EDGERT_ISA_LEVEL

#if EDGERT_ISA_X86
#define EDGERT_ISA_LEVEL 1
#include "edgert/cpu/isa/region_begin.h"
#include EDGERT_ISA_SOURCE
#include "edgert/cpu/isa/region_end.h"
#undef EDGERT_ISA_LEVEL

#define EDGERT_ISA_LEVEL 2
#include "edgert/cpu/isa/region_begin.h"
#include EDGERT_ISA_SOURCE
#include "edgert/cpu/isa/region_end.h"
#undef EDGERT_ISA_LEVEL
#endif

#undef EDGERT_ISA_SOURCE
