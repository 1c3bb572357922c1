#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Configures another build of these sources and builds targets of it. The folder stays, so that a second run is quick.
# Usage: build_tree.sh WORK TARGETS CMAKE-ARGUMENT...
#   TARGETS  a regular expression, matched against whole target names
set -euo pipefail
work=$1 targets=$2
shift 2
cmake -B "$work" -G Ninja -DEDGERT_NESTED=ON "$@"
# shellcheck disable=SC2046
cmake --build "$work" --parallel "$(nproc)" --target \
  $(ninja -C "$work" -t targets all | sed -nE "s/^($targets): phony$/\1/p" | sort -u)
