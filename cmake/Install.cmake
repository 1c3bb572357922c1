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
  install(TARGETS edgert RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT builder)
endif()
