#include "runtime/gguf/gguf_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <stdexcept>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "tests/gguf/gguf_bytes.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::ElementsAre;

// Reads a file and writes what was read.
void CopyGguf(const GgufReader& from, const std::string& to, uint64_t alignment) {
  GgufWriter writer(to, alignment);
  for (const std::string& key : from.keys()) writer.Set(key, *from.Find(key));
  for (const GgufTensorInfo& tensor : from.tensors()) {
    writer.DeclareTensor(tensor.name, tensor.dtype, tensor.dims);
  }
  for (const GgufTensorInfo& tensor : from.tensors()) {
    writer.WriteTensor(tensor.name, from.TensorData(tensor), tensor.n_bytes);
  }
  writer.Finish();
}

TEST(GgufWriter, CopyHasTheSameBytes) {
  const TempDir dir;
  std::string bytes = SmallValidGguf();
  CopyGguf(GgufReader(AsBytes(bytes), "small.gguf"), dir.file("copy.gguf"), 32);
  EXPECT_EQ(ReadWholeFile(dir.file("copy.gguf")), GgufBytes().raw(bytes).pad().bytes());
  EXPECT_EQ(dir.n_entries(), 1U);
}

TEST(GgufWriter, CopyOfAVocabularyHasTheSameBytes) {
  const TempDir dir;
  const std::string bytes = GgufBytes().header(0, 1).KeyText("general.name", "v").bytes();
  CopyGguf(GgufReader(AsBytes(bytes), "vocabulary.gguf"), dir.file("copy.gguf"), 32);
  EXPECT_EQ(ReadWholeFile(dir.file("copy.gguf")), bytes);
}

TEST(GgufWriter, OtherAlignments) {
  const TempDir dir;
  const std::string bytes = SmallValidGguf();
  const GgufReader from(AsBytes(bytes), "small.gguf");
  for (const uint64_t alignment : {8, 64, 4096}) {
    const std::string path = dir.file("aligned.gguf");
    CopyGguf(from, path, alignment);
    const GgufReader copy(path);
    EXPECT_EQ(copy.alignment(), alignment);
    EXPECT_EQ(copy.keys().back(), "general.alignment");
    EXPECT_EQ(copy.fingerprint(), from.fingerprint());
    for (const GgufTensorInfo& tensor : copy.tensors()) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(copy.TensorData(tensor)) % alignment, 0U);
    }
  }
}

TEST(GgufWriter, AlignmentKeyKeepsItsPlace) {
  const TempDir dir;
  GgufWriter writer(dir.file("a.gguf"), 64);
  writer.Set("general.alignment", GgufValue::u32(128));
  writer.Set("last", GgufValue::u32(1));
  writer.Finish();
  const GgufReader reader(dir.file("a.gguf"));
  EXPECT_THAT(reader.keys(), ElementsAre("general.alignment", "last"));
  EXPECT_EQ(reader.alignment(), 64U);
}

TEST(GgufWriter, SetReplaces) {
  const TempDir dir;
  GgufWriter writer(dir.file("a.gguf"));
  writer.Set("first", GgufValue::u32(1));
  writer.Set("second", GgufValue::boolean(true));
  writer.Set("first", GgufValue::strings({"x", "y"}));
  writer.Finish();
  const GgufReader reader(dir.file("a.gguf"));
  EXPECT_THAT(reader.keys(), ElementsAre("first", "second"));
  EXPECT_THAT(*reader.GetStrings("first"), ElementsAre("x", "y"));
}

TEST(GgufWriter, TensorsInPieces) {
  const TempDir dir;
  GgufWriter writer(dir.file("a.gguf"));
  writer.DeclareTensor("a", DType::kF32, {3});
  writer.DeclareTensor("b", DType::kQ4_0, {32, 2});
  const float values[] = {1, 2, 3};
  writer.BeginTensor("a");
  for (const float& value : values) writer.Write(&value, sizeof(value));
  const std::string blocks(36, 'q');
  writer.WriteTensor("b", blocks.data(), blocks.size());
  writer.Finish();
  EXPECT_EQ(writer.bytes_written(), std::filesystem::file_size(dir.file("a.gguf")));
  const GgufReader reader(dir.file("a.gguf"));
  float read[3];
  std::memcpy(read, reader.RequireMatrix("a", 1, 3).data, sizeof(read));
  EXPECT_THAT(read, ElementsAre(1, 2, 3));
  EXPECT_EQ(*reader.RequireMatrix("b", 2, 32).row(1), std::byte{'q'});
}

TEST(GgufWriter, NothingIsLeftWhenNotFinished) {
  const TempDir dir;
  WriteWholeFile(dir.file("a.gguf"), "old");
  try {
    GgufWriter writer(dir.file("a.gguf"));
    writer.DeclareTensor("a", DType::kF32, {1024, 1024});
    const std::vector<float> half(512 * 1024);
    writer.BeginTensor("a");
    writer.Write(half.data(), half.size() * sizeof(float));
    throw std::runtime_error("stopped");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(dir.n_entries(), 1U);
  EXPECT_EQ(ReadWholeFile(dir.file("a.gguf")), "old");
}

TEST(GgufWriter, UnwritablePathFailsAtOnce) {
  const TempDir dir;
  EXPECT_THROW(GgufWriter(dir.file("no/such/a.gguf")), Error);
  EXPECT_THROW(GgufWriter{dir.path()}, Error);
}

TEST(GgufWriterDeathTest, MisuseIsABrokenInvariant) {
  const TempDir dir;
  GgufWriter writer(dir.file("a.gguf"));
  writer.DeclareTensor("a", DType::kF32, {2});
  EXPECT_DEATH(writer.DeclareTensor("a", DType::kF32, {2}), "CHECK");
  EXPECT_DEATH(writer.DeclareTensor("b", DType::kQ8_0, {33}), "CHECK");
  EXPECT_DEATH(writer.DeclareTensor("b", DType::kF32, {}), "CHECK");
  EXPECT_DEATH(writer.DeclareTensor("b", DType::kF32, {0}), "CHECK");
  EXPECT_DEATH(writer.BeginTensor("b"), "CHECK");
  EXPECT_DEATH(writer.Finish(), "CHECK");
  const double too_much[2] = {};
  EXPECT_DEATH(writer.WriteTensor("a", too_much, sizeof(too_much)), "CHECK");
  EXPECT_DEATH(GgufWriter(dir.file("b.gguf"), 3), "CHECK");
}

TEST(GgufWriterDeathTest, ValuesMustFitTheirType) {
  const TempDir dir;
  const auto write = [&](const GgufValue& value) {
    GgufWriter writer(dir.file("a.gguf"));
    writer.Set("k", value);
    writer.Finish();
  };
  EXPECT_DEATH(write({GgufType::kU8, {}, uint64_t{256}}), "CHECK");
  EXPECT_DEATH(write({GgufType::kI16, {}, int64_t{-32769}}), "CHECK");
  EXPECT_DEATH(write({GgufType::kString, {}, 1.0}), "CHECK");
  EXPECT_DEATH(write(GgufValue::array(GgufType::kBool, std::vector<uint64_t>{2})), "CHECK");
  EXPECT_DEATH(write(GgufValue::array(GgufType::kArray, std::vector<uint64_t>{})), "CHECK");
}

}  // namespace
}  // namespace thermocline
