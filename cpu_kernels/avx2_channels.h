// accumulate_channels with AVX2, for its own table and for those of AVX-512 without VNNI.
#pragma once

#include "cpu_kernels/kernel_args.h"
#include "runtime/core/dtype.h"

namespace thermocline::avx2 {

void accumulate_channels(DType dtype, const std::byte* w, int64_t row_stride_bytes, const float* h,
                         const int32_t* rows, int64_t n_rows, int64_t col_begin, int64_t col_end,
                         float* y);

// The same with AVX-VNNI.
void vnni_accumulate_channels(DType dtype, const std::byte* w, int64_t row_stride_bytes,
                              const float* h, const int32_t* rows, int64_t n_rows,
                              int64_t col_begin, int64_t col_end, float* y);

// accumulate_rows of any type.
void accumulate_any(DType dtype, const AccumulateArgs& args);

}  // namespace thermocline::avx2
