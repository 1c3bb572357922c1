#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The program on the README's first page, as it stands there: built from what the command writes, compiled, run.
# Usage: readme_program.sh COMPILER EDGERT README MODEL INCLUDE GENERATED
set -euo pipefail
compiler=$1 edgert=$2 readme=$3 model=$4 include=$5 generated=$6
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The block after the comment that announces it.
awk '/^<!-- This program is compiled/ {found = 1} found && /^```$/ {exit} inside {print} found && /^```cpp$/ {inside = 1}' \
  "$readme" >"$work/program.cpp"
grep -q 'int main' "$work/program.cpp"
cp "$model" "$work/net.onnx"
(cd "$work" && "$edgert" build net.onnx -o net.plan --emit-header net.h --emit-object net.o --quiet)
"$compiler" -std=c++17 -O1 -Wall -Wextra -Werror -I"$work" -I"$include" -I"$generated" "$work/program.cpp" "$work/net.o" \
  -o "$work/program"
"$work/program"
echo "the README's program compiles and runs"
