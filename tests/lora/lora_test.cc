// LoRA adapters at run time: against PEFT (tests/golden/families/lora_llama), against models that
// have the adapter in their weights, and against themselves: with sequences that use different
// adapters, neurons skipped, on two tiers, by other numbers of threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "runtime/convert/pack_model.h"
#include "runtime/lora/write_lora.h"
#include "runtime/schedule/scheduler.h"
#include "tests/lora/lora_fixture.h"
#include "tests/lora/lora_models.h"
#include "tests/placement/placements.h"
#include "tests/schedule/collector.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

class LoraGolden : public LoraTest {
 protected:
  Json golden_ = ReadGolden("lora_llama");
  std::vector<int32_t> ids_ = golden_["ids"].get<std::vector<int32_t>>();
  std::string model_ = ImportFamily("llama");

  static std::string PathOf(const Json& adapter) {
    return LoraFamilies() + "lora_llama/" + adapter["adapter"].get<std::string>();
  }
};

TEST_F(LoraGolden, EachAdapterAloneGivesPeftsLogits) {
  for (const Json& adapter : golden_["adapters"]) {
    for (const int64_t batch : {512, 5, 1}) {
      SCOPED_TRACE(PathOf(adapter) + ", batches of " + std::to_string(batch));
      Engine engine(Options(model_, {{PathOf(adapter)}}, "dense", batch));
      const auto early = adapter["early_position"].get<size_t>() + 1;
      EXPECT_LE(LogitGap(engine.Feed(std::span(ids_).first(early)),
                         adapter["logits_early"].get<std::vector<float>>()),
                kTolerance);
      engine.Reset();
      engine.executor().set_keep_hidden(true);
      auto logits = engine.Feed(ids_);
      EXPECT_LE(LogitGap(logits, adapter["logits_last"].get<std::vector<float>>()), kTolerance);
      const auto d_model = static_cast<size_t>(engine.config().d_model);
      for (size_t l = 0; l < adapter["hidden_last_token_per_layer"].size(); ++l) {
        const Json& hidden = adapter["hidden_last_token_per_layer"][l];
        EXPECT_LE(LogitGap(engine.executor().hidden().subspan(l * d_model, d_model),
                           hidden.get<std::vector<float>>()),
                  kTolerance);
      }
      for (const int32_t id : adapter["greedy_ids"].get<std::vector<int32_t>>()) {
        ASSERT_EQ(std::ranges::max_element(logits) - logits.begin(), id);
        logits = engine.Feed({&id, 1});
      }
    }
  }
}

TEST_F(LoraGolden, SeveralAdaptersAtOnceAddUp) {
  const Json& together = golden_["together"];
  std::vector<LoraOption> loras;
  for (const Json& name : together["adapters"]) {
    loras.push_back({LoraFamilies() + "lora_llama/" + name.get<std::string>()});
  }
  Engine engine(Options(model_, loras));
  EXPECT_LE(LogitGap(engine.Feed(ids_), together["logits_last"].get<std::vector<float>>()),
            kTolerance);
}

TEST_F(LoraGolden, EachSequenceOfAPassUsesItsOwnAdapters) {
  std::vector<LoraOption> loras;
  for (const Json& adapter : golden_["adapters"]) loras.push_back({PathOf(adapter)});
  EngineOptions options = Options(model_, loras);
  options.n_sequences = 5;
  Engine engine(options);
  std::vector<SequenceInput> inputs;
  for (int32_t i = 0; i < 4; ++i) {  // the last one without adapters
    const int32_t sequence = engine.sequences().Add();
    const std::vector<int32_t> set = i < 3 ? std::vector<int32_t>{i} : std::vector<int32_t>{};
    engine.sequences().set_adapter_set(sequence, engine.AddAdapterSet(set));
    inputs.push_back({sequence, ids_});
  }
  const auto logits = engine.FeedSequences(inputs);
  const auto vocab = static_cast<size_t>(engine.config().vocab_size);
  for (size_t i = 0; i < 3; ++i) {
    const Json& expected = golden_["adapters"][i]["logits_last"];
    EXPECT_LE(LogitGap(logits.subspan(i * vocab, vocab), expected.get<std::vector<float>>()),
              kTolerance);
  }
  const Json base = ReadGolden("llama");
  EXPECT_LE(LogitGap(logits.subspan(3 * vocab, vocab),
                     base["prompts"][0]["logits_last"].get<std::vector<float>>()),
            kTolerance);
  // A token of each, and of a fork, which keeps its parent's adapters.
  const std::vector<int32_t> next = {golden_["adapters"][0]["greedy_ids"][0].get<int32_t>()};
  inputs.resize(3);
  for (SequenceInput& input : inputs) input.ids = next;
  inputs.push_back({engine.sequences().Fork(inputs[0].sequence), next});
  const auto more = engine.FeedSequences(inputs);
  EXPECT_EQ(LogitGap(more.first(vocab), more.subspan(3 * vocab, vocab)), 0);
  EXPECT_GT(LogitGap(more.first(vocab), more.subspan(vocab, vocab)), 0.1);
  const std::vector<float> together(more.begin(), more.end());
  for (size_t i = 0; i < 3; ++i) {
    Engine alone(Options(model_, {loras[i]}));
    alone.Feed(ids_);
    EXPECT_LE(LogitGap(alone.Feed(next), std::span(together).subspan(i * vocab, vocab)), 1e-4);
  }
}

// Texts with adapters of their own in the same passes, and again with what the cache has of them,
// in the host's memory or in few pages: always PEFT's tokens. Texts of other adapters find nothing.
TEST_F(LoraGolden, TextsOfASchedulerUseTheirOwnAdapters) {
  std::vector<LoraOption> loras;
  for (const Json& adapter : golden_["adapters"]) loras.push_back({PathOf(adapter)});
  for (const int64_t kv_tokens : {0, 96}) {
    EngineOptions options = Options(model_, loras);
    options.n_sequences = 3;
    options.kv_tokens = kv_tokens;
    Engine engine(options);
    std::vector<int32_t> sets;
    for (int32_t i = 0; i < static_cast<int32_t>(loras.size()); ++i) {
      sets.push_back(engine.AddAdapterSet({i}));
    }
    Scheduler scheduler(engine, {.n_slots = 3, .kv_host_bytes = 1 << 20});
    RequestId next_id = 0;
    for (int round = 0; round < 2; ++round) {
      std::vector<std::shared_ptr<Collector>> all;
      for (size_t i = 0; i < sets.size(); ++i) {
        const auto expected = golden_["adapters"][i]["greedy_ids"].get<std::vector<int32_t>>();
        Request request;
        request.prompt = ids_;
        request.sampler.temperature = 0;
        request.max_tokens = static_cast<int64_t>(expected.size());
        request.adapter_set = sets[i];
        all.push_back(std::make_shared<Collector>());
        scheduler.Submit(next_id++, std::move(request), all.back());
      }
      while (scheduler.Step()) {
      }
      for (size_t i = 0; i < sets.size(); ++i) {
        const auto expected = golden_["adapters"][i]["greedy_ids"].get<std::vector<int32_t>>();
        const Collector::Text& text = all[i]->texts[0];
        EXPECT_EQ(text.ids, expected) << "adapter " << i << ", round " << round;
        EXPECT_EQ(text.stats.cached_tokens > 0, round == 1);
      }
    }
  }
}

TEST_F(LoraGolden, NoneOfTheAdaptersIsTheModelItself) {
  const std::vector<float> expected = LogitsOf(Options(model_, {}), ids_);
  Engine engine(Options(model_, {{PathOf(golden_["adapters"][0])}}));
  engine.set_adapters(engine.AddAdapterSet({}));
  const auto logits = engine.Feed(ids_);
  EXPECT_EQ(LogitGap(logits, std::span(expected).first(logits.size())), 0);
}

TEST_F(LoraGolden, TheUsersScaleMultipliesTheAdapter) {
  const std::string path = PathOf(golden_["adapters"][0]);
  const auto whole = LogitsOf(Options(model_, {{path}}), ids_);
  const auto halves = LogitsOf(Options(model_, {{path, 0.5}, {path, 0.5}}), ids_);
  EXPECT_LE(LogitGap(std::span<const float>(halves), whole), kTolerance);
  const auto none = LogitsOf(Options(model_, {{path, 0}}), ids_);
  EXPECT_LE(LogitGap(std::span<const float>(none), LogitsOf(Options(model_, {}), ids_)), 1e-5);
}

TEST_F(LoraGolden, ThePlanCountsWhatTheAdaptersTake) {
  const std::string path = PathOf(golden_["adapters"][0]);
  EngineOptions options = Options(model_, {{path}});
  const OpenedModel opened(options);
  EXPECT_GT(opened.Plan().tiers[0].adapter_bytes, 0U);
  const Engine engine(options);
  const Engine base(Options(model_, {}));
  EXPECT_EQ(engine.allocated_bytes() - base.allocated_bytes(),
            opened.Plan().total_bytes(0) - base.model().Plan().total_bytes(0));
}

// An adapter of all matrices, by a model whose weights have it.
class LoraMerged : public LoraTest, public testing::WithParamInterface<const char*> {};

TEST_P(LoraMerged, GivesTheLogitsOfTheMergedModel) {
  const std::string family = GetParam();
  const std::string source = LoraFamilies() + family;
  const TestTensors tensors = ReadTensors(source);
  const TestAdapter adapter = MakeAdapter(tensors, family == "gpt2");
  ASSERT_FALSE(adapter.factors.empty());
  WriteAdapter(dir_.file("adapter"), adapter.factors);
  std::filesystem::create_directory(dir_.file("merged"));
  std::filesystem::copy(source + "/config.json", dir_.file("merged/config.json"));
  WriteTensors(dir_.file("merged/model.safetensors"), adapter.merged);
  const std::vector<int32_t> ids = PromptOf(family);
  const std::string model = Import(source);
  const auto expected = LogitsOf(Options(Import(dir_.file("merged"), "merged.gguf"), {}), ids);
  for (const char* sparse : {"dense", "auto"}) {
    for (const int64_t batch : {512, 3, 1}) {
      const auto found = LogitsOf(Options(model, {{dir_.file("adapter")}}, sparse, batch), ids);
      EXPECT_LE(LogitGap(std::span<const float>(found), expected), kTolerance)
          << sparse << ", batches of " << batch;
    }
  }
  EXPECT_GT(LogitGap(std::span<const float>(expected), LogitsOf(Options(model, {}), ids)), 0.1);

  // The same as a GGUF adapter.
  const OpenedModel opened(Options(model, {{dir_.file("adapter")}}));
  WriteLora(*opened.loras().front(), opened.config(), opened.family(), dir_.file("adapter.gguf"));
  const auto found = LogitsOf(Options(model, {{dir_.file("adapter.gguf")}}), ids);
  EXPECT_LE(LogitGap(std::span<const float>(found), expected), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Families, LoraMerged,
                         testing::Values("llama", "phi3", "falcon40", "gpt2", "gpt_neox_serial",
                                         "glm4", "opt", "granite", "nemotron", "bitnet"),
                         [](const auto& test) { return std::string(test.param); });

// A ReLU model with an adapter of all matrices.
class LoraSparse : public LoraTest {
 protected:
  LoraSparse() {
    WriteAdapter(adapter_, MakeAdapter(ReadTensors(LoraFamilies() + "llama_relu"), false).factors);
  }
  std::string adapter_ = dir_.file("adapter");
  std::string model_ = ImportFamily("llama_relu");
  std::vector<int32_t> ids_ = PromptOf("llama_relu");
};

TEST_F(LoraSparse, ExactGivesTheBitsOfDense) {
  for (const int64_t batch : {512, 1}) {
    const auto dense = LogitsOf(Options(model_, {{adapter_}}, "dense", batch), ids_);
    EXPECT_EQ(LogitsOf(Options(model_, {{adapter_}}, "exact", batch), ids_), dense);
  }
  Engine engine(Options(model_, {{adapter_}}, "exact", 1));
  engine.Feed(ids_);
  const FfnCount count = engine.executor().counts().Sum();
  EXPECT_LT(count.active, count.gates);
}

TEST_F(LoraSparse, ThreadsChangeNoBit) {
  for (const char* sparse : {"dense", "exact"}) {
    for (const int64_t batch : {512, 3, 1}) {
      EngineOptions options = Options(model_, {{adapter_}}, sparse, batch);
      options.n_threads = 1;
      const auto one = LogitsOf(options, ids_);
      options.n_threads = 3;
      EXPECT_EQ(LogitsOf(options, ids_), one) << sparse << ", batches of " << batch;
    }
  }
}

TEST_F(LoraSparse, SignPredictorRunsWithAdapters) {
  EngineOptions options = Options(model_, {{adapter_}}, "predicted", 1);
  options.predictor = kSignPredictor;
  for (const float logit : LogitsOf(options, ids_)) ASSERT_TRUE(std::isfinite(logit));
}

// Neurons on two tiers of the CPU, in the file's form and packed.
TEST_F(LoraSparse, PlacedAndPackedNeuronsGiveTheSameLogits) {
  const auto expected = LogitsOf(Options(model_, {{adapter_}}), ids_);
  EngineOptions options = Options(model_, {{adapter_}});
  const OpenedModel opened(options);
  options.placement_path = dir_.file("placement.gguf");
  WritePlacement(options.placement_path,
                 ShuffledPlacement(opened.gguf().fingerprint(), opened.config().n_layers,
                                   opened.config().d_ff, 0.4));
  PackOptions pack;
  pack.placement_path = options.placement_path;
  PackModel(model_, dir_.file("packed.gguf"), pack);
  for (const std::string& path : {model_, dir_.file("packed.gguf")}) {
    options.model_path = path;
    options.n_threads = path == model_ ? 1 : 2;  // both tiers by one thread, and one for each
    for (const char* sparse : {"dense", "exact"}) {
      for (const int64_t batch : {512, 1}) {
        options.sparse = sparse;
        options.batch_tokens = batch;
        const auto found = LogitsOf(options, ids_);
        EXPECT_LE(LogitGap(std::span<const float>(found), expected), kTolerance);
      }
    }
  }
}

}  // namespace
}  // namespace thermocline
