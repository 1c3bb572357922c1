#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds gpu_probe and gpu_kernels without CMake targets, so that they can be carried to a machine that has a GPU and no
# source: gpu_build.sh BUILD_DIR OUT_DIR, where BUILD_DIR is a configured build (for the generated headers).
set -eu
build=$1
out=$2
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"
cmake -DOUT="$out/embedded_kernels.cpp" -DSOURCE_DIR="$root" -P "$root/cmake/EmbedKernels.cmake"
for program in gpu_probe gpu_kernels; do
  "${CXX:-g++}" -std=c++17 -O2 -static-libstdc++ -static-libgcc -I"$root" -I"$root/include" -I"$root/offline_builder" \
    -I"$build/include" "$root/bench/$program.cpp" "$root"/offline_builder/codegen/*.cpp "$root/offline_builder/tune/device_part.cpp" "$out/embedded_kernels.cpp" \
    -ldl -lpthread -o "$out/$program"
done
rm "$out/embedded_kernels.cpp"
