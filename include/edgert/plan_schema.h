// SPDX-License-Identifier: Apache-2.0
// The generated reader of schema/plan.fbs, on the renamed copy of FlatBuffers' headers.
#pragma once

// Sizes are checked before FlatBuffers sees a byte; nothing that input can cause may end in an assert.
#define EDGERT_FLATBUFFERS_ASSERT(condition) static_cast<void>(0)
#include "edgert/generated/plan_generated.h"
