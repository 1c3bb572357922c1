// SPDX-License-Identifier: Apache-2.0
// What firmware embeds: a C++ header with everything about a plan that is constant, and the plan's bytes as an object file
// or as assembly.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "edgert/plan.h"

namespace edgert::plan {

/// A C++ identifier from a file's name: "my-net.plan" -> "my_net".
std::string identifier_from(const std::string& path);

/// Header text: namespace `name` with the operator set, session needs, memory size as constexpr, and each input's and
/// output's name, type and shape.
std::string emit_header(const PlanView& plan, const std::string& name);

/// Assembly for any GNU assembler, made of .quad lines: symbols `name`_plan and `name`_plan_end in read-only data.
std::string emit_assembly(Span<const std::byte> plan, const std::string& name);

enum class Machine { X86_64, AArch64 };
/// The same as a relocatable ELF64 object, so that no assembler is needed.
std::vector<std::byte> emit_object(Span<const std::byte> plan, const std::string& name, Machine machine);

}  // namespace edgert::plan
