// Matrix kernels in plain C++. Weights are turned into f32 in chunks of at most 32 columns;
// everything else is written once over those chunks.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/scalar.h"
#include "runtime/core/error.h"
#include "runtime/core/half.h"
#include "runtime/core/q6_k_block.h"
#include "runtime/core/weight_chunk.h"

namespace thermocline::scalar {
namespace {

constexpr int kLanes = 8;           // partial sums of a dot product
constexpr int64_t kMostTokens = 8;  // that a row is decoded for at once

template <class T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

// Returns weight i of chunk c of a Q6_K block, without its scales.
int q6_k_integer(const std::byte* block, int64_t c, int i) {
  const int low = std::to_integer<int>(block[q6_k::LowAt(c) + i]) >> q6_k::LowShift(c) & 15;
  const int high = std::to_integer<int>(block[q6_k::HighAt(c) + i]) >> q6_k::HighShift(c) & 3;
  return (low | high << 4) - 32;
}

int q6_k_scale(const std::byte* block, int64_t c, int i) {
  return load<int8_t>(block + q6_k::kScalesAt + 2 * c + i / q6_k::kScaled);
}

// Decodes columns [col, col + n) of a row, n <= 32; for quantised types col is a multiple of 32 and
// n == 32.
template <DType kType>
void load_chunk(const std::byte* row, int64_t col, int n, float* out) {
  if constexpr (kType == DType::kF32) {
    std::memcpy(out, row + col * 4, static_cast<size_t>(n) * 4);
  } else if constexpr (kType == DType::kF16) {
    for (int i = 0; i < n; ++i) out[i] = F16ToF32(load<uint16_t>(row + (col + i) * 2));
  } else if constexpr (kType == DType::kBF16) {
    for (int i = 0; i < n; ++i) out[i] = Bf16ToF32(load<uint16_t>(row + (col + i) * 2));
  } else if constexpr (kType == DType::kQ8_0) {
    const std::byte* block = row + col / kQuantBlock * kTypeBlockBytes<kType>;
    const float d = F16ToF32(load<uint16_t>(block));
    for (int i = 0; i < n; ++i) out[i] = d * static_cast<float>(load<int8_t>(block + 2 + i));
  } else if constexpr (kType == DType::kQ6_K) {
    const std::byte* block = row + col / kSuperBlock * q6_k::kBytes;
    const int64_t c = col % kSuperBlock / kQuantBlock;
    const float d = F16ToF32(load<uint16_t>(block + q6_k::kDAt));
    for (int i = 0; i < n; ++i) {
      out[i] = d * static_cast<float>(q6_k_scale(block, c, i) * q6_k_integer(block, c, i));
    }
  } else if constexpr (kType == DType::kQ4_0) {
    const std::byte* block = row + col / kQuantBlock * kTypeBlockBytes<kType>;
    const float d = F16ToF32(load<uint16_t>(block));
    for (int i = 0; i < kQuantBlock / 2; ++i) {
      const int byte = std::to_integer<int>(block[2 + i]);
      out[i] = d * static_cast<float>((byte & 15) - 8);
      out[i + 16] = d * static_cast<float>((byte >> 4) - 8);
    }
  } else if constexpr (kType == DType::kQ4_1) {
    const std::byte* block = row + col / kQuantBlock * kTypeBlockBytes<kType>;
    const float d = F16ToF32(load<uint16_t>(block));
    const float m = F16ToF32(load<uint16_t>(block + 2));
    for (int i = 0; i < kQuantBlock / 2; ++i) {
      const int byte = std::to_integer<int>(block[4 + i]);
      out[i] = d * static_cast<float>(byte & 15) + m;
      out[i + 16] = d * static_cast<float>(byte >> 4) + m;
    }
  } else {
    WeightChunk chunk;
    ReadWeightChunk(kType, row, col / kQuantBlock, &chunk);
    for (int i = 0; i < kQuantBlock; ++i) {
      const int g = i / kChunkScaled;
      out[i] = chunk.scales[g] * static_cast<float>(chunk.quants[i]) + chunk.offsets[g];
    }
  }
}

float sum_lanes(const float* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// The vectors of some tokens, `stride` bytes apart, and what they are multiplied to: the partial
// sums of a row, of each token.
struct Tokens {
  const std::byte* x;
  int64_t stride;
  int64_t n;
  float lanes[kMostTokens][kLanes];

  const std::byte* at(int64_t t) const { return x + t * stride; }
};

template <DType kType>
void dot_float(const std::byte* row, int64_t n, Tokens* tokens) {
  for (int64_t col = 0; col < n; col += kQuantBlock) {
    const int chunk = static_cast<int>(std::min<int64_t>(kQuantBlock, n - col));
    float w[kQuantBlock] = {};
    load_chunk<kType>(row, col, chunk, w);
    for (int64_t t = 0; t < tokens->n; ++t) {
      const float* x = reinterpret_cast<const float*>(tokens->at(t)) + col;
      for (int i = 0; i < chunk; ++i) tokens->lanes[t][i % kLanes] += w[i] * x[i];
    }
  }
}

// A prepared kQ8 vector: n int8, padded to a multiple of 64 bytes, then one f32 scale per block.
int64_t q8_scales_offset(int64_t n) { return (n + 63) / 64 * 64; }

// The int8 of block b of a token, and its scale.
const int8_t* q8_block(const std::byte* x, int64_t b) {
  return reinterpret_cast<const int8_t*>(x) + b * kQuantBlock;
}
float q8_scale(const std::byte* x, int64_t n, int64_t b) {
  return load<float>(x + q8_scales_offset(n) + b * 4);
}

// Types of blocks of 32 with a scale, and Q4_1 with an offset.
template <DType kType>
void dot_quantised(const std::byte* row, int64_t n, Tokens* tokens) {
  for (int64_t b = 0; b < n / kQuantBlock; ++b) {
    const std::byte* block = row + b * kTypeBlockBytes<kType>;
    int8_t w[kQuantBlock];
    if constexpr (kType == DType::kQ8_0) {
      std::memcpy(w, block + 2, kQuantBlock);
    } else if constexpr (kType == DType::kQ4_0 || kType == DType::kQ4_1) {
      constexpr int kAt = kType == DType::kQ4_0 ? 2 : 4;
      constexpr int kZero = kType == DType::kQ4_0 ? 8 : 0;
      for (int i = 0; i < kQuantBlock / 2; ++i) {
        const int byte = std::to_integer<int>(block[kAt + i]);
        w[i] = static_cast<int8_t>((byte & 15) - kZero);
        w[i + kQuantBlock / 2] = static_cast<int8_t>((byte >> 4) - kZero);
      }
    } else {
      static_assert(kHandlesType<kType>, "say how the type is multiplied in int8");
    }
    for (int64_t t = 0; t < tokens->n; ++t) {
      const int8_t* xq = q8_block(tokens->at(t), b);
      int32_t dot = 0;
      int32_t sum = 0;  // the sum of x, for types with an offset
      for (int i = 0; i < kQuantBlock; ++i) {
        dot += w[i] * xq[i];
        if constexpr (kType == DType::kQ4_1) sum += xq[i];
      }
      const float x_scale = q8_scale(tokens->at(t), n, b);
      float& lane = tokens->lanes[t][b % kLanes];
      lane += F16ToF32(load<uint16_t>(block)) * x_scale * static_cast<float>(dot);
      if constexpr (kType == DType::kQ4_1) {
        lane += F16ToF32(load<uint16_t>(block + 2)) * x_scale * static_cast<float>(sum);
      }
    }
  }
}

// The largest magnitude of a chunk's integer sum, 32 * 32 * 128 * 127, is below 2^24: exact in f32.
void dot_q6_k(const std::byte* row, int64_t n, Tokens* tokens) {
  for (int64_t b = 0; b < n / kQuantBlock; ++b) {
    const std::byte* block = row + b / q6_k::kChunks * q6_k::kBytes;
    const int64_t c = b % q6_k::kChunks;
    int32_t w[kQuantBlock];
    for (int i = 0; i < kQuantBlock; ++i) {
      w[i] = q6_k_scale(block, c, i) * q6_k_integer(block, c, i);
    }
    for (int64_t t = 0; t < tokens->n; ++t) {
      const int8_t* xq = q8_block(tokens->at(t), b);
      int32_t dot = 0;
      for (int i = 0; i < kQuantBlock; ++i) dot += w[i] * xq[i];
      const float d = F16ToF32(load<uint16_t>(block + q6_k::kDAt)) * q8_scale(tokens->at(t), n, b);
      tokens->lanes[t][b % kLanes] += d * static_cast<float>(dot);
    }
  }
}

// Every other quantised type. The largest magnitude of an integer sum, 16 * 127 * 127, is exact in
// f32.
template <DType kType>
void dot_chunks(const std::byte* row, int64_t n, Tokens* tokens) {
  for (int64_t b = 0; b < n / kQuantBlock; ++b) {
    WeightChunk chunk;
    ReadWeightChunk(kType, row, b, &chunk);
    for (int64_t t = 0; t < tokens->n; ++t) {
      const int8_t* xq = q8_block(tokens->at(t), b);
      float sum = 0.0F;
      for (int g = 0; g < kQuantBlock / kChunkScaled; ++g) {
        int32_t dot = 0;
        int32_t x_sum = 0;
        for (int i = g * kChunkScaled; i < (g + 1) * kChunkScaled; ++i) {
          dot += chunk.quants[i] * xq[i];
          x_sum += xq[i];
        }
        sum += chunk.scales[g] * static_cast<float>(dot);
        sum += chunk.offsets[g] * static_cast<float>(x_sum);
      }
      tokens->lanes[t][b % kLanes] += q8_scale(tokens->at(t), n, b) * sum;
    }
  }
}

// Adds a row of n weights times each token to their lanes.
using Dot = void (*)(const std::byte* row, int64_t n, Tokens* tokens);

// Types that dot_quantised knows.
template <DType kType>
constexpr bool kSmallBlocks =
    kType == DType::kQ8_0 || kType == DType::kQ4_0 || kType == DType::kQ4_1;

Dot dot_for(DType dtype) {
  return VisitWeightType(dtype, [](auto type) -> Dot {
    if constexpr (type() == DType::kQ6_K) {
      return dot_q6_k;
    } else if constexpr (kSmallBlocks<type()>) {
      return dot_quantised<type()>;
    } else if constexpr (kIsQuantised<type()>) {
      return dot_chunks<type()>;
    } else {
      return dot_float<type()>;
    }
  });
}

using LoadChunk = void (*)(const std::byte* row, int64_t col, int n, float* out);

LoadChunk load_chunk_for(DType dtype) {
  return VisitWeightType(dtype, [](auto type) -> LoadChunk { return load_chunk<type()>; });
}

// Rounds to nearest even; exact for |x| < 2^22.
float round_even(float x) { return (x + 12582912.0F) - 12582912.0F; }

void prepare_q8_block(const float* x, Plane plane, int8_t* q, float* scale) {
  float largest = 0.0F;
  bool finite = true;
  for (int i = 0; i < kQuantBlock; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    finite = finite && std::isfinite(x[i]);
  }
  std::memset(q, 0, kQuantBlock);
  *scale = finite ? 0.0F : NAN;
  if (!finite || largest < kSmallestQ8Block) return;
  *scale = largest / 127.0F;
  const float inverse = 1.0F / *scale;
  for (int i = 0; i < kQuantBlock; ++i) q[i] = static_cast<int8_t>(round_even(x[i] * inverse));
  if (plane == Plane::kRounded) return;
  float rest[kQuantBlock];
  for (int i = 0; i < kQuantBlock; ++i) rest[i] = std::fma(-*scale, q[i], x[i]);
  prepare_q8_block(rest, Plane::kRounded, q, scale);
}

void prepare_plane(VectorForm form, const float* x, int64_t n, Plane plane, void* out) {
  CHECK(form != VectorForm::kBF16);
  if (form == VectorForm::kF32) {
    std::memcpy(out, x, static_cast<size_t>(n) * 4);
    return;
  }
  DCHECK(n % kQuantBlock == 0);
  auto* q = static_cast<int8_t*>(out);
  auto* scales = static_cast<std::byte*>(out) + q8_scales_offset(n);
  for (int64_t b = 0; b < n / kQuantBlock; ++b) {
    float scale = 0.0F;
    prepare_q8_block(x + b * kQuantBlock, plane, q + b * kQuantBlock, &scale);
    std::memcpy(scales + b * 4, &scale, 4);
  }
}

}  // namespace

VectorForm vector_form(DType weights) {
  return has_quantised_dot(weights) ? VectorForm::kQ8 : VectorForm::kF32;
}

int64_t prepared_bytes(VectorForm form, int64_t n) {
  const int64_t bytes = form == VectorForm::kQ8 ? q8_scales_offset(n) + n / kQuantBlock * 4 : n * 4;
  return (bytes + 63) / 64 * 64;
}

void prepare(VectorForm form, const float* x, int64_t n, void* out) {
  prepare_plane(form, x, n, Plane::kRounded, out);
}

void prepare_rest(VectorForm form, const float* x, int64_t n, void* out) {
  DCHECK(form == VectorForm::kQ8);
  prepare_plane(form, x, n, Plane::kRest, out);
}

void matvec(DType dtype, const std::byte* w, int64_t row_stride_bytes, int64_t n_cols,
            const void* x, const int32_t* rows, int64_t begin, int64_t end, float* out) {
  matvec_tokens(dtype, {w, row_stride_bytes, n_cols, x, rows, begin, end, out});
}

void matvec_tokens(DType dtype, const MatvecArgs& args) {
  const Dot dot = dot_for(dtype);
  for (int64_t i = args.begin; i < args.end; ++i) {
    const int64_t row = args.rows != nullptr ? args.rows[i] : i;
    for (int64_t first = 0; first < args.n_tokens; first += kMostTokens) {
      Tokens tokens = {static_cast<const std::byte*>(args.x) + first * args.x_stride_bytes,
                       args.x_stride_bytes,
                       std::min(kMostTokens, args.n_tokens - first),
                       {}};
      dot(args.w + row * args.row_stride_bytes, args.n_cols, &tokens);
      for (int64_t t = 0; t < tokens.n; ++t) {
        args.out[(first + t) * args.out_stride + i] = sum_lanes(tokens.lanes[t]);
      }
    }
  }
}

void accumulate_rows(DType dtype, const std::byte* w, int64_t row_stride_bytes, const float* h,
                     const int32_t* rows, int64_t n_rows, int64_t col_begin, int64_t col_end,
                     float* y) {
  accumulate_tokens(dtype, {w, row_stride_bytes, h, rows, n_rows, col_begin, col_end, y});
}

void accumulate_tokens(DType dtype, const AccumulateArgs& args) {
  const LoadChunk load_weights = load_chunk_for(dtype);
  for (int64_t i = 0; i < args.n_rows; ++i) {
    const std::byte* row =
        args.w + (args.rows != nullptr ? args.rows[i] : i) * args.row_stride_bytes;
    for (int64_t col = args.col_begin; col < args.col_end; col += kQuantBlock) {
      const int chunk = static_cast<int>(std::min<int64_t>(kQuantBlock, args.col_end - col));
      float weights[kQuantBlock] = {};
      load_weights(row, col, chunk, weights);
      for (int64_t t = 0; t < args.n_tokens; ++t) {
        const float h = args.h[t * args.h_stride + i];
        float* y = args.y + t * args.y_stride + col;
        for (int c = 0; c < chunk; ++c) y[c] += h * weights[c];
      }
    }
  }
}

void dequantize_f32(DType dtype, const std::byte* row, int64_t col_begin, int64_t col_end,
                    float* out) {
  const LoadChunk load_weights = load_chunk_for(dtype);
  for (int64_t col = col_begin; col < col_end; col += kQuantBlock) {
    const int chunk = static_cast<int>(std::min<int64_t>(kQuantBlock, col_end - col));
    load_weights(row, col, chunk, out + (col - col_begin));
  }
}

void f32_to_f16_row(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = F32ToF16(x[i]);
}

void f32_to_bf16_row(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = F32ToBf16(x[i]);
}

void f32_to_q8_0_row(const float* x, int64_t n, std::byte* out) {
  for (int64_t i = 0; i < n; i += kQuantBlock, out += 2 + kQuantBlock) {
    float scale = 0.0F;
    prepare_q8_block(x + i, Plane::kRounded, reinterpret_cast<int8_t*>(out + 2), &scale);
    const uint16_t half = F32ToF16(scale);
    std::memcpy(out, &half, sizeof(half));
  }
}

}  // namespace thermocline::scalar
