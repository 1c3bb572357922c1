# SPDX-License-Identifier: Apache-2.0
# One file of offline_builder/ops is one operator (or one family of compositions) and defines register_<stem>(). The
# list of these calls is made from the file names, so adding an operator edits no list.
file(GLOB operator_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/offline_builder/ops/*.cpp)
set(declarations "")
set(calls "")
foreach(source IN LISTS operator_sources)
  get_filename_component(stem ${source} NAME_WE)
  if(NOT stem STREQUAL "operator")
    file(STRINGS ${source} defines REGEX "void register_${stem}\\(Registry&")
    if(defines)
      string(APPEND declarations "void register_${stem}(Registry&)\;\n")
      string(APPEND calls "  register_${stem}(registry)\;\n")
    endif()
  endif()
endforeach()
set(EDGERT_REGISTER_ALL ${PROJECT_BINARY_DIR}/register_all.cpp)
edgert_write(${EDGERT_REGISTER_ALL}
"#include \"ops/operator.h\"

namespace edgert::ops {
${declarations}
void register_all(Registry& registry) {
${calls}}
}  // namespace edgert::ops
")

# The same for offline_builder/families, whose files are the families of GPU kernels.
file(GLOB family_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/offline_builder/families/*.cpp)
set(declarations "")
set(calls "")
foreach(source IN LISTS family_sources)
  get_filename_component(stem ${source} NAME_WE)
  if(NOT stem STREQUAL "family")
    file(STRINGS ${source} defines REGEX "void register_${stem}\\(Registry&")
    if(defines)
      string(APPEND declarations "void register_${stem}(Registry&)\;\n")
      string(APPEND calls "  register_${stem}(registry)\;\n")
    endif()
  endif()
endforeach()
set(EDGERT_REGISTER_FAMILIES ${PROJECT_BINARY_DIR}/register_families.cpp)
edgert_write(${EDGERT_REGISTER_FAMILIES}
"#include \"families/family.h\"

namespace edgert::families {
${declarations}
void register_all(Registry& registry) {
${calls}}
}  // namespace edgert::families
")
