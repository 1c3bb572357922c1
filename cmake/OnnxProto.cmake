# SPDX-License-Identifier: Apache-2.0
# ONNX's protobuf classes as the target edgert_onnx_proto, generated from the proto file of the pinned `onnx` wheel:
# distributions' own packages are several operator sets behind and lack fields.
#   EDGERT_ONNX_PROTO   the proto file; found when empty
set(EDGERT_ONNX_PROTO "" CACHE FILEPATH
  "onnx-ml.proto of the pinned onnx wheel; empty: found in the build's venv or through python3")

function(edgert_find_onnx_proto out)
  if(EDGERT_ONNX_PROTO)
    if(NOT EXISTS ${EDGERT_ONNX_PROTO})
      message(FATAL_ERROR "EDGERT_ONNX_PROTO names a file that does not exist: ${EDGERT_ONNX_PROTO}")
    endif()
    set(${out} ${EDGERT_ONNX_PROTO} PARENT_SCOPE)
    return()
  endif()
  # Further build folders share the environment that scripts/setup.sh keeps in build/.
  file(GLOB candidates ${CMAKE_BINARY_DIR}/venv/lib/python3*/site-packages/onnx/onnx-ml.proto
       ${PROJECT_SOURCE_DIR}/build/venv/lib/python3*/site-packages/onnx/onnx-ml.proto)
  find_program(EDGERT_PYTHON3 python3)
  mark_as_advanced(EDGERT_PYTHON3)
  if(NOT candidates AND EDGERT_PYTHON3)
    execute_process(
      COMMAND ${EDGERT_PYTHON3} -c
        "import onnx, os; print(os.path.join(os.path.dirname(onnx.__file__), 'onnx-ml.proto'))"
      OUTPUT_VARIABLE candidates OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  list(LENGTH candidates count)
  if(count GREATER 0)
    list(GET candidates 0 found)
  endif()
  if(NOT found OR NOT EXISTS ${found})
    message(FATAL_ERROR "onnx-ml.proto was not found. Run scripts/setup.sh, which puts the pinned onnx wheel into "
      "${PROJECT_SOURCE_DIR}/build/venv, or give -DEDGERT_ONNX_PROTO=/path/to/onnx-ml.proto.")
  endif()
  set(${out} ${found} PARENT_SCOPE)
endfunction()

find_package(Protobuf REQUIRED)
edgert_find_onnx_proto(onnx_proto)
set(onnx_proto_dir ${PROJECT_BINARY_DIR}/onnx_proto)
# protoc names its output after the input's path, so the file is copied next to where the code goes.
configure_file(${onnx_proto} ${onnx_proto_dir}/onnx-ml.proto COPYONLY)
add_custom_command(
  OUTPUT ${onnx_proto_dir}/onnx-ml.pb.cc ${onnx_proto_dir}/onnx-ml.pb.h
  COMMAND protobuf::protoc --cpp_out=${onnx_proto_dir} --proto_path=${onnx_proto_dir} onnx-ml.proto
  DEPENDS ${onnx_proto_dir}/onnx-ml.proto
  COMMENT "Generating ONNX's protobuf classes")
add_library(edgert_onnx_proto STATIC ${onnx_proto_dir}/onnx-ml.pb.cc ${onnx_proto_dir}/onnx-ml.pb.h)
target_include_directories(edgert_onnx_proto SYSTEM PUBLIC ${onnx_proto_dir})
target_link_libraries(edgert_onnx_proto PUBLIC protobuf::libprotobuf-lite)
target_compile_options(edgert_onnx_proto PRIVATE -O1 -w)

# The newest operator set that the wheel defines, for the test that compares it with what the importer accepts.
get_filename_component(onnx_folder ${onnx_proto} DIRECTORY)
if(EXISTS ${onnx_folder}/defs/schema.h)
  file(STRINGS ${onnx_folder}/defs/schema.h onnx_versions REGEX "map_\\[ONNX_DOMAIN\\] = std::make_pair")
  if(onnx_versions MATCHES "make_pair\\(1, ([0-9]+)\\)")
    target_compile_definitions(edgert_onnx_proto INTERFACE EDGERT_ONNX_WHEEL_OPSET=${CMAKE_MATCH_1})
  endif()
endif()
