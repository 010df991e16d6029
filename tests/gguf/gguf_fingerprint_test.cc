#include <gtest/gtest.h>

#include "runtime/gguf/gguf_reader.h"
#include "tests/gguf/gguf_bytes.h"

namespace thermocline {
namespace {

struct Model {
  std::string name = "a model";
  uint32_t n_layers = 4;
  std::string tensor = "w";
  std::vector<uint64_t> dims = {64, 64};
  DType dtype = DType::kF32;
  uint64_t changed_byte = UINT64_MAX;  // where the tensor's data is changed
  std::string extra_key = "other.key";
};

std::string FingerprintOf(const Model& model) {
  GgufBytes file;
  file.header(1, 4)
      .KeyText("general.architecture", "llama")
      .KeyText("general.name", model.name)
      .KeyU32("llama.block_count", model.n_layers)
      .KeyU32(model.extra_key, 1)
      .tensor(model.tensor, model.dims, model.dtype, 0)
      .pad();
  std::string data(64 * 64 * 4, 'd');
  if (model.changed_byte < data.size()) data[model.changed_byte] = 'x';
  file.raw(data);
  return GgufReader(AsBytes(file.bytes()), "m.gguf").fingerprint();
}

TEST(GgufFingerprint, IsSixteenHexDigitsAndStable) {
  const std::string fingerprint = FingerprintOf({});
  EXPECT_EQ(fingerprint.size(), 16U);
  EXPECT_EQ(fingerprint.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(fingerprint, FingerprintOf({}));
}

// Profiles and placements on disk hold fingerprints: a change of the algorithm orphans them.
TEST(GgufFingerprint, KnownValue) { EXPECT_EQ(FingerprintOf({}), "ab6ae5f4bbe4b592"); }

TEST(GgufFingerprint, WhatCounts) {
  const std::string fingerprint = FingerprintOf({});
  EXPECT_NE(fingerprint, FingerprintOf({.n_layers = 5}));
  EXPECT_NE(fingerprint, FingerprintOf({.tensor = "v"}));
  EXPECT_NE(fingerprint, FingerprintOf({.dims = {32, 128}}));
  EXPECT_NE(fingerprint, FingerprintOf({.dims = {64, 64, 1}}));
  EXPECT_NE(fingerprint, FingerprintOf({.dtype = DType::kI32}));
  EXPECT_NE(fingerprint, FingerprintOf({.extra_key = "llama.key"}));
  for (const uint64_t byte : {0U, 255U, 8192U - 128U, 8192U + 127U, 16384U - 256U, 16383U}) {
    EXPECT_NE(fingerprint, FingerprintOf({.changed_byte = byte})) << byte;
  }
}

TEST(GgufFingerprint, WhatDoesNotCount) {
  const std::string fingerprint = FingerprintOf({});
  EXPECT_EQ(fingerprint, FingerprintOf({.name = "another name"}));
  EXPECT_EQ(fingerprint, FingerprintOf({.extra_key = "thermocline.pack_date"}));
  EXPECT_EQ(fingerprint, FingerprintOf({.extra_key = "llamas.key"}));
}

TEST(GgufFingerprint, OfAnEmptyFile) {
  const std::string bytes = GgufBytes().header(0, 0).bytes();
  EXPECT_EQ(GgufReader(AsBytes(bytes), "m.gguf").fingerprint(), "cbf29ce484222325");
}

}  // namespace
}  // namespace thermocline
