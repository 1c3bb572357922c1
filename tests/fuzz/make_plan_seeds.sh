#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes corpus/plan from those models of corpus/onnx that build: small plans that between them use every operator.
# Usage: make_plan_seeds.sh EDGERT
set -euo pipefail
edgert=$1
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$here/corpus/plan"
mkdir -p "$here/corpus/plan"
for model in "$here"/corpus/onnx/*.onnx; do
  name=$(basename "$model" .onnx)
  "$edgert" build --quiet "$model" -o "$here/corpus/plan/$name" 2>/dev/null || rm -f "$here/corpus/plan/$name"
done
find "$here/corpus/plan" -size +64k -delete
ls "$here/corpus/plan"
