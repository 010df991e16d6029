// A KV cache whose runs are pages of any length, laid out in the opposite order of their positions:
// what attention must be able to read, and a contiguous cache never shows it.
#pragma once

#include <algorithm>
#include <vector>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/device/kv_cache.h"

namespace thermocline {

class PagedKvCache final : public HostKvCache {
 public:
  PagedKvCache(const ModelConfig& config, DType dtype, int64_t max_seq_len, int64_t page_tokens)
      : dtype_(dtype),
        n_kv_heads_(config.n_kv_heads),
        row_bytes_(RowBytes(dtype, config.head_dim)),
        max_seq_len_(max_seq_len),
        page_tokens_(page_tokens),
        n_pages_(CeilDiv(max_seq_len, page_tokens)),
        memory_(static_cast<size_t>(config.n_layers * n_pages_ * 2 * n_kv_heads_ * page_tokens_ *
                                    row_bytes_)) {}

  DType dtype() const override { return dtype_; }
  int64_t max_seq_len() const override { return max_seq_len_; }
  uint64_t allocated_bytes() const override { return memory_.size(); }
  void Reserve(int64_t n_tokens) override { CHECK(n_tokens <= max_seq_len_); }
  KvRun RunAt(int64_t layer, int64_t kv_head, int64_t position) const override {
    const int64_t page = n_pages_ - 1 - position / page_tokens_;
    const int64_t in_page = position % page_tokens_;
    const int64_t head_bytes = page_tokens_ * row_bytes_;
    const int64_t first_head = (layer * n_pages_ + page) * 2 * n_kv_heads_;
    auto* base = const_cast<std::byte*>(memory_.data());  // written through its runs
    std::byte* k = base + (first_head + kv_head) * head_bytes + in_page * row_bytes_;
    return {k, k + n_kv_heads_ * head_bytes, page_tokens_ - in_page};
  }

 private:
  DType dtype_;
  int64_t n_kv_heads_;
  int64_t row_bytes_;
  int64_t max_seq_len_;
  int64_t page_tokens_;
  int64_t n_pages_;
  std::vector<std::byte> memory_;
};

}  // namespace thermocline
