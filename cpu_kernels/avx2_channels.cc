#include "cpu_kernels/avx2.h"
#include "cpu_kernels/channels_avx2.h"

namespace thermocline::avx2 {
namespace {

struct MultiplyAdd {
  [[gnu::always_inline]] static inline __m256i words(__m256i sums, __m256i a, __m256i b) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b));
  }
};

}  // namespace

int64_t accumulate_strips_of_q4_0(const AccumulateArgs& args) {
  return ChannelRows<Q4ChannelStrip>(args).run();
}

void accumulate_channels(DType dtype, const std::byte* w, int64_t row_stride_bytes, const float* h,
                         const int32_t* rows, int64_t n_rows, int64_t col_begin, int64_t col_end,
                         float* y) {
  AccumulateArgs args = {w, row_stride_bytes, h, rows, n_rows, col_begin, col_end, y};
  if (dtype == DType::kQ4_0) args.col_begin = accumulate_strips_of_q4_0(args);
  if (dtype == DType::kQ8_0) {
    args.col_begin = ChannelRows<Q8ChannelStrip<MultiplyAdd>>(args).run();
  }
  if (args.col_begin < args.col_end) accumulate_any(dtype, args);
}

}  // namespace thermocline::avx2
