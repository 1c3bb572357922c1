#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the golden plan of the current schema version: run once per released version, never again for the same one, since
# its purpose is that later versions still read what earlier ones wrote. The expected outputs are ONNX Runtime's.
# Usage: make_golden.sh EDGERT PYTHON VERSION       (PYTHON has onnxruntime and numpy)
# Example: tests/golden/make_golden.sh build/edgert build/venv/bin/python 1.0
set -euo pipefail
edgert=$1 python=$2 version=$3
here=$(cd "$(dirname "$0")" && pwd)
folder=$here/plan-$version
[ ! -e "$folder" ] || { echo "$folder exists: a golden plan does not change" >&2; exit 1; }
mkdir -p "$folder"
for model in convolution op_LayerNormalization op_Gather; do
  onnx=$here/../fuzz/corpus/onnx/$model.onnx
  "$edgert" build --quiet "$onnx" -o "$folder/$model.plan"
  "$python" - "$onnx" "$folder/$model" <<'PYTHON'
import sys
import numpy as np
import onnxruntime

onnx, stem = sys.argv[1:]
session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
(declared,) = session.get_inputs()
x = np.random.default_rng(1).standard_normal([d if isinstance(d, int) else 1 for d in declared.shape]).astype(np.float32)
y = session.run([session.get_outputs()[0].name], {declared.name: x})[0]
x.tofile(stem + ".input")
y.astype(np.float32).tofile(stem + ".output")
PYTHON
done
