#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/tokens/embedding.h"
#include "runtime/core/q6_k_block.h"

namespace thermocline {
namespace {

constexpr int kThreads = 256;

__device__ float HalfAt(const unsigned char* at) {
  return __half2float(__ushort_as_half(*reinterpret_cast<const unsigned short*>(at)));
}

// Element i of a row.
template <DType kDType>
__device__ float Decode(const unsigned char* row, int64_t i) {
  if constexpr (kDType == DType::kF32) {
    return reinterpret_cast<const float*>(row)[i];
  } else if constexpr (kDType == DType::kF16) {
    return HalfAt(row + i * 2);
  } else if constexpr (kDType == DType::kBF16) {
    return __bfloat162float(__ushort_as_bfloat16(reinterpret_cast<const unsigned short*>(row)[i]));
  } else if constexpr (kDType == DType::kQ8_0) {
    const unsigned char* const block = row + i / kQuantBlock * (2 + kQuantBlock);
    return HalfAt(block) * static_cast<signed char>(block[2 + i % kQuantBlock]);
  } else if constexpr (kDType == DType::kQ6_K) {
    const unsigned char* const block = row + i / kSuperBlock * q6_k::kBytes;
    const int half = static_cast<int>(i / 128 % 2);
    const int chunk = static_cast<int>(i / kQuantBlock % 4);  // of the half
    const int in_chunk = static_cast<int>(i % kQuantBlock);
    const int nibbles = block[half * 64 + chunk % 2 * kQuantBlock + in_chunk];
    const int pairs = block[q6_k::kHighAt + half * kQuantBlock + in_chunk];
    const int quant = (nibbles >> chunk / 2 * 4 & 0xf) | (pairs >> chunk * 2 & 3) << 4;
    const auto scale =
        static_cast<signed char>(block[q6_k::kScalesAt + i % kSuperBlock / q6_k::kScaled]);
    return HalfAt(block + q6_k::kDAt) * static_cast<float>(scale * (quant - 32));
  } else if constexpr (kDType == DType::kQ4_0) {
    const unsigned char* const block = row + i / kQuantBlock * (2 + kQuantBlock / 2);
    const int in_block = static_cast<int>(i % kQuantBlock);
    const unsigned char both = block[2 + in_block % (kQuantBlock / 2)];
    const int nibble = in_block < kQuantBlock / 2 ? both & 0xf : both >> 4;
    return HalfAt(block) * static_cast<float>(nibble - 8);
  } else if constexpr (kDType == DType::kQ4_1) {
    const unsigned char* const block = row + i / kQuantBlock * (4 + kQuantBlock / 2);
    const int in_block = static_cast<int>(i % kQuantBlock);
    const unsigned char both = block[4 + in_block % (kQuantBlock / 2)];
    const int nibble = in_block < kQuantBlock / 2 ? both & 0xf : both >> 4;
    return HalfAt(block) * static_cast<float>(nibble) + HalfAt(block + 2);
  } else {
    static_assert(kHandlesType<kDType>, "say how a row of the table is decoded");
  }
}

// A row of blocks per token.
template <DType kDType>
__global__ void __launch_bounds__(kThreads)
    embed_kernel(const unsigned char* table, int64_t row_stride_bytes, GpuPass pass, int64_t width,
                 float* x) {
  const int64_t token = blockIdx.y;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (token >= pass.n_rows || i >= width) return;
  const int64_t id = pass.rows[token].id;
  x[token * width + i] = Decode<kDType>(table + id * row_stride_bytes, i);
}

}  // namespace

void GpuEmbed(Stream& stream, const GpuTable& table, const GpuPass& pass, int64_t width, float* x) {
  if (pass.n_rows == 0 || width == 0) return;
  const dim3 grid(static_cast<unsigned>((width + kThreads - 1) / kThreads),
                  static_cast<unsigned>(pass.n_rows));
  VisitWeightType(table.dtype, [&](auto type) {
    Launch(KERNEL(embed_kernel<type()>), {.grid = grid, .block = kThreads, .stream = stream},
           static_cast<const unsigned char*>(table.data), table.row_stride_bytes, pass, width, x);
  });
}

}  // namespace thermocline
