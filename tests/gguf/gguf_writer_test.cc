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
void copy_gguf(const GgufReader& from, const std::string& to, uint64_t alignment) {
  GgufWriter writer(to, alignment);
  for (const std::string& key : from.keys()) writer.set(key, *from.find(key));
  for (const GgufTensorInfo& tensor : from.tensors()) {
    writer.declare_tensor(tensor.name, tensor.dtype, tensor.dims);
  }
  for (const GgufTensorInfo& tensor : from.tensors()) {
    writer.write_tensor(tensor.name, from.tensor_data(tensor), tensor.n_bytes);
  }
  writer.finish();
}

TEST(GgufWriter, CopyHasTheSameBytes) {
  const TempDir dir;
  std::string bytes = small_valid_gguf();
  copy_gguf(GgufReader(as_bytes(bytes), "small.gguf"), dir.file("copy.gguf"), 32);
  EXPECT_EQ(read_whole_file(dir.file("copy.gguf")), GgufBytes().raw(bytes).pad().bytes());
  EXPECT_EQ(dir.n_entries(), 1U);
}

TEST(GgufWriter, CopyOfAVocabularyHasTheSameBytes) {
  const TempDir dir;
  const std::string bytes = GgufBytes().header(0, 1).key_text("general.name", "v").bytes();
  copy_gguf(GgufReader(as_bytes(bytes), "vocabulary.gguf"), dir.file("copy.gguf"), 32);
  EXPECT_EQ(read_whole_file(dir.file("copy.gguf")), bytes);
}

TEST(GgufWriter, OtherAlignments) {
  const TempDir dir;
  const std::string bytes = small_valid_gguf();
  const GgufReader from(as_bytes(bytes), "small.gguf");
  for (const uint64_t alignment : {8, 64, 4096}) {
    const std::string path = dir.file("aligned.gguf");
    copy_gguf(from, path, alignment);
    const GgufReader copy(path);
    EXPECT_EQ(copy.alignment(), alignment);
    EXPECT_EQ(copy.keys().back(), "general.alignment");
    EXPECT_EQ(copy.fingerprint(), from.fingerprint());
    for (const GgufTensorInfo& tensor : copy.tensors()) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(copy.tensor_data(tensor)) % alignment, 0U);
    }
  }
}

TEST(GgufWriter, AlignmentKeyKeepsItsPlace) {
  const TempDir dir;
  GgufWriter writer(dir.file("a.gguf"), 64);
  writer.set("general.alignment", GgufValue::u32(128));
  writer.set("last", GgufValue::u32(1));
  writer.finish();
  const GgufReader reader(dir.file("a.gguf"));
  EXPECT_THAT(reader.keys(), ElementsAre("general.alignment", "last"));
  EXPECT_EQ(reader.alignment(), 64U);
}

TEST(GgufWriter, SetReplaces) {
  const TempDir dir;
  GgufWriter writer(dir.file("a.gguf"));
  writer.set("first", GgufValue::u32(1));
  writer.set("second", GgufValue::boolean(true));
  writer.set("first", GgufValue::strings({"x", "y"}));
  writer.finish();
  const GgufReader reader(dir.file("a.gguf"));
  EXPECT_THAT(reader.keys(), ElementsAre("first", "second"));
  EXPECT_THAT(*reader.get_strings("first"), ElementsAre("x", "y"));
}

TEST(GgufWriter, TensorsInPieces) {
  const TempDir dir;
  GgufWriter writer(dir.file("a.gguf"));
  writer.declare_tensor("a", DType::kF32, {3});
  writer.declare_tensor("b", DType::kQ4_0, {32, 2});
  const float values[] = {1, 2, 3};
  writer.begin_tensor("a");
  for (const float& value : values) writer.write(&value, sizeof(value));
  const std::string blocks(36, 'q');
  writer.write_tensor("b", blocks.data(), blocks.size());
  writer.finish();
  EXPECT_EQ(writer.bytes_written(), std::filesystem::file_size(dir.file("a.gguf")));
  const GgufReader reader(dir.file("a.gguf"));
  float read[3];
  std::memcpy(read, reader.require_matrix("a", 1, 3).data, sizeof(read));
  EXPECT_THAT(read, ElementsAre(1, 2, 3));
  EXPECT_EQ(*reader.require_matrix("b", 2, 32).row(1), std::byte{'q'});
}

TEST(GgufWriter, NothingIsLeftWhenNotFinished) {
  const TempDir dir;
  write_whole_file(dir.file("a.gguf"), "old");
  try {
    GgufWriter writer(dir.file("a.gguf"));
    writer.declare_tensor("a", DType::kF32, {1024, 1024});
    const std::vector<float> half(512 * 1024);
    writer.begin_tensor("a");
    writer.write(half.data(), half.size() * sizeof(float));
    throw std::runtime_error("stopped");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(dir.n_entries(), 1U);
  EXPECT_EQ(read_whole_file(dir.file("a.gguf")), "old");
}

TEST(GgufWriter, UnwritablePathFailsAtOnce) {
  const TempDir dir;
  EXPECT_THROW(GgufWriter(dir.file("no/such/a.gguf")), Error);
  EXPECT_THROW(GgufWriter{dir.path()}, Error);
}

TEST(GgufWriterDeathTest, MisuseIsABrokenInvariant) {
  const TempDir dir;
  GgufWriter writer(dir.file("a.gguf"));
  writer.declare_tensor("a", DType::kF32, {2});
  EXPECT_DEATH(writer.declare_tensor("a", DType::kF32, {2}), "CHECK");
  EXPECT_DEATH(writer.declare_tensor("b", DType::kQ8_0, {33}), "CHECK");
  EXPECT_DEATH(writer.declare_tensor("b", DType::kF32, {}), "CHECK");
  EXPECT_DEATH(writer.declare_tensor("b", DType::kF32, {0}), "CHECK");
  EXPECT_DEATH(writer.begin_tensor("b"), "CHECK");
  EXPECT_DEATH(writer.finish(), "CHECK");
  const double too_much[2] = {};
  EXPECT_DEATH(writer.write_tensor("a", too_much, sizeof(too_much)), "CHECK");
  EXPECT_DEATH(GgufWriter(dir.file("b.gguf"), 3), "CHECK");
}

TEST(GgufWriterDeathTest, ValuesMustFitTheirType) {
  const TempDir dir;
  const auto write = [&](const GgufValue& value) {
    GgufWriter writer(dir.file("a.gguf"));
    writer.set("k", value);
    writer.finish();
  };
  EXPECT_DEATH(write({GgufType::kU8, {}, uint64_t{256}}), "CHECK");
  EXPECT_DEATH(write({GgufType::kI16, {}, int64_t{-32769}}), "CHECK");
  EXPECT_DEATH(write({GgufType::kString, {}, 1.0}), "CHECK");
  EXPECT_DEATH(write(GgufValue::array(GgufType::kBool, std::vector<uint64_t>{2})), "CHECK");
  EXPECT_DEATH(write(GgufValue::array(GgufType::kArray, std::vector<uint64_t>{})), "CHECK");
}

}  // namespace
}  // namespace thermocline
