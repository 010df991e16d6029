// LoRA adapters with a GPU as the fast tier: against PEFT (tests/golden/families/lora_llama),
// against the CPU, and against themselves: sequences of a pass that use different adapters, in
// batches and in passes that are kept, neurons skipped, named by a predictor, on two tiers, of a
// quantised model.
#include <algorithm>

#include "runtime/convert/quantize_model.h"
#include "tests/gpu_kernels/gpu_test.h"
#include "tests/lora/lora_fixture.h"
#include "tests/lora/lora_models.h"
#include "tests/placement/placements.h"
#include "tests/powerinfer/powerinfer_files.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

// Of a prompt of 40 a batch, and what is kept: a pass of 16. Single tokens are kept, too.
constexpr int64_t kBothKinds = 24;
// What keys and values in f16 move the goldens' logits by.
constexpr double kHalvesTolerance = 0.03;
// What another order of sums moves logits by where it tips such a rounding.
constexpr double kOrderOfSums = 5e-3;

class GpuLora : public LoraTest {
 protected:
  void SetUp() override {
    const GpuSupport support = QueryGpuSupport();
    if (!support.available) GTEST_SKIP() << "no GPU: " << support.reason;
  }

  // The GPU stores no keys and values in f32: of a comparison both sides round them to f16.
  static EngineOptions On(FastTier tier, const std::string& model, std::vector<LoraOption> loras,
                          const std::string& sparse = "dense", int64_t batch_tokens = kBothKinds) {
    EngineOptions options = Options(model, std::move(loras), sparse, batch_tokens);
    options.fast_tier = tier;
    options.cache_type = DType::kF16;
    options.n_threads = 2;
    options.gpu_stream = StreamCold::kAuto;
    return options;
  }
  static EngineOptions OnGpu(const std::string& model, std::vector<LoraOption> loras,
                             const std::string& sparse = "dense",
                             int64_t batch_tokens = kBothKinds) {
    return On(FastTier::kGpu, model, std::move(loras), sparse, batch_tokens);
  }
  std::vector<LoraOption> GoldenLoras() const {
    std::vector<LoraOption> loras;
    for (const auto& adapter : golden_["adapters"]) {
      loras.push_back({LoraFamilies() + "lora_llama/" + adapter["adapter"].get<std::string>()});
    }
    return loras;
  }

  nlohmann::json golden_ = ReadGolden("lora_llama");
  std::vector<int32_t> ids_ = golden_["ids"].get<std::vector<int32_t>>();
};

// Keys and values in f16 move these logits from PEFT's by as much on the CPU, which with f32 gives
// PEFT's (tests/lora).
TEST_F(GpuLora, EachAdapterAloneGivesTheCpusLogitsAndPeftsTokens) {
  const std::string model = ImportFamily("llama");
  const auto loras = GoldenLoras();
  for (size_t i = 0; i < loras.size(); ++i) {
    const auto& adapter = golden_["adapters"][i];
    SCOPED_TRACE(loras[i].path);
    Engine engine(OnGpu(model, {loras[i]}));
    Engine cpu(On(FastTier::kCpu, model, {loras[i]}));
    auto logits = engine.Feed(ids_);
    const auto expected = cpu.Feed(ids_);
    EXPECT_LE(LogitGap(logits, expected), kTolerance);
    const auto pefts = adapter["logits_last"].get<std::vector<float>>();
    EXPECT_LE(LogitGap(logits, pefts), LogitGap(expected, pefts) + kTolerance);
    EXPECT_LE(LogitGap(logits, pefts), kHalvesTolerance);
    if (i > 0) continue;
    for (const int32_t id : adapter["greedy_ids"].get<std::vector<int32_t>>()) {
      ASSERT_EQ(std::ranges::max_element(logits) - logits.begin(), id);
      logits = engine.Feed({&id, 1});
    }
  }
}

// Prompts go as a batch, tokens as passes that are kept: of 4 rows one graph, whatever each uses.
TEST_F(GpuLora, EachSequenceOfAPassUsesItsOwnAdapters) {
  const std::string model = ImportFamily("llama");
  ids_.resize(18);
  const auto loras = GoldenLoras();
  EngineOptions options = OnGpu(model, loras);
  options.n_sequences = 5;
  options.batch_tokens = 128;
  Engine engine(options);
  std::vector<int32_t> sets;
  for (int32_t i = 0; i < 3; ++i) sets.push_back(engine.AddAdapterSet({i}));
  sets.push_back(engine.AddAdapterSet({}));
  std::vector<SequenceInput> inputs;
  for (const int32_t set : sets) {
    const int32_t sequence = engine.sequences().Add();
    engine.sequences().set_adapter_set(sequence, set);
    inputs.push_back({sequence, ids_});
  }
  const auto vocab = static_cast<size_t>(engine.config().vocab_size);
  std::vector<std::unique_ptr<Engine>> alone;
  for (const auto& lora : loras) alone.push_back(std::make_unique<Engine>(OnGpu(model, {lora})));
  alone.push_back(std::make_unique<Engine>(OnGpu(model, {})));
  const auto expect_each = [&](std::span<const float> together, size_t turn,
                               std::span<const int32_t> ids) {
    const std::vector<float> found(together.begin(), together.end());
    for (size_t i = 0; i < alone.size(); ++i) {
      EXPECT_LE(LogitGap(alone[i]->Feed(ids), std::span(found).subspan(i * vocab, vocab)), 1e-4)
          << "sequence " << i << ", turn " << turn;
    }
  };
  expect_each(engine.FeedSequences(inputs), 0, ids_);
  // The same pass, with the same graph, while sequences take other adapters.
  std::vector<int32_t> next(1);
  for (size_t turn = 1; turn <= 2; ++turn) {
    next[0] = static_cast<int32_t>(40 + turn);
    for (SequenceInput& input : inputs) input.ids = next;
    expect_each(engine.FeedSequences(inputs), turn, next);
  }
  std::vector<float> before;
  for (const size_t shift : {0, 1, 0}) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      const int32_t sequence = inputs[i].sequence;
      engine.sequences().Truncate(sequence, static_cast<int64_t>(ids_.size()));
      engine.sequences().set_adapter_set(sequence, sets[(i + shift) % sets.size()]);
    }
    const auto logits = engine.FeedSequences(inputs);
    if (before.empty()) before.assign(logits.begin(), logits.end());
    if (shift == 0) {
      EXPECT_EQ(LogitGap(logits, before), 0);
    } else {
      EXPECT_GT(LogitGap(logits, before), 0.05);
    }
  }
}

TEST_F(GpuLora, NoneOfTheAdaptersIsTheModelItself) {
  const std::string model = ImportFamily("llama");
  const std::vector<float> expected = LogitsOf(OnGpu(model, {}), ids_);
  Engine engine(OnGpu(model, {GoldenLoras()[0]}));
  // Once with the adapter, so that graphs of both kinds are kept.
  engine.Feed(ids_);
  engine.Reset();
  engine.set_adapters(engine.AddAdapterSet({}));
  const auto logits = engine.Feed(ids_);
  EXPECT_EQ(LogitGap(logits, std::span(expected).first(logits.size())), 0);
}

TEST_F(GpuLora, ThePlanCountsWhatTheAdaptersTakeInVram) {
  const std::string model = ImportFamily("llama");
  const EngineOptions options = OnGpu(model, GoldenLoras());
  const Engine engine(options);
  const Engine base(OnGpu(model, {}));
  EXPECT_EQ(engine.allocated_bytes() - base.allocated_bytes(),
            engine.model().Plan().total_bytes(0) - base.model().Plan().total_bytes(0));
  EXPECT_GT(engine.model().Plan().tiers[0].adapter_bytes, 0U);
}

TEST_F(GpuLora, StreamingThatAdaptersRuleOutIsRefused) {
  EngineOptions options = OnGpu(ImportFamily("llama"), {GoldenLoras()[0]});
  options.gpu_stream = StreamCold::kOn;
  EXPECT_NE(MessageOf([&] { const OpenedModel opened(options); }).find("not streamed to the GPU"),
            std::string::npos);
}

// Models with an adapter of all matrices, random: the GPU gives the CPU's logits.
class GpuLoraModels : public GpuLora {
 protected:
  void Prepare(const std::string& family) {
    const std::string source = LoraFamilies() + family;
    WriteAdapter(adapter_, MakeAdapter(ReadTensors(source), family == "gpt2").factors);
    model_ = Import(source);
    ids_ = PromptOf(family);
  }
  EngineOptions Of(FastTier tier, const std::string& sparse, int64_t batch = kBothKinds) const {
    return On(tier, model_, {{adapter_}}, sparse, batch);
  }
  void ExpectTheCpusLogits(const EngineOptions& options, double tolerance = kTolerance) const {
    EngineOptions cpu = options;
    cpu.fast_tier = FastTier::kCpu;
    cpu.gpu_stream = StreamCold::kAuto;
    const auto expected = LogitsOf(cpu, ids_);
    const auto found = LogitsOf(options, ids_);
    EXPECT_LE(LogitGap(std::span<const float>(found), expected), tolerance)
        << options.model_path << ", " << options.sparse << ", batches of " << options.batch_tokens;
    EngineOptions base = cpu;
    base.loras.clear();
    EXPECT_GT(LogitGap(std::span<const float>(LogitsOf(base, ids_)), expected), 0.1);
  }
  void Place(EngineOptions* options) const {
    const OpenedModel opened(*options);
    options->placement_path = dir_.file("placement.gguf");
    WritePlacement(options->placement_path,
                   ShuffledPlacement(opened.gguf().fingerprint(), opened.config().n_layers,
                                     opened.config().d_ff, 0.4));
  }

  std::string adapter_ = dir_.file("adapter");
  std::string model_;
};

// Fused matrices, plain FFNs, parallel blocks, norms behind: each target of each form.
TEST_F(GpuLoraModels, EveryTargetOfEveryFormIsTheCpus) {
  for (const char* family : {"phi3", "falcon40", "glm4", "opt"}) {
    Prepare(family);
    ExpectTheCpusLogits(Of(FastTier::kGpu, "auto"), kOrderOfSums);
  }
}

TEST_F(GpuLoraModels, ExactIsDenseAndSkips) {
  Prepare("llama_relu");
  EXPECT_EQ(LogitsOf(Of(FastTier::kGpu, "exact"), ids_),
            LogitsOf(Of(FastTier::kGpu, "dense"), ids_));
  ExpectTheCpusLogits(Of(FastTier::kGpu, "exact"));
  // Passes of a token are counted.
  Engine engine(Of(FastTier::kGpu, "exact", 1));
  Engine cpu(Of(FastTier::kCpu, "exact", 1));
  ids_.resize(8);
  engine.Feed(ids_);
  cpu.Feed(ids_);
  const FfnCount count = engine.executor().counts().Sum();
  EXPECT_LT(count.active, count.gates);
  EXPECT_EQ(count.gates, cpu.executor().counts().Sum().gates);
  EXPECT_NEAR(static_cast<double>(count.active),
              static_cast<double>(cpu.executor().counts().Sum().active), 2);
}

TEST_F(GpuLoraModels, HotNeuronsOnTheGpuAndColdOnesOnTheCpu) {
  Prepare("llama_relu");
  for (const char* sparse : {"dense", "exact"}) {
    EngineOptions options = Of(FastTier::kGpu, sparse);
    Place(&options);
    ExpectTheCpusLogits(options);
  }
  const EngineOptions whole = Of(FastTier::kGpu, "exact");
  EngineOptions split = whole;
  Place(&split);
  const auto expected = LogitsOf(whole, ids_);
  EXPECT_LE(LogitGap(std::span<const float>(LogitsOf(split, ids_)), expected), kTolerance);
  const Engine engine(split);
  const Engine base([&] {
    EngineOptions options = split;
    options.loras.clear();
    return options;
  }());
  for (size_t tier = 0; tier < 2; ++tier) {
    EXPECT_GT(engine.model().Plan().tiers[tier].adapter_bytes, 0U);
  }
  const auto planned = [](const Engine& e) {
    return e.model().Plan().total_bytes(0) + e.model().Plan().total_bytes(1);
  };
  EXPECT_EQ(engine.allocated_bytes() - base.allocated_bytes(), planned(engine) - planned(base));
}

// Gates of predicted neurons have what the adapter adds, and an audit looks at such gates.
TEST_F(GpuLoraModels, PredictedNeuronsGateWithTheAdapter) {
  Prepare("llama_relu");
  EngineOptions options = Of(FastTier::kGpu, "predicted", 1);
  options.predictor = kSignPredictor;
  Engine gpu(options);
  options.fast_tier = FastTier::kCpu;
  Engine cpu(options);
  for (Engine* engine : {&gpu, &cpu}) {
    engine->executor().set_audit(true);
    for (const float logit : engine->Feed(ids_)) ASSERT_TRUE(std::isfinite(logit));
  }
  const FfnCount found = gpu.executor().counts().Sum();
  const FfnCount expected = cpu.executor().counts().Sum();
  // The CPU computes parts whole where most of them is named, so that it misses less.
  EXPECT_NEAR(static_cast<double>(found.hits + found.missed),
              static_cast<double>(expected.hits + expected.missed),
              0.1 * static_cast<double>(expected.hits + expected.missed));
}

// Weights of other types stay as they are.
TEST_F(GpuLoraModels, QuantisedBasesKeepTheirWeights) {
  Prepare("llama_relu");
  QuantizeOptions quantize;
  quantize.rule = ParseTypeRule("Q8_0").value();
  QuantizeModel(model_, dir_.file("quantised.gguf"), quantize);
  model_ = dir_.file("quantised.gguf");
  // Batches round activations otherwise on the CPU.
  ExpectTheCpusLogits(Of(FastTier::kGpu, "exact", 3), 2e-2);
  EXPECT_EQ(LogitsOf(Of(FastTier::kGpu, "exact", 3), ids_),
            LogitsOf(Of(FastTier::kGpu, "dense", 3), ids_));
}

// Gates and ups of two types go apart, by other kernels.
TEST_F(GpuLoraModels, GatesOfAnotherTypeThanUpsAreTheCpus) {
  Prepare("llama_relu");
  const auto halve = [](EditedFile& file) {
    for (auto& [name, tensor] : file.tensors) {
      if (name.find("ffn_gate") == std::string::npos) continue;
      std::vector<std::byte> halves;
      for (size_t i = 0; i < tensor.bytes.size(); i += sizeof(float)) {
        halves.push_back(tensor.bytes[i + 2]);
        halves.push_back(tensor.bytes[i + 3]);
      }
      tensor.dtype = DType::kBF16;
      tensor.bytes = halves;
    }
  };
  WriteEdited(model_, dir_.file("mixed.gguf"), halve, "GGUF");
  model_ = dir_.file("mixed.gguf");
  ExpectTheCpusLogits(Of(FastTier::kGpu, "exact", 3), kOrderOfSums);
}

}  // namespace
}  // namespace thermocline
