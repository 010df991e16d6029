// What Gemma 3n has beside attention and FFN: what its keys say, what is refused, and that cut
// gates, shared keys and values and several sequences give what they should. How all of it is
// computed is compared in tests/engine/family_golden_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "profiler/placement/place.h"
#include "runtime/convert/quantize_model.h"
#include "runtime/engine/engine.h"
#include "runtime/import/import_model.h"
#include "tests/placement/placements.h"
#include "tests/powerinfer/powerinfer_files.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Edit = std::function<void(EditedFile&)>;

class Beside : public testing::Test {
 protected:
  Beside() {
    ImportOptions options;
    options.rule = ParseTypeRule("F32");
    ImportModel(std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/families/gemma3n", path_,
                options);
  }

  EngineOptions Options(const std::string& sparse = "auto") const {
    EngineOptions options;
    options.model_path = path_;
    options.sparse = sparse;
    options.cache_type = DType::kF32;
    options.fast_tier = FastTier::kCpu;
    options.n_threads = 2;
    return options;
  }

  std::string Edited(const Edit& edit) const {
    std::string path = dir_.file("edited.gguf");
    WriteEdited(path_, path, edit, "GGUF");
    return path;
  }

  std::string MessageWith(const Edit& edit) const {
    EngineOptions options = Options();
    options.model_path = Edited(edit);
    return MessageOf([&] { OpenedModel{options}; });
  }
  std::string MessageWithKey(const std::string& name, const GgufValue& value) const {
    return MessageWith([&](EditedFile& file) { file.keys["gemma3n." + name] = value; });
  }

  static std::vector<float> Logits(const EngineOptions& options, size_t n_tokens = 21) {
    Engine engine(options);
    const auto logits = engine.Feed(Prompt(0, n_tokens));
    return {logits.begin(), logits.end()};
  }

  static std::vector<int32_t> Prompt(int32_t first, size_t n_tokens) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < n_tokens; ++i) {
      ids.push_back(3 + (first * 31 + static_cast<int32_t>(i) * 17) % 280);
    }
    return ids;
  }

  TempDir dir_;
  std::string path_ = dir_.file("gemma3n.gguf");
};

GgufValue Fractions(std::vector<double> values) {
  return GgufValue::array(GgufType::kF32, std::move(values));
}

// Drops a column of a matrix, or an element of a vector.
void Narrow(EditedFile* file, const std::string& name) {
  EditedTensor& tensor = file->tensors.at(name);
  const size_t rows = tensor.bytes.size() / sizeof(float) / tensor.dims[0];
  --tensor.dims[0];
  tensor.bytes.resize(rows * tensor.dims[0] * sizeof(float));
}

TEST_F(Beside, KeysAreRead) {
  const GgufReader gguf(path_);
  const ModelConfig c = ReadModelConfig(gguf, FindFamily(gguf));
  EXPECT_EQ(c.streams.n, 3);
  EXPECT_EQ(c.streams.active, 0);
  EXPECT_EQ(c.laurel_rank, 6);
  EXPECT_EQ(c.layer_embd_dim, 8);
  EXPECT_EQ(c.n_kv_layers(), 2);
  const int64_t kv_layers[] = {kOwnKv, kOwnKv, 0, 1};
  const bool cut[] = {true, false, true, false};
  for (size_t l = 0; l < c.layers.size(); ++l) {
    EXPECT_EQ(c.layers[l].attention.kv_layer, kv_layers[l]) << l;
    EXPECT_EQ(c.layers[l].attention.scale, 1) << l;
    EXPECT_TRUE(c.layers[l].attention.v_norm) << l;
    EXPECT_EQ(c.layers[l].ffn.cuts_gates, cut[l]) << l;
  }
  EXPECT_NEAR(c.layers[0].ffn.gate_cut, 0.841621, 1e-5);  // the normal distribution's 0.8
  EXPECT_NEAR(c.layers[2].ffn.gate_cut, 0, 1e-6);         // and its 0.5
}

TEST_F(Beside, NumbersOutOfRangeAreRefused) {
  const auto u32 = [](uint32_t value) { return GgufValue::u32(value); };
  EXPECT_THAT(MessageWithKey("altup.num_inputs", u32(1)),
              AllOf(HasSubstr("altup.num_inputs"), HasSubstr("2 to 16"), HasSubstr("found 1")));
  EXPECT_THAT(MessageWithKey("altup.num_inputs", u32(17)),
              AllOf(HasSubstr("altup.num_inputs"), HasSubstr("1 to 16"), HasSubstr("17")));
  EXPECT_THAT(MessageWithKey("altup.active_idx", u32(3)),
              AllOf(HasSubstr("altup.active_idx"), HasSubstr("0 to 2"), HasSubstr("found 3")));
  EXPECT_THAT(MessageWithKey("attention.shared_kv_layers", u32(4)),
              AllOf(HasSubstr("shared_kv_layers"), HasSubstr("0 to 3"), HasSubstr("found 4")));
  EXPECT_THAT(MessageWithKey("attention.shared_kv_layers", u32(3)),
              AllOf(HasSubstr("shared_kv_layers"), HasSubstr("a layer of each kind"),
                    HasSubstr("3 of 4 layers, and none before that is like layer 1")));
  EXPECT_THAT(MessageWithKey("embedding_length_per_layer_input", u32(0)),
              AllOf(HasSubstr("embedding_length_per_layer_input"), HasSubstr("found 0")));
  const std::string scale = "activation_sparsity_scale";
  EXPECT_THAT(MessageWithKey(scale, Fractions({1, 1, 1})),
              AllOf(HasSubstr(scale), HasSubstr("one for each of 4 layers"), HasSubstr("of 3")));
  EXPECT_THAT(MessageWithKey(scale, Fractions({1, NAN, 1, 1})),
              AllOf(HasSubstr(scale), HasSubstr("in layer 1"), HasSubstr("nan")));
  EXPECT_THAT(MessageWithKey(scale, Fractions({1, 1, 1, HUGE_VAL})),
              AllOf(HasSubstr(scale), HasSubstr("in layer 3"), HasSubstr("found inf")));
  EXPECT_THAT(MessageWithKey(scale, GgufValue::strings({"a", "b", "c", "d"})),
              AllOf(HasSubstr(scale), HasSubstr("an array of something else")));
}

TEST_F(Beside, KeysThatMustBeThere) {
  for (const std::string name : {"altup.num_inputs", "embedding_length_per_layer_input"}) {
    const auto without = [&](EditedFile& file) { file.keys.erase("gemma3n." + name); };
    EXPECT_THAT(MessageWith(without), AllOf(HasSubstr(name), HasSubstr("missing")));
  }
}

TEST_F(Beside, KeysThatTheTensorsContradictAreRefused) {
  EXPECT_THAT(MessageWithKey("altup.num_inputs", GgufValue::u32(4)),
              AllOf(HasSubstr("altup_proj.weight"), HasSubstr("96 rows of 32"),
                    HasSubstr("64 rows of 32")));
  EXPECT_THAT(MessageWithKey("embedding_length_per_layer_input", GgufValue::u32(9)),
              AllOf(HasSubstr("per_layer_token_embd.weight"), HasSubstr("288 rows of 36"),
                    HasSubstr("288 rows of 32")));
}

TEST_F(Beside, TensorsOfAnotherShapeAreRefused) {
  const std::vector<std::string> names = {"altup_unembd_proj.weight",
                                          "per_layer_model_proj.weight",
                                          "per_layer_proj_norm.weight",
                                          "blk.0.altup_router.weight",
                                          "blk.1.altup_predict_coef.weight",
                                          "blk.2.altup_correct_coef.weight",
                                          "blk.3.altup_correct_scale.weight",
                                          "blk.1.altup_router_norm.weight",
                                          "blk.0.laurel_l.weight",
                                          "blk.1.laurel_r.weight",
                                          "blk.2.laurel_post_norm.weight",
                                          "blk.3.inp_gate.weight",
                                          "blk.0.proj.weight",
                                          "blk.1.post_norm.weight"};
  for (const std::string& name : names) {
    EXPECT_THAT(MessageWith([&](EditedFile& file) { Narrow(&file, name); }),
                AllOf(HasSubstr(name), HasSubstr("wrong shape")));
    EXPECT_THAT(MessageWith([&](EditedFile& file) { file.tensors.erase(name); }),
                AllOf(HasSubstr(name), HasSubstr("missing")));
  }
}

// Converters differ in whether they write them.
TEST_F(Beside, UnusedKeysAndValuesMayBeAbsent) {
  EngineOptions without = Options();
  const auto whole = Logits(without);
  without.model_path = Edited([](EditedFile& file) {
    for (const char* name : {"attn_k", "attn_v", "attn_k_norm"}) {
      file.tensors.erase("blk.2." + std::string(name) + ".weight");
      file.tensors.erase("blk.3." + std::string(name) + ".weight");
    }
  });
  EXPECT_EQ(Logits(without), whole);
  EXPECT_THAT(MessageWith([](EditedFile& file) { file.tensors.erase("blk.1.attn_k.weight"); }),
              AllOf(HasSubstr("blk.1.attn_k.weight"), HasSubstr("missing")));
}

TEST_F(Beside, MemoryHasNoKeysAndValuesOfLayersThatShare) {
  EngineOptions options = Options();
  const uint64_t shared = OpenedModel(options).Plan().kv_bytes();
  options.model_path = Edited([](EditedFile& file) {
    file.keys["gemma3n.attention.shared_kv_layers"] = GgufValue::u32(0);
  });
  EXPECT_EQ(OpenedModel(options).Plan().kv_bytes(), 2 * shared);
}

TEST_F(Beside, ExactSkipsWhatIsCutAndGivesTheBitsOfDense) {
  for (const size_t n_tokens : {1, 2, 3}) {
    EXPECT_EQ(Logits(Options("exact"), n_tokens), Logits(Options("dense"), n_tokens));
  }
  Engine engine(Options("exact"));
  for (const int32_t id : Prompt(1, 30)) engine.Feed({&id, 1});
  const FfnCounts& counts = engine.executor().counts();
  const int64_t tokens = counts.tokens;
  EXPECT_EQ(tokens, 30);
  // A share of 0.8 or 0.5 of the gates is cut where they are spread as a normal distribution is.
  EXPECT_LT(counts.layers[0].active, tokens * 48 * 4 / 10);
  EXPECT_GT(counts.layers[0].active, 0);
  EXPECT_EQ(counts.layers[1].active, tokens * 64);
  EXPECT_LT(counts.layers[2].active, tokens * 48 * 7 / 10);
  EXPECT_EQ(counts.layers[3].active, tokens * 48);
}

TEST_F(Beside, PredictorsAreRefused) {
  EXPECT_THAT(MessageOf([&] { OpenedModel{Options("predicted")}; }),
              AllOf(HasSubstr(path_), HasSubstr("gates of this model are cut")));
}

TEST_F(Beside, CutLayersStayOnOneTier) {
  EngineOptions options = Options();
  options.always_per_neuron = true;
  Placement placement;
  {
    const OpenedModel model(options);
    placement = ShuffledPlacement(model.gguf().fingerprint(), model.config(), 0.4);
  }
  options.placement_path = dir_.file("placement.gguf");
  placement.layers[2].n_on[kVram] = 20;
  placement.layers[2].n_on[kDram] = 28;
  WritePlacement(options.placement_path, placement);
  EXPECT_THAT(MessageOf([&] { OpenedModel{options}; }),
              AllOf(HasSubstr("layer 2 cuts its gates by what all of them are"),
                    HasSubstr("48 neurons on one tier"), HasSubstr("20 in vram and 28 in dram")));
}

// Gives layer 1 as many neurons as the others have: its first 48.
void MakeFfnsEqual(EditedFile& file) {
  constexpr uint64_t kNeurons = 48, kDModel = 32;
  file.keys["gemma3n.feed_forward_length"] = GgufValue::u32(kNeurons);
  for (const char* name : {"blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"}) {
    EditedTensor& tensor = file.tensors.at(name);
    tensor.dims = {kDModel, kNeurons};
    tensor.bytes.resize(kDModel * kNeurons * sizeof(float));
  }
  EditedTensor& down = file.tensors.at("blk.1.ffn_down.weight");
  const uint64_t row_bytes = down.dims[0] * sizeof(float);
  std::vector<std::byte> bytes;
  for (uint64_t row = 0; row < kDModel; ++row) {
    const auto from = down.bytes.begin() + static_cast<std::ptrdiff_t>(row * row_bytes);
    bytes.insert(bytes.end(), from, from + kNeurons * sizeof(float));
  }
  down = {DType::kF32, {kNeurons, kDModel}, bytes};
}

TEST_F(Beside, PlacingKeepsCutLayersOnOneTier) {
  EngineOptions options = Options("dense");
  options.model_path = Edited(MakeFfnsEqual);
  options.context_tokens = 32;
  options.batch_tokens = 8;
  const OpenedModel model(options);
  const ProfileStats stats = NoActivity(model.config());
  constexpr uint64_t kPlenty = uint64_t{1} << 40;
  const MemoryPlan all = Place(model, stats, {kPlenty, kPlenty}).plan;
  const uint64_t neurons = all.neuron_bytes(0);
  int n_apart = 0;  // placements with a cut layer on each tier
  for (uint64_t step = 0; step <= 16; ++step) {
    const uint64_t vram = all.total_bytes(0) - neurons * step / 16;
    Placement placement = Place(model, stats, {vram, kPlenty}).placement;
    int n_hot = 0;
    for (const size_t cut : {0, 2}) {
      const int64_t hot = placement.layers[cut].n_on[kVram];
      EXPECT_TRUE(hot == 0 || hot == 48) << hot << " of layer " << cut;
      n_hot += hot > 0 ? 1 : 0;
    }
    n_apart += n_hot == 1 ? 1 : 0;
    EngineOptions placed = options;
    placed.placement_path = dir_.file("placed.gguf");
    WritePlacement(placed.placement_path, placement);
    EXPECT_EQ(MessageOf([&] { OpenedModel{placed}; }), "");
  }
  EXPECT_GT(n_apart, 0);
  for (const auto& [share, n_hot] : {std::pair{0.4, 0}, {0.6, 48}}) {
    const Placement placement = PlaceFraction(model, stats, share, kPlenty).placement;
    EXPECT_EQ(placement.layers[0].n_on[kVram], n_hot);
    EXPECT_EQ(placement.layers[1].n_on[kVram], 32);
    EXPECT_EQ(placement.layers[2].n_on[kVram], n_hot);
  }
}

// Coefficients keep their type, and what is quantised loads.
TEST_F(Beside, QuantisedModelsRun) {
  EngineOptions options = Options();
  const auto whole = Logits(options);
  options.model_path = dir_.file("q8_0.gguf");
  QuantizeOptions quantize;
  quantize.rule = *ParseTypeRule("Q8_0");
  QuantizeModel(path_, options.model_path, quantize);
  const GgufReader gguf(options.model_path);
  EXPECT_EQ(gguf.FindTensor("blk.0.altup_predict_coef.weight")->dtype, DType::kF32);
  EXPECT_EQ(gguf.FindTensor("altup_proj.weight")->dtype, DType::kQ8_0);
  const auto quantised = Logits(options);
  double squares = 0;
  double squared_difference = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    const double difference = static_cast<double>(whole[i]) - quantised[i];
    squares += static_cast<double>(whole[i]) * whole[i];
    squared_difference += difference * difference;
  }
  const double relative = std::sqrt(squared_difference / squares);
  EXPECT_GT(relative, 0);
  EXPECT_LT(relative, 0.1);
}

// Sequences that fork share pages, which shared layers read as the others do.
TEST_F(Beside, SequencesGetTheLogitsThatTheyGetAlone) {
  constexpr double kOrderOfSums = 1e-4;
  EngineOptions options = Options("dense");
  options.n_sequences = 3;
  options.context_tokens = 96;
  Engine engine(options);
  const auto width = static_cast<size_t>(engine.config().vocab_size);
  KvSequences& kv = engine.sequences();
  const std::vector<int32_t> prompt = Prompt(2, 40);
  std::vector<std::vector<float>> alone;
  for (int32_t i = 0; i < 3; ++i) {
    std::vector<int32_t> all = prompt;
    const std::vector<int32_t> own = Prompt(7 + i, 9);
    all.insert(all.end(), own.begin(), own.end());
    engine.Reset();
    const auto logits = engine.Feed(all);
    alone.emplace_back(logits.begin(), logits.end());
  }
  engine.Reset();
  engine.Feed(prompt);
  const int32_t first = engine.main_sequence();
  std::vector<SequenceInput> inputs = {{first, {}}, {kv.Fork(first), {}}, {kv.Fork(first), {}}};
  std::vector<std::vector<float>> found(3);
  for (size_t pass = 0; pass < 9; ++pass) {
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < 3; ++i) tokens.push_back(Prompt(7 + i, 9)[pass]);
    for (size_t i = 0; i < 3; ++i) inputs[i].ids = {&tokens[i], 1};
    const auto logits = engine.FeedSequences(inputs);
    for (size_t i = 0; i < 3; ++i) {
      const auto row = logits.subspan(i * width, width);
      found[i].assign(row.begin(), row.end());
    }
  }
  for (size_t i = 0; i < 3; ++i) {
    for (size_t token = 0; token < width; ++token) {
      ASSERT_NEAR(found[i][token], alone[i][token], kOrderOfSums) << "sequence " << i;
    }
  }
}

}  // namespace
}  // namespace thermocline
