#include "runtime/schedule/host_pages.h"

#include <chrono>

#include "runtime/core/error.h"
#include "runtime/schedule/ms_since.h"

namespace thermocline {
namespace {

constexpr double kWeightOfNewCopy = 0.1;

void BlendRate(double* rate, double ms, uint64_t n_bytes) {
  const double now = ms / static_cast<double>(n_bytes);
  *rate = *rate == 0 ? now : (1 - kWeightOfNewCopy) * *rate + kWeightOfNewCopy * now;
}

}  // namespace

HostPages::Page::Page(HostPages& owner, uint64_t n_bytes)
    : owner_(owner), memory_(n_bytes, "pages of the KV cache in host memory") {
  owner_.counts_.bytes += n_bytes;
  ++owner_.counts_.n_pages;
}

HostPages::Page::~Page() {
  owner_.counts_.bytes -= memory_.size();
  --owner_.counts_.n_pages;
}

HostPages::HostPages(KvCache& cache, uint64_t max_bytes) : cache_(cache), max_bytes_(max_bytes) {
  if (cache.layout().classes.front().n_pages == 0 || !HasRoomFor(0)) return;
  // Twice, as memory that is touched for the first time takes longer.
  for (int i = 0; i < 2; ++i) {
    const std::unique_ptr<Page> page = CopyOut(0, 0);
    CopyBack(*page, 0, 0);
  }
  counts_ = {};
}

std::unique_ptr<HostPages::Page> HostPages::CopyOut(size_t page_class, int32_t page) {
  CHECK(HasRoomFor(page_class));
  const auto started = std::chrono::steady_clock::now();
  auto copy = std::make_unique<Page>(*this, PageBytes(page_class));
  cache_.ReadPage(page_class, page, {copy->memory_.bytes(), copy->memory_.size()});
  const double ms = MsSince(started);
  BlendRate(&out_ms_per_byte_, ms, copy->memory_.size());
  ++counts_.n_out;
  counts_.copy_ms += ms;
  return copy;
}

void HostPages::CopyBack(const Page& from, size_t page_class, int32_t page) {
  const auto started = std::chrono::steady_clock::now();
  const auto* const bytes = static_cast<const std::byte*>(from.memory_.data());
  cache_.WritePage(page_class, page, {bytes, from.memory_.size()});
  const double ms = MsSince(started);
  BlendRate(&back_ms_per_byte_, ms, from.memory_.size());
  ++counts_.n_back;
  counts_.copy_ms += ms;
}

double HostPages::RoundTripMs() const {
  uint64_t n_bytes = 0;
  for (size_t c = 0; c < cache_.layout().classes.size(); ++c) n_bytes += PageBytes(c);
  return static_cast<double>(n_bytes) * (out_ms_per_byte_ + back_ms_per_byte_);
}

}  // namespace thermocline
