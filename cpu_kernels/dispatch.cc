// Which table is used: the best one that the machine has, or the one that THERMOCLINE_FORCE_ISA
// names.
#include <cstdlib>
#include <string>

#include "cpu_kernels/kernels.h"
#include "cpu_kernels/tables.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr const char* kForceVariable = "THERMOCLINE_FORCE_ISA";

std::string available_isas() {
  std::string names;
  std::string_view last;
  for (const KernelTable* table : AvailableCpuKernels()) {
    if (table->isa == last) continue;
    last = table->isa;
    if (!names.empty()) names += ", ";
    names += last;
  }
  return names;
}

const KernelTable& choose_table() {
  const auto tables = AvailableCpuKernels();
  const char* forced = std::getenv(kForceVariable);
  if (forced == nullptr || *forced == '\0') return *tables.back();
  const KernelTable* found = nullptr;
  for (const KernelTable* table : tables) {
    // By a set's name the last one: with all extensions.
    if (table->isa == forced || table->features == forced) found = table;
  }
  if (found != nullptr) return *found;
  const std::string_view name(forced);
  const bool known = name == "scalar" || name == "avx2" || name == "avx512";
  throw Error({.path = "",
               .what = std::string(kForceVariable) +
                       (known ? " names an instruction set that this machine lacks"
                              : " names an unknown instruction set"),
               .expected = "one of " + available_isas(),
               .found = Printable(forced),
               .hint = "unset it to use the best that is there"});
}

}  // namespace

std::span<const KernelTable* const> AvailableCpuKernels() {
  static const std::span<const KernelTable* const> tables = make_available_tables();
  return tables;
}

const KernelTable& CpuKernels() {
  static const KernelTable& table = choose_table();
  return table;
}

}  // namespace thermocline
