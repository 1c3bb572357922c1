#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# No weak symbol outside the instruction-set namespaces may hold VEX or EVEX instructions. Of several equal weak symbols
# the linker keeps one; if that one came from a region compiled for AVX, the program dies on a processor without it.
#
#   weak_symbols.sh FILE...     x86-64 objects or programs, compiled at -O0 so that nothing is inlined away,
#                               without -mavx or -march
#
# Prints each offending symbol and fails; fails as well when a file has no AVX code at all, since then it proves nothing.
set -eu

if [ $# -eq 0 ]; then
  echo "usage: $0 FILE..." >&2
  exit 2
fi

failed=0
for file in "$@"; do
  symbols=$(nm "$file" | awk '$2 ~ /^[WVuw]$/ { print $3 }')
  # Instructions that are VEX- or EVEX-encoded are those on mask registers and those whose name starts with v, but for
  # verr, verw and the virtual machine ones.
  offenders=$(
    {
      echo "$symbols"
      echo "--"
      objdump -d --no-show-raw-insn "$file"
    } | awk '
      !listed { if ($0 == "--") listed = 1; else weak[$0] = 1; next }
      /^[0-9a-f]+ <.*>:$/ { name = $2; sub(/^</, "", name); sub(/>:$/, "", name); next }
      /^ *[0-9a-f]+:\t/ {
        split($0, column, "\t")
        split(column[2], word, " ")
        if (word[1] !~ /^(v|k(add|and|mov|not|or|shift|test|unpck|xn|xor))/) next
        if (word[1] ~ /^(verr|verw|vm[^aiou][a-z]*)$/) next
        total++
        if (name in weak && name !~ /4avx2|6avx512/) found[name]++
      }
      END {
        if (total == 0) print "no AVX code"
        for (name in found) print name
      }' | c++filt
  )
  if [ -n "$offenders" ]; then
    echo "$file:"
    echo "$offenders" | sed 's/^/  /'
    failed=1
  fi
done
exit $failed
