#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All public headers in two translation units link into one program: nothing is defined twice. At -O0, where nothing is
# inlined away, no weak symbol of it holds code of an instruction set that another processor lacks.
# Usage: two_units.sh COMPILER INCLUDE_DIR GENERATED_DIR
set -euo pipefail
compiler=$1 include=$2 generated=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-std=c++17 -O0 -Wall -Wextra -Wconversion -Wshadow -Werror -I"$include" -I"$generated")
# Fragments around a kernel source are no headers of their own; what wraps a vendor's library needs that library's.
(cd "$include" && find edgert -name '*.h' ! -path 'edgert/cuda/library/*' ! -path 'edgert/cpu/isa/region_*.h' ! -name for_each_isa.h | sort) |
  sed 's/.*/#include "&"/' >"$work/all.h"
# Taking the addresses makes both units hold every operator's code.
body='edgert::Status run(const edgert::PlanView& plan, edgert::Span<std::byte> memory) {
  static edgert::Session<> session;
  const edgert::Status status = session.prepare(plan, memory);
  return status.ok() ? session.run() : status;
}'
printf '#include "all.h"\nnamespace one {\n%s\n}\n' "$body" >"$work/one.cpp"
printf '#include "all.h"\nnamespace one {\nedgert::Status run(const edgert::PlanView&, edgert::Span<std::byte>);\n}\nnamespace two {\n%s\n}\n' \
  "$body" >"$work/two.cpp"
cat >>"$work/two.cpp" <<'CPP'
int main() {
  alignas(64) static std::byte memory[64];
  const edgert::Result<edgert::PlanView> plan = edgert::PlanView::load(memory);
  if (plan.ok()) return one::run(*plan, memory).ok() && two::run(*plan, memory).ok() ? 1 : 2;
  return plan.status().error() == edgert::Error::BadMagic ? 0 : 3;
}
CPP
"$compiler" "${flags[@]}" -c "$work/one.cpp" -o "$work/one.o"
"$compiler" "${flags[@]}" -c "$work/two.cpp" -o "$work/two.o"
"$compiler" "$work/one.o" "$work/two.o" -pthread -o "$work/program"
"$work/program"
if [ "$(uname -m)" = x86_64 ]; then
  sh "$here/weak_symbols.sh" "$work/one.o" "$work/two.o"
fi
echo "two units link and run"
