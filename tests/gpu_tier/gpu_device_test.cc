// Calls ops of the GPU as a device one by one: what a norm leaves for the product behind it,
// neurons that a predictor names, the best tokens.
#include "gpu_kernels/base/gpu_support.h"
#include "runtime/device/gpu/make_gpu_device.h"
#include "runtime/device/kv_cache.h"
#include "runtime/model/families.h"
#include "tests/gpu_kernels/random_values.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"

namespace thermocline {
namespace {

constexpr int64_t kMaxTokens = 16;

// A small model on the GPU, with the sign bits of its gates.
class GpuDeviceTest : public GpuTier {
 protected:
  void SetUp() override {
    GpuTier::SetUp();
    if (IsSkipped()) return;
    gguf_ = std::make_unique<GgufReader>(Golden("gqa_relu"));
    const Family& family = FindFamily(*gguf_);
    config_ = ReadModelConfig(*gguf_, family);
    predictor_ =
        std::make_unique<ModelPredictor>(std::string(kSignPredictor), 0.95, *gguf_, config_);
    device_ = MakeGpuDevice("gpu",
                            {&config_, kMaxTokens, 64, config_.d_ff, true, predictor_->max_rank()});
    gpu_ = device_->queued();
    Device* const tiers[] = {device_.get()};
    loaded_ = LoadWeights(*gguf_, family, config_, LoadOptions{}, tiers);
    signs_ = predictor_->Load(loaded_->weights, tiers, false, 2);
  }
  static bool IsSkipped() { return testing::Test::IsSkipped(); }

  float* Floats(int64_t n) {
    return static_cast<float*>(
        device_->Allocate(static_cast<uint64_t>(n) * sizeof(float), "a test"));
  }
  float* Uploaded(const std::vector<float>& values) {
    float* memory = Floats(static_cast<int64_t>(values.size()));
    device_->Upload(memory, values.data(), values.size() * sizeof(float));
    return memory;
  }
  std::vector<float> Read(const float* from, int64_t n) {
    gpu_->Finish();
    std::vector<float> values(static_cast<size_t>(n));
    gpu_->Download(values.data(), from, values.size() * sizeof(float));
    return values;
  }
  std::vector<float> RandomTokens(int64_t n_tokens, int64_t width, uint32_t seed) {
    return RandomValues(static_cast<size_t>(n_tokens * width), seed);
  }

  // A pass of n rows of one sequence, of which nothing is embedded.
  void BeginPass(int64_t n) {
    batch_.rows.assign(static_cast<size_t>(n), BatchRow{});
    for (int64_t i = 0; i < n; ++i) batch_.rows[static_cast<size_t>(i)].position = i;
    batch_.sequences = {{.tables = {{0, pages_}}}};
    segments_ = batch_.Segments();
    gpu_->BeginPass(batch_, segments_, nullptr);
  }

  struct FfnResult {
    std::vector<float> h;
    std::vector<float> y;
    FfnCount count;
  };
  // Runs the FFN of the first layer. x: (n_tokens, d_model).
  FfnResult Ffn(const std::vector<float>& x, bool predicted, bool audit = false) {
    const auto n = static_cast<int64_t>(x.size()) / config_.d_model;
    FfnSlice slice = loaded_->weights.layers[0].slices[0];
    if (plain_) slice.up = {};
    const FfnState state{Floats(n * slice.n_neurons), Floats(n * slice.n_neurons),
                         Floats(n * config_.d_model)};
    const float* x_gpu = Uploaded(x);
    FfnOp op{.slice = &slice, .layer = 0, .activation = config_.activation};
    op.skip_inactive = true;
    op.predictor = predicted ? &signs_.layers[0][0] : nullptr;
    op.predictor_x = x_gpu;
    op.audit = audit;
    BeginPass(n);
    device_->Ffn(Lane{}, op, x_gpu, n, state);
    FfnResult result;
    result.h = Read(state.gate, n * slice.n_neurons);
    result.y = Read(state.y, n * config_.d_model);
    result.count = gpu_->CountOf(0);
    return result;
  }
  // Returns the neurons that the CPU names for a token.
  std::vector<bool> NamedByTheCpu(const float* x) {
    const Family& family = FindFamily(*gguf_);
    SignRows rows(
        CpuKernels(),
        gguf_->RequireMatrix(LayerTensorName(RowOf(family.tensors, TensorRole::kGate).name, 0),
                             config_.d_ff, config_.d_model),
        nullptr);
    rows.Pack(0, config_.d_ff);
    SignInput input;
    rows.Prepare(x, &input);
    std::vector<int32_t> counts(static_cast<size_t>(config_.d_ff));
    std::vector<float> scores(counts.size());
    rows.Score(input, 0, config_.d_ff, counts.data(), scores.data());
    std::vector<bool> named;
    const float threshold = signs_.layers[0][0].layer.points.front().predictor_threshold;
    for (const float score : scores) named.push_back(score > threshold);
    return named;
  }

  void ExpectSignsToNameWhatTheCpuNames();

  std::unique_ptr<GgufReader> gguf_;
  ModelConfig config_;
  std::unique_ptr<ModelPredictor> predictor_;
  std::unique_ptr<Device> device_;
  QueuedDevice* gpu_ = nullptr;
  std::unique_ptr<LoadedWeights> loaded_;
  LoadedPredictor signs_;
  bool plain_ = false;  // the FFN has no up
  std::vector<int32_t> pages_ = {0, 1};
  Batch batch_;
  std::vector<BatchSegment> segments_;
};

void GpuDeviceTest::ExpectSignsToNameWhatTheCpuNames() {
  ASSERT_TRUE(signs_.layers[0][0].runs);
  const auto m = static_cast<size_t>(config_.d_ff);
  const std::vector<float> x = RandomTokens(5, config_.d_model, 1);
  const FfnResult all = Ffn(x, false);
  const FfnResult predicted = Ffn(x, true, true);
  FfnCount expected{.tokens = 5};
  for (size_t t = 0; t < 5; ++t) {
    const std::vector<bool> named =
        NamedByTheCpu(x.data() + t * static_cast<size_t>(config_.d_model));
    for (size_t i = 0; i < m; ++i) {
      const float h = all.h[t * m + i];
      ASSERT_EQ(predicted.h[t * m + i], named[i] ? h : 0) << "token " << t << ", neuron " << i;
      expected.gates += named[i] ? 1 : 0;
      if (h != 0) ++(named[i] ? expected.hits : expected.missed);
    }
  }
  EXPECT_EQ(predicted.count.tokens, expected.tokens);
  EXPECT_EQ(predicted.count.gates, expected.gates);
  EXPECT_EQ(predicted.count.active, expected.hits);
  EXPECT_EQ(predicted.count.hits, expected.hits);
  EXPECT_EQ(predicted.count.missed, expected.missed);
  EXPECT_EQ(all.count.active, expected.hits + expected.missed);
  EXPECT_GT(expected.missed, 0);  // so that the two differ
}

TEST_F(GpuDeviceTest, SignsNameTheNeuronsThatTheCpuNames) { ExpectSignsToNameWhatTheCpuNames(); }

TEST_F(GpuDeviceTest, SoTheyDoInAPlainFfn) {
  plain_ = true;
  ExpectSignsToNameWhatTheCpuNames();
}

// What another token of the pass wants changes nothing.
TEST_F(GpuDeviceTest, ATokensPredictedFfnIsTheSameBitsInEveryBatch) {
  const int64_t d = config_.d_model;
  const std::vector<float> x = RandomTokens(kMaxTokens, d, 2);
  for (const int64_t n : {2, 5, 9, 16}) {
    const FfnResult batch = Ffn({x.begin(), x.begin() + n * d}, true, true);
    FfnCount sum;
    for (int64_t t = 0; t < n; ++t) {
      const FfnResult one = Ffn({x.begin() + t * d, x.begin() + (t + 1) * d}, true, true);
      EXPECT_EQ(one.y, std::vector<float>(batch.y.begin() + t * d, batch.y.begin() + (t + 1) * d))
          << "token " << t << " of " << n;
      sum.Add(one.count);
    }
    EXPECT_EQ(batch.count.gates, sum.gates);
    EXPECT_EQ(batch.count.active, sum.active);
    EXPECT_EQ(batch.count.hits, sum.hits);
    EXPECT_EQ(batch.count.missed, sum.missed);
  }
}

// A product behind a norm reads the vectors that the norm has prepared, and those are dropped when
// something else may have been written: either way it is the product of what lies there.
TEST_F(GpuDeviceTest, AProductReadsWhatLiesInItsInputNow) {
  const int64_t d = config_.d_model;
  const LayerWeights& w = loaded_->weights.layers[0];
  const int64_t rows = w.wq.w.rows;
  for (const int64_t n : {1, 3}) {
    const float* x = Uploaded(RandomTokens(n, d, 3));
    const std::vector<float> other = RandomTokens(n, d, 4);
    float* normed = Floats(n * d);
    float* q = Floats(n * rows);
    const LinearOp ops[] = {{&w.wq, q}};
    const auto product = [&](const float* of) {
      device_->Linear(Lane{}, ops, of, n);
      return Read(q, n * rows);
    };
    const NormOp rms{NormKind::kRms, w.attn_norm, 1e-5F};
    const auto norm = [&] { device_->Norm(Lane{}, rms, x, n, d, normed); };
    BeginPass(n);
    norm();
    const auto behind_norm = product(normed);
    EXPECT_EQ(product(normed), behind_norm);  // prepared apart
    const auto of_other = product(Uploaded(other));
    EXPECT_NE(of_other, behind_norm);
    norm();
    device_->Upload(normed, other.data(), other.size() * sizeof(float));
    EXPECT_EQ(product(normed), of_other);

    // This is x += y, where x and y are in use again behind it.
    float* sum = Uploaded(RandomTokens(n, d, 3));
    const float* y = Uploaded(RandomTokens(n, d, 5));
    device_->AddNorm(Lane{}, rms, sum, y, n, d, normed);
    const auto behind_sum = product(normed);
    norm();
    device_->Norm(Lane{}, rms, sum, n, d, normed);
    EXPECT_EQ(product(normed), behind_sum);
    const float* const ys[] = {y};
    norm();
    device_->Add(Lane{}, normed, ys, n * d);
    const auto of_sum = product(normed);
    EXPECT_NE(of_sum, behind_norm);
    EXPECT_EQ(product(Uploaded(Read(normed, n * d))), of_sum);
  }
}

TEST_F(GpuDeviceTest, FindsTheBestOfARow) {
  std::vector<float> logits = RandomValues(static_cast<size_t>(config_.vocab_size), 6);
  logits[3] = logits[40] = 7;  // a tie
  logits[5] = std::numeric_limits<float>::infinity();
  const float* on_gpu = Uploaded(logits);
  std::vector<TokenLogit> expected;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (i != 5) expected.push_back({static_cast<int32_t>(i), logits[i]});
  }
  std::ranges::stable_sort(expected, std::ranges::greater(), &TokenLogit::logit);
  EXPECT_EQ(gpu_->max_best(), std::min<int64_t>(config_.vocab_size, 1024));
  for (const int64_t k : {int64_t{1}, int64_t{2}, int64_t{41}, gpu_->max_best()}) {
    gpu_->FindBest(on_gpu, 1, k);
    gpu_->Finish();
    const std::vector<TokenLogit> best = gpu_->Best(0, k);
    ASSERT_EQ(best.size(), std::min(static_cast<size_t>(k), expected.size()));
    for (size_t i = 0; i < best.size(); ++i) {
      EXPECT_EQ(best[i].id, expected[i].id) << i << " of " << k;
      EXPECT_EQ(best[i].logit, expected[i].logit);
    }
  }
}

}  // namespace
}  // namespace thermocline
