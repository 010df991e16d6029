#include "runtime/device/gpu/gpu_handover.h"

#include <fmt/format.h>

#include "runtime/core/error.h"
#include "runtime/device/gpu/gpu_wait.h"

namespace thermocline {
namespace {

// What either side waits for the other at most: a batch's layer on slow cores takes seconds.
constexpr uint32_t kTimeoutMs = 60'000;

bool Reached(uint32_t number, uint32_t wanted) {
  return static_cast<int32_t>(number - wanted) >= 0;
}

}  // namespace

GpuTierHandover::GpuTierHandover(GpuDevice& gpu, int64_t max_tokens, int64_t d_model,
                                 bool predictor_apart)
    : gpu_(gpu),
      d_model_(d_model),
      predictor_apart_(predictor_apart),
      handover_(gpu.stream(), {(predictor_apart ? 2 : 1) * max_tokens, d_model}, kTimeoutMs) {
  if (!predictor_apart) return;
  both_ = DeviceMemory(static_cast<uint64_t>(2 * max_tokens * d_model) * sizeof(float),
                       "inputs of the slow tier");
}

const float* GpuTierHandover::predictor_x() const {
  return predictor_apart_ ? handover_.x() + gpu_.n_tokens() * d_model_ : handover_.x();
}

// Nothing is under way, so that the GPU's count stands still.
void GpuTierHandover::BeginPass() {
  base_ = handover_.Published();
  handover_.Answer(base_);
}

void GpuTierHandover::SendInput(const float* x, const float* predictor_x, int64_t n_tokens) {
  Stream& stream = gpu_.stream();
  const auto row_bytes = static_cast<uint64_t>(d_model_) * sizeof(float);
  gpu_.CountTraffic(BusLoad::kColdX,
                    row_bytes * static_cast<uint64_t>((predictor_apart_ ? 2 : 1) * n_tokens));
  if (!predictor_apart_) {
    handover_.Publish(stream, x, n_tokens);
    return;
  }
  const int64_t n = n_tokens * d_model_;
  const uint64_t n_bytes = row_bytes * static_cast<uint64_t>(n_tokens);
  stream.Copy(both_.as<float>(), x, n_bytes);
  stream.Copy(both_.as<float>() + n, predictor_x == nullptr ? x : predictor_x, n_bytes);
  handover_.Publish(stream, both_.as<float>(), 2 * n_tokens);
}

void GpuTierHandover::Merge(const Lane& lane, DeviceOps& /*fast*/, int64_t layer,
                            uint32_t /*index*/, float* x, const float* y_hot, int64_t n_tokens) {
  handover_.Await(gpu_.stream(), static_cast<int32_t>(layer));
  lane.Mark(PassPart::kAwait);
  gpu_.CountTraffic(BusLoad::kColdY, static_cast<uint64_t>(n_tokens * d_model_) * sizeof(float));
  handover_.Merge(gpu_.stream(), x, y_hot, n_tokens);
}

// One lane looks at the flag, the others sleep at the barrier.
void GpuTierHandover::AwaitInput(const Lane& lane, uint32_t index) {
  if (lane.rank == 0) {
    const uint32_t wanted = base_ + index + 1;
    const auto published = [&] { return Reached(handover_.Published(), wanted); };
    const auto check = [&] {
      if (gpu_.HasWork() || published()) return;  // HasWork throws what went wrong
      throw Error({.what = fmt::format("the GPU ended without hand-over {} of this pass", index)});
    };
    if (!AwaitGpu(kTimeoutMs, published, check)) {
      throw Error(
          {.what = fmt::format("hand-over {} of this pass did not come from the GPU", index),
           .expected = fmt::format("within {} s", kTimeoutMs / 1000)});
    }
  }
  lane.Sync();
}

void GpuTierHandover::Abandon() { handover_.Answer(base_ + (uint32_t{1} << 30)); }

}  // namespace thermocline
