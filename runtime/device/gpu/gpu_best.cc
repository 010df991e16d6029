#include "runtime/device/gpu/gpu_best.h"

#include <algorithm>

#include "gpu_kernels/tokens/best_tokens.h"
#include "runtime/core/error.h"

namespace thermocline {

GpuBest::GpuBest(int64_t vocab_size)
    : vocab_size_(vocab_size),
      scratch_(Bytes(vocab_size), "the best tokens"),
      found_(kMaxTopTokens * (sizeof(int32_t) + sizeof(float)), "the best tokens") {}

uint64_t GpuBest::Bytes(int64_t vocab_size) {
  return std::max(GpuFindBestScratchBytes(1, vocab_size),
                  GpuTopTokensScratchBytes(1, vocab_size, MaxTokens(vocab_size)));
}

int64_t GpuBest::MaxTokens(int64_t vocab_size) { return std::min(vocab_size, kMaxTopTokens); }

// One is a maximum, several are sorted.
void GpuBest::Find(Stream& stream, const float* logits, int64_t k) {
  CHECK(k >= 1 && k <= MaxTokens(vocab_size_));
  if (k == 1) {
    GpuFindBest(stream, logits, 1, vocab_size_, scratch_.as<void>(), found_.device<GpuBestToken>());
    return;
  }
  auto* const ids = found_.device<int32_t>();
  GpuTopTokens(stream, logits, 1, vocab_size_, k, scratch_.as<void>(), ids,
               reinterpret_cast<float*>(ids + kMaxTopTokens));
}

std::vector<TokenLogit> GpuBest::Found(int64_t k) const {
  std::vector<TokenLogit> found;
  if (k == 1) {
    const GpuBestToken best = *found_.host<GpuBestToken>();
    if (best.id >= 0) found.push_back({best.id, best.logit});
    return found;
  }
  const auto* const ids = found_.host<int32_t>();
  const auto* const logits = reinterpret_cast<const float*>(ids + kMaxTopTokens);
  for (int64_t i = 0; i < k && ids[i] >= 0; ++i) found.push_back({ids[i], logits[i]});
  return found;
}

}  // namespace thermocline
