#include "runtime/device/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

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

uint64_t HostKvCache::ClassBytes(const ModelConfig& config, DType dtype, const KvLayout& layout,
                                 size_t page_class) {
  return static_cast<uint64_t>(layout.n_layers(page_class) * 2 * config.n_kv_heads *
                               layout.classes[page_class].n_pages * kKvPageTokens) *
         static_cast<uint64_t>(HeadRowBytes(config, dtype));
}

uint64_t HostKvCache::Bytes(const ModelConfig& config, DType dtype, const KvLayout& layout,
                            size_t tier) {
  uint64_t n_bytes = 0;
  for (size_t c = 0; c < layout.classes.size(); ++c) {
    if (layout.classes[c].tier == tier) n_bytes += ClassBytes(config, dtype, layout, c);
  }
  return n_bytes;
}

HostKvCache::HostKvCache(const ModelConfig& config, DType dtype, KvLayout layout, size_t tier)
    : dtype_(dtype),
      layout_(std::move(layout)),
      n_kv_heads_(config.n_kv_heads),
      row_bytes_(HeadRowBytes(config, dtype)),
      memory_(Bytes(config, dtype, layout_, tier), "the KV cache") {
  uint64_t n_bytes = 0;
  for (size_t c = 0; c < layout_.classes.size(); ++c) {
    class_begins_.push_back(n_bytes);
    if (layout_.classes[c].tier == tier) n_bytes += ClassBytes(config, dtype, layout_, c);
  }
  for (const KvLayerPlace& place : layout_.layers) {
    const int64_t head_bytes =
        layout_.classes[place.page_class].n_pages * kKvPageTokens * row_bytes_;
    layers_.push_back({class_begins_[place.page_class] +
                           static_cast<uint64_t>(place.layer * 2 * n_kv_heads_ * head_bytes),
                       head_bytes});
  }
}

void HostKvCache::CopyRows(size_t page_class, int64_t from, int64_t to, int64_t n) {
  const int64_t plane_bytes = layout_.classes[page_class].n_pages * kKvPageTokens * row_bytes_;
  std::byte* plane = memory_.bytes() + class_begins_[page_class];
  for (int64_t i = 0; i < layout_.n_layers(page_class) * 2 * n_kv_heads_; ++i) {
    std::memcpy(plane + to * row_bytes_, plane + from * row_bytes_,
                static_cast<size_t>(n * row_bytes_));
    plane += plane_bytes;
  }
}

void HostKvCache::CopyPage(const KvPageCopy& copy) {
  CopyRows(copy.page_class, copy.from * kKvPageTokens, copy.to * kKvPageTokens, kKvPageTokens);
}

void HostKvCache::CopyPosition(const KvPositionCopy& copy) {
  CopyRows(copy.page_class, copy.from, copy.to, 1);
}

uint64_t HostKvCache::PageBytes(size_t page_class) const {
  return static_cast<uint64_t>(layout_.n_layers(page_class) * 2 * n_kv_heads_ * kKvPageTokens *
                               row_bytes_);
}

template <typename Visit>
void HostKvCache::VisitPage(size_t page_class, int32_t page, const Visit& visit) const {
  const int64_t page_bytes = kKvPageTokens * row_bytes_;
  const int64_t plane_bytes = layout_.classes[page_class].n_pages * page_bytes;
  // The buffer is written through what the visitor is given.
  auto* plane = static_cast<std::byte*>(const_cast<void*>(memory_.data())) +
                class_begins_[page_class] + page * page_bytes;
  for (int64_t i = 0; i < layout_.n_layers(page_class) * 2 * n_kv_heads_; ++i) {
    visit(plane + i * plane_bytes, static_cast<size_t>(page_bytes));
  }
}

void HostKvCache::ReadPage(size_t page_class, int32_t page, std::span<std::byte> to) const {
  CHECK(to.size() == PageBytes(page_class));
  std::byte* next = to.data();
  VisitPage(page_class, page, [&next](const std::byte* from, size_t n_bytes) {
    std::memcpy(next, from, n_bytes);
    next += n_bytes;
  });
}

void HostKvCache::WritePage(size_t page_class, int32_t page, std::span<const std::byte> from) {
  CHECK(from.size() == PageBytes(page_class));
  const std::byte* next = from.data();
  VisitPage(page_class, page, [&next](std::byte* to, size_t n_bytes) {
    std::memcpy(to, next, n_bytes);
    next += n_bytes;
  });
}

KvRun HostKvCache::RunAt(int64_t layer, int64_t kv_head, const KvPageTable& table, int64_t position,
                         int64_t n_tokens) const {
  DCHECK(table.Has(position) && n_tokens > 0);
  const std::span<const int32_t> pages = table.pages;
  const auto first = static_cast<size_t>(position / kKvPageTokens - table.first_page);
  const int64_t in_page = position % kKvPageTokens;
  int64_t together = kKvPageTokens - in_page;
  for (size_t i = first + 1; together < n_tokens && i < pages.size(); ++i) {
    if (pages[i] != pages[i - 1] + 1) break;
    together += kKvPageTokens;
  }
  const LayerMemory& memory = layers_[static_cast<size_t>(layer)];
  // The buffer is written through the runs it hands out.
  auto* base = static_cast<std::byte*>(const_cast<void*>(memory_.data())) + memory.begin;
  std::byte* k =
      base + kv_head * memory.head_bytes + (pages[first] * kKvPageTokens + in_page) * row_bytes_;
  return {k, k + n_kv_heads_ * memory.head_bytes, std::min(together, n_tokens)};
}

TieredKvCache::TieredKvCache(std::vector<std::unique_ptr<KvCache>> caches)
    : caches_(std::move(caches)) {
  for (const KvPageClass& page_class : First().layout().classes) {
    CHECK(page_class.tier < caches_.size() && caches_[page_class.tier] != nullptr);
  }
}

const KvCache& TieredKvCache::First() const {
  const auto first =
      std::ranges::find_if(caches_, [](const auto& cache) { return cache != nullptr; });
  CHECK(first != caches_.end());
  return **first;
}

uint64_t TieredKvCache::allocated_bytes() const {
  uint64_t n_bytes = 0;
  for (const auto& cache : caches_) n_bytes += cache == nullptr ? 0 : cache->allocated_bytes();
  return n_bytes;
}

// A page of one tier is none of another's: the form says which classes lie where.
std::string TieredKvCache::page_form() const {
  std::string form;
  for (const KvPageClass& page_class : layout().classes) {
    form += (form.empty() ? "" : "; ") + caches_[page_class.tier]->page_form();
  }
  return form;
}

}  // namespace thermocline
