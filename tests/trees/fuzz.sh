#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzzes for a bounded time, from a corpus that stays as it is.
# Usage: fuzz.sh FUZZER CORPUS SECONDS
set -euo pipefail
fuzzer=$1 corpus=$2 seconds=$3
work=$(mktemp -d)
mkdir "$work/found"
if ! "$fuzzer" -max_total_time="$seconds" -max_len=16384 -timeout=30 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="$work/" "$work/found" "$corpus" >"$work/log" 2>&1; then
  tail -60 "$work/log"
  echo "the input that failed is in $work: add it to tests/fuzz/crashes once it is understood"
  exit 1
fi
tail -8 "$work/log"
rm -rf "$work"
