#include <algorithm>
#include <atomic>
#include <string>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/system_flag.h"
#include "gpu_kernels/products/norm_row.h"
#include "gpu_kernels/tokens/handover.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kPublishThreads = 512;
// The bus is slower than one block; a few keep its writes coming.
constexpr int64_t kMaxPublishBlocks = 8;

// The block that finishes last sets the flag: each has made its writes visible before it takes a
// ticket.
template <typename Vector>
__global__ void __launch_bounds__(kPublishThreads)
    publish_kernel(Vector* to, const Vector* from, int64_t n, GpuHandoverCounters* counters,
                   GpuHandoverFlags* flags) {
  const int64_t stride = int64_t{gridDim.x} * kPublishThreads;
  for (int64_t i = int64_t{blockIdx.x} * kPublishThreads + threadIdx.x; i < n; i += stride) {
    to[i] = from[i];
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  __threadfence_system();
  if (atomicInc(&counters->ticket, gridDim.x - 1) != gridDim.x - 1) return;
  __threadfence_system();
  StoreReleaseSystem(&flags->published, ++counters->number);
}

// By one thread: waits for the answer to the last hand-over, or notes that it is lost.
__device__ void AwaitAnswer(int32_t layer, uint64_t timeout_ns, GpuHandoverCounters* counters,
                            GpuHandoverFlags* flags) {
  if (counters->lost != 0) return;
  const uint32_t number = counters->number;
  if (AwaitFlag(&flags->answered, number, timeout_ns)) return;
  counters->lost = 1;
  flags->lost_layer = layer;
  flags->lost_number = number;
  flags->last_answer = LoadAcquireSystem(&flags->answered);
  StoreReleaseSystem(&flags->lost, 1);
}

// One thread looks at the flag, so that one read at a time crosses the bus; what waits behind it in
// the stream need not look.
__global__ void __launch_bounds__(kWarpThreads)
    await_kernel(int32_t layer, uint64_t timeout_ns, GpuHandoverCounters* counters,
                 GpuHandoverFlags* flags) {
  if (threadIdx.x == 0) AwaitAnswer(layer, timeout_ns, counters, flags);
}

// A block per token. The host wrote y_cold while kernels before this one ran: no __restrict__, no
// loads of memory that is never written.
__global__ void __launch_bounds__(kNormThreads)
    merge_kernel(const GpuHandoverCounters* counters, float* x, const float* y_hot,
                 const float* y_cold, int64_t width) {
  if (counters->lost != 0) return;  // the same in every thread: await_kernel is done
  const int64_t at = blockIdx.x * width;
  AddToRow(x + at, y_hot == nullptr ? nullptr : y_hot + at, y_cold + at, width);
}

template <typename Vector>
void LaunchPublish(Stream& stream, float* to, const float* from, int64_t n_floats,
                   GpuHandoverCounters* counters, GpuHandoverFlags* flags) {
  const int64_t n = n_floats * static_cast<int64_t>(sizeof(float)) / sizeof(Vector);
  const int64_t n_blocks = std::min((n + kPublishThreads - 1) / kPublishThreads, kMaxPublishBlocks);
  Launch(KERNEL(publish_kernel<Vector>),
         {.grid = static_cast<unsigned>(n_blocks), .block = kPublishThreads, .stream = stream},
         reinterpret_cast<Vector*>(to), reinterpret_cast<const Vector*>(from), n, counters, flags);
}

uint64_t RowsBytes(const GpuHandover::Shape& shape) {
  return static_cast<uint64_t>(shape.max_tokens * shape.d_model) * sizeof(float);
}

}  // namespace

GpuHandover::GpuHandover(Stream& stream, const Shape& shape, uint32_t timeout_ms)
    : shape_(shape),
      timeout_ms_(timeout_ms),
      counters_(sizeof(GpuHandoverCounters), "the hand-over's counters"),
      flags_(sizeof(GpuHandoverFlags), "the hand-over's flags"),
      x_(RowsBytes(shape), "the CPU's inputs"),
      y_(RowsBytes(shape), "the CPU's outputs") {
  *flags() = {};
  stream.Fill(counters_.as<void>(), 0, counters_.size());
}

void GpuHandover::Publish(Stream& stream, const float* x, int64_t n_tokens) {
  CHECK(n_tokens >= 1 && n_tokens <= shape_.max_tokens);
  const bool vectors = shape_.d_model % 4 == 0;
  const auto launch = vectors ? LaunchPublish<float4> : LaunchPublish<float>;
  launch(stream, x_.device<float>(), x, n_tokens * shape_.d_model,
         counters_.as<GpuHandoverCounters>(), flags_.device<GpuHandoverFlags>());
}

void GpuHandover::Await(Stream& stream, int32_t layer) {
  Launch(KERNEL(await_kernel), {.grid = 1, .block = kWarpThreads, .stream = stream}, layer,
         uint64_t{timeout_ms_} * 1'000'000, counters_.as<GpuHandoverCounters>(),
         flags_.device<GpuHandoverFlags>());
}

void GpuHandover::Merge(Stream& stream, float* x, const float* y_hot, int64_t n_tokens) {
  CHECK(n_tokens >= 1 && n_tokens <= shape_.max_tokens);
  Launch(KERNEL(merge_kernel),
         {.grid = static_cast<unsigned>(n_tokens), .block = kNormThreads, .stream = stream},
         counters_.as<GpuHandoverCounters>(), x, y_hot, y_.device<float>(), shape_.d_model);
}

uint32_t GpuHandover::Published() const {
  return std::atomic_ref(flags()->published).load(std::memory_order_acquire);
}

void GpuHandover::Answer(uint32_t number) const {
  std::atomic_ref(flags()->answered).store(number, std::memory_order_release);
}

bool GpuHandover::Lost() const {
  return std::atomic_ref(flags()->lost).load(std::memory_order_acquire) != 0;
}

void GpuHandover::ThrowIfLost() const {
  if (!Lost()) return;
  throw Error({.what = "the CPU's part of layer " + std::to_string(flags()->lost_layer) +
                       " was not handed over to the GPU",
               .expected = "hand-over " + std::to_string(flags()->lost_number) + " within " +
                           std::to_string(timeout_ms_) + " ms",
               .found = std::to_string(flags()->last_answer),
               .hint = "is the machine suspended, swapping or short of cores? use fewer threads",
               .settings = {{Setting::kThreads}}});
}

}  // namespace thermocline
