#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Users' projects on EdgeRT.
# Usage: consumer.sh installed|installed_builder|fetched SOURCE BUILD WORK [CMAKE-ARGUMENT...]
#   BUILD  a finished build of SOURCE, to install from
#   WORK   a folder that may stay between runs
set -euo pipefail
kind=$1 source=$2 build=$3 work=$4
shift 4
projects=$source/tests/consumer
mkdir -p "$work"

configure() { cmake -S "$1" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 "${@:2}" >"$work/configure.log" || { cat "$work/configure.log"; exit 1; }; }

case "$kind" in
  installed)
    rm -rf "$work/prefix" "$work/build"
    cmake --install "$build" --prefix "$work/prefix" --component runtime >"$work/install.log"
    # A path with compilers but neither flatc nor protoc, as on a firmware developer's machine.
    mkdir -p "$work/path"
    for tool in cmake ninja c++ cc g++ gcc ld as ar ranlib ccache env sh bash; do
      if found=$(command -v "$tool"); then ln -sf "$found" "$work/path/$tool"; fi
    done
    export PATH="$work/path"
    if command -v flatc || command -v protoc; then exit 1; fi
    configure "$projects/installed" -DCMAKE_PREFIX_PATH="$work/prefix" "$@"
    cmake --build "$work/build"
    "$work/build/runtime_program"
    ;;
  installed_builder)
    rm -rf "$work/prefix" "$work/build"
    cmake --install "$build" --prefix "$work/prefix" >"$work/install.log"
    configure "$projects/installed" -DCMAKE_PREFIX_PATH="$work/prefix" -DCONSUMER_BUILDER=ON "$@"
    cmake --build "$work/build" --target builder_program
    "$work/build/builder_program"
    "$work/prefix/bin/edgert" --help >/dev/null
    ;;
  fetched)
    configure "$projects/fetched" -DEDGERT_SOURCE="$source" "$@"
    cmake --build "$work/build" 2>&1 | tee "$work/build.log"
    "$work/build/runtime_program"
    ;;
  *)
    echo "unknown kind $kind" >&2
    exit 2
    ;;
esac
