#include "runtime/gpu_rows.h"

#include "cpu_kernels/kernels.h"
#include "gpu_kernels/weight_layout.h"

namespace thermocline {

// A type that has no kernels there is kept in one that holds its values to 11 bits.
DType GpuStoredType(DType dtype) { return dtype == DType::kQ6_K ? DType::kF16 : dtype; }

const std::byte* GpuStoredRow(const TensorView& source, int64_t row,
                              std::vector<std::byte>* converted) {
  const DType stored = GpuStoredType(source.dtype);
  if (stored == source.dtype) return source.row(row);
  std::vector<float> values(static_cast<size_t>(source.cols));
  CpuKernels().dequantize_f32(source.dtype, source.row(row), 0, source.cols, values.data());
  converted->resize(static_cast<size_t>(RowBytes(stored, source.cols)));
  QuantizeRow(stored, values.data(), source.cols, converted->data());
  return converted->data();
}

void PackGpuStoredRow(const TensorView& source, int64_t row, std::vector<std::byte>* converted,
                      std::byte* out) {
  PackGpuRows(GpuStoredType(source.dtype), GpuStoredRow(source, row, converted),
              source.row_stride_bytes, 1, source.cols, out);
}

}  // namespace thermocline
