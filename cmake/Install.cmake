# SPDX-License-Identifier: Apache-2.0
# Install and export: find_package(EdgeRT) gives edgert::runtime, and edgert::builder where it was built.
include(CMakePackageConfigHelpers)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/edgert ${EDGERT_GENERATED_DIR}/edgert
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT runtime)
install(TARGETS edgert_runtime EXPORT EdgeRTRuntime COMPONENT runtime)
install(EXPORT EdgeRTRuntime NAMESPACE edgert:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/EdgeRT COMPONENT runtime)

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/EdgeRTConfig.cmake.in ${PROJECT_BINARY_DIR}/EdgeRTConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/EdgeRT)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/EdgeRTConfigVersion.cmake COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/EdgeRTConfig.cmake ${PROJECT_BINARY_DIR}/EdgeRTConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/EdgeRT COMPONENT runtime)

if(EDGERT_BUILDER)
  # The builder with its headers, in a folder of their own since their names (ops/, plan/) are short.
  set(builder_headers ${CMAKE_INSTALL_INCLUDEDIR}/edgert_builder)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/offline_builder/ DESTINATION ${builder_headers} COMPONENT builder
          FILES_MATCHING PATTERN "*.h" PATTERN cli EXCLUDE)
  set_target_properties(edgert_builder PROPERTIES
    EXPORT_NAME builder
    INTERFACE_INCLUDE_DIRECTORIES
      "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/offline_builder>;$<INSTALL_INTERFACE:${builder_headers}>")
  # Its classes are no part of the builder's interface; only the archive must be there to link.
  set_target_properties(edgert_onnx_proto PROPERTIES
    EXPORT_NAME onnx_proto INTERFACE_INCLUDE_DIRECTORIES "$<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/onnx_proto>"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "$<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/onnx_proto>")
  install(TARGETS edgert_builder edgert_onnx_proto EXPORT EdgeRTBuilder
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT builder)
  install(EXPORT EdgeRTBuilder NAMESPACE edgert:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/EdgeRT COMPONENT builder)
  if(TARGET edgert)
    install(TARGETS edgert edgert-worker RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT builder)
  endif()
endif()
