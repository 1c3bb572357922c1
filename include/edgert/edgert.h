// SPDX-License-Identifier: Apache-2.0
// The runtime: include this.
#pragma once

#include "edgert/plan.h"
#include "edgert/session.h"
#include "edgert/status.h"
