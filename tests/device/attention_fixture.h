// Attention of a CPU device over a cache filled with random keys and values, and its reference in
// double arithmetic.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "runtime/device/cpu/cpu_device.h"
#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline {

inline constexpr int64_t kMaxSeqLen = 700;  // makes chunks of 256
inline constexpr int64_t kLayer = 1;        // the second of two

struct Heads {
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t head_dim;
  int64_t window = 0;
  float soft_cap = 0;
  float scale = 0;           // 0: 1 / sqrt(head_dim)
  int64_t max_distance = 0;  // of a random relative bias; 0: none
  bool sees_encoder = false;

  float Scale() const {
    return scale != 0 ? scale : 1.0F / std::sqrt(static_cast<float>(head_dim));
  }
};

inline ModelConfig ConfigOf(const Heads& heads) {
  ModelConfig config;
  config.n_layers = 2;
  config.n_heads = heads.n_heads;
  config.n_kv_heads = heads.n_kv_heads;
  config.head_dim = heads.head_dim;
  config.d_model = heads.n_heads * heads.head_dim;
  config.d_ff = 32;
  config.max_seq_len = kMaxSeqLen;
  config.MakeLayersEqual();
  return config;
}

// A cache filled with random keys and values, and queries of the positions from `first` on.
class Attention {
 public:
  // pages says where the positions lie, in their order.
  Attention(const Heads& heads, DType dtype, int64_t max_seq_len, std::vector<int32_t> pages)
      : heads_(heads), max_seq_len_(max_seq_len), pages_(std::move(pages)) {
    const auto n_pages = static_cast<int64_t>(pages_.size());
    const ModelConfig config = ConfigOf(heads);
    cache_ = std::make_unique<HostKvCache>(config, dtype, MakeKvLayout(config, n_pages));
    std::mt19937 rng(3);
    const int64_t n = max_seq_len;
    // Queries are larger than they would be, so that the softmax has peaks and valleys.
    q_ = testing::RandomFloats(&rng, n * heads.n_heads * heads.head_dim, 2.0F);
    k_ = testing::RandomFloats(&rng, n * heads.n_kv_heads * heads.head_dim);
    v_ = testing::RandomFloats(&rng, n * heads.n_kv_heads * heads.head_dim);
    bias_ = testing::RandomFloats(&rng, heads.n_heads * (2 * heads.max_distance + 1), 3.0F);
    CpuDevice device("filling", Limits(n, 1));
    const RopeOp no_rope{.layer_rope = LayerRope::kNone};
    std::vector<float> q = q_;
    std::vector<float> k = k_;
    const Rows rows(*this, 0, n);
    device.RopeAppend(Lane{}, no_rope, *cache_, rows.op, q.data(), k.data(), v_.data());
    for (int64_t i = 0; i < n * heads.n_kv_heads; ++i) {
      const KvRun run = cache_->RunAt(kLayer, i / n, {0, pages_}, i % n, 1);
      rows_[0].push_back(testing::DecodeRow(cache_->dtype(), run.k, heads.head_dim));
      rows_[1].push_back(testing::DecodeRow(cache_->dtype(), run.v, heads.head_dim));
    }
  }

  // Returns (n, n_heads, head_dim) of the tokens at positions first ....
  std::vector<float> Run(int64_t first, int64_t n, int n_lanes) const {
    CpuDevice device("tested", Limits(n, n_lanes));
    ThreadTeam team(n_lanes);
    LaneGroup* group = team.MakeGroup(n_lanes);
    std::vector<float> out(static_cast<size_t>(n * heads_.n_heads * heads_.head_dim), NAN);
    const Rows rows(*this, first, n);
    team.Run([&](int thread) {
      device.Attend(Lane{thread, n_lanes, group}, *cache_, rows.op,
                    q_.data() + first * heads_.n_heads * heads_.head_dim, out.data());
    });
    return out;
  }

  void ExpectMatchesDouble(int64_t first, int64_t n) const {
    const std::vector<float> out = Run(first, n, 2);
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t head = 0; head < heads_.n_heads; ++head) {
        const int64_t at = (t * heads_.n_heads + head) * heads_.head_dim;
        ExpectHead(first + t, head, {out.begin() + at, out.begin() + at + heads_.head_dim});
      }
    }
  }

  const std::vector<double>& Row(bool value, int64_t kv_head, int64_t position) const {
    return rows_[value ? 1 : 0][static_cast<size_t>(kv_head * max_seq_len_ + position)];
  }
  std::vector<float> Query(int64_t position, int64_t head) const {
    const auto at = q_.begin() + (position * heads_.n_heads + head) * heads_.head_dim;
    return {at, at + heads_.head_dim};
  }
  const Heads& heads() const { return heads_; }

 private:
  CpuDeviceLimits Limits(int64_t max_tokens, int n_lanes) const {
    return MakeCpuDeviceLimits(ConfigOf(heads_), max_tokens, max_seq_len_, n_lanes);
  }
  // A batch of rows at positions first ....
  struct Rows {
    Batch batch;
    std::vector<BatchSegment> segments;
    AttentionOp op;
    Rows(const Attention& a, int64_t first, int64_t n) {
      batch.sequences = {
          {.tables = {{0, a.pages_}}, .encoder_pages = a.pages_, .encoder_length = a.max_seq_len_}};
      for (int64_t i = 0; i < n; ++i) batch.rows.push_back({0, 0, first + i, false});
      segments = batch.Segments();
      op = {kLayer,
            0,
            &batch,
            segments,
            a.heads_.n_heads,
            a.heads_.n_kv_heads,
            a.heads_.head_dim,
            a.heads_.Scale(),
            a.heads_.soft_cap,
            a.heads_.window};
      if (a.heads_.max_distance > 0) op.bias = {a.bias_.data(), a.heads_.max_distance};
      op.sees_encoder = a.heads_.sees_encoder;
    }
    Rows(const Rows&) = delete;
  };

  // Compares with softmax(q k) v in double over what the cache holds and over the query as its form
  // stands for it.
  void ExpectHead(int64_t position, int64_t head, const std::vector<float>& out) const {
    const DType dtype = cache_->dtype();
    const VectorForm form = CpuKernels().vector_form(dtype);
    const std::vector<double> q = testing::EffectiveActivations(form, Query(position, head));
    const int64_t kv_head = head / (heads_.n_heads / heads_.n_kv_heads);
    const double scale = heads_.Scale();
    const double cap = heads_.soft_cap;
    const int64_t first =
        heads_.window == 0 ? 0 : std::max<int64_t>(0, position + 1 - heads_.window);
    const int64_t last = heads_.sees_encoder ? max_seq_len_ - 1 : position;
    std::vector<double> weights;
    double score_error = 0;
    for (int64_t p = first; p <= last; ++p) {
      const std::vector<double>& k = Row(false, kv_head, p);
      double score = 0;
      double magnitudes = 0;
      for (size_t i = 0; i < k.size(); ++i) {
        score += q[i] * k[i];
        magnitudes += std::fabs(q[i] * k[i]);
      }
      // The dot product's error, and the rounding of the scale, of score times scale, of the
      // difference to the largest score and of the chunks' largest to the largest of all.
      const double error = scale * testing::AllowedError(testing::DotTolerance(dtype, form),
                                                         heads_.head_dim, magnitudes, score) +
                           6 * 0x1p-24 * std::fabs(scale * score);
      // A cap bends scores by a slope of at most 1; its tanh is off by up to 4e-7.
      score_error = std::max(score_error, error + 4e-7 * cap);
      weights.push_back(cap == 0 ? scale * score : cap * std::tanh(scale * score / cap));
      if (heads_.max_distance == 0) continue;
      const int64_t d = std::clamp(p - position, -heads_.max_distance, heads_.max_distance);
      const int64_t at = head * (2 * heads_.max_distance + 1) + heads_.max_distance + d;
      weights.back() += bias_[static_cast<size_t>(at)];
      score_error = std::max(score_error, error + 0x1p-24 * std::fabs(weights.back()));
    }
    const double largest = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    std::vector<double> reference(out.size(), 0.0);
    std::vector<double> magnitudes(out.size(), 0.0);
    for (int64_t p = first; p <= last; ++p) {
      const std::vector<double>& v = Row(true, kv_head, p);
      const double weight = weights[static_cast<size_t>(p - first)] / sum;
      for (size_t i = 0; i < v.size(); ++i) {
        reference[i] += weight * v[i];
        magnitudes[i] += weight * std::fabs(v[i]);
      }
    }
    // An error of the scores moves weights and their sum by that share; a chunk sums up to 256
    // products, and twice an exponential is off by up to 3e-7.
    const double relative = 4 * score_error + 1e-6 + 0x1p-24 * 280;
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_NEAR(out[i], reference[i], relative * magnitudes[i] + 1e-30)
          << "position " << position << ", head " << head << ", element " << i;
    }
  }

  Heads heads_;
  int64_t max_seq_len_;
  std::vector<int32_t> pages_;
  std::unique_ptr<HostKvCache> cache_;
  std::vector<float> bias_;  // (n_heads, 2 * max_distance + 1)
  std::vector<float> q_;
  std::vector<float> k_;
  std::vector<float> v_;
  std::vector<std::vector<double>> rows_[2];  // keys and values as stored, head by head
};

inline Attention Contiguous(const Heads& heads, DType dtype, int64_t max_seq_len = kMaxSeqLen) {
  std::vector<int32_t> pages(static_cast<size_t>(KvPagesFor(max_seq_len)));
  std::iota(pages.begin(), pages.end(), 0);
  return {heads, dtype, max_seq_len, pages};
}

// Lays the cache out as stretches of `together` pages, the last stretch first.
inline Attention Paged(const Heads& heads, DType dtype, int64_t together) {
  std::vector<int32_t> pages(static_cast<size_t>(KvPagesFor(kMaxSeqLen)));
  const auto n = static_cast<int64_t>(pages.size());
  for (int64_t i = 0; i < n; ++i) {
    const int64_t stretch = i / together * together;
    const int64_t length = std::min(together, n - stretch);
    pages[static_cast<size_t>(i)] = static_cast<int32_t>(n - stretch - length + i - stretch);
  }
  return {heads, dtype, kMaxSeqLen, pages};
}

// Query heads share a KV head in groups, have one each, or share a single one.
inline constexpr Heads kQ8Heads[] = {{6, 2, 64}, {3, 3, 32}, {5, 1, 96}};
// These heads fit no type with blocks.
inline constexpr Heads kOddHeads = {4, 2, 20};

}  // namespace thermocline
