# SPDX-License-Identifier: Apache-2.0
# Headers that the runtime needs and that are made at configure time, in ${EDGERT_GENERATED_DIR}/edgert/generated:
#   flatbuffers/*.h     FlatBuffers' own headers with namespace, macros and guards renamed, so that a program which uses
#                       another FlatBuffers version is not disturbed
#   plan_generated.h    flatc's reader and writer of schema/plan.fbs, on those headers
#   all_operators.h     the list of CPU operators from cpu/operators.def
# They are installed too: a firmware build needs neither flatc nor protobuf.

find_path(EDGERT_FLATBUFFERS_INCLUDE_DIR flatbuffers/flatbuffers.h)
find_program(EDGERT_FLATC flatc)
if(NOT EDGERT_FLATBUFFERS_INCLUDE_DIR OR NOT EDGERT_FLATC)
  message(FATAL_ERROR "FlatBuffers (flatc and headers) not found: run scripts/setup.sh, or on Debian/Ubuntu "
                      "apt-get install libflatbuffers-dev flatbuffers-compiler")
endif()

set(EDGERT_GENERATED_DIR ${PROJECT_BINARY_DIR}/include)
set(generated ${EDGERT_GENERATED_DIR}/edgert/generated)
file(MAKE_DIRECTORY ${generated}/flatbuffers)

# Writes only what changed, so that a new configure does not rebuild everything.
function(edgert_write path content)
  string(REPLACE "\\;" ";" content "${content}")
  set(old "")
  if(EXISTS ${path})
    file(READ ${path} old)
  endif()
  if(NOT old STREQUAL content)
    file(WRITE ${path} "${content}")
  endif()
endfunction()

# FlatBuffers, renamed. Semicolons and brackets must survive CMake's list handling, so sed does the work.
file(GLOB flatbuffers_headers ${EDGERT_FLATBUFFERS_INCLUDE_DIR}/flatbuffers/*.h)
set(rename_script
  -e "1i #pragma GCC system_header"
  -e s/namespace\ flatbuffers/namespace\ edgert_flatbuffers/g
  -e s/flatbuffers::/edgert_flatbuffers::/g
  -e s/FLATBUFFERS_/EDGERT_FLATBUFFERS_/g
  -e s|include\ \"flatbuffers/|include\ \"edgert/generated/flatbuffers/|g)
foreach(name allocator array base buffer buffer_ref default_allocator detached_buffer flatbuffer_builder flatbuffers
             stl_emulation string struct table vector vector_downward verifier)
  set(header ${EDGERT_FLATBUFFERS_INCLUDE_DIR}/flatbuffers/${name}.h)
  if(EXISTS ${header} AND ${header} IS_NEWER_THAN ${generated}/flatbuffers/${name}.h)
    execute_process(COMMAND sed ${rename_script} ${header} OUTPUT_FILE ${generated}/flatbuffers/${name}.h
                    COMMAND_ERROR_IS_FATAL ANY)
  endif()
endforeach()

set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/schema/plan.fbs)
if(${PROJECT_SOURCE_DIR}/schema/plan.fbs IS_NEWER_THAN ${generated}/plan_generated.h)
  set(flatc_out ${PROJECT_BINARY_DIR}/flatc)
  file(MAKE_DIRECTORY ${flatc_out})
  execute_process(COMMAND ${EDGERT_FLATC} --cpp --scoped-enums -o ${flatc_out} ${PROJECT_SOURCE_DIR}/schema/plan.fbs
                  COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND sed ${rename_script} ${flatc_out}/plan_generated.h OUTPUT_FILE ${generated}/plan_generated.h
                  COMMAND_ERROR_IS_FATAL ANY)
endif()

# The operator list.
set(operators_def ${PROJECT_SOURCE_DIR}/include/edgert/cpu/operators.def)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${operators_def})
file(STRINGS ${operators_def} rows REGEX "^EDGERT_OPERATOR")
set(includes "")
set(types "")
set(checks "")
set(ids "")
foreach(row IN LISTS rows)
  if(NOT row MATCHES "^EDGERT_OPERATOR\\(([0-9]+), ([A-Za-z0-9]+), ([a-z0-9_]+)\\)$")
    message(FATAL_ERROR "cpu/operators.def: cannot read the row '${row}'")
  endif()
  if(CMAKE_MATCH_1 IN_LIST ids)
    message(FATAL_ERROR "cpu/operators.def: id ${CMAKE_MATCH_1} is used twice")
  endif()
  list(APPEND ids ${CMAKE_MATCH_1})
  string(APPEND includes "#include \"edgert/cpu/ops/${CMAKE_MATCH_3}.h\"\n")
  string(APPEND checks "static_assert(${CMAKE_MATCH_2}::kId == ${CMAKE_MATCH_1}, \"id in operators.def\")@")
  list(APPEND types ${CMAKE_MATCH_2})
endforeach()
string(REPLACE ";" ", " types "${types}")
string(REPLACE "@" "\;\n" checks "${checks}")
edgert_write(${generated}/all_operators.h
"// Made from edgert/cpu/operators.def.
#pragma once

#include \"edgert/cpu/operator.h\"
${includes}
namespace edgert::cpu {
${checks}
using AllOperators = OperatorSet<${types}>\;
}  // namespace edgert::cpu
")
