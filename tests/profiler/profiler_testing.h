// What the profiler's tests share: small models, texts of known tokens, made-up statistics.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/activations/profile_stats.h"
#include "runtime/core/error.h"
#include "runtime/text/tokenizer.h"

namespace thermocline {

// The model has 2 layers, d_ff 96, relu, context 128, F32, and a vocabulary that spells any text in
// bytes.
inline std::string ReluModelPath() {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/gqa_relu.gguf";
}
// A model like ReluModelPath's with silu and d_ff 48 (no multiple of a cluster).
inline std::string SiluModelPath() {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/wide_heads.gguf";
}

// Returns words in no order: "the sea and rain singing ...".
inline std::string WordText(size_t n_words, uint32_t seed = 1) {
  constexpr const char* kWords[] = {"the", "and", "sea", "rain", "singing", "stone", "a", "wind"};
  std::mt19937 random(seed);
  std::string text;
  for (size_t i = 0; i < n_words; ++i) {
    text += kWords[random() % 8];
    text += i % 12 == 11 ? '\n' : ' ';
  }
  return text;
}

// Makes one token per byte: id 3 + byte; BOS is 1.
class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(bool add_bos) : add_bos_(add_bos) {}
  int32_t vocab_size() const override { return 259; }
  int32_t bos_id() const override { return 1; }
  int32_t eos_id() const override { return 2; }
  bool add_bos() const override { return add_bos_; }
  bool EndsText(int32_t id) const override { return id == 2; }
  std::string TokenBytes(int32_t id) const override {
    return id < 3 ? "" : std::string(1, static_cast<char>(id - 3));
  }
  bool adds_space_prefix() const override { return false; }

 protected:
  std::vector<int32_t> EncodeText(std::string_view text, bool) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(3 + static_cast<unsigned char>(c));
    return ids;
  }

 private:
  bool add_bos_;
};

inline SplitActivity RandomSplit(size_t n_layers, size_t d_ff, int64_t n_tokens,
                                 std::mt19937& random) {
  SplitActivity split;
  split.n_tokens = n_tokens;
  split.corpus_hash = "0123456789abcdef";
  for (size_t l = 0; l < n_layers; ++l) {
    LayerActivity layer;
    for (size_t i = 0; i < d_ff; ++i) {
      const auto count = static_cast<int64_t>(random() % static_cast<uint64_t>(n_tokens + 1));
      layer.count.push_back(count);
      layer.mass.push_back(static_cast<double>(count) * 0.25);
    }
    split.layers.push_back(std::move(layer));
  }
  return split;
}

inline ProfileStats RandomStats(size_t n_layers, size_t d_ff, std::mt19937& random) {
  ProfileStats stats;
  stats.model_fingerprint = "fedcba9876543210";
  stats.context_tokens = 128;
  stats.calibration = RandomSplit(n_layers, d_ff, 1000, random);
  stats.heldout = RandomSplit(n_layers, d_ff, 200, random);
  return stats;
}

// Returns the message of the Error that `work` throws; empty when it throws none.
template <typename Work>
std::string ErrorOf(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace thermocline
