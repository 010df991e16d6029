// Keys and values of all sequences, f32, f16 or q8_0, in memory of the device that attends: a pool
// of pages for each page class (runtime/device/kv_pages.h says whose they are).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/aligned_buffer.h"
#include "runtime/device/kv_layout.h"
#include "runtime/model/model.h"

namespace thermocline {

// Some consecutive positions of one KV head: k and v are n_tokens rows of head_dim elements of the
// cache's type, end to end.
struct KvRun {
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  int64_t n_tokens = 0;
};

class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual DType dtype() const = 0;  // kF32, kF16 or kQ8_0
  virtual const KvLayout& layout() const = 0;
  virtual uint64_t allocated_bytes() const = 0;
  // Copies a page's keys and values, of all layers of its class and heads.
  virtual void CopyPage(const KvPageCopy& copy) = 0;
  // The same of a position.
  virtual void CopyPosition(const KvPositionCopy& copy) = 0;

  // The cache with the memory of a tier's classes, for who attends there, and its bytes.
  virtual const KvCache& OfTier(size_t /*tier*/) const { return *this; }
  virtual uint64_t BytesOn(size_t tier) const { return tier == 0 ? allocated_bytes() : 0; }

  // A page of a class as it lies, for files and for memory beside the cache. How that is, so that
  // no other cache takes it for its own: "f16", ...
  virtual std::string page_form() const { return std::string(DTypeName(dtype())); }
  virtual uint64_t PageBytes(size_t page_class) const = 0;
  // to, from: PageBytes(page_class).
  virtual void ReadPage(size_t page_class, int32_t page, std::span<std::byte> to) const = 0;
  virtual void WritePage(size_t page_class, int32_t page, std::span<const std::byte> from) = 0;
};

// It has the layers with keys and values of their own. Pages of a class that follow each other in
// number follow each other in memory, so that a sequence that has the machine to itself lies in one
// stretch per head, as in a cache without pages; with a window in one, or in two where its pages
// have come round to the first.
class HostKvCache final : public KvCache {
 public:
  // Throws Error when the memory is not there, or when head_dim is no multiple of q8_0's block.
  // `memory` has for every class of the tier (n_layers, 2, n_kv_heads, n_pages, kKvPageTokens,
  // head_dim).
  HostKvCache(const ModelConfig& config, DType dtype, KvLayout layout, size_t tier = 0);
  static uint64_t ClassBytes(const ModelConfig& config, DType dtype, const KvLayout& layout,
                             size_t page_class);
  // Of a tier's classes.
  static uint64_t Bytes(const ModelConfig& config, DType dtype, const KvLayout& layout,
                        size_t tier = 0);

  DType dtype() const override { return dtype_; }
  const KvLayout& layout() const override { return layout_; }
  uint64_t allocated_bytes() const override { return memory_.size(); }
  void CopyPage(const KvPageCopy& copy) override;
  void CopyPosition(const KvPositionCopy& copy) override;
  uint64_t PageBytes(size_t page_class) const override;
  void ReadPage(size_t page_class, int32_t page, std::span<std::byte> to) const override;
  void WritePage(size_t page_class, int32_t page, std::span<const std::byte> from) override;

  // The positions from `position` on that lie together, at most n_tokens. REQUIRES: the table is
  // of the layer's class and has `position`.
  KvRun RunAt(int64_t layer, int64_t kv_head, const KvPageTable& table, int64_t position,
              int64_t n_tokens) const;

 private:
  // Where the keys of a layer begin, and the bytes of one head of it.
  struct LayerMemory {
    uint64_t begin;
    int64_t head_bytes;
  };

  // Copies so many rows of each layer and head, from and to the row of a number.
  void CopyRows(size_t page_class, int64_t from, int64_t to, int64_t n);
  // Calls visit(memory, n_bytes) for a page's part of each layer and head: keys, then values.
  template <typename Visit>
  void VisitPage(size_t page_class, int32_t page, const Visit& visit) const;

  DType dtype_;
  KvLayout layout_;
  int64_t n_kv_heads_;
  int64_t row_bytes_;
  std::vector<uint64_t> class_begins_;  // in `memory`
  std::vector<LayerMemory> layers_;     // of the cache
  AlignedBuffer memory_;
};

// The caches of several tiers as one: a class's pages lie with its tier.
class TieredKvCache final : public KvCache {
 public:
  // caches: by tier, all with this layout; null where no layer attends.
  explicit TieredKvCache(std::vector<std::unique_ptr<KvCache>> caches);

  DType dtype() const override { return First().dtype(); }
  const KvLayout& layout() const override { return First().layout(); }
  uint64_t allocated_bytes() const override;
  const KvCache& OfTier(size_t tier) const override { return *caches_[tier]; }
  uint64_t BytesOn(size_t tier) const override {
    return caches_[tier] == nullptr ? 0 : caches_[tier]->allocated_bytes();
  }
  void CopyPage(const KvPageCopy& copy) override { Of(copy.page_class).CopyPage(copy); }
  void CopyPosition(const KvPositionCopy& copy) override { Of(copy.page_class).CopyPosition(copy); }
  std::string page_form() const override;
  uint64_t PageBytes(size_t page_class) const override {
    return Of(page_class).PageBytes(page_class);
  }
  void ReadPage(size_t page_class, int32_t page, std::span<std::byte> to) const override {
    Of(page_class).ReadPage(page_class, page, to);
  }
  void WritePage(size_t page_class, int32_t page, std::span<const std::byte> from) override {
    Of(page_class).WritePage(page_class, page, from);
  }

 private:
  const KvCache& First() const;
  KvCache& Of(size_t page_class) const {
    return *caches_[First().layout().classes[page_class].tier];
  }

  std::vector<std::unique_ptr<KvCache>> caches_;
};

}  // namespace thermocline
