#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every public header compiles alone under the strict flags.
# Usage: headers_alone.sh COMPILER INCLUDE_DIR GENERATED_DIR
set -euo pipefail
compiler=$1 include=$2 generated=$3
flags="-std=c++17 -fno-exceptions -fno-rtti -Wall -Wextra -Wconversion -Wshadow -Werror"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 count=0
has_header() { printf '#include <%s>\n' "$1" | "$compiler" -std=c++17 -x c++ -fsyntax-only - 2>/dev/null; }
while read -r header; do
  case "$header" in
    # What wraps a vendor's library needs that library's header.
    edgert/cuda/library/cublaslt.h) has_header cublasLt.h || continue ;;
    edgert/cuda/library/cudnn.h) has_header cudnn.h || continue ;;
    # Fragments that for_each_isa.h puts around a kernel source; their prose says so.
    edgert/cpu/isa/region_begin.h|edgert/cpu/isa/region_end.h|edgert/cpu/isa/for_each_isa.h) continue ;;
  esac
  # Twice: the include guard is part of the contract.
  printf '#include "%s"\n#include "%s"\n' "$header" "$header" >"$work/one.cpp"
  # shellcheck disable=SC2086
  if ! "$compiler" $flags -I"$include" -I"$generated" -fsyntax-only "$work/one.cpp" 2>"$work/log"; then
    echo "$header does not compile alone with $compiler:"
    head -20 "$work/log"
    failed=$((failed + 1))
  fi
  count=$((count + 1))
done < <(cd "$include" && find edgert -name '*.h' | sort)
echo "$count headers, $failed failed"
[ "$count" -gt 20 ] && [ "$failed" = 0 ]
