#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The stripped program, without the plan that is linked into it, stays inside its budget.
# Usage: stripped_size.sh STRIP PROGRAM PLAN BUDGET_BYTES
set -euo pipefail
strip=$1 program=$2 plan=$3 budget=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$strip" -o "$work/stripped" "$program"
size=$(($(stat -c %s "$work/stripped") - $(stat -c %s "$plan")))
echo "stripped size without the plan: $size bytes of $budget"
[ "$size" -le "$budget" ]
