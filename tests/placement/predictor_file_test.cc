// Predictor files: what is written comes back, what cannot be is refused, and what a device gets.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>

#include "cpu_kernels/kernels.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/load/model_predictor.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kModel = 64;  // d_model
constexpr int64_t kNeurons = 48;
constexpr int64_t kRank = 32;
constexpr size_t kPoints = 3;

std::vector<std::byte> RandomRows(int64_t rows, int64_t cols, DType dtype, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> row(static_cast<size_t>(cols));
  std::vector<std::byte> out(static_cast<size_t>(rows * RowBytes(dtype, cols)));
  for (int64_t r = 0; r < rows; ++r) {
    for (float& value : row) value = normal(random);
    QuantizeRow(dtype, row.data(), cols, out.data() + r * RowBytes(dtype, cols));
  }
  return out;
}

PredictorFile MadeFile(PredictorKind kind, DType dtype, size_t n_layers = 2) {
  std::mt19937 random(7);
  PredictorFile file;
  file.model_fingerprint = "fedcba9876543210";
  file.kind = kind;
  file.rank = kind == PredictorKind::kSign ? 0 : kRank;
  file.d_model = kModel;
  file.d_ff = kNeurons;
  file.calibration_tokens = 1000;
  file.heldout_tokens = 100;
  file.corpus_hash = "0123456789abcdef";
  for (size_t l = 0; l < n_layers; ++l) {
    StoredLayerPredictor layer;
    layer.true_density = 0.125F;
    layer.predictor.relu = kind == PredictorKind::kMlp;
    for (size_t p = 0; p < kPoints; ++p) {
      const float more = 0.02F * static_cast<float>(p);
      layer.predictor.points.push_back({0.94F + more, 0.2F + more, nullptr, -more});
    }
    if (kind != PredictorKind::kSign) {
      layer.in_bytes = RandomRows(kRank, kModel, dtype, random);
      layer.out_bytes = RandomRows(kNeurons, kRank, dtype, random);
      layer.predictor.in_proj = DenseView(layer.in_bytes.data(), dtype, kRank, kModel);
      layer.predictor.out_proj = DenseView(layer.out_bytes.data(), dtype, kNeurons, kRank);
      for (size_t i = 0; i < kPoints * kNeurons; ++i) {
        layer.biases.push_back(static_cast<float>(l * 1000 + i));
      }
      for (size_t p = 0; p < kPoints; ++p) {
        layer.predictor.points[p].bias = layer.biases.data() + p * kNeurons;
      }
    }
    file.layers.push_back(std::move(layer));
  }
  return file;
}

void ExpectSameMatrix(const TensorView& a, const TensorView& b) {
  ASSERT_EQ(a.dtype, b.dtype);
  ASSERT_EQ(a.rows, b.rows);
  ASSERT_EQ(a.cols, b.cols);
  for (int64_t r = 0; r < a.rows; ++r) {
    ASSERT_EQ(std::memcmp(a.row(r), b.row(r), static_cast<size_t>(RowBytes(a.dtype, a.cols))), 0);
  }
}

class PredictorFileTest : public testing::Test {
 protected:
  std::string ReadError(const PredictorFile& file) {
    WritePredictor(path_, file);
    return MessageOf([&] { ReadPredictor(path_); });
  }
  // Returns what reading says of a file with this header, a density and no other tensors.
  std::string HeaderError(const std::string& key, GgufValue value) {
    GgufWriter writer(path_);
    writer.Set("general.architecture", GgufValue::string("thermocline-predictor"));
    writer.Set("thermocline.model_fingerprint", GgufValue::string("00"));
    writer.Set("thermocline.n_layers", GgufValue::u64(1));
    writer.Set("thermocline.d_model", GgufValue::u64(kModel));
    writer.Set("thermocline.d_ff", GgufValue::u64(kNeurons));
    writer.Set("thermocline.predictor.method", GgufValue::string("svd"));
    writer.Set("thermocline.predictor.rank", GgufValue::u64(kRank));
    writer.Set("thermocline.predictor.n_points", GgufValue::u64(kPoints));
    writer.Set("thermocline.predictor.calibration_tokens", GgufValue::u64(9));
    writer.Set("thermocline.predictor.heldout_tokens", GgufValue::u64(9));
    writer.Set("thermocline.predictor.corpus_hash", GgufValue::string("00"));
    writer.Set(key, std::move(value));
    writer.DeclareTensor("pred_true_density", DType::kF32, {1});
    const float density = 0.5F;
    writer.WriteTensor("pred_true_density", &density, sizeof(density));
    writer.Finish();
    return MessageOf([&] { ReadPredictor(path_); });
  }

  TempDir dir_;
  std::string path_ = dir_.file("a.predictor.gguf");
};

TEST_F(PredictorFileTest, ComesBackTheSame) {
  for (const PredictorKind kind :
       {PredictorKind::kSvd, PredictorKind::kMlp, PredictorKind::kSign}) {
    for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
      const PredictorFile file = MadeFile(kind, dtype);
      WritePredictor(path_, file);
      const PredictorFile read = ReadPredictor(path_);
      EXPECT_EQ(read.path, path_);
      EXPECT_EQ(read.model_fingerprint, file.model_fingerprint);
      EXPECT_EQ(read.kind, kind);
      EXPECT_EQ(read.rank, file.rank);
      EXPECT_EQ(read.calibration_tokens, 1000);
      EXPECT_EQ(read.heldout_tokens, 100);
      EXPECT_EQ(read.corpus_hash, file.corpus_hash);
      EXPECT_EQ(read.LayerBytes(), file.LayerBytes());
      ASSERT_EQ(read.layers.size(), 2U);
      for (size_t l = 0; l < 2; ++l) {
        const LayerPredictor& a = read.layers[l].predictor;
        const LayerPredictor& b = file.layers[l].predictor;
        EXPECT_EQ(read.layers[l].true_density, 0.125F);
        EXPECT_EQ(a.relu, kind == PredictorKind::kMlp);
        ASSERT_EQ(a.points.size(), kPoints);
        for (size_t p = 0; p < kPoints; ++p) {
          EXPECT_EQ(a.points[p].recall, b.points[p].recall);
          EXPECT_EQ(a.points[p].density, b.points[p].density);
          EXPECT_EQ(a.points[p].predictor_threshold, b.points[p].predictor_threshold);
        }
        EXPECT_EQ(read.layers[l].biases, file.layers[l].biases);
        if (kind == PredictorKind::kSign) continue;
        EXPECT_EQ(a.points[1].bias[5], b.points[1].bias[5]);
        ExpectSameMatrix(a.in_proj, b.in_proj);
        ExpectSameMatrix(a.out_proj, b.out_proj);
      }
    }
  }
  EXPECT_EQ(dir_.n_entries(), 1U);
}

TEST_F(PredictorFileTest, WhatALayerReadsComesBack) {
  PredictorFile file = MadeFile(PredictorKind::kSvd, DType::kF16, 3);
  WritePredictor(path_, file);
  EXPECT_FALSE(ReadPredictor(path_).look_ahead);
  EXPECT_EQ(ReadPredictor(path_).layers[1].predictor.input, PredictorInput::kNormed);
  file.look_ahead = true;
  file.unfinished = "these settings";
  WritePredictor(path_, file);
  const PredictorFile read = ReadPredictor(path_);
  EXPECT_TRUE(read.look_ahead);
  EXPECT_EQ(read.unfinished, "these settings");
  EXPECT_EQ(read.layers[0].predictor.input, PredictorInput::kNormed);
  EXPECT_EQ(read.layers[1].predictor.input, PredictorInput::kPreviousNormed);
  EXPECT_EQ(read.layers[2].predictor.input, PredictorInput::kPreviousNormed);
  file = MadeFile(PredictorKind::kSign, DType::kF16);
  file.look_ahead = true;
  EXPECT_THAT(ReadError(file), AllOf(HasSubstr("predictor.look_ahead"), HasSubstr("sign")));
  EXPECT_THAT(HeaderError("thermocline.predictor.look_ahead", GgufValue::string("yes")),
              HasSubstr("look_ahead"));
}

TEST_F(PredictorFileTest, NumbersThatCannotBeAreRefused) {
  PredictorFile file = MadeFile(PredictorKind::kSvd, DType::kF16);
  file.layers[1].biases[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(ReadError(file), HasSubstr("tensor blk.1.pred_bias, element 7"));
  file.layers[1].biases[7] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(ReadError(file), HasSubstr("found inf"));
  file.layers[1].biases[7] = 0;
  OperatingPoint& point = file.layers[0].predictor.points[1];
  point.recall = 0.9F;
  EXPECT_THAT(ReadError(file), HasSubstr("tensor blk.0.pred_points, element 3"));
  point.recall = NAN;
  EXPECT_THAT(ReadError(file), HasSubstr("tensor blk.0.pred_points, element 3"));
  point.recall = 0.95F;
  point.density = 1.5F;
  EXPECT_THAT(ReadError(file), HasSubstr("found 1.5"));
  point.density = 0.21F;
  file.layers[1].true_density = -0.5F;
  EXPECT_THAT(ReadError(file), HasSubstr("found -0.5"));
  file.layers[1].true_density = 0;
  file.layers[0].in_bytes[2] = file.layers[0].in_bytes[3] = std::byte{0x7F};  // an F16 NaN
  EXPECT_THAT(ReadError(file), HasSubstr("tensor blk.0.pred_in.weight, element 1"));
}

TEST_F(PredictorFileTest, AScaleThatIsNoNumberIsRefused) {
  PredictorFile file = MadeFile(PredictorKind::kSvd, DType::kQ8_0);
  file.layers[1].out_bytes[34] = file.layers[1].out_bytes[35] = std::byte{0x7F};
  EXPECT_THAT(ReadError(file), HasSubstr("tensor blk.1.pred_out.weight, element 32"));
}

TEST_F(PredictorFileTest, BadHeadersAreRefused) {
  const std::string prefix = "thermocline.";
  EXPECT_THAT(HeaderError(prefix + "x", GgufValue::u64(1)), HasSubstr("blk.0.pred_points"));
  EXPECT_THAT(HeaderError("general.architecture", GgufValue::string("llama")),
              HasSubstr("not a predictor file"));
  for (const char* key :
       {"n_layers", "d_model", "d_ff", "predictor.n_points", "predictor.heldout_tokens"}) {
    for (const uint64_t value : {uint64_t{0}, uint64_t{1} << 54, UINT64_MAX}) {
      EXPECT_THAT(HeaderError(prefix + key, GgufValue::u64(value)), HasSubstr(prefix + key)) << key;
    }
  }
  EXPECT_THAT(HeaderError(prefix + "predictor.n_points", GgufValue::u64(65)),
              HasSubstr("n_points"));
  for (const uint64_t rank : {0U, 31U, 33U}) {
    EXPECT_THAT(HeaderError(prefix + "predictor.rank", GgufValue::u64(rank)),
                AllOf(HasSubstr("multiple of 32"), HasSubstr(std::to_string(rank))));
  }
  EXPECT_THAT(HeaderError(prefix + "predictor.method", GgufValue::string("oracle")),
              AllOf(HasSubstr("svd, mlp or sign"), HasSubstr("oracle")));
  EXPECT_THAT(HeaderError(prefix + "predictor.method", GgufValue::string("sign")),
              HasSubstr("no matrices"));
}

TEST_F(PredictorFileTest, TensorsOfAnotherShapeOrTypeAreRefused) {
  const auto with = [&](const std::function<void(PredictorFile*)>& change) {
    PredictorFile file = MadeFile(PredictorKind::kSvd, DType::kF16, 1);
    change(&file);
    return ReadError(file);
  };
  // The header says 32 columns more than the tensors that follow have.
  EXPECT_THAT(with([](PredictorFile* file) {
                LayerPredictor& p = file->layers[0].predictor;
                p.in_proj.dtype = DType::kBF16;
              }),
              HasSubstr("expected type F16 or Q8_0, found BF16"));
  PredictorFile wide = MadeFile(PredictorKind::kSvd, DType::kF16, 2);
  wide.layers[1].predictor.points.pop_back();
  EXPECT_THAT(ReadError(wide), HasSubstr("blk.1.pred_points"));
}

TEST_F(PredictorFileTest, DamagedFilesAreErrorsOrReadAsSomething) {
  WritePredictor(path_, MadeFile(PredictorKind::kSvd, DType::kQ8_0));
  const std::string whole = ReadWholeFile(path_);
  for (size_t n = 0; n < whole.size(); n += whole.size() / 60 + 1) {
    WriteWholeFile(path_, whole.substr(0, n));
    EXPECT_NE(MessageOf([&] { ReadPredictor(path_); }), "") << n;
  }
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i) {
    std::string damaged = whole;
    for (int k = 0; k < 3; ++k) damaged[random() % 1500] = static_cast<char>(random());
    WriteWholeFile(path_, damaged);
    MessageOf([&] { ReadPredictor(path_); });  // no crash
  }
}

TEST_F(PredictorFileTest, FitsOnlyItsOwnModel) {
  const PredictorFile file = MadeFile(PredictorKind::kSvd, DType::kF16);
  ModelConfig config;
  config.n_layers = 2;
  config.d_model = kModel;
  config.d_ff = kNeurons;
  const auto check = [&](const std::vector<std::string>& fingerprints) {
    return MessageOf([&] { CheckPredictorFits(file, config, "m.gguf", fingerprints); });
  };
  EXPECT_EQ(check({"fedcba9876543210"}), "");
  EXPECT_EQ(check({"1111", "fedcba9876543210"}), "");  // a packed model's source
  EXPECT_THAT(check({"1111"}),
              AllOf(HasSubstr("another model"), HasSubstr("1111"), HasSubstr("fedcba9876543210")));
  config.d_ff = 49;
  EXPECT_THAT(check({"fedcba9876543210"}), AllOf(HasSubstr("d_ff 49"), HasSubstr("d_ff 48")));
}

TEST_F(PredictorFileTest, TheLeastDensePointThatIsGoodEnough) {
  const PredictorFile file = MadeFile(PredictorKind::kSvd, DType::kF16);
  const LayerPredictor& predictor = file.layers[0].predictor;  // recalls 0.94, 0.96, 0.98
  EXPECT_EQ(ChoosePoint(predictor, 0), 0U);
  EXPECT_EQ(ChoosePoint(predictor, 0.95), 1U);
  EXPECT_EQ(ChoosePoint(predictor, 0.97), 2U);
  EXPECT_EQ(ChoosePoint(predictor, 1), 2U);
}

TEST_F(PredictorFileTest, ASliceGetsItsNeuronsInItsOrder) {
  const PredictorFile file = MadeFile(PredictorKind::kMlp, DType::kQ8_0);
  ModelConfig config;
  config.d_model = kModel;
  config.d_ff = kNeurons;
  config.n_heads = config.n_kv_heads = 1;
  config.head_dim = kModel;
  CpuDevice device("dram", MakeCpuDeviceLimits(config, 1, 16, 1));
  const std::vector<int32_t> channels = {40, 3, 17};
  const LayerPredictor loaded = CopyPredictor(file.layers[1].predictor, channels, 2, device);
  const LayerPredictor& stored = file.layers[1].predictor;
  EXPECT_TRUE(loaded.relu);
  ASSERT_EQ(loaded.points.size(), 1U);
  EXPECT_EQ(loaded.points[0].recall, stored.points[2].recall);
  ASSERT_EQ(loaded.out_proj.rows, 3);
  for (size_t i = 0; i < 3; ++i) {
    const auto row = static_cast<int64_t>(i);
    ExpectSameMatrix(loaded.out_proj.SliceRows(row, row + 1),
                     stored.out_proj.SliceRows(channels[i], channels[i] + 1));
    EXPECT_EQ(loaded.points[0].bias[i],
              stored.points[2].bias[channels[i]] - stored.points[2].predictor_threshold);
  }
  ExpectSameMatrix(loaded.in_proj, stored.in_proj);
}

}  // namespace
}  // namespace thermocline
