// Keys and values of all sequences, f16 or q8_0, in memory of the device that attends: a pool of
// pages (runtime/device/kv_pages.h says whose they are).
#pragma once

#include <cstdint>
#include <span>

#include "runtime/core/aligned_buffer.h"
#include "runtime/device/kv_pages.h"
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
  virtual DType dtype() const = 0;  // kF16 or kQ8_0
  virtual int64_t n_pages() const = 0;
  virtual uint64_t allocated_bytes() const = 0;
  // Copies a page's keys and values, of all layers and heads.
  virtual void CopyPage(const KvPageCopy& copy) = 0;
};

// Pages that follow each other in number follow each other in memory, so that a sequence that has
// the machine to itself lies in one stretch per head, as in a cache without pages.
class HostKvCache final : public KvCache {
 public:
  // Throws Error when the memory is not there, or when head_dim is no multiple of q8_0's block.
  // `memory` is (n_layers, 2, n_kv_heads, n_pages, kKvPageTokens, head_dim).
  HostKvCache(const ModelConfig& config, DType dtype, int64_t n_pages);
  static uint64_t Bytes(const ModelConfig& config, DType dtype, int64_t n_pages);

  DType dtype() const override { return dtype_; }
  int64_t n_pages() const override { return n_pages_; }
  uint64_t allocated_bytes() const override { return memory_.size(); }
  void CopyPage(const KvPageCopy& copy) override;

  // The positions from `position` on that lie together, at most n_tokens. REQUIRES: pages holds
  // `position`.
  KvRun RunAt(int64_t layer, int64_t kv_head, std::span<const int32_t> pages, int64_t position,
              int64_t n_tokens) const;

 private:
  DType dtype_;
  int64_t n_layers_;
  int64_t n_kv_heads_;
  int64_t row_bytes_;
  int64_t n_pages_;
  AlignedBuffer memory_;
};

}  // namespace thermocline
