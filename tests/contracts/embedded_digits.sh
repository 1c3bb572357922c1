#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Firmware built from what `edgert build --emit-header --emit-object` wrote: the object needs no forbidden symbol, the
# program no C++ library, its stripped size stays inside the budget, and it reads a 3 as a 3.
#
# Usage: embedded_digits.sh COMPILER LINKER PREFIX INCLUDE GENERATED PLANS OBJECT [EMULATOR...]
#   LINKER    a C compiler, so that nothing of C++ comes in unasked
#   PREFIX    of nm, strip and readelf, such as aarch64-linux-gnu-, or "host"
#   PLANS     folder of digits.h and digits_resnet.plan
#   OBJECT    the plan as an object file of the right machine
#   EMULATOR  each word of a command to run the program with; ";" starts a further command, which must agree
set -euo pipefail
compiler=$1 linker=$2 prefix=$3 include=$4 generated=$5 plans=$6 object=$7
shift 7
[ "$prefix" = host ] && prefix=
here=$(cd "$(dirname "$0")" && pwd)
budget=300000
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$compiler" -std=c++17 -Os -ffunction-sections -fdata-sections -fno-exceptions -fno-rtti -Wall -Wextra -Wconversion \
  -Wshadow -Werror -I"$plans" -I"$include" -I"$generated" -c "$here/embedded_digits.cpp" -o "$work/digits_program.o"
# The second is in libgcc: an atomic exchange for processors with and without the instruction.
bash "$here/forbidden_symbols.sh" "${prefix}nm" "$work/digits_program.o" '^(digits_plan|__aarch64_swp1_acq_rel)$'

"$linker" -Wl,--gc-sections -Wl,--as-needed -nodefaultlibs "$work/digits_program.o" "$object" -lc -lgcc -o "$work/digits"
"${prefix}readelf" -d "$work/digits" >"$work/dynamic"
if grep NEEDED "$work/dynamic" | grep -v 'libc\.so\|ld-linux'; then
  echo "the program needs more than the C library"
  exit 1
fi
bash "$here/stripped_size.sh" "${prefix}strip" "$work/digits" "$plans/digits_resnet.plan" "$budget"

run() {
  local class=0
  "$@" "$work/digits" || class=$?
  echo "${*:-directly}: class $class"
  [ "$class" = 3 ]
}
emulator=()
for word in "$@"; do
  if [ "$word" = ";" ]; then
    run ${emulator[@]+"${emulator[@]}"}
    emulator=()
  else
    emulator+=("$word")
  fi
done
run ${emulator[@]+"${emulator[@]}"}
