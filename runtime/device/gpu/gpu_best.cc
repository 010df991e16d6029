#include "runtime/device/gpu/gpu_best.h"

#include <algorithm>

#include "gpu_kernels/tokens/best_tokens.h"
#include "runtime/core/error.h"

namespace thermocline {

GpuBest::GpuBest(int64_t vocab_size, int64_t max_rows)
    : vocab_size_(vocab_size),
      max_rows_(max_rows),
      scratch_(Bytes(vocab_size, max_rows), "the best tokens"),
      found_(PinnedBytes(max_rows), "the best tokens") {}

uint64_t GpuBest::Bytes(int64_t vocab_size, int64_t max_rows) {
  return std::max(GpuFindBestScratchBytes(max_rows, vocab_size),
                  GpuTopTokensScratchBytes(max_rows, vocab_size, MaxTokens(vocab_size)));
}

uint64_t GpuBest::PinnedBytes(int64_t max_rows) {
  return static_cast<uint64_t>(max_rows * kMaxTopTokens) * (sizeof(int32_t) + sizeof(float));
}

int64_t GpuBest::MaxTokens(int64_t vocab_size) { return std::min(vocab_size, kMaxTopTokens); }

// One is a maximum, several are sorted.
void GpuBest::Find(Stream& stream, const float* logits, int64_t n_rows, int64_t k) {
  CHECK(k >= 1 && k <= MaxTokens(vocab_size_) && n_rows <= max_rows_);
  if (k == 1) {
    GpuFindBest(stream, logits, n_rows, vocab_size_, scratch_.as<void>(),
                found_.device<GpuBestToken>());
    return;
  }
  auto* const ids = found_.device<int32_t>();
  GpuTopTokens(stream, logits, n_rows, vocab_size_, k, scratch_.as<void>(), ids,
               reinterpret_cast<float*>(ids + max_rows_ * kMaxTopTokens));
}

std::vector<TokenLogit> GpuBest::Found(int64_t row, int64_t k) const {
  std::vector<TokenLogit> found;
  if (k == 1) {
    const GpuBestToken best = found_.host<GpuBestToken>()[row];
    if (best.id >= 0) found.push_back({best.id, best.logit});
    return found;
  }
  const auto* const ids = found_.host<int32_t>() + row * k;
  const auto* const logits =
      reinterpret_cast<const float*>(found_.host<int32_t>() + max_rows_ * kMaxTopTokens) + row * k;
  for (int64_t i = 0; i < k && ids[i] >= 0; ++i) found.push_back({ids[i], logits[i]});
  return found;
}

}  // namespace thermocline
