#include "runtime/gguf/gguf_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "runtime/core/error.h"
#include "tests/gguf/gguf_bytes.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class GgufReaderTest : public testing::Test {
 protected:
  const std::string bytes_ = SmallValidGguf();
  const GgufReader reader_{AsBytes(bytes_), "small.gguf"};
};

TEST_F(GgufReaderTest, ScalarsOfEveryType) {
  EXPECT_EQ(reader_.GetU64("s.u8"), 200U);
  EXPECT_EQ(std::get<int64_t>(reader_.Find("s.i8")->value), -100);
  EXPECT_EQ(reader_.GetU64("s.u16"), 60000U);
  EXPECT_EQ(std::get<int64_t>(reader_.Find("s.i16")->value), -30000);
  EXPECT_EQ(reader_.GetU64("s.u32"), 4000000000U);
  EXPECT_EQ(reader_.GetF64("s.i32"), -2e9);
  EXPECT_EQ(reader_.GetF64("s.f32"), double{0.1F});
  EXPECT_EQ(reader_.GetBool("s.bool"), true);
  EXPECT_EQ(reader_.GetString("s.string"), "snow\n\xe9\x9b\xaa");
  EXPECT_EQ(reader_.GetU64("s.u64"), UINT64_MAX);
  EXPECT_EQ(std::get<int64_t>(reader_.Find("s.i64")->value), INT64_MIN);
  EXPECT_EQ(reader_.GetF64("s.f64"), -0.1);
}

TEST_F(GgufReaderTest, Arrays) {
  EXPECT_THAT(*reader_.GetStrings("a.string"), ElementsAre("a", "", "ccc"));
  const auto& floats = std::get<GgufValue::Array>(reader_.Find("a.f32")->value);
  EXPECT_THAT(std::get<std::vector<double>>(floats), ElementsAre(1.5, -2.5));
  EXPECT_THAT(*reader_.GetI64s("a.i32"), ElementsAre(-7, 7));
  const auto& flags = std::get<GgufValue::Array>(reader_.Find("a.bool")->value);
  EXPECT_THAT(std::get<std::vector<uint64_t>>(flags), ElementsAre(1, 0));
  EXPECT_EQ(reader_.Find("a.bool")->element_type, GgufType::kBool);
}

TEST_F(GgufReaderTest, KeysInFileOrder) {
  ASSERT_EQ(reader_.keys().size(), 20U);
  EXPECT_EQ(reader_.keys().front(), "general.architecture");
  EXPECT_EQ(reader_.keys().back(), "a.empty");
  EXPECT_EQ(reader_.version(), 3U);
  EXPECT_EQ(reader_.alignment(), 32U);
  EXPECT_EQ(reader_.file_bytes(), bytes_.size());
  EXPECT_EQ(reader_.n_files(), 1);
}

TEST_F(GgufReaderTest, AbsentKeys) {
  EXPECT_EQ(reader_.Find("none"), nullptr);
  EXPECT_EQ(reader_.GetU64("none"), std::nullopt);
  EXPECT_EQ(reader_.GetF64("none"), std::nullopt);
  EXPECT_EQ(reader_.GetBool("none"), std::nullopt);
  EXPECT_EQ(reader_.GetString("none"), std::nullopt);
  EXPECT_EQ(reader_.GetStrings("none"), nullptr);
  EXPECT_EQ(MessageOf([&] { reader_.RequireU64("none", 0, 9); }),
            "small.gguf: key 'none' is missing: expected an integer; the file is of another kind "
            "or incomplete: make it again");
  EXPECT_THAT(MessageOf([&] { reader_.RequireString("none"); }),
              HasSubstr("key 'none' is missing: expected string"));
}

TEST_F(GgufReaderTest, WrongTypesAndRanges) {
  EXPECT_THAT(MessageOf([&] { reader_.GetU64("s.string"); }),
              HasSubstr("key 's.string' has the wrong type: expected an integer, found string"));
  EXPECT_THAT(MessageOf([&] { reader_.GetU64("s.f32"); }), HasSubstr("found f32"));
  EXPECT_THAT(MessageOf([&] { reader_.GetU64("s.bool"); }), HasSubstr("found bool"));
  EXPECT_THAT(MessageOf([&] { reader_.GetU64("s.i8"); }),
              HasSubstr("out of range: expected 0 or more, found -100"));
  EXPECT_THAT(MessageOf([&] { reader_.GetF64("s.string"); }), HasSubstr("found string"));
  EXPECT_THAT(MessageOf([&] { reader_.GetBool("s.u8"); }), HasSubstr("found u8"));
  EXPECT_THAT(MessageOf([&] { reader_.GetString("a.string"); }),
              HasSubstr("expected string, found array of string"));
  EXPECT_THAT(MessageOf([&] { reader_.GetStrings("s.string"); }), HasSubstr("found string"));
  EXPECT_THAT(MessageOf([&] { reader_.GetStrings("a.f32"); }), HasSubstr("array of f32"));
  EXPECT_THAT(MessageOf([&] { reader_.GetI64s("a.f32"); }), HasSubstr("array of f32"));
  EXPECT_EQ(reader_.RequireU64("llama.block_count", 1, 1), 1U);
  EXPECT_THAT(MessageOf([&] { reader_.RequireU64("llama.block_count", 2, 8); }),
              HasSubstr("out of range: expected 2 to 8, found 1"));
}

TEST_F(GgufReaderTest, Tensors) {
  ASSERT_EQ(reader_.tensors().size(), 3U);
  const GgufTensorInfo& two = *reader_.FindTensor("two");
  EXPECT_EQ(&two, &reader_.tensors()[1]);
  EXPECT_EQ(two.dtype, DType::kQ8_0);
  EXPECT_THAT(two.dims, ElementsAre(32, 3));
  EXPECT_EQ(two.n_elements, 96U);
  EXPECT_EQ(two.n_bytes, 102U);
  EXPECT_EQ(two.rows(), 3U);
  for (uint64_t i = 0; i < two.n_bytes; ++i) {
    EXPECT_EQ(reader_.TensorData(two)[i], static_cast<std::byte>(i));
  }
  EXPECT_EQ(reader_.FindTensor("four"), nullptr);
}

TEST_F(GgufReaderTest, RequireMatrix) {
  const TensorView two = reader_.RequireMatrix("two", 3, 32);
  EXPECT_EQ(two.rows, 3);
  EXPECT_EQ(two.cols, 32);
  EXPECT_EQ(two.row_stride_bytes, 34);
  EXPECT_EQ(*two.row(1), std::byte{34});
  EXPECT_EQ(reader_.RequireMatrix("three", 1, 5).data,
            reader_.TensorData(*reader_.FindTensor("three")));
  EXPECT_THAT(MessageOf([&] { (void)reader_.RequireMatrix("two", 32, 3); }),
              HasSubstr("tensor 'two' has the wrong shape: expected 32 rows of 3, found 3 rows of "
                        "32"));
  EXPECT_THAT(MessageOf([&] { (void)reader_.RequireMatrix("four", 1, 1); }),
              HasSubstr("tensor 'four' is missing"));
}

TEST_F(GgufReaderTest, StaysValidWhenMoved) {
  GgufReader from(AsBytes(bytes_), "small.gguf");
  const std::string fingerprint = from.fingerprint();
  const GgufReader to = std::move(from);
  EXPECT_EQ(to.fingerprint(), fingerprint);
}

TEST(GgufReader, VersionTwo) {
  const std::string bytes = SmallValidGguf(2);
  const GgufReader reader(AsBytes(bytes), "two.gguf");
  EXPECT_EQ(reader.version(), 2U);
  EXPECT_EQ(reader.tensors().size(), 3U);
}

TEST(GgufReader, NoTensorsNoPadding) {
  const std::string bytes = GgufBytes().header(0, 1).KeyU32("k", 1).bytes();
  EXPECT_EQ(GgufReader(AsBytes(bytes), "vocabulary.gguf").GetU64("k"), 1U);
}

TEST(GgufReader, UnusualAlignments) {
  for (const uint32_t alignment : {8U, 64U, 1U << 20}) {
    const std::string bytes = GgufBytes()
                                  .header(1, 1)
                                  .KeyU32("general.alignment", alignment)
                                  .tensor("w", {1}, DType::kF32, alignment)
                                  .pad(alignment)
                                  .zeros(alignment)
                                  .number(2.5F)
                                  .bytes();
    const GgufReader reader(AsBytes(bytes), "aligned.gguf");
    float value = 0;
    std::memcpy(&value, reader.TensorData(reader.tensors()[0]), sizeof(value));
    EXPECT_EQ(value, 2.5F);
    EXPECT_EQ(reader.alignment(), alignment);
  }
}

TEST(GgufReader, FloatsMustBeFinite) {
  const std::string bytes = GgufBytes()
                                .header(0, 2)
                                .key("nan", GgufType::kF32)
                                .number(std::numeric_limits<float>::quiet_NaN())
                                .key("inf", GgufType::kF64)
                                .number(std::numeric_limits<double>::infinity())
                                .bytes();
  const GgufReader reader(AsBytes(bytes), "floats.gguf");
  EXPECT_THAT(MessageOf([&] { reader.GetF64("nan"); }), HasSubstr("a finite number, found nan"));
  EXPECT_THAT(MessageOf([&] { reader.GetF64("inf"); }), HasSubstr("a finite number, found inf"));
}

TEST(GgufReader, PartOfASplitSetInMemory) {
  const std::string bytes = GgufBytes().header(0, 1).KeyU32("split.count", 2).bytes();
  EXPECT_THAT(MessageOf([&] { GgufReader(AsBytes(bytes), "part.gguf"); }),
              HasSubstr("one part of a split model"));
}

TEST(GgufReader, PowerInfersContainer) {
  const std::string plain = SmallValidGguf();
  const std::string bytes = AsPowerInfer(plain);
  const GgufReader reader(AsBytes(bytes), "model.gguf");
  EXPECT_EQ(GgufReader(AsBytes(plain), "model.gguf").container(), GgufContainer::kGguf);
  EXPECT_EQ(reader.container(), GgufContainer::kPowerInfer);
  EXPECT_EQ(reader.tensors().size(), 3U);
  EXPECT_EQ(reader.fingerprint(), GgufReader(AsBytes(plain), "model.gguf").fingerprint());
}

// A layer with no neuron on the GPU has a list of length 0, and the next tensor begins at the same
// place.
TEST(GgufReader, LeavesOutPowerInfersEmptyLists) {
  const GgufBytes table = GgufBytes()
                              .tensor("blk.0.gpu_idx", {8}, DType::kI32, 0)
                              .tensor("blk.0.gpu_bucket", {0}, DType::kI32, 32)
                              .tensor("blk.1.gpu_idx", {8}, DType::kI32, 32);
  const std::string bytes =
      AsPowerInfer(GgufBytes().header(3, 0).raw(table.bytes()).pad().zeros(64).bytes());
  const GgufReader reader(AsBytes(bytes), "m.gpuidx");
  EXPECT_EQ(reader.tensors().size(), 2U);
  EXPECT_EQ(reader.FindTensor("blk.0.gpu_bucket"), nullptr);
  EXPECT_EQ(reader.RequireMatrix("blk.1.gpu_idx", 1, 8).cols, 8);
}

}  // namespace
}  // namespace thermocline
