// The tables of functions that this machine can run.
#pragma once

#include <span>

#include "cpu_kernels/kernels.h"

namespace thermocline {

// All tables, slowest first; built once. One ISA may appear twice: without and with its extensions.
std::span<const KernelTable* const> make_available_tables();

}  // namespace thermocline
