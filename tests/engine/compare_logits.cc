// compare_logits MODEL OTHER: feeds the same tokens to two models and prints the largest difference
// of their logits, whole and as a share of the largest logit. For tests/golden/check_converters.py.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"

namespace thermocline {
namespace {

constexpr int64_t kTokens = 40;

std::vector<float> LogitsOf(const std::string& path) {
  EngineOptions options;
  options.model_path = path;
  options.fast_tier = FastTier::kCpu;
  options.sparse = "dense";
  options.n_threads = 1;
  options.cache_type = DType::kF32;
  options.batch_tokens = kTokens;
  options.all_logits = true;
  Engine engine(options);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kTokens; ++i) {
    ids.push_back(static_cast<int32_t>((3 + i * 7) % engine.config().vocab_size));
  }
  if (engine.config().has_encoder()) {
    engine.Encode(engine.main_sequence(), ids);
    ids.front() = engine.config().decoder_start;
  }
  const auto logits = engine.EvaluateAll(ids);
  return {logits.begin(), logits.end()};
}

int Compare(const std::string& one, const std::string& other) {
  const std::vector<float> a = LogitsOf(one);
  const std::vector<float> b = LogitsOf(other);
  if (a.size() != b.size()) {
    std::fprintf(stderr, "compare_logits: %zu logits and %zu\n", a.size(), b.size());
    return 1;
  }
  float difference = 0;
  float most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::isfinite(b[i]) ? std::abs(a[i] - b[i]) : INFINITY);
    most = std::max(most, std::abs(a[i]));
  }
  std::printf("%.3g %.3g\n", difference, most);
  return 0;
}

}  // namespace
}  // namespace thermocline

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: compare_logits MODEL OTHER\n");
    return 2;
  }
  try {
    return thermocline::Compare(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
