#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job, end to end: installs what is missing, builds into build/, then takes a trained ONNX model and its held-out
# test set, builds a plan, runs it, and prints predictions, accuracy, latency, sizes and allocations.
# Usage: scripts/demo.sh [--yes] [digits_resnet|digits_mobilenet|digits_vit]
#   --yes  do not ask before installing packages
# Example: scripts/demo.sh digits_vit
set -euo pipefail
cd "$(dirname "$0")/.."

setup_arguments=()
model=digits_resnet
for argument in "$@"; do
  case "$argument" in
    --yes) setup_arguments+=(--yes) ;;
    -h|--help) sed -n '3,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    digits_resnet|digits_mobilenet|digits_vit) model=$argument ;;
    *) echo "demo.sh: unknown argument $argument (see --help)" >&2; exit 2 ;;
  esac
done
scripts/setup.sh "${setup_arguments[@]}"

echo "== Building EdgeRT into build/"
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release >build/configure.log
cmake --build build --parallel "$(nproc)" --target edgert

echo "== examples/models/$model.onnx to build/$model.plan"
build/edgert build "examples/models/$model.onnx" -o "build/$model.plan" --shape image=1x1x8x8

echo "== One picture"
build/edgert run "build/$model.plan" --image examples/models/digit_3.png

echo "== The held-out test set"
build/edgert run "build/$model.plan" --inputs examples/models/digits_test.npz --labels label

echo "== Latency, sizes, allocations"
build/edgert bench "build/$model.plan" --duration 2
