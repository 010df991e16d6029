#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/warp_reduce.h"
#include "gpu_kernels/tokens/rope_append.h"

namespace thermocline {
namespace {

constexpr int kWarps = 4;
// A block whose largest magnitude is below has no inverse scale in f32; as on the CPU it is zero.
constexpr float kSmallestBlock = 0x1p-100f;

// The angles of one position.
struct Angles {
  RopePairing pairing;
  int half;  // of the elements that turn
  const float* cos;
  const float* sin;

  __device__ int First(int pair) const {
    return pairing == RopePairing::kAdjacent ? 2 * pair : pair;
  }
  __device__ int Distance() const { return pairing == RopePairing::kAdjacent ? 1 : half; }
  // a is a pair's first element, b its second.
  __device__ float TurnedFirst(int pair, float a, float b) const {
    return fmaf(a, cos[pair], -(b * sin[pair]));
  }
  __device__ float TurnedSecond(int pair, float a, float b) const {
    return fmaf(a, sin[pair], b * cos[pair]);
  }
  // Element i of a head that has not been turned yet.
  __device__ float Turned(const float* head, int i) const {
    if (i >= 2 * half) return head[i];
    const bool adjacent = pairing == RopePairing::kAdjacent;
    const int pair = adjacent ? i / 2 : i % half;
    const int first = First(pair);
    const float a = head[first];
    const float b = head[first + Distance()];
    return i == first ? TurnedFirst(pair, a, b) : TurnedSecond(pair, a, b);
  }
};

// Pair by pair: what a lane writes no other lane reads.
__device__ void TurnHead(const Angles& angles, float* head, int lane) {
  for (int pair = lane; pair < angles.half; pair += kWarpThreads) {
    float* const first = head + angles.First(pair);
    const float a = first[0];
    const float b = first[angles.Distance()];
    first[0] = angles.TurnedFirst(pair, a, b);
    first[angles.Distance()] = angles.TurnedSecond(pair, a, b);
  }
}

// The warp's 32 values as one block; lane i has value i.
__device__ void StoreQ8Block(float value, signed char* quants, __half* scale, int lane) {
  const float largest = WarpMax(fabsf(value));
  const bool finite = __all_sync(kFullWarpMask, isfinite(value)) != 0;
  const bool zero = !finite || largest < kSmallestBlock;
  const float d = zero ? 0.0f : largest / 127.0f;
  const float inverse = zero ? 0.0f : 1.0f / d;
  quants[lane] = static_cast<signed char>(zero ? 0 : __float2int_rn(value * inverse));
  if (lane == 0) *scale = finite ? __float2half(d) : __ushort_as_half(0x7e00);
}

// value(i): element i of the head. row: of the layer's (n_kv_heads, n_slots) rows.
template <typename Value>
__device__ void StoreHead(const Value& value, const GpuKvLayer& kv, void* plane, uint16_t* scales,
                          int64_t row, int lane) {
  const int d = static_cast<int>(kv.head_dim);
  if (kv.dtype == DType::kF16) {
    auto* const to = static_cast<__half*>(plane) + row * d;
    for (int i = lane; i < d; i += kWarpThreads) to[i] = __float2half(value(i));
    return;
  }
  auto* const to = static_cast<signed char*>(plane) + row * d;
  auto* const scale = reinterpret_cast<__half*>(scales) + row * (d / kQuantBlock);
  for (int block = 0; block < d / kQuantBlock; ++block) {
    StoreQ8Block(value(block * kQuantBlock + lane), to + block * kQuantBlock, scale + block, lane);
  }
}

// A warp per head: first those of q, then of k, then of v. blockIdx.y is the token.
__global__ void __launch_bounds__(kWarps* kWarpThreads)
    rope_append_kernel(GpuRope rope, GpuKvLayer kv, GpuPass pass, int n_heads, float* q,
                       const float* k, const float* v) {
  const int64_t token = blockIdx.y;
  const int n_kv_heads = static_cast<int>(kv.n_kv_heads);
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int head = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / kWarpThreads);
  if (token >= pass.n_rows || head >= n_heads + (k == nullptr ? 0 : 2 * n_kv_heads)) return;
  const int64_t position = pass.rows[token].position;
  const int half = static_cast<int>(rope.rot_dim / 2);
  const Angles angles{rope.pairing, half, rope.cos + position * half, rope.sin + position * half};
  if (head < n_heads) {
    TurnHead(angles, q + (token * n_heads + head) * kv.head_dim, lane);
    return;
  }
  const bool is_key = head < n_heads + n_kv_heads;
  const int kv_head = is_key ? head - n_heads : head - n_heads - n_kv_heads;
  const float* const from = (is_key ? k : v) + (token * n_kv_heads + kv_head) * kv.head_dim;
  const int64_t row = kv_head * kv.n_slots + pass.rows[token].slot;
  const auto value = [&](int i) { return is_key ? angles.Turned(from, i) : from[i]; };
  StoreHead(value, kv, is_key ? kv.k : kv.v, is_key ? kv.k_scales : kv.v_scales, row, lane);
}

}  // namespace

void GpuRopeAppend(Stream& stream, const GpuRope& rope, const GpuKvLayer& kv, const GpuPass& pass,
                   int64_t n_heads, float* q, const float* k, const float* v) {
  if (pass.n_rows == 0) return;
  const int64_t n_turned = rope.rot_dim == 0 ? 0 : n_heads;
  const int64_t n_rows = n_turned + (k == nullptr ? 0 : 2 * kv.n_kv_heads);
  if (n_rows == 0) return;
  const dim3 grid(static_cast<unsigned>((n_rows + kWarps - 1) / kWarps),
                  static_cast<unsigned>(pass.n_rows));
  Launch(KERNEL(rope_append_kernel),
         {.grid = grid, .block = kWarps * kWarpThreads, .stream = stream}, rope, kv, pass, n_turned,
         q, k, v);
}

}  // namespace thermocline
