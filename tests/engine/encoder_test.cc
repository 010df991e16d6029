// Models with an encoder: whose text a sequence attends to, what is refused, and with which words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/engine/generate.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/import/import_model.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Ids = std::vector<int32_t>;

// A pass of one row and one of several sum in another order.
constexpr double kOtherOrder = 1e-4;

class EncoderTest : public testing::Test {
 protected:
  EncoderTest() {
    ImportOptions options;
    options.rule = ParseTypeRule("F32");
    ImportModel(std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/families/t5", path_, options);
  }

  EngineOptions Options(int64_t n_sequences = 1) const {
    EngineOptions options;
    options.model_path = path_;
    options.cache_type = DType::kF32;
    options.fast_tier = FastTier::kCpu;
    options.n_threads = 2;
    options.n_sequences = n_sequences;
    options.context_tokens = 64;
    return options;
  }

  static Ids TextOf(int32_t first, size_t length) {
    Ids ids;
    while (ids.size() < length) ids.push_back(first + static_cast<int32_t>(ids.size()) * 7 % 100);
    return ids;
  }

  // Writes the model with other keys, and without a tensor.
  std::string Changed(const std::map<std::string, GgufValue>& set,
                      const std::vector<std::string>& dropped = {}) {
    const GgufReader in(path_);
    std::string path = dir_.file("changed.gguf");
    const auto is_dropped = [&](const std::string& name) {
      return std::ranges::find(dropped, name) != dropped.end();
    };
    GgufWriter out(path);
    for (const std::string& key : in.keys()) {
      if (!is_dropped(key)) out.Set(key, *in.Find(key));
    }
    for (const auto& [key, value] : set) out.Set(key, value);
    for (const GgufTensorInfo& tensor : in.tensors()) {
      if (!is_dropped(tensor.name)) out.DeclareTensor(tensor.name, tensor.dtype, tensor.dims);
    }
    for (const GgufTensorInfo& tensor : in.tensors()) {
      if (is_dropped(tensor.name)) continue;
      out.WriteTensor(tensor.name, in.TensorData(tensor), tensor.n_bytes);
    }
    out.Finish();
    return path;
  }

  std::string MessageWith(const std::map<std::string, GgufValue>& set,
                          const std::vector<std::string>& dropped = {}) {
    EngineOptions options = Options();
    options.model_path = Changed(set, dropped);
    std::string message = MessageOf([&] { OpenedModel{options}; });
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }

  TempDir dir_;
  std::string path_ = dir_.file("t5.gguf");
};

std::vector<float> Copy(std::span<const float> values) { return {values.begin(), values.end()}; }

double LargestGap(std::span<const float> a, std::span<const float> b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max<double>(most, std::abs(a[i] - b[i]));
  return most;
}

TEST_F(EncoderTest, ATextBelongsToItsSequenceAndToForks) {
  Engine engine(Options(4));
  const auto width = static_cast<size_t>(engine.config().vocab_size);
  const Ids texts[] = {TextOf(20, 40), TextOf(90, 33), TextOf(3, 2)};
  const Ids start = {engine.config().decoder_start, 55};
  std::vector<std::vector<float>> alone;
  for (const Ids& text : texts) {
    engine.Encode(engine.main_sequence(), text);
    alone.push_back(Copy(engine.Feed(start)));
  }
  EXPECT_GT(LargestGap(alone[0], alone[1]), 0.1);
  // In one pass, in another order, one of them as a fork of a sequence that is gone.
  const int32_t first = engine.sequences().Add();
  engine.Encode(first, texts[0]);
  const int32_t second = engine.sequences().Add();
  engine.Encode(second, texts[1]);
  const int32_t fork = engine.sequences().Fork(first);
  engine.sequences().Remove(first);
  const SequenceInput inputs[] = {
      {second, start}, {engine.main_sequence(), {&start[1], 1}}, {fork, start}};
  const std::vector<float> logits = Copy(engine.FeedSequences(inputs));
  const std::span<const float> all = logits;
  EXPECT_LE(LargestGap(all.subspan(0, width), alone[1]), kOtherOrder);
  EXPECT_LE(LargestGap(all.subspan(2 * width, width), alone[0]), kOtherOrder);
  // A reset keeps the text, a text anew empties the sequence.
  engine.Reset();
  EXPECT_LE(LargestGap(engine.Feed(start), alone[2]), kOtherOrder);
  engine.Encode(engine.main_sequence(), texts[0]);
  EXPECT_EQ(engine.n_past(), 0);
  EXPECT_LE(LargestGap(engine.Feed(start), alone[0]), kOtherOrder);
}

// Long texts attend as panels and run dense, short ones head by head, where exact skips.
TEST_F(EncoderTest, ExactIsDenseInTheEncoderToo) {
  for (const size_t length : {1, 3, 8, 64}) {
    std::vector<std::vector<float>> logits;
    for (const char* sparse : {"dense", "exact"}) {
      EngineOptions options = Options();
      options.sparse = sparse;
      Engine engine(options);
      engine.Encode(engine.main_sequence(), TextOf(11, length));
      logits.push_back(Copy(engine.Feed(Ids{0, 30, 40})));
    }
    EXPECT_EQ(logits[0], logits[1]) << length << " tokens";
  }
}

TEST_F(EncoderTest, AGeneratorAnswersOneTextAfterTheOther) {
  Engine engine(Options());
  SamplerOptions greedy;
  greedy.temperature = 0;
  greedy.repeat_penalty = 1;
  Generator generator(engine, greedy);
  const auto answer = [&](const Ids& text) {
    std::string written;
    const Generation g = generator.Answer(text, 8, [&](std::string_view part) { written += part; });
    EXPECT_EQ(g.prompt_tokens, static_cast<int64_t>(text.size()));
    return written;
  };
  const std::string first = answer(TextOf(20, 40));
  EXPECT_NE(first, "");
  EXPECT_NE(answer(TextOf(30, 33)), first);
  EXPECT_EQ(answer(TextOf(20, 40)), first);
}

TEST_F(EncoderTest, WhatDoesNotFitIsSaid) {
  Engine engine(Options());
  EXPECT_THAT(MessageOf([&] { engine.Feed(Ids{0}); }),
              HasSubstr("a text for the encoder before the first token"));
  EXPECT_THAT(MessageOf([&] { engine.Encode(engine.main_sequence(), TextOf(1, 65)); }),
              AllOf(HasSubstr("at most 64 tokens"), HasSubstr("65")));
  engine.Encode(engine.main_sequence(), TextOf(1, 64));
  const int32_t other = engine.sequences().Add();
  EXPECT_NO_THROW(engine.Feed(TextOf(0, 64)));
  EXPECT_THAT(MessageOf([&] { engine.Encode(other, TextOf(1, 5)); }),
              HasSubstr("the KV cache is full"));
}

TEST_F(EncoderTest, WrongKeysAndTensorsAreNamed) {
  EXPECT_EQ(MessageWith({}), "");
  const auto u32 = [](uint32_t value) { return GgufValue::u32(value); };
  EXPECT_THAT(
      MessageWith({{"t5.decoder_start_token_id", u32(288)}}),
      AllOf(HasSubstr("t5.decoder_start_token_id"), HasSubstr("0 to 287"), HasSubstr("288")));
  EXPECT_THAT(MessageWith({}, {"t5.decoder_start_token_id"}),
              HasSubstr("t5.decoder_start_token_id"));
  EXPECT_THAT(MessageWith({}, {"t5.attention.relative_buckets_count"}),
              HasSubstr("t5.attention.relative_buckets_count"));
  EXPECT_THAT(MessageWith({{"t5.attention.relative_buckets_count", u32(3)}}),
              AllOf(HasSubstr("t5.attention.relative_buckets_count"), HasSubstr("4 to")));
  EXPECT_THAT(MessageWith({{"t5.attention.relative_buckets_count", u32(10)}}),
              AllOf(HasSubstr("enc.blk.0.attn_rel_b.weight"), HasSubstr("10"), HasSubstr("8")));
  EXPECT_THAT(MessageWith({{"t5.attention.relative_max_distance", u32(4)}}),
              AllOf(HasSubstr("t5.attention.relative_max_distance"), HasSubstr("5 to 16384"),
                    HasSubstr("found 4")));
  EXPECT_THAT(MessageWith({{"t5.decoder_block_count", u32(3)}}),
              AllOf(HasSubstr("t5.decoder_block_count"), HasSubstr("dec.blk.2.*"),
                    HasSubstr("dec.blk.1.*")));
  EXPECT_THAT(
      MessageWith({{"t5.block_count", u32(2)}}),
      AllOf(HasSubstr("t5.block_count"), HasSubstr("enc.blk.1.*"), HasSubstr("enc.blk.2.*")));
  for (const char* name : {"dec.blk.0.attn_rel_b.weight", "enc.output_norm.weight",
                           "dec.blk.1.cross_attn_k.weight", "enc.blk.0.attn_o.weight"}) {
    EXPECT_THAT(MessageWith({}, {name}), HasSubstr(name));
  }
}

TEST_F(EncoderTest, AdaptersAreRefused) {
  EngineOptions options = Options();
  options.loras = {{std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/families/lora_llama", 1}};
  EXPECT_THAT(MessageOf([&] { OpenedModel{options}; }),
              AllOf(HasSubstr("an adapter does not take models with an encoder"),
                    HasSubstr("3 layers of an encoder")));
}

}  // namespace
}  // namespace thermocline
