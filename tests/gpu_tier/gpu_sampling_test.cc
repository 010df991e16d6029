// Compares sampling from the best few logits, which the GPU finds, with sampling from all of them:
// the tokens are the same for every setting and seed.
#include <map>

#include "runtime/engine/generate.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"

namespace thermocline {
namespace {

class GpuSampling : public GpuTier {
 protected:
  static std::vector<int32_t> Prompt(Engine& engine) {
    return engine.tokenizer().Encode("The old man and the");
  }
  std::unique_ptr<Engine> OpenDemo() {
    return Open({.model = DemoFile("classics-9m-relu-q8_0.gguf")});
  }
};

// Returns every setting that is tried on the same logits.
std::vector<SamplerOptions> Settings() {
  std::vector<SamplerOptions> all;
  for (const float temperature : {0.0F, 0.3F, 0.8F, 2.5F}) {
    for (const int32_t top_k : {0, 1, 5, 40, 300}) {
      for (const float top_p : {0.5F, 0.95F, 1.0F}) {
        for (const float min_p : {0.0F, 0.05F, 0.4F}) {
          for (const float penalty : {0.8F, 1.0F, 1.3F}) {
            SamplerOptions options;
            options.temperature = temperature;
            options.top_k = top_k;
            options.top_p = top_p;
            options.min_p = min_p;
            options.repeat_penalty = penalty;
            options.repeat_last_n = 16;
            all.push_back(options);
          }
        }
      }
    }
  }
  return all;
}

TEST_F(GpuSampling, TheBestFewGiveTheTokensThatAllGive) {
  const auto engine = OpenDemo();
  const std::vector<int32_t> prompt = Prompt(*engine);
  const auto found = engine->Feed(prompt);
  const std::vector<float> logits(found.begin(), found.end());
  ASSERT_GT(engine->max_best(), 400);
  ASSERT_LT(engine->max_best(), engine->config().vocab_size);
  int n_by_best = 0;
  std::map<int64_t, std::vector<TokenLogit>> best_by_k;
  for (SamplerOptions options : Settings()) {
    const int64_t k = Sampler(options).n_deciding();
    EXPECT_EQ(k == 0,
              options.repeat_penalty < 1 || (options.temperature != 0 && options.top_k == 0));
    if (k == 0) continue;
    ++n_by_best;
    std::vector<TokenLogit>& best = best_by_k[k];
    if (best.empty()) {
      engine->Reset();
      const auto found_best = engine->FeedBest(prompt, k);
      best.assign(found_best.begin(), found_best.end());
    }
    ASSERT_EQ(best.size(), static_cast<size_t>(k));
    for (uint64_t seed = 0; seed < 6; ++seed) {
      options.seed = seed;
      Sampler from_all(options);
      Sampler from_best(options);
      for (int i = 0; i < 8; ++i) {  // each drawn token counts for the penalty of the next
        const int32_t id = from_all.Sample(logits);
        ASSERT_EQ(from_best.SampleBest(best, k), id)
            << "seed " << seed << ", --temp " << options.temperature << " --top-k " << options.top_k
            << " --top-p " << options.top_p << " --min-p " << options.min_p << " --repeat-penalty "
            << options.repeat_penalty;
        from_all.Accept(id);
        from_best.Accept(id);
      }
    }
  }
  EXPECT_GT(n_by_best, 100);
}

// Generated text is compared with a loop that samples from all logits.
TEST_F(GpuSampling, GeneratedTextIsThatOfSamplingFromAllLogits) {
  constexpr int kTokens = 5;
  const auto engine = OpenDemo();
  const std::vector<int32_t> prompt = Prompt(*engine);
  SamplerOptions all_needed;
  all_needed.top_k = 0;
  SamplerOptions greedy;
  greedy.temperature = 0;
  SamplerOptions hot;
  hot.temperature = 2;
  hot.repeat_penalty = 1.2F;
  for (const SamplerOptions& options : {all_needed, greedy, hot, SamplerOptions{}}) {
    Generator generator(*engine, options);
    std::string text;
    generator.Continue(prompt, kTokens, [&](std::string_view part) { text += part; });

    engine->Reset();
    Sampler sampler(options);
    for (const int32_t id : prompt) sampler.Accept(id);
    StreamDecoder decoder(engine->tokenizer(), false);
    std::string expected;
    auto logits = engine->Feed(prompt);
    for (int i = 0; i < kTokens; ++i) {
      const int32_t id = sampler.Sample(logits);
      if (engine->tokenizer().EndsText(id)) break;
      sampler.Accept(id);
      expected += decoder.Push(id);
      logits = engine->Feed({&id, 1});
    }
    EXPECT_EQ(text, expected + decoder.Finish()) << "--temp " << options.temperature;
  }
}

}  // namespace
}  // namespace thermocline
