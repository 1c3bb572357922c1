#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A runtime program's object needs nothing from outside but memory and string functions of C.
# Usage: forbidden_symbols.sh NM OBJECT [ALLOWED_REGEX]
set -euo pipefail
nm=$1 object=$2 extra=${3:-^$}
allowed='^(mem(cpy|move|set|cmp)|bcmp|str(ncmp|cmp|len)|__cpu_model|__cpu_indicator_init|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail|__stack_chk_guard)$'
bad=$("$nm" --undefined-only "$object" | awk '{print $NF}' | grep -vE "$allowed" | grep -vE "$extra" || true)
if [ -n "$bad" ]; then
  echo "$object needs symbols that a device may not have:"
  echo "$bad"
  exit 1
fi
echo "only allowed symbols in $object"
