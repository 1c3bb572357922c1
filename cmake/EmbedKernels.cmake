# SPDX-License-Identifier: Apache-2.0
# Device sources as data inside the builder: kernels/ and the scalar headers that kernels include become one generated
# .cpp, so that the edgert command is one file that finds its kernels wherever it lies.
#
# Included, it sets EDGERT_EMBEDDED_KERNELS, a source file to add to a target. Run as a script (cmake -P) with OUT and
# SOURCE_DIR it writes that file.
if(CMAKE_SCRIPT_MODE_FILE)
  file(GLOB_RECURSE kernels RELATIVE ${SOURCE_DIR} ${SOURCE_DIR}/kernels/*.h ${SOURCE_DIR}/kernels/*.cu)
  file(GLOB scalar RELATIVE ${SOURCE_DIR}/include ${SOURCE_DIR}/include/edgert/scalar/*)
  set(out "// Made from kernels/ and include/edgert/scalar/ by cmake/EmbedKernels.cmake.\n")
  string(APPEND out "#include \"codegen/kernel_files.h\"\n\nnamespace edgert::codegen {\nnamespace {\n")
  set(rows "")
  set(number 0)
  foreach(name IN LISTS kernels scalar)
    if(EXISTS ${SOURCE_DIR}/${name})
      file(READ ${SOURCE_DIR}/${name} text)
    else()
      file(READ ${SOURCE_DIR}/include/${name} text)
    endif()
    string(APPEND out "constexpr char kFile${number}[] = R\"EDGERT(${text})EDGERT\";\n")
    string(APPEND rows "    {\"${name}\", {kFile${number}, sizeof(kFile${number}) - 1}},\n")
    math(EXPR number "${number} + 1")
  endforeach()
  string(APPEND out "constexpr KernelFile kFiles[] = {\n${rows}};\n}  // namespace\n\n")
  string(APPEND out "Span<const KernelFile> kernel_files() { return kFiles; }\n\n}  // namespace edgert::codegen\n")
  file(WRITE ${OUT} "${out}")
  return()
endif()

file(GLOB_RECURSE embedded_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.h ${PROJECT_SOURCE_DIR}/kernels/*.cu
     ${PROJECT_SOURCE_DIR}/include/edgert/scalar/*)
set(EDGERT_EMBEDDED_KERNELS ${PROJECT_BINARY_DIR}/embedded_kernels.cpp)
add_custom_command(
  OUTPUT ${EDGERT_EMBEDDED_KERNELS}
  COMMAND ${CMAKE_COMMAND} -DOUT=${EDGERT_EMBEDDED_KERNELS} -DSOURCE_DIR=${PROJECT_SOURCE_DIR}
          -P ${PROJECT_SOURCE_DIR}/cmake/EmbedKernels.cmake
  DEPENDS ${embedded_sources} ${PROJECT_SOURCE_DIR}/cmake/EmbedKernels.cmake
  COMMENT "Embedding kernel sources")
