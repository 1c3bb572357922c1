# SPDX-License-Identifier: Apache-2.0
# flatc's reader and writer of schema/worker.fbs in ${EDGERT_WORKER_SCHEMA_DIR}, on the renamed copy of FlatBuffers' headers
# that GenerateRuntimeHeaders makes. Tuner and worker only: it is not installed.
set(EDGERT_WORKER_SCHEMA_DIR ${PROJECT_BINARY_DIR}/worker_schema)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/schema/worker.fbs)
if(${PROJECT_SOURCE_DIR}/schema/worker.fbs IS_NEWER_THAN ${EDGERT_WORKER_SCHEMA_DIR}/worker_generated.h)
  file(MAKE_DIRECTORY ${EDGERT_WORKER_SCHEMA_DIR}/flatc)
  execute_process(COMMAND ${EDGERT_FLATC} --cpp --scoped-enums -o ${EDGERT_WORKER_SCHEMA_DIR}/flatc ${PROJECT_SOURCE_DIR}/schema/worker.fbs
                  COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND sed ${rename_script} ${EDGERT_WORKER_SCHEMA_DIR}/flatc/worker_generated.h
                  OUTPUT_FILE ${EDGERT_WORKER_SCHEMA_DIR}/worker_generated.h COMMAND_ERROR_IS_FATAL ANY)
endif()
