// Finds the best tokens where the logits lie, so that only they cross the bus.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/stream.h"
#include "runtime/core/token_logit.h"

namespace thermocline {

class GpuBest {
 public:
  explicit GpuBest(int64_t vocab_size);
  static uint64_t Bytes(int64_t vocab_size);
  // Most that can be asked for.
  static int64_t MaxTokens(int64_t vocab_size);

  // Enqueues it. logits: (vocab_size) f32 on the GPU. REQUIRES: 1 <= k <= MaxTokens(vocab_size).
  void Find(Stream& stream, const float* logits, int64_t k);
  // What the last Find with this k found, best first; fewer than k where fewer are finite.
  // REQUIRES: it is finished.
  std::vector<TokenLogit> Found(int64_t k) const;

 private:
  int64_t vocab_size_;
  DeviceMemory scratch_;
  // In mapped memory, written by the kernels: one GpuBestToken, or k ids and behind all ids k
  // logits.
  MappedMemory found_;
};

}  // namespace thermocline
