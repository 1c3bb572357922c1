#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Adds an operator the way CONTRIBUTING.md says, to a copy of the sources: a kernel header, a builder file, a test and one
# row. Nothing else is edited. A user's project fetches that copy, builder and tests included: its own program links the
# builder, and an ONNX model that uses the operator is built into a plan and run.
# Usage: dummy_operator.sh SOURCE WORK [CMAKE-ARGUMENT...]
set -euo pipefail
source=$1 work=$2
shift 2
tree=$work/tree
rm -rf "$tree"
mkdir -p "$tree"
# Time stamps stay, so that a second run compiles little.
cp -rp "$source"/{CMakeLists.txt,cmake,include,schema,offline_builder,kernels} "$tree"
for folder in "$source"/tests/*/; do mkdir -p "$tree/tests/$(basename "$folder")"; done
cp -p "$source"/tests/{CMakeLists.txt,doctest_main.cpp} "$tree/tests"
cp -rp "$source/tests/support" "$tree/tests"
# Folders of other tests and of benchmarks have nothing to build here.
mkdir "$tree/bench"
for folder in "$tree"/tests/*/ "$tree/bench/"; do touch -d @0 "$folder/CMakeLists.txt"; done
cp -p "$source/tests/unit/onnx_models.h" "$tree/tests/unit"
cp -p "$source/tests/ops/operator_test.h" "$tree/tests/ops"
here=$(cd "$(dirname "$0")" && pwd)
cp -p "$here/dummy_operator/kernel.h" "$tree/include/edgert/cpu/ops/dummy.h"
cp -p "$here/dummy_operator/builder.cpp" "$tree/offline_builder/ops/dummy.cpp"
cp -p "$here/dummy_operator/test.cpp" "$tree/tests/ops/dummy.cpp"
cp -p "$here/dummy_operator/end_to_end.cpp" "$tree/tests/unit/dummy_end_to_end.cpp"
echo 'EDGERT_OPERATOR(60000, Dummy, dummy)' >>"$tree/include/edgert/cpu/operators.def"

cmake "$@" -S "$source/tests/consumer/fetched" -B "$work/build" -G Ninja -DEDGERT_SOURCE="$tree" -DEDGERT_BUILDER=ON \
  -DEDGERT_TESTS=ON -DEDGERT_NESTED=ON -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0
cmake --build "$work/build" --parallel "$(nproc)" --target builder_program op_dummy unit_dummy_end_to_end
"$work/build/builder_program"
tests=$work/build/_deps/edgert-build/tests
"$tests/op_dummy"
"$tests/unit_dummy_end_to_end"
