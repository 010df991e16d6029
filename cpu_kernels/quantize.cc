// f32 to the stored types. Q8_0 and Q4_0 round exactly as ggml's reference code does
// (quantize_row_q8_0_ref, quantize_row_q4_0_ref), so that files match those of other tools byte for
// byte. A block that holds NaN or infinity gets the scale NaN: garbage stays visible.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"
#include "runtime/core/half.h"

namespace thermocline {
namespace {

constexpr uint16_t kNanF16 = 0x7e00;

void put_u16(std::byte* out, uint16_t value) { std::memcpy(out, &value, sizeof(value)); }

bool all_finite(const float* x) {
  return std::all_of(x, x + kQuantBlock, [](float value) { return std::isfinite(value); });
}

void quantize_q8_0_block(const float* x, std::byte* out) {
  float largest = 0.0F;
  for (int i = 0; i < kQuantBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float d = largest / 127.0F;
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  put_u16(out, F32ToF16(d));
  for (int i = 0; i < kQuantBlock; ++i) {
    // Only a subnormal d can leave [-127, 127]: its f16 is 0, so the clamp changes no value.
    const float q = std::clamp(std::round(x[i] * inverse), -127.0F, 127.0F);
    out[2 + i] = static_cast<std::byte>(static_cast<int8_t>(q));
  }
}

void quantize_q4_0_block(const float* x, std::byte* out) {
  float largest = 0.0F;  // with its sign: it maps to -8, the end of the range that has no partner
  for (int i = 0; i < kQuantBlock; ++i) {
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  }
  const float d = largest / -8.0F;
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  put_u16(out, F32ToF16(d));
  const auto nibble = [inverse](float value) {
    return static_cast<unsigned>(std::clamp(value * inverse + 8.5F, 0.0F, 15.0F));
  };
  for (int i = 0; i < kQuantBlock / 2; ++i) {
    out[2 + i] = static_cast<std::byte>(nibble(x[i]) | nibble(x[i + 16]) << 4);
  }
}

using QuantizeBlock = void (*)(const float* x, std::byte* out);

void quantize_blocks(QuantizeBlock quantize, int64_t block_bytes, const float* x, int64_t n,
                     std::byte* out) {
  CHECK(n % kQuantBlock == 0);
  for (int64_t b = 0; b < n / kQuantBlock; ++b) {
    const float* block = x + b * kQuantBlock;
    std::byte* block_out = out + b * block_bytes;
    if (all_finite(block)) {
      quantize(block, block_out);
    } else {
      std::memset(block_out, 0, static_cast<size_t>(block_bytes));
      put_u16(block_out, kNanF16);
    }
  }
}

}  // namespace

void QuantizeRow(DType dtype, const float* x, int64_t n, std::byte* out) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, x, static_cast<size_t>(n) * 4);
      return;
    case DType::kF16:
      for (int64_t i = 0; i < n; ++i) put_u16(out + i * 2, F32ToF16(x[i]));
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < n; ++i) put_u16(out + i * 2, F32ToBf16(x[i]));
      return;
    case DType::kQ8_0:
      return quantize_blocks(quantize_q8_0_block, 34, x, n, out);
    case DType::kQ4_0:
      return quantize_blocks(quantize_q4_0_block, 18, x, n, out);
    default:
      CheckFailed(__FILE__, __LINE__, "computable dtype");
  }
}

}  // namespace thermocline
