#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what a build needs and is missing: Debian/Ubuntu packages, and a private Python environment in build/venv.
# Usage: scripts/setup.sh [--yes] [--tests]
#   --yes    do not ask before installing packages
#   --tests  also what the tests need (clang, the aarch64 cross compiler, qemu; NVRTC of three CUDA versions in build/nvrtc)
# On a terminal it asks first; without one it goes on. Needs no root when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

yes=no
tests=no
packages="g++ cmake ninja-build pkg-config python3 python3-venv libflatbuffers-dev flatbuffers-compiler protobuf-compiler
  libprotobuf-dev doctest-dev libcli11-dev nlohmann-json3-dev libzip-dev libpng-dev libjpeg-dev zlib1g-dev"
for argument in "$@"; do
  case "$argument" in
    --yes) yes=yes ;;
    --tests) tests=yes; packages="$packages clang llvm binutils g++-aarch64-linux-gnu qemu-user" ;;
    -h|--help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "setup.sh: unknown option $argument (see --help)" >&2; exit 2 ;;
  esac
done

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

missing=""
for package in $packages; do
  # A Python from elsewhere that can make environments is as good as Debian's.
  case "$package" in
    python3|python3-venv) python3 -c 'import venv, ensurepip' 2>/dev/null && continue ;;
  esac
  installed "$package" || missing="$missing $package"
done

if [ -n "$missing" ]; then
  echo "Missing packages:$missing"
  if [ "$yes" = no ] && [ -t 0 ]; then
    read -r -p "Install them with apt-get? [Y/n] " answer
    case "$answer" in ""|y|Y|yes) ;; *) echo "Nothing installed."; exit 1 ;; esac
  fi
  sudo=""
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "Installing needs root: run 'apt-get install$missing' as root, then try again." >&2; exit 1; }
    sudo=sudo
  fi
  export DEBIAN_FRONTEND=noninteractive
  $sudo apt-get update -q
  # shellcheck disable=SC2086
  $sudo apt-get install -y -q --no-install-recommends $missing
fi

if ! cmp -s scripts/requirements.txt build/venv/requirements.installed; then
  echo "Making the Python environment build/venv (onnx, onnxruntime, numpy)"
  mkdir -p build
  python3 -m venv build/venv
  build/venv/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements.txt
  cp scripts/requirements.txt build/venv/requirements.installed
fi

# The compilers of GPU kernels: JetPack 5 needs code from CUDA 11's, JetPack 6 from CUDA 12's. No GPU is needed for them.
if [ "$tests" = yes ]; then
  for wheel in 11/nvidia-cuda-nvrtc-cu11==11.8.89 12/nvidia-cuda-nvrtc-cu12==12.6.85 13/nvidia-cuda-nvrtc==13.0.88; do
    folder=build/nvrtc/${wheel%%/*}
    [ "$(cat "$folder/installed" 2>/dev/null)" = "$wheel" ] && continue
    echo "Installing ${wheel#*/} into $folder"
    rm -rf "$folder"
    if build/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --target "$folder" "${wheel#*/}"; then
      echo "$wheel" >"$folder/installed"
    else
      echo "setup.sh: no wheel of NVRTC for this machine; the tests of kernels say that they are skipped" >&2
    fi
  done
fi
