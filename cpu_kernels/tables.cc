#include "cpu_kernels/tables.h"

#include <vector>

#include "cpu_kernels/scalar.h"

namespace thermocline {
namespace {

KernelTable scalar_table() {
  KernelTable table{};
  table.isa = "scalar";
  table.features = "scalar";
  table.vector_form = scalar::vector_form;
  table.prepared_bytes = scalar::prepared_bytes;
  table.prepare = scalar::prepare;
  table.matvec = scalar::matvec;
  table.accumulate_rows = scalar::accumulate_rows;
  table.dequantize_f32 = scalar::dequantize_f32;
  table.dequantize_bf16 = scalar::dequantize_bf16;
  table.f32_to_f16 = scalar::f32_to_f16_row;
  table.f32_to_bf16 = scalar::f32_to_bf16_row;
  table.rms_norm = scalar::rms_norm;
  table.rope = scalar::rope;
  table.softmax = scalar::softmax;
  table.attend = scalar::attend;
  table.activate = scalar::activate;
  table.multiply = scalar::multiply;
  table.add = scalar::add;
  table.compact_nonzero = scalar::compact_nonzero;
  return table;
}

}  // namespace

std::span<const KernelTable* const> make_available_tables() {
  static const KernelTable scalar_kernels = scalar_table();
  static const std::vector<const KernelTable*> tables = {&scalar_kernels};
  return tables;
}

}  // namespace thermocline
