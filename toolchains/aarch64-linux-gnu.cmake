# SPDX-License-Identifier: Apache-2.0
# Cross build for 64-bit Arm Linux (Jetson boards included) with Debian's or Ubuntu's compiler; no CUDA needed, since the
# runtime opens the driver when it runs. Tests run under qemu-user when that is installed.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
# Header-only dependencies (FlatBuffers, doctest) come from the host.
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
find_program(EDGERT_QEMU qemu-aarch64)
if(EDGERT_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${EDGERT_QEMU};-L;/usr/aarch64-linux-gnu)
endif()
