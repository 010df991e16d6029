// f32 to the stored types. A block that holds NaN or infinity gets the scale NaN: garbage stays
// visible.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "cpu_kernels/kernels.h"
#include "cpu_kernels/quantize_block.h"
#include "cpu_kernels/quantize_fit.h"
#include "runtime/core/error.h"
#include "runtime/core/half.h"
#include "runtime/core/q6_k_block.h"

namespace thermocline {
namespace {

constexpr uint16_t kNanF16 = 0x7e00;

bool all_finite(const float* x, int64_t n) {
  return std::all_of(x, x + n, [](float value) { return std::isfinite(value); });
}

// What quantises a block; one of the two rounding functions may be missing.
struct BlockFormat {
  int64_t d_at = 0;                                         // where the block's f16 scale lies
  void (*round)(const float* x, std::byte* out) = nullptr;  // as other tools do
  void (*fit)(const float* x, const float* importance, std::byte* out) = nullptr;
};

template <DType kType>
constexpr BlockFormat block_format() {
  if constexpr (kType == DType::kQ8_0) return {.round = round_q8_0_block};
  if constexpr (kType == DType::kQ6_K) return {.d_at = q6_k::kDAt, .fit = fit_q6_k_block};
  if constexpr (kType == DType::kQ5_K) return {.fit = fit_q5_k_block};
  if constexpr (kType == DType::kQ5_1) return {.round = round_q5_1_block, .fit = fit_q5_1_block};
  if constexpr (kType == DType::kQ5_0) return {.round = round_q5_0_block, .fit = fit_q5_0_block};
  if constexpr (kType == DType::kQ4_K) return {.fit = fit_q4_k_block};
  if constexpr (kType == DType::kQ4_1) return {.round = round_q4_1_block, .fit = fit_q4_1_block};
  if constexpr (kType == DType::kIQ4_NL) return {.fit = fit_iq4_nl_block};
  if constexpr (kType == DType::kQ4_0) return {.round = round_q4_0_block, .fit = fit_q4_0_block};
  if constexpr (kType == DType::kIQ4_XS) return {.fit = fit_iq4_xs_block};
  if constexpr (kType == DType::kMXFP4) return {.fit = fit_mxfp4_block};
  if constexpr (kType == DType::kQ3_K) return {.d_at = 108, .fit = fit_q3_k_block};
  if constexpr (kType == DType::kS3_0) return {.fit = fit_s3_0_block};
  if constexpr (kType == DType::kS2_0) return {.fit = fit_s2_0_block};
  if constexpr (kType == DType::kQ2_K) return {.d_at = 80, .fit = fit_q2_k_block};
  return {};
}

// MXFP4 has no NaN: its largest scale times its largest number is infinite.
template <DType kType>
void put_garbage(std::byte* out) {
  std::memset(out, 0, static_cast<size_t>(kTypeBlockBytes<kType>));
  if constexpr (kType == DType::kMXFP4) {
    std::memset(out, 0x77, static_cast<size_t>(kTypeBlockBytes<kType>));
    out[0] = std::byte{255};
  } else {
    put_u16(out + block_format<kType>().d_at, kNanF16);
  }
}

constexpr auto kAllOne = [] {
  std::array<float, kSuperBlock> ones = {};
  ones.fill(1.0F);
  return ones;
}();

// A weight counts by its importance over the row's mean, and no less than by 1/1000: an input that
// was 0 in a text need not be 0 in another.
class RowImportance {
 public:
  explicit RowImportance(std::span<const float> importance) : importance_(importance) {
    double sum = 0;
    for (const float value : importance) sum += value;
    if (sum > 0) inverse_mean_ = static_cast<double>(importance.size()) / sum;
  }

  // Returns the importance of n weights from `begin` on.
  const float* OfBlock(int64_t begin, int64_t n) {
    if (inverse_mean_ == 0) return kAllOne.data();
    for (int64_t i = 0; i < n; ++i) {
      const double relative = importance_[static_cast<size_t>(begin + i)] * inverse_mean_;
      block_[static_cast<size_t>(i)] = std::max(static_cast<float>(relative), 1e-3F);
    }
    return block_.data();
  }

 private:
  std::span<const float> importance_;
  double inverse_mean_ = 0;  // 0: all weights count alike
  std::array<float, kSuperBlock> block_ = {};
};

template <DType kType>
void quantize_blocks(const float* x, int64_t n, std::span<const float> importance, std::byte* out) {
  constexpr BlockFormat kFormat = block_format<kType>();
  constexpr int64_t kElems = kTypeBlockElems<kType>;
  CHECK(n % kElems == 0);
  RowImportance counts(importance);
  for (int64_t begin = 0; begin < n; begin += kElems) {
    std::byte* block_out = out + begin / kElems * kTypeBlockBytes<kType>;
    if (!all_finite(x + begin, kElems)) {
      put_garbage<kType>(block_out);
    } else if (kFormat.round != nullptr && (importance.empty() || kFormat.fit == nullptr)) {
      kFormat.round(x + begin, block_out);
    } else {
      kFormat.fit(x + begin, counts.OfBlock(begin, kElems), block_out);
    }
  }
}

template <DType kType>
void quantize_row(const float* x, int64_t n, std::span<const float> importance, std::byte* out) {
  if constexpr (kType == DType::kF32) {
    std::memcpy(out, x, static_cast<size_t>(n) * 4);
  } else if constexpr (kType == DType::kF16) {
    for (int64_t i = 0; i < n; ++i) put_u16(out + i * 2, F32ToF16(x[i]));
  } else if constexpr (kType == DType::kBF16) {
    for (int64_t i = 0; i < n; ++i) put_u16(out + i * 2, F32ToBf16(x[i]));
  } else if constexpr (TraitsOf(kType).written) {
    quantize_blocks<kType>(x, n, importance, out);
  } else {
    CheckFailed(__FILE__, __LINE__, "a type that can be written");
  }
}

}  // namespace

void QuantizeRow(DType dtype, const float* x, int64_t n, std::byte* out,
                 std::span<const float> importance) {
  CHECK(importance.empty() || static_cast<int64_t>(importance.size()) == n);
  VisitWeightType(dtype, [&](auto type) { quantize_row<type()>(x, n, importance, out); });
}

}  // namespace thermocline
