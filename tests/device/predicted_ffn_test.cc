// The FFN where a predictor names the neurons: which are computed, what comes out, what is counted.
#include "predictor/scorer.h"
#include "tests/device/ffn_fixture.h"

namespace thermocline {
namespace {

constexpr int64_t kRank = 32;

// A random predictor that names about `density` of the neurons, and which it names for each token.
class RandomPredictor {
 public:
  RandomPredictor(const Ffn& ffn, int64_t n_neurons, int64_t d_model, bool relu, double density)
      : rng_(17),
        in_(RandomRows(DType::kQ8_0, kRank, d_model, 0, &rng_)),
        out_(RandomRows(DType::kQ8_0, n_neurons, kRank, 0, &rng_)),
        bias_(static_cast<size_t>(n_neurons), 0.0F) {
    LayerPredictor& layer = predictor_.layer;
    layer.in_proj = DenseView(in_.data(), DType::kQ8_0, kRank, d_model);
    layer.out_proj = DenseView(out_.data(), DType::kQ8_0, n_neurons, kRank);
    layer.relu = relu;
    layer.points = {{.bias = bias_.data()}};
    predictor_.runs = true;
    LowRankScorer scorer(ffn.kernels(), layer);
    std::vector<std::vector<float>> scores;
    std::vector<float> all;
    for (int64_t t = 0; t < kListMaxTokens; ++t) {
      scores.emplace_back(static_cast<size_t>(n_neurons));
      scorer.Score(ffn.predictor_x(t), scores.back().data());
      all.insert(all.end(), scores.back().begin(), scores.back().end());
    }
    std::sort(all.begin(), all.end(), std::greater<>());
    const float cut = all[static_cast<size_t>(density * static_cast<double>(all.size() - 1))];
    std::fill(bias_.begin(), bias_.end(), -cut);
    for (const auto& of_token : scores) {
      named_.emplace_back();
      for (const float score : of_token) named_.back().push_back(score + -cut > 0);
    }
  }

  const SlicePredictor& get() const { return predictor_; }
  bool Names(int64_t token, int64_t neuron) const {
    return named_[static_cast<size_t>(token)][static_cast<size_t>(neuron)];
  }
  int64_t CountNamed(int64_t n_tokens) const {
    int64_t count = 0;
    for (int64_t t = 0; t < n_tokens; ++t) {
      const auto& named = named_[static_cast<size_t>(t)];
      count += std::count(named.begin(), named.end(), true);
    }
    return count;
  }

 private:
  std::mt19937 rng_;
  std::vector<std::byte> in_;
  std::vector<std::byte> out_;
  std::vector<float> bias_;
  std::vector<std::vector<bool>> named_;
  SlicePredictor predictor_;
};

const std::vector<FfnCase> kPredictedCases = {
    {DType::kF32, DType::kF32, DType::kF32, 100, 96},
    {DType::kQ8_0, DType::kF16, DType::kF32, 333, 128, Activation::kRelu, true},
    {DType::kF16, DType::kQ4_0, DType::kQ8_0, 257, 160, Activation::kRelu, true, true},
    {DType::kQ4_0, DType::kQ4_0, DType::kQ4_0, 2000, 96, Activation::kRelu, true},
    {DType::kF16, DType::kF16, DType::kF16, 1, 32, Activation::kRelu, true},
    {.gate = DType::kQ8_0,
     .up = DType::kQ8_0,
     .down = DType::kQ4_0,
     .n_neurons = 1600,
     .d_model = 128,
     .bias = true,
     .up_bias = true,
     .relu_up = true,
     .alike = true},
    {.gate = DType::kQ4_1,
     .up = DType::kQ8_0,
     .down = DType::kQ4_1,
     .n_neurons = 1601,
     .d_model = 128,
     .bias = true,
     .activation_bits = 16},
};

class PredictedFfn : public ::testing::TestWithParam<FfnCase> {
 protected:
  PredictedFfn() : ffn_(GetParam()) {}
  RandomPredictor Predictor(double density, bool relu = false) const {
    return {ffn_, GetParam().n_neurons, GetParam().d_model, relu, density};
  }
  Ffn ffn_;
};

// So few neurons are named that no part of them is computed whole.
TEST_P(PredictedFfn, ComputesTheNamedNeuronsOnly) {
  for (const bool relu : {false, true}) {
    const RandomPredictor predictor = Predictor(0.1, relu);
    for (const int64_t n : {1, 2, 3, 4, 8, 16}) {
      const FfnResult result = ffn_.Run({.n = n, .predictor = &predictor.get()});
      EXPECT_EQ(result.count.tokens, n);
      // A part in which most neurons are named is computed whole, which happens to the slice of one
      // neuron at times.
      if (GetParam().n_neurons < 32) continue;
      EXPECT_EQ(result.count.gates, predictor.CountNamed(n));
      EXPECT_EQ(result.n_active, ffn_.ExpectMatchesDouble(result, n, [&](int64_t t, int64_t i) {
        return predictor.Names(t, i);
      }));
    }
  }
}

TEST_P(PredictedFfn, WhereMostAreNamedAllAreComputed) {
  const RandomPredictor predictor = Predictor(1);
  for (const int64_t n : {1, 3}) {
    const FfnResult exact = ffn_.Run({.n = n, .exact = true});
    const FfnResult result = ffn_.Run({.n = n, .predictor = &predictor.get()});
    EXPECT_EQ(result.y, exact.y);
    EXPECT_EQ(result.count.gates, exact.count.gates);
    EXPECT_EQ(result.n_active, exact.n_active);
  }
}

TEST_P(PredictedFfn, LanesAndTokensBesideItChangeNoBitOfAToken) {
  const RandomPredictor predictor = Predictor(0.3);
  const auto d_model = static_cast<std::ptrdiff_t>(GetParam().d_model);
  for (const int64_t n : {1, 3, 8, 16}) {
    const FfnResult one = ffn_.Run({.n = n, .n_lanes = 1, .predictor = &predictor.get()});
    for (int n_lanes = 2; n_lanes <= 5; ++n_lanes) {
      EXPECT_EQ(ffn_.Run({.n = n, .n_lanes = n_lanes, .predictor = &predictor.get()}).y, one.y);
    }
    for (int64_t t = 0; t < n; ++t) {
      const auto at = one.y.begin() + t * d_model;
      EXPECT_EQ(ffn_.Run({.first = t, .predictor = &predictor.get()}).y,
                std::vector<float>(at, at + d_model))
          << "token " << t << " of " << n;
    }
  }
}

TEST_P(PredictedFfn, AuditCountsWhatIsMissed) {
  const RandomPredictor predictor = Predictor(0.3);
  for (const int64_t n : {1, 5}) {
    const int64_t n_active = [&] {
      int64_t sum = 0;
      for (int64_t t = 0; t < n; ++t) sum += ffn_.Run({.exact = true, .first = t}).n_active;
      return sum;
    }();
    const FfnResult plain = ffn_.Run({.n = n, .predictor = &predictor.get()});
    const FfnResult audited = ffn_.Run({.n = n, .predictor = &predictor.get(), .audit = true});
    EXPECT_EQ(audited.y, plain.y);
    EXPECT_EQ(audited.count.hits, plain.n_active);
    EXPECT_EQ(audited.count.hits + audited.count.missed, n_active);
    EXPECT_EQ(plain.count.hits + plain.count.missed, 0);
  }
}

TEST_P(PredictedFfn, SignBitsNameNeurons) {
  const FfnCase& c = GetParam();
  SignRows rows(CpuKernels(), ffn_.slice().gate, ffn_.slice().gate_bias);
  rows.Pack(0, c.n_neurons);
  SlicePredictor predictor;
  predictor.signs = &rows;
  predictor.layer.points = {{.predictor_threshold = 0.15F * static_cast<float>(c.d_model)}};
  predictor.runs = true;
  SignInput input;
  std::vector<int32_t> counts(static_cast<size_t>(c.n_neurons));
  std::vector<float> scores(static_cast<size_t>(c.n_neurons));
  for (const int64_t n : {1, 16}) {
    int64_t n_named = 0;
    for (int64_t t = 0; t < n; ++t) {
      rows.Prepare(ffn_.predictor_x(t), &input);
      rows.Score(input, 0, c.n_neurons, counts.data(), scores.data());
      n_named += std::count_if(scores.begin(), scores.end(), [&](float score) {
        return score > predictor.layer.points[0].predictor_threshold;
      });
    }
    const FfnResult result = ffn_.Run({.n = n, .predictor = &predictor});
    EXPECT_EQ(ffn_.Run({.n = n, .n_lanes = 3, .predictor = &predictor}).y, result.y);
    if (c.n_neurons >= 32) {
      EXPECT_EQ(result.count.gates, n_named);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, PredictedFfn, ::testing::ValuesIn(kPredictedCases),
                         [](const auto& test) {
                           const FfnCase& c = test.param;
                           return std::string(DTypeName(c.gate)) + "_" +
                                  std::to_string(c.n_neurons);
                         });

}  // namespace
}  // namespace thermocline
