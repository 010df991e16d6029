#include "runtime/device/kv_cache.h"

#include "runtime/core/error.h"

namespace thermocline {
namespace {

int64_t HeadRowBytes(const ModelConfig& config, DType dtype) {
  if (config.head_dim % GetDTypeInfo(dtype).block_elems != 0) {
    throw Error({.what = "the KV cache cannot be stored as " + std::string(DTypeName(dtype)),
                 .expected = "a head_dim that is a multiple of " +
                             std::to_string(GetDTypeInfo(dtype).block_elems),
                 .found = std::to_string(config.head_dim),
                 .hint = "use --cache-type f16"});
  }
  return RowBytes(dtype, config.head_dim);
}

}  // namespace

uint64_t ContiguousKvCache::Bytes(const ModelConfig& config, DType dtype, int64_t max_seq_len) {
  return static_cast<uint64_t>(config.n_layers * 2 * config.n_kv_heads * max_seq_len) *
         static_cast<uint64_t>(HeadRowBytes(config, dtype));
}

ContiguousKvCache::ContiguousKvCache(const ModelConfig& config, DType dtype, int64_t max_seq_len)
    : dtype_(dtype),
      n_kv_heads_(config.n_kv_heads),
      row_bytes_(HeadRowBytes(config, dtype)),
      max_seq_len_(max_seq_len),
      memory_(Bytes(config, dtype, max_seq_len), "the KV cache") {}

void ContiguousKvCache::Reserve(int64_t n_tokens) { CHECK(n_tokens <= max_seq_len_); }

KvRun ContiguousKvCache::RunAt(int64_t layer, int64_t kv_head, int64_t position) const {
  DCHECK(position < max_seq_len_);
  const int64_t head_bytes = max_seq_len_ * row_bytes_;
  // The buffer is written through the runs it hands out.
  auto* base = static_cast<std::byte*>(const_cast<void*>(memory_.data()));
  std::byte* k = base + (layer * 2 * n_kv_heads_ + kv_head) * head_bytes + position * row_bytes_;
  return {k, k + n_kv_heads_ * head_bytes, max_seq_len_ - position};
}

}  // namespace thermocline
