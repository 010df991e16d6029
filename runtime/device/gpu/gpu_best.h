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
  // max_rows: of logits that are searched at a time.
  GpuBest(int64_t vocab_size, int64_t max_rows);
  static uint64_t Bytes(int64_t vocab_size, int64_t max_rows);
  static uint64_t PinnedBytes(int64_t max_rows);
  // Most that can be asked for.
  static int64_t MaxTokens(int64_t vocab_size);

  // Enqueues it. logits: (n_rows, vocab_size) f32 on the GPU.
  // REQUIRES: 1 <= k <= MaxTokens(vocab_size), n_rows <= max_rows.
  void Find(Stream& stream, const float* logits, int64_t n_rows, int64_t k);
  // What the last Find with this k found in a row, best first; fewer than k where fewer are finite.
  // REQUIRES: it is finished.
  std::vector<TokenLogit> Found(int64_t row, int64_t k) const;

 private:
  int64_t vocab_size_;
  int64_t max_rows_;
  DeviceMemory scratch_;
  // In mapped memory, written by the kernels: a GpuBestToken for each row, or k ids for each and
  // behind all ids as many logits.
  MappedMemory found_;
};

}  // namespace thermocline
