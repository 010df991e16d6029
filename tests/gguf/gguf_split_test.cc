// Models in several files: any member names the set, and a set that does not fit together is
// refused.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "tests/gguf/gguf_bytes.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

class GgufSplitTest : public testing::Test {
 protected:
  struct Part {
    int number;
    int count = 3;
    int n_tensors_of_set = 3;
    std::string tensor = "";  // "w<number>" when empty
  };

  std::string path(int number, int count = 3) const {
    return dir_.file(fmt::format("model-{:05}-of-{:05}.gguf", number + 1, count));
  }

  // Holds one f32 tensor of four equal values, the number of the part.
  static std::string bytes(const Part& part) {
    GgufBytes file;
    file.header(1, part.number == 0 ? 5 : 3);
    if (part.number == 0) file.KeyText("general.architecture", "llama").KeyU32("llama.x", 7);
    file.key("split.no", GgufType::kU16).number(static_cast<uint16_t>(part.number));
    file.key("split.count", GgufType::kU16).number(static_cast<uint16_t>(part.count));
    file.key("split.tensors.count", GgufType::kI32).number(int32_t{part.n_tensors_of_set});
    const std::string name = part.tensor.empty() ? fmt::format("w{}", part.number) : part.tensor;
    file.tensor(name, {4}, DType::kF32, 0).pad();
    for (int i = 0; i < 4; ++i) file.number(static_cast<float>(part.number));
    return file.bytes();
  }

  void write(const Part& part) const { WriteWholeFile(path(part.number), bytes(part)); }
  void write_set() const {
    for (int i = 0; i < 3; ++i) write({.number = i});
  }

  std::string ErrorOf(const std::string& opened) const {
    try {
      const GgufReader reader(opened);
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  }

  TempDir dir_;
};

TEST_F(GgufSplitTest, AnyMemberNamesTheSet) {
  write_set();
  const std::string fingerprint = GgufReader(path(0)).fingerprint();
  for (int named = 0; named < 3; ++named) {
    const GgufReader reader(path(named));
    EXPECT_EQ(reader.n_files(), 3);
    EXPECT_EQ(reader.path(), path(named));
    EXPECT_EQ(reader.GetU64("llama.x"), 7U);
    EXPECT_EQ(reader.GetU64("split.no"), 0U);
    ASSERT_EQ(reader.tensors().size(), 3U);
    for (int i = 0; i < 3; ++i) {
      const TensorView view = reader.RequireMatrix(fmt::format("w{}", i), 1, 4);
      float value = -1;
      std::memcpy(&value, view.data, sizeof(value));
      EXPECT_EQ(value, static_cast<float>(i));
    }
    EXPECT_EQ(reader.fingerprint(), fingerprint);
  }
}

TEST_F(GgufSplitTest, FingerprintOfTheWholeModelIsTheSame) {
  write_set();
  GgufBytes file;
  file.header(3, 2).KeyText("general.architecture", "llama").KeyU32("llama.x", 7);
  for (uint64_t i = 0; i < 3; ++i) file.tensor(fmt::format("w{}", i), {4}, DType::kF32, 32 * i);
  for (int i = 0; i < 3; ++i) {
    file.pad();
    for (int k = 0; k < 4; ++k) file.number(static_cast<float>(i));
  }
  EXPECT_EQ(GgufReader(path(1)).fingerprint(),
            GgufReader(AsBytes(file.bytes()), "whole.gguf").fingerprint());
}

TEST_F(GgufSplitTest, MissingMember) {
  write_set();
  std::filesystem::remove(path(1));
  EXPECT_THAT(ErrorOf(path(0)),
              HasSubstr("model-00002-of-00003.gguf: a file of a split model is missing"));
  EXPECT_THAT(ErrorOf(path(2)), HasSubstr("expected 3 files, up to"));
}

TEST_F(GgufSplitTest, AnotherName) {
  WriteWholeFile(dir_.file("renamed.gguf"), bytes({.number = 0}));
  EXPECT_THAT(ErrorOf(dir_.file("renamed.gguf")),
              HasSubstr("one of 3 files of a split model, under another name: expected a name like "
                        "NAME-00001-of-00003.gguf"));
}

TEST_F(GgufSplitTest, CountInTheNameIsWrong) {
  WriteWholeFile(path(0, 4), bytes({.number = 0}));
  EXPECT_THAT(ErrorOf(path(0, 4)), HasSubstr("not split.count: expected 3, found 4"));
}

TEST_F(GgufSplitTest, NumberInTheNameIsWrong) {
  for (const char* name : {"model-00000-of-00003.gguf", "model-00004-of-00003.gguf"}) {
    WriteWholeFile(dir_.file(name), bytes({.number = 0}));
    EXPECT_THAT(ErrorOf(dir_.file(name)), HasSubstr("out of range: expected 1 to 3"));
  }
}

TEST_F(GgufSplitTest, MembersSwapped) {
  write_set();
  WriteWholeFile(path(1), bytes({.number = 2}));
  EXPECT_THAT(ErrorOf(path(0)), HasSubstr("'split.no' does not fit the file's name: expected 1, "
                                          "found 2"));
}

TEST_F(GgufSplitTest, MemberOfAnotherSet) {
  write_set();
  write({.number = 1, .count = 5});
  EXPECT_THAT(ErrorOf(path(0)), HasSubstr("'split.count' is not that of the set: expected 3, "
                                          "found 5"));
  WriteWholeFile(path(1), SmallValidGguf());
  EXPECT_THAT(ErrorOf(path(0)), HasSubstr("expected 3, found no such key"));
}

TEST_F(GgufSplitTest, TensorInTwoMembers) {
  write_set();
  write({.number = 2, .tensor = "w0"});
  EXPECT_THAT(ErrorOf(path(0)), HasSubstr("00003-of-00003.gguf: tensor 'w0' is there twice"));
}

TEST_F(GgufSplitTest, NumberOfTensors) {
  write_set();
  write({.number = 0, .n_tensors_of_set = 4});
  EXPECT_THAT(ErrorOf(path(1)), HasSubstr("expected 4 tensors, found 3 tensors"));
}

TEST_F(GgufSplitTest, DamagedMember) {
  write_set();
  WriteWholeFile(path(2), bytes({.number = 2}).substr(0, 90));
  EXPECT_THAT(ErrorOf(path(0)), HasSubstr("model-00003-of-00003.gguf: the file ends inside"));
}

TEST_F(GgufSplitTest, CountOfOneIsOneFileUnderAnyName) {
  WriteWholeFile(dir_.file("any.gguf"), bytes({.number = 0, .count = 1}));
  EXPECT_EQ(GgufReader(dir_.file("any.gguf")).n_files(), 1);
}

}  // namespace
}  // namespace thermocline
