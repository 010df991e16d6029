// Draft files: what is written comes back, and what cannot be is refused in one line.

#include "runtime/placement/draft_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>

#include "cpu_kernels/kernels.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kWidth = 64;
constexpr int64_t kDff = 96;
constexpr int64_t kDraftRank = 32;

DraftMatrix RandomMatrix(int64_t rows, int64_t cols, DType dtype, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> row(static_cast<size_t>(cols));
  const int64_t stride = RowBytes(dtype, cols);
  auto bytes = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(rows * stride));
  for (int64_t r = 0; r < rows; ++r) {
    for (float& value : row) value = normal(random);
    QuantizeRow(dtype, row.data(), cols, bytes->data() + r * stride);
  }
  DraftMatrix matrix;
  matrix.view = DenseView(bytes->data(), dtype, rows, cols);
  matrix.bytes = std::move(bytes);
  return matrix;
}

DraftFile MadeDraft() {
  std::mt19937 random(3);
  DraftFile file;
  file.model_fingerprint = "fedcba9876543210";
  file.d_model = kWidth;
  file.d_ff = kDff;
  file.rank = kDraftRank;
  file.ranking = DraftRanking::kAcceptance;
  file.calibration_tokens = 1000;
  file.heldout_tokens = 100;
  file.corpus_hash = "0123456789abcdef";
  file.acceptance = 0.75;
  file.agreement = 0.5;
  file.chains = {.n_texts = 2,
                 .depth = 3,
                 .certainty = {0.5, 0.25, 1, 0, 0.5, 0.5, 1, 1, 1, 0.125, 0.25, 0.75},
                 .accepted = {1, 0, 3, 2},
                 .ids = {7, 8, 9, 7, 8, 9, 7, 0, 1, 2, 3, 4, 5, 6},
                 .n_prompt = 2};
  for (int l = 0; l < 2; ++l) {
    DraftLayer layer;
    for (int64_t i = 0; i < kDff; ++i) layer.order.push_back(static_cast<int32_t>(kDff - 1 - i));
    layer.n_hot = 16;
    for (const DType dtype : {DType::kS3_0, DType::kS2_0}) {
      DraftSlice slice;
      slice.n_neurons = dtype == DType::kS3_0 ? 10 : 20;
      slice.gate = RandomMatrix(slice.n_neurons, kWidth, dtype, random);
      slice.up = RandomMatrix(slice.n_neurons, kWidth, dtype, random);
      slice.down = RandomMatrix(slice.n_neurons, kWidth, dtype, random);
      slice.gate_bias.assign(static_cast<size_t>(slice.n_neurons), 0.25F);
      layer.slices.push_back(std::move(slice));
    }
    layer.left = RandomMatrix(kDraftRank, kWidth, DType::kQ8_0, random);
    layer.right = RandomMatrix(kWidth, kDraftRank, DType::kQ8_0, random);
    layer.bias.assign(kWidth, 0.5F);
    file.layers.push_back(std::move(layer));
  }
  file.replacements.push_back({"output.weight", RandomMatrix(10, kWidth, DType::kQ4_0, random)});
  return file;
}

void ExpectSame(const DraftMatrix& a, const DraftMatrix& b) {
  ASSERT_EQ(a.view.dtype, b.view.dtype);
  ASSERT_EQ(a.view.rows, b.view.rows);
  ASSERT_EQ(a.view.cols, b.view.cols);
  for (int64_t r = 0; r < a.view.rows; ++r) {
    const auto n_bytes = static_cast<size_t>(RowBytes(a.view.dtype, a.view.cols));
    ASSERT_EQ(std::memcmp(a.view.row(r), b.view.row(r), n_bytes), 0);
  }
}

class DraftFileTest : public testing::Test {
 protected:
  // Returns what reading says of a draft that `spoil` has changed.
  std::string ReadError(const std::function<void(DraftFile*)>& spoil) {
    DraftFile file = MadeDraft();
    spoil(&file);
    WriteDraft(path_, file);
    return MessageOf([&] { ReadDraft(path_); });
  }
  static DraftLayer& Last(DraftFile* file) { return file->layers.back(); }

  TempDir dir_;
  std::string path_ = dir_.file("a.draft.gguf");
};

TEST_F(DraftFileTest, ComesBackTheSame) {
  const DraftFile file = MadeDraft();
  WriteDraft(path_, file);
  const DraftFile read = ReadDraft(path_);
  EXPECT_EQ(read.path, path_);
  EXPECT_EQ(read.model_fingerprint, file.model_fingerprint);
  EXPECT_EQ(read.ranking, DraftRanking::kAcceptance);
  EXPECT_EQ(read.rank, kDraftRank);
  EXPECT_EQ(read.acceptance, 0.75);
  EXPECT_EQ(read.agreement, 0.5);
  EXPECT_EQ(read.own_bytes(), file.own_bytes());
  EXPECT_EQ(read.n_hot(), 32);
  EXPECT_EQ(read.chains.n_texts, 2);
  EXPECT_EQ(read.chains.n_positions(), 2);
  EXPECT_EQ(read.chains.depth, 3);
  EXPECT_EQ(read.chains.certainty, file.chains.certainty);
  EXPECT_EQ(read.chains.accepted, file.chains.accepted);
  EXPECT_EQ(read.chains.n_prompt, 2);
  EXPECT_EQ(read.chains.ids, file.chains.ids);
  ASSERT_EQ(read.layers.size(), 2U);
  for (size_t l = 0; l < 2; ++l) {
    EXPECT_EQ(read.layers[l].order, file.layers[l].order);
    EXPECT_EQ(read.layers[l].n_left_out(), kDff - 16 - 30);
    EXPECT_EQ(read.layers[l].bias, file.layers[l].bias);
    ExpectSame(read.layers[l].left, file.layers[l].left);
    ExpectSame(read.layers[l].right, file.layers[l].right);
    ASSERT_EQ(read.layers[l].slices.size(), 2U);
    for (size_t s = 0; s < 2; ++s) {
      ExpectSame(read.layers[l].slices[s].gate, file.layers[l].slices[s].gate);
      ExpectSame(read.layers[l].slices[s].up, file.layers[l].slices[s].up);
      ExpectSame(read.layers[l].slices[s].down, file.layers[l].slices[s].down);
      EXPECT_EQ(read.layers[l].slices[s].gate_bias, file.layers[l].slices[s].gate_bias);
    }
  }
  ASSERT_EQ(read.replacements.size(), 1U);
  EXPECT_EQ(read.replacements[0].name, "output.weight");
  ExpectSame(read.replacements[0].matrix, file.replacements[0].matrix);
}

TEST_F(DraftFileTest, HasChainsOrNone) {
  DraftFile file = MadeDraft();
  file.chains = {};
  WriteDraft(path_, file);
  EXPECT_TRUE(ReadDraft(path_).chains.empty());
  EXPECT_EQ(ReadDraft(path_).chains.n_positions(), 0);
}

// As files were before texts were kept with them.
TEST_F(DraftFileTest, HasChainsWithoutTheirTexts) {
  DraftFile file = MadeDraft();
  file.chains.ids.clear();
  WriteDraft(path_, file);
  const DraftFile read = ReadDraft(path_);
  EXPECT_FALSE(read.chains.has_ids());
  EXPECT_EQ(read.chains.accepted, file.chains.accepted);
}

TEST_F(DraftFileTest, RefusesTextsThatCannotBe) {
  EXPECT_THAT(ReadError([](DraftFile* f) { f->chains.ids[3] = -1; }),
              AllOf(HasSubstr("draft_ids"), HasSubstr("-1")));
  EXPECT_THAT(ReadError([](DraftFile* f) {
                f->chains.n_prompt = 0;
                f->chains.ids.resize(10);
              }),
              HasSubstr("chain_prompt"));
  EXPECT_THAT(ReadError([](DraftFile* f) {
                f->chains.n_prompt = (1 << 20) + 1;
                f->chains.ids.resize(2 * static_cast<size_t>(f->chains.n_prompt + 2 + 3));
              }),
              HasSubstr("chain_prompt"));
  // Of another number of tokens than its keys say.
  WriteDraft(path_, MadeDraft());
  std::string whole = ReadWholeFile(path_);
  const std::string key = "thermocline.draft.chain_prompt";
  const size_t value = whole.find(key) + key.size() + sizeof(uint32_t);
  ASSERT_EQ(whole.at(value), 2);
  whole[value] = 3;
  WriteWholeFile(path_, whole);
  EXPECT_THAT(MessageOf([&] { ReadDraft(path_); }), HasSubstr("draft_ids"));
}

TEST_F(DraftFileTest, RefusesWhatCannotBe) {
  EXPECT_THAT(ReadError([](DraftFile* f) { Last(f).order[3] = Last(f).order[4]; }),
              AllOf(HasSubstr("blk.1.draft_order"), HasSubstr("twice")));
  EXPECT_THAT(ReadError([](DraftFile* f) { Last(f).order[3] = kDff; }), HasSubstr("draft_order"));
  EXPECT_THAT(ReadError([](DraftFile* f) { Last(f).n_hot = kDff - 29; }),
              HasSubstr("blk.1.draft_counts"));
  EXPECT_THAT(ReadError([](DraftFile* f) { Last(f).n_hot = -1; }), HasSubstr("draft_counts"));
  EXPECT_THAT(ReadError([](DraftFile* f) { Last(f).bias[7] = NAN; }),
              AllOf(HasSubstr("blk.1.draft_bias, element 7"), HasSubstr("nan")));
  EXPECT_THAT(ReadError([](DraftFile* f) { Last(f).slices[0].gate_bias[1] = INFINITY; }),
              HasSubstr("draft_gate.0.bias"));
  EXPECT_THAT(ReadError([](DraftFile* f) {
                std::mt19937 random(1);
                Last(f).slices[1].down = RandomMatrix(19, kWidth, DType::kS2_0, random);
              }),
              HasSubstr("draft_down.1"));
  EXPECT_THAT(ReadError([](DraftFile* f) { f->acceptance = 1.5; }), HasSubstr("acceptance"));
  EXPECT_THAT(ReadError([](DraftFile* f) { f->chains.accepted[2] = 4; }),
              AllOf(HasSubstr("draft_accepted"), HasSubstr("0 to 3")));
  EXPECT_THAT(ReadError([](DraftFile* f) { f->chains.accepted[1] = -1; }),
              HasSubstr("draft_accepted"));
  EXPECT_THAT(ReadError([](DraftFile* f) { f->chains.certainty[1] = std::nanf(""); }),
              HasSubstr("draft_certainty"));
  EXPECT_THAT(ReadError([](DraftFile* f) {
                f->chains.depth = kMaxChainDepth + 1;
                f->chains.certainty.resize(4 * (kMaxChainDepth + 1));
                f->chains.ids.clear();
              }),
              HasSubstr("chain_depth"));
  EXPECT_THAT(ReadError([](DraftFile* f) { f->rank = 31; }), HasSubstr("draft_left"));
}

// A scale that is no number spoils a block of weights.
TEST_F(DraftFileTest, RefusesWeightsThatAreNoNumbers) {
  EXPECT_THAT(ReadError([](DraftFile* f) {
                std::vector<std::byte> bytes = *Last(f).slices[0].up.bytes;
                const uint16_t nan = 0x7e00;
                std::memcpy(bytes.data() + 2 * RowBytes(DType::kS3_0, kWidth) + 14, &nan, 2);
                auto spoiled = std::make_shared<const std::vector<std::byte>>(bytes);
                Last(f).slices[0].up.view.data = spoiled->data();
                Last(f).slices[0].up.bytes = spoiled;
              }),
              AllOf(HasSubstr("blk.1.draft_up.0.weight, element 160"), HasSubstr("nan")));
}

TEST_F(DraftFileTest, RefusesTruncatedFilesInOneLine) {
  WriteDraft(path_, MadeDraft());
  const std::string whole = ReadWholeFile(path_);
  for (const size_t keep : {size_t{0}, size_t{20}, whole.size() / 4, whole.size() - 64}) {
    const std::string cut = dir_.file("cut");
    WriteWholeFile(cut, whole.substr(0, keep));
    const std::string message = MessageOf([&] { ReadDraft(cut); });
    EXPECT_FALSE(message.empty()) << keep;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST_F(DraftFileTest, IsRefusedByAnotherModel) {
  WriteDraft(path_, MadeDraft());
  const GgufReader gguf = OpenModelFile(SiluModelPath());
  const Family& family = FindFamily(gguf);
  const ModelConfig config = ReadModelConfig(gguf, family);
  DraftFile file = ReadDraft(path_);
  EXPECT_THAT(MessageOf([&] { CheckDraftFits(file, gguf, family, config); }),
              AllOf(HasSubstr("another model"), HasSubstr(gguf.fingerprint()),
                    HasSubstr("fedcba9876543210")));
  file.model_fingerprint = gguf.fingerprint();
  EXPECT_THAT(MessageOf([&] { CheckDraftFits(file, gguf, family, config); }),
              HasSubstr("shape does not fit"));
  file.d_model = config.d_model;
  file.d_ff = config.d_ff;
  file.layers.resize(static_cast<size_t>(config.n_layers));
  for (DraftLayer& layer : file.layers) layer.slices.clear();
  file.replacements.clear();
  CheckDraftFits(file, gguf, family, config);
  file.chains.ids[5] = static_cast<int32_t>(config.vocab_size);
  EXPECT_THAT(MessageOf([&] { CheckDraftFits(file, gguf, family, config); }),
              AllOf(HasSubstr("draft_ids"), HasSubstr(std::to_string(config.vocab_size))));
}

TEST_F(DraftFileTest, AsAPlacement) {
  const DraftFile file = MadeDraft();
  Placement placement = PlacementOfDraft(file, /*on_one_tier=*/false);
  EXPECT_EQ(placement.layers[1].n_on[kVram], 16);
  EXPECT_EQ(placement.layers[1].n_on[kDram], kDff - 16);
  CheckDraftPlacement(file, placement);
  EXPECT_EQ(PlacementOfDraft(file, /*on_one_tier=*/true).layers[0].n_on[kDram], 0);
  // The hot ones may lie in any order, and others may lie beside them.
  std::swap(placement.layers[1].neuron_order[0], placement.layers[1].neuron_order[15]);
  placement.layers[1].n_on = {40, kDff - 40, 0};
  CheckDraftPlacement(file, placement);
  std::swap(placement.layers[1].neuron_order[0], placement.layers[1].neuron_order[16]);
  EXPECT_THAT(MessageOf([&] { CheckDraftPlacement(file, placement); }), HasSubstr("layer 1"));
  placement.layers[1].n_on = {15, kDff - 15, 0};
  EXPECT_THAT(MessageOf([&] { CheckDraftPlacement(file, placement); }),
              HasSubstr("at least 16 in vram"));
}

}  // namespace
}  // namespace thermocline
