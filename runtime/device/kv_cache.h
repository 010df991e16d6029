// Keys and values of the sequence so far, f16 or q8_0, in memory of the device that attends. On the
// host attention sees a sequence as runs of consecutive positions that lie together; the contiguous
// cache has one run, a paged one would have one per page.
#pragma once

#include <cstdint>

#include "runtime/core/aligned_buffer.h"
#include "runtime/model/model.h"

namespace thermocline {

// Positions [position, position + n_tokens) of one KV head: k and v are n_tokens rows of head_dim
// elements of the cache's type, end to end.
struct KvRun {
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  int64_t n_tokens = 0;
};

class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual DType dtype() const = 0;  // kF16 or kQ8_0
  virtual int64_t max_seq_len() const = 0;
  virtual uint64_t allocated_bytes() const = 0;
  // Makes room for positions [0, n_tokens); called once per step, before the lanes start.
  // REQUIRES: n_tokens <= max_seq_len().
  virtual void Reserve(int64_t n_tokens) = 0;
};

class HostKvCache : public KvCache {
 public:
  // The run that holds `position`, from that position on. REQUIRES: position was reserved.
  virtual KvRun RunAt(int64_t layer, int64_t kv_head, int64_t position) const = 0;
};

class ContiguousKvCache final : public HostKvCache {
 public:
  // Throws Error when the memory is not there, or when head_dim is no multiple of q8_0's block.
  // `memory` is (n_layers, 2, n_kv_heads, max_seq_len, head_dim).
  ContiguousKvCache(const ModelConfig& config, DType dtype, int64_t max_seq_len);
  static uint64_t Bytes(const ModelConfig& config, DType dtype, int64_t max_seq_len);

  DType dtype() const override { return dtype_; }
  int64_t max_seq_len() const override { return max_seq_len_; }
  uint64_t allocated_bytes() const override { return memory_.size(); }
  void Reserve(int64_t n_tokens) override;
  KvRun RunAt(int64_t layer, int64_t kv_head, int64_t position) const override;

 private:
  DType dtype_;
  int64_t n_kv_heads_;
  int64_t row_bytes_;
  int64_t max_seq_len_;
  AlignedBuffer memory_;
};

}  // namespace thermocline
