#include "runtime/gguf/gguf_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "runtime/core/error.h"
#include "tests/gguf/gguf_bytes.h"

namespace thermocline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <typename Call>
std::string message_of(Call call) {
  try {
    call();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

class GgufReaderTest : public testing::Test {
 protected:
  const std::string bytes_ = small_valid_gguf();
  const GgufReader reader_{as_bytes(bytes_), "small.gguf"};
};

TEST_F(GgufReaderTest, ScalarsOfEveryType) {
  EXPECT_EQ(reader_.get_u64("s.u8"), 200U);
  EXPECT_EQ(std::get<int64_t>(reader_.find("s.i8")->value), -100);
  EXPECT_EQ(reader_.get_u64("s.u16"), 60000U);
  EXPECT_EQ(std::get<int64_t>(reader_.find("s.i16")->value), -30000);
  EXPECT_EQ(reader_.get_u64("s.u32"), 4000000000U);
  EXPECT_EQ(reader_.get_f64("s.i32"), -2e9);
  EXPECT_EQ(reader_.get_f64("s.f32"), double{0.1F});
  EXPECT_EQ(reader_.get_bool("s.bool"), true);
  EXPECT_EQ(reader_.get_string("s.string"), "snow\n\xe9\x9b\xaa");
  EXPECT_EQ(reader_.get_u64("s.u64"), UINT64_MAX);
  EXPECT_EQ(std::get<int64_t>(reader_.find("s.i64")->value), INT64_MIN);
  EXPECT_EQ(reader_.get_f64("s.f64"), -0.1);
}

TEST_F(GgufReaderTest, Arrays) {
  EXPECT_THAT(*reader_.get_strings("a.string"), ElementsAre("a", "", "ccc"));
  EXPECT_THAT(*reader_.get_f64s("a.f32"), ElementsAre(1.5, -2.5));
  EXPECT_THAT(*reader_.get_i64s("a.i32"), ElementsAre(-7, 7));
  const auto& flags = std::get<GgufValue::Array>(reader_.find("a.bool")->value);
  EXPECT_THAT(std::get<std::vector<uint64_t>>(flags), ElementsAre(1, 0));
  EXPECT_EQ(reader_.find("a.bool")->element_type, GgufType::kBool);
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
  EXPECT_EQ(reader_.find("none"), nullptr);
  EXPECT_EQ(reader_.get_u64("none"), std::nullopt);
  EXPECT_EQ(reader_.get_f64("none"), std::nullopt);
  EXPECT_EQ(reader_.get_bool("none"), std::nullopt);
  EXPECT_EQ(reader_.get_string("none"), std::nullopt);
  EXPECT_EQ(reader_.get_strings("none"), nullptr);
  EXPECT_EQ(message_of([&] { reader_.require_u64("none", 0, 9); }),
            "small.gguf: key 'none' is missing: expected an integer; the file is of another kind "
            "or incomplete: make it again");
  EXPECT_THAT(message_of([&] { reader_.require_string("none"); }),
              HasSubstr("key 'none' is missing: expected string"));
}

TEST_F(GgufReaderTest, WrongTypesAndRanges) {
  EXPECT_THAT(message_of([&] { reader_.get_u64("s.string"); }),
              HasSubstr("key 's.string' has the wrong type: expected an integer, found string"));
  EXPECT_THAT(message_of([&] { reader_.get_u64("s.f32"); }), HasSubstr("found f32"));
  EXPECT_THAT(message_of([&] { reader_.get_u64("s.bool"); }), HasSubstr("found bool"));
  EXPECT_THAT(message_of([&] { reader_.get_u64("s.i8"); }),
              HasSubstr("out of range: expected 0 or more, found -100"));
  EXPECT_THAT(message_of([&] { reader_.get_f64("s.string"); }), HasSubstr("found string"));
  EXPECT_THAT(message_of([&] { reader_.get_bool("s.u8"); }), HasSubstr("found u8"));
  EXPECT_THAT(message_of([&] { reader_.get_string("a.string"); }),
              HasSubstr("expected string, found array of string"));
  EXPECT_THAT(message_of([&] { reader_.get_strings("s.string"); }), HasSubstr("found string"));
  EXPECT_THAT(message_of([&] { reader_.get_strings("a.f32"); }), HasSubstr("array of f32"));
  EXPECT_THAT(message_of([&] { reader_.get_i64s("a.f32"); }), HasSubstr("array of f32"));
  EXPECT_THAT(message_of([&] { reader_.get_f64s("a.i32"); }), HasSubstr("array of i32"));
  EXPECT_EQ(reader_.require_u64("llama.block_count", 1, 1), 1U);
  EXPECT_THAT(message_of([&] { reader_.require_u64("llama.block_count", 2, 8); }),
              HasSubstr("out of range: expected 2 to 8, found 1"));
}

TEST_F(GgufReaderTest, Tensors) {
  ASSERT_EQ(reader_.tensors().size(), 3U);
  const GgufTensorInfo& two = *reader_.find_tensor("two");
  EXPECT_EQ(&two, &reader_.tensors()[1]);
  EXPECT_EQ(two.dtype, DType::kQ8_0);
  EXPECT_THAT(two.dims, ElementsAre(32, 3));
  EXPECT_EQ(two.n_elements, 96U);
  EXPECT_EQ(two.n_bytes, 102U);
  EXPECT_EQ(two.rows(), 3U);
  for (uint64_t i = 0; i < two.n_bytes; ++i) {
    EXPECT_EQ(reader_.tensor_data(two)[i], static_cast<std::byte>(i));
  }
  EXPECT_EQ(reader_.find_tensor("four"), nullptr);
}

TEST_F(GgufReaderTest, RequireMatrix) {
  const TensorView two = reader_.require_matrix("two", 3, 32);
  EXPECT_EQ(two.rows, 3);
  EXPECT_EQ(two.cols, 32);
  EXPECT_EQ(two.row_stride_bytes, 34);
  EXPECT_EQ(*two.row(1), std::byte{34});
  EXPECT_EQ(reader_.require_matrix("three", 1, 5).data,
            reader_.tensor_data(*reader_.find_tensor("three")));
  EXPECT_THAT(message_of([&] { (void)reader_.require_matrix("two", 32, 3); }),
              HasSubstr("tensor 'two' has the wrong shape: expected 32 rows of 3, found 3 rows of "
                        "32"));
  EXPECT_THAT(message_of([&] { (void)reader_.require_matrix("four", 1, 1); }),
              HasSubstr("tensor 'four' is missing"));
}

TEST_F(GgufReaderTest, StaysValidWhenMoved) {
  GgufReader from(as_bytes(bytes_), "small.gguf");
  const std::string fingerprint = from.fingerprint();
  const GgufReader to = std::move(from);
  EXPECT_EQ(to.fingerprint(), fingerprint);
}

TEST(GgufReader, VersionTwo) {
  const std::string bytes = small_valid_gguf(2);
  const GgufReader reader(as_bytes(bytes), "two.gguf");
  EXPECT_EQ(reader.version(), 2U);
  EXPECT_EQ(reader.tensors().size(), 3U);
}

TEST(GgufReader, NoTensorsNoPadding) {
  const std::string bytes = GgufBytes().header(0, 1).key_u32("k", 1).bytes();
  EXPECT_EQ(GgufReader(as_bytes(bytes), "vocabulary.gguf").get_u64("k"), 1U);
}

TEST(GgufReader, UnusualAlignments) {
  for (const uint32_t alignment : {8U, 64U, 1U << 20}) {
    const std::string bytes = GgufBytes()
                                  .header(1, 1)
                                  .key_u32("general.alignment", alignment)
                                  .tensor("w", {1}, DType::kF32, alignment)
                                  .pad(alignment)
                                  .zeros(alignment)
                                  .number(2.5F)
                                  .bytes();
    const GgufReader reader(as_bytes(bytes), "aligned.gguf");
    float value = 0;
    std::memcpy(&value, reader.tensor_data(reader.tensors()[0]), sizeof(value));
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
  const GgufReader reader(as_bytes(bytes), "floats.gguf");
  EXPECT_THAT(message_of([&] { reader.get_f64("nan"); }), HasSubstr("a finite number, found nan"));
  EXPECT_THAT(message_of([&] { reader.get_f64("inf"); }), HasSubstr("a finite number, found inf"));
}

TEST(GgufReader, PartOfASplitSetInMemory) {
  const std::string bytes = GgufBytes().header(0, 1).key_u32("split.count", 2).bytes();
  EXPECT_THAT(message_of([&] { GgufReader(as_bytes(bytes), "part.gguf"); }),
              HasSubstr("one part of a split model"));
}

}  // namespace
}  // namespace thermocline
