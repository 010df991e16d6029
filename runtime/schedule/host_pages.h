// Pages of the KV cache in the host's memory, beside the cache: copies of pages that were cold when
// room was wanted for other texts, to be written back when a text begins with them. Which ones, and
// for how long, is the prefix cache's to say (runtime/schedule/prefix_cache.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/core/aligned_buffer.h"
#include "runtime/device/kv_cache.h"

namespace thermocline {

struct HostPageCounts {
  uint64_t bytes = 0;  // held now
  int64_t n_pages = 0;
  // Since it was made.
  int64_t n_out = 0;   // pages copied out of the cache
  int64_t n_back = 0;  // and written back into it
  double copy_ms = 0;  // that took so long
};

class HostPages {
 public:
  // A copy of a page. Its bytes count until it is destroyed.
  class Page {
   public:
    Page(HostPages& owner, uint64_t n_bytes);
    ~Page();
    Page(const Page&) = delete;
    Page& operator=(const Page&) = delete;

   private:
    friend class HostPages;
    HostPages& owner_;
    AlignedBuffer memory_;
  };

  // The cache must outlive it, and page 0 of each class be nobody's still: how long a copy takes is
  // measured there.
  HostPages(KvCache& cache, uint64_t max_bytes);

  uint64_t PageBytes(size_t page_class) const { return cache_.PageBytes(page_class); }
  bool HasRoomFor(size_t page_class) const {
    return counts_.bytes + PageBytes(page_class) <= max_bytes_;
  }
  // REQUIRES: HasRoomFor. Throws Error where the memory is not there after all.
  std::unique_ptr<Page> CopyOut(size_t page_class, int32_t page);
  void CopyBack(const Page& from, size_t page_class, int32_t page);

  // What it takes to copy a page of every class out and back, as measured so far.
  double RoundTripMs() const;
  uint64_t max_bytes() const { return max_bytes_; }
  const HostPageCounts& counts() const { return counts_; }

 private:
  KvCache& cache_;
  uint64_t max_bytes_;
  HostPageCounts counts_;
  double out_ms_per_byte_ = 0;
  double back_ms_per_byte_ = 0;
};

}  // namespace thermocline
