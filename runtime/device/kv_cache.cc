#include "runtime/device/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

int64_t HeadRowBytes(const ModelConfig& config, DType dtype) {
  if (config.head_dim % GetDTypeInfo(dtype).block_elems != 0) {
    throw Error({.what = "the KV cache cannot be stored as " + std::string(DTypeName(dtype)),
                 .expected = "a head_dim that is a multiple of " +
                             std::to_string(GetDTypeInfo(dtype).block_elems),
                 .found = std::to_string(config.head_dim),
                 .hint = "store keys and values in f16",
                 .settings = {{Setting::kCacheType, "f16"}}});
  }
  return RowBytes(dtype, config.head_dim);
}

}  // namespace

uint64_t HostKvCache::Bytes(const ModelConfig& config, DType dtype, int64_t n_pages) {
  return static_cast<uint64_t>(config.n_layers * 2 * config.n_kv_heads * n_pages * kKvPageTokens) *
         static_cast<uint64_t>(HeadRowBytes(config, dtype));
}

HostKvCache::HostKvCache(const ModelConfig& config, DType dtype, int64_t n_pages)
    : dtype_(dtype),
      n_layers_(config.n_layers),
      n_kv_heads_(config.n_kv_heads),
      row_bytes_(HeadRowBytes(config, dtype)),
      n_pages_(n_pages),
      memory_(Bytes(config, dtype, n_pages), "the KV cache") {}

void HostKvCache::CopyPage(const KvPageCopy& copy) {
  const int64_t page_bytes = kKvPageTokens * row_bytes_;
  for (int64_t plane = 0; plane < n_layers_ * 2 * n_kv_heads_; ++plane) {
    std::byte* base = memory_.bytes() + plane * n_pages_ * page_bytes;
    std::memcpy(base + copy.to * page_bytes, base + copy.from * page_bytes,
                static_cast<size_t>(page_bytes));
  }
}

KvRun HostKvCache::RunAt(int64_t layer, int64_t kv_head, std::span<const int32_t> pages,
                         int64_t position, int64_t n_tokens) const {
  const auto first = static_cast<size_t>(position / kKvPageTokens);
  DCHECK(first < pages.size() && n_tokens > 0);
  const int64_t in_page = position % kKvPageTokens;
  int64_t together = kKvPageTokens - in_page;
  for (size_t i = first + 1; together < n_tokens && i < pages.size(); ++i) {
    if (pages[i] != pages[i - 1] + 1) break;
    together += kKvPageTokens;
  }
  const int64_t head_bytes = n_pages_ * kKvPageTokens * row_bytes_;
  // The buffer is written through the runs it hands out.
  auto* base = static_cast<std::byte*>(const_cast<void*>(memory_.data()));
  std::byte* k = base + (layer * 2 * n_kv_heads_ + kv_head) * head_bytes +
                 (pages[first] * kKvPageTokens + in_page) * row_bytes_;
  return {k, k + n_kv_heads_ * head_bytes, std::min(together, n_tokens)};
}

}  // namespace thermocline
