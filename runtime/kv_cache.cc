#include "runtime/kv_cache.h"

#include "runtime/core/error.h"

namespace thermocline {

uint64_t ContiguousKvCache::Bytes(const ModelConfig& config, int64_t max_seq_len) {
  return static_cast<uint64_t>(config.n_layers * 2 * config.kv_dim() * max_seq_len) *
         sizeof(uint16_t);
}

ContiguousKvCache::ContiguousKvCache(const ModelConfig& config, int64_t max_seq_len)
    : n_kv_heads_(config.n_kv_heads),
      head_dim_(config.head_dim),
      max_seq_len_(max_seq_len),
      memory_(Bytes(config, max_seq_len), "the KV cache") {}

void ContiguousKvCache::Reserve(int64_t n_tokens) { CHECK(n_tokens <= max_seq_len_); }

KvRun ContiguousKvCache::RunAt(int64_t layer, int64_t kv_head, int64_t position) const {
  DCHECK(position < max_seq_len_);
  const int64_t head_elems = max_seq_len_ * head_dim_;
  // The buffer is written through the runs it hands out.
  auto* base = static_cast<uint16_t*>(const_cast<void*>(memory_.data()));
  uint16_t* k = base + (layer * 2 * n_kv_heads_ + kv_head) * head_elems + position * head_dim_;
  return {k, k + n_kv_heads_ * head_elems, max_seq_len_ - position};
}

}  // namespace thermocline
