#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds into build/, and passes all tests.
# Usage: scripts/test.sh [--yes] [--fast] [CTEST-ARGUMENT...]
#   --yes   do not ask before installing packages
#   --fast  leave out the tests labelled "slow" (continuous integration runs them too)
# Examples:
#   scripts/test.sh
#   scripts/test.sh --fast -R unit_
set -euo pipefail
cd "$(dirname "$0")/.."

setup_arguments=(--tests)
ctest_arguments=()
for argument in "$@"; do
  case "$argument" in
    --yes) setup_arguments+=(--yes) ;;
    --fast) ctest_arguments+=(-LE slow) ;;
    -h|--help) sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) ctest_arguments+=("$argument") ;;
  esac
done
scripts/setup.sh "${setup_arguments[@]}"

cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DEDGERT_TESTS=ON
cmake --build build --parallel "$(nproc)"
ctest --test-dir build --output-on-failure --parallel "$(nproc)" "${ctest_arguments[@]}"
