# SPDX-License-Identifier: Apache-2.0
# One file of offline_builder/ops is one operator (or one family of compositions), one of offline_builder/families one
# family of GPU kernels, and each defines register_<stem>(). The lists of these calls are made from the file names, so
# adding one edits no list.

# edgert_register(ROOM MAIN OUTPUT): writes OUTPUT with edgert::ROOM::register_all(); MAIN.h of the room has Registry.
function(edgert_register room main output)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/offline_builder/${room}/*.cpp)
  set(declarations "")
  set(calls "")
  foreach(source IN LISTS sources)
    get_filename_component(stem ${source} NAME_WE)
    file(STRINGS ${source} defines REGEX "void register_${stem}\\(Registry&")
    if(defines)
      string(APPEND declarations "void register_${stem}(Registry&)\;\n")
      string(APPEND calls "  register_${stem}(registry)\;\n")
    endif()
  endforeach()
  edgert_write(${output}
"#include \"${room}/${main}.h\"

namespace edgert::${room} {
${declarations}
void register_all(Registry& registry) {
${calls}}
}  // namespace edgert::${room}
")
endfunction()

set(EDGERT_REGISTER_ALL ${PROJECT_BINARY_DIR}/register_all.cpp)
edgert_register(ops operator ${EDGERT_REGISTER_ALL})
set(EDGERT_REGISTER_FAMILIES ${PROJECT_BINARY_DIR}/register_families.cpp)
edgert_register(families family ${EDGERT_REGISTER_FAMILIES})
