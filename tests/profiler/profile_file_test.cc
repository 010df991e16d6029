#include "profiler/activations/profile_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "runtime/gguf/gguf_writer.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

class ProfileFileTest : public testing::Test {
 protected:
  ProfileFileTest() : stats_(RandomStats(3, 40, random_)) { stats_.activation_threshold = 0.125; }

  // Returns what reading says of the file these statistics make.
  std::string ReadError() {
    WriteProfile(path_, stats_);
    return ErrorOf([&] { ReadProfile(path_); });
  }

  // Returns what reading says of a file with this header and no tensors.
  std::string HeaderError(const std::function<void(GgufWriter&)>& change) {
    GgufWriter writer(path_);
    writer.Set("general.architecture", GgufValue::string("thermocline-profile"));
    writer.Set("thermocline.model_fingerprint", GgufValue::string("00"));
    writer.Set("thermocline.activation_threshold", GgufValue::f64(0));
    writer.Set("thermocline.context_tokens", GgufValue::u64(16));
    writer.Set("thermocline.n_layers", GgufValue::u64(1));
    writer.Set("thermocline.d_ff", GgufValue::u64(2));
    writer.Set("thermocline.calibration_tokens", GgufValue::u64(3));
    writer.Set("thermocline.calibration_corpus_hash", GgufValue::string("00"));
    change(writer);
    writer.Finish();
    return ErrorOf([&] { ReadProfile(path_); });
  }

  std::mt19937 random_{3};
  ProfileStats stats_;
  TempDir dir_;
  std::string path_ = dir_.file("a.profile.gguf");
};

TEST_F(ProfileFileTest, ComesBackTheSame) {
  stats_.calibration.layers[1].mass[7] = 0.1 + 1e-12;
  stats_.calibration.n_tokens = int64_t{1} << 40;
  stats_.calibration.layers[0].count[0] = (int64_t{1} << 40) - 1;
  WriteProfile(path_, stats_);
  const ProfileStats read = ReadProfile(path_);
  EXPECT_EQ(read.path, path_);
  EXPECT_EQ(read.model_fingerprint, stats_.model_fingerprint);
  EXPECT_EQ(read.activation_threshold, 0.125);
  EXPECT_EQ(read.context_tokens, stats_.context_tokens);
  for (const auto split : {&ProfileStats::calibration, &ProfileStats::heldout}) {
    EXPECT_EQ((read.*split).n_tokens, (stats_.*split).n_tokens);
    EXPECT_EQ((read.*split).corpus_hash, (stats_.*split).corpus_hash);
    for (size_t l = 0; l < 3; ++l) {
      EXPECT_EQ((read.*split).layers[l].count, (stats_.*split).layers[l].count);
      EXPECT_EQ((read.*split).layers[l].mass, (stats_.*split).layers[l].mass);
    }
  }
  EXPECT_EQ(dir_.n_entries(), 1U);
}

TEST_F(ProfileFileTest, NumbersThatCannotBeAreRefused) {
  stats_.calibration.layers[2].count[5] = 1001;
  EXPECT_THAT(ReadError(), HasSubstr("tensor blk.2.ffn_count, neuron 5: expected 0 to 1000"));
  stats_.calibration.layers[2].count[5] = -1;
  EXPECT_THAT(ReadError(), HasSubstr("found -1"));
  stats_.calibration.layers[2].count[5] = 0;
  stats_.heldout.layers[1].mass[0] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(ReadError(), HasSubstr("tensor blk.1.ffn_mass_heldout, neuron 0"));
  stats_.heldout.layers[1].mass[0] = std::numeric_limits<double>::infinity();
  EXPECT_THAT(ReadError(), HasSubstr("found inf"));
  stats_.heldout.layers[1].mass[0] = -0.5;
  EXPECT_THAT(ReadError(), HasSubstr("found -0.5"));
  stats_.heldout.layers[1].mass[0] = 0;
  EXPECT_EQ(ReadError(), "");
}

TEST_F(ProfileFileTest, BadHeadersAreRefused) {
  const auto with = [&](const char* key, GgufValue value) {
    return HeaderError([&](GgufWriter& writer) { writer.Set(key, std::move(value)); });
  };
  EXPECT_THAT(HeaderError([](GgufWriter&) {}), HasSubstr("blk.0.ffn_count"));
  EXPECT_THAT(with("general.architecture", GgufValue::string("thermocline-placement")),
              HasSubstr("not a profile file"));
  EXPECT_THAT(with("thermocline.n_layers", GgufValue::u64(0)), HasSubstr("thermocline.n_layers"));
  EXPECT_THAT(with("thermocline.n_layers", GgufValue::u64(UINT64_MAX)),
              HasSubstr("thermocline.n_layers"));
  EXPECT_THAT(with("thermocline.d_ff", GgufValue::u64(0)), HasSubstr("thermocline.d_ff"));
  EXPECT_THAT(with("thermocline.d_ff", GgufValue::u64(1ULL << 40)), HasSubstr("thermocline.d_ff"));
  EXPECT_THAT(with("thermocline.calibration_tokens", GgufValue::u64(0)),
              HasSubstr("thermocline.calibration_tokens"));
  EXPECT_THAT(with("thermocline.calibration_tokens", GgufValue::u64(UINT64_MAX)),
              HasSubstr("thermocline.calibration_tokens"));
  EXPECT_THAT(with("thermocline.activation_threshold", GgufValue::f64(-1)), HasSubstr("found -1"));
  EXPECT_THAT(with("thermocline.activation_threshold", GgufValue::f64(NAN)),
              HasSubstr("thermocline.activation_threshold"));
  EXPECT_THAT(with("thermocline.activation_threshold", GgufValue::string("x")),
              HasSubstr("thermocline.activation_threshold"));
}

TEST_F(ProfileFileTest, TensorsOfAnotherShapeOrTypeAreRefused) {
  const std::vector<int32_t> values(8, 0);
  const auto tensor = [&](DType dtype, uint64_t n) {
    return HeaderError([&](GgufWriter& writer) {
      writer.DeclareTensor("blk.0.ffn_count", dtype, {n});
      writer.WriteTensor("blk.0.ffn_count", values.data(),
                         static_cast<uint64_t>(RowBytes(dtype, static_cast<int64_t>(n))));
    });
  };
  EXPECT_THAT(tensor(DType::kI64, 3), HasSubstr("blk.0.ffn_count"));
  EXPECT_THAT(tensor(DType::kI32, 2), HasSubstr("expected type I64, found I32"));
  EXPECT_THAT(tensor(DType::kI64, 2), HasSubstr("blk.0.ffn_mass"));
}

TEST_F(ProfileFileTest, TruncatedFilesAreErrors) {
  WriteProfile(path_, stats_);
  const std::string whole = ReadWholeFile(path_);
  for (size_t n = 1; n < whole.size(); n += whole.size() / 40 + 1) {
    WriteWholeFile(path_, whole.substr(0, n));
    EXPECT_NE(ErrorOf([&] { ReadProfile(path_); }), "") << n;
  }
}

TEST_F(ProfileFileTest, FitsOnlyItsOwnModel) {
  ModelConfig config;
  config.n_layers = 3;
  config.d_ff = 40;
  const auto check = [&](const std::vector<std::string>& fingerprints) {
    return ErrorOf([&] { CheckProfileFits(stats_, config, "m.gguf", fingerprints); });
  };
  EXPECT_EQ(check({"fedcba9876543210"}), "");
  EXPECT_EQ(check({"1111", "fedcba9876543210"}), "");  // a packed model's source
  const std::string other = check({"1111"});
  EXPECT_THAT(other, HasSubstr("made of another model"));
  EXPECT_THAT(other, HasSubstr("1111"));
  EXPECT_THAT(other, HasSubstr("fedcba9876543210"));
  config.d_ff = 41;
  EXPECT_THAT(check({"fedcba9876543210"}), HasSubstr("expected 3 layers of 41 neurons, found 3"));
}

}  // namespace
}  // namespace thermocline
