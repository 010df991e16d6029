#include "runtime/core/dtype.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <set>

namespace thermocline {
namespace {

TEST(DType, SizesOfWhatWeCompute) {
  EXPECT_EQ(RowBytes(DType::kF32, 33), 132);
  EXPECT_EQ(RowBytes(DType::kF16, 33), 66);
  EXPECT_EQ(RowBytes(DType::kBF16, 33), 66);
  EXPECT_EQ(RowBytes(DType::kQ8_0, 64), 68);
  EXPECT_EQ(RowBytes(DType::kQ6_K, 512), 420);
  EXPECT_EQ(RowBytes(DType::kQ4_1, 64), 40);
  EXPECT_EQ(RowBytes(DType::kQ4_0, 64), 36);
  EXPECT_EQ(RowBytes(DType::kQ4_0, int64_t{1} << 40), (int64_t{1} << 35) * 18);
  EXPECT_EQ(RowBytes(DType::kF32, 0), 0);
}

TEST(DType, TheTable) {
  std::set<std::string_view> names;
  int n_computable = 0;
  std::vector<uint32_t> ids(1000);
  std::iota(ids.begin(), ids.end(), 0U);
  // Types of ours have numbers far from those of other tools.
  for (uint32_t id = 0x54430000; id < 0x54430010; ++id) ids.push_back(id);
  for (const uint32_t id : ids) {
    const DTypeInfo* info = FindDType(id);
    if (info == nullptr) continue;
    EXPECT_EQ(static_cast<uint32_t>(info->dtype), id);
    EXPECT_TRUE(names.insert(info->name).second) << info->name;
    EXPECT_GT(info->block_elems, 0U);
    EXPECT_GT(info->block_bytes, 0U);
    EXPECT_EQ(&GetDTypeInfo(info->dtype), info);
    if (!info->computable) continue;
    ++n_computable;
    EXPECT_NE(WeightDTypeNames().find(info->name), std::string::npos) << info->name;
    EXPECT_EQ(ParseWeightDType(info->name), info->dtype);
  }
  EXPECT_EQ(n_computable, static_cast<int>(kWeightDTypes.size()));
  EXPECT_EQ(FindDType(4), nullptr);  // a type that was given up
  EXPECT_EQ(FindDType(UINT32_MAX), nullptr);
}

// The numbers are those of llama.cpp's llama_ftype, so that other tools read what our files say.
TEST(DType, FileTypes) {
  const std::map<DType, uint32_t> expected = {{DType::kF32, 0},
                                              {DType::kF16, 1},
                                              {DType::kQ4_0, 2},
                                              {DType::kQ4_1, 3},
                                              {DType::kQ8_0, 7},
                                              {DType::kQ5_0, 8},
                                              {DType::kQ5_1, 9},
                                              {DType::kQ2_K, 10},
                                              {DType::kQ3_K, 11},
                                              {DType::kQ4_K, 14},
                                              {DType::kQ5_K, 16},
                                              {DType::kQ6_K, 18},
                                              {DType::kIQ2_XXS, 19},
                                              {DType::kIQ2_XS, 20},
                                              {DType::kIQ3_XXS, 23},
                                              {DType::kIQ4_NL, 25},
                                              {DType::kIQ3_S, 26},
                                              {DType::kIQ2_S, 28},
                                              {DType::kIQ4_XS, 30},
                                              {DType::kBF16, 32},
                                              {DType::kTQ1_0, 36},
                                              {DType::kTQ2_0, 37},
                                              {DType::kMXFP4, 38},
                                              // Of ours, which llama.cpp has no number for.
                                              {DType::kS2_0, 0x54430002},
                                              {DType::kS3_0, 0x54430003}};
  std::map<DType, uint32_t> found;
  for (const DType dtype : kWeightDTypes) found[dtype] = GetWeightTypeInfo(dtype).file_type;
  EXPECT_EQ(found, expected);
}

TEST(DType, RowsOfTheTable) {
  for (const WeightTypeInfo& info : kWeightTypes) {
    EXPECT_EQ(&GetWeightTypeInfo(info.stored.dtype), &info);
    // A type for other rows has smaller blocks, so that looking for one ends.
    const DTypeInfo& other = GetDTypeInfo(info.for_other_rows);
    EXPECT_TRUE(other.block_elems < info.stored.block_elems || other.block_elems == 1);
    EXPECT_GE(GetWeightTypeInfo(info.for_vocabulary).precision, info.precision);
    // Fewer bits round more.
    for (const WeightTypeInfo& than : kWeightTypes) {
      if (info.precision <= than.precision) continue;
      EXPECT_GE(info.stored.block_bytes * than.stored.block_elems,
                than.stored.block_bytes * info.stored.block_elems)
          << info.stored.name << " " << than.stored.name;
    }
  }
}

TEST(DType, ListsWhatCanBeWritten) {
  EXPECT_TRUE(WrittenDTypeNames().starts_with("F32, F16, BF16, Q8_0, "));
  EXPECT_EQ(WrittenDTypeNames().find("IQ3_S"), std::string::npos);
  EXPECT_NE(WeightDTypeNames().find("IQ3_S"), std::string::npos);
}

TEST(DType, FindsWhatFitsRows) {
  EXPECT_EQ(FittingType(DType::kQ4_K, 512), DType::kQ4_K);
  EXPECT_EQ(FittingType(DType::kQ4_K, 544), DType::kQ5_0);
  EXPECT_EQ(FittingType(DType::kQ6_K, 544), DType::kQ8_0);
  EXPECT_EQ(FittingType(DType::kQ6_K, 545), DType::kF16);
  for (const DType dtype : kWeightDTypes) {
    const DTypeInfo& fitting = GetDTypeInfo(FittingType(dtype, 3));
    EXPECT_EQ(fitting.block_elems, 1U) << fitting.name;
  }
}

// A type that nothing here computes with has no row that could be taken for its own.
TEST(DTypeDeathTest, OtherTypesHaveNoRow) {
  EXPECT_DEATH(GetWeightTypeInfo(DType::kI8), "a type of weights");
  EXPECT_DEATH(VisitWeightType(DType::kI8, [](auto) {}), "dtype == kType");
}

TEST(DType, VisitsEveryType) {
  for (const DType dtype : kWeightDTypes) {
    EXPECT_EQ(VisitWeightType(dtype, [](auto type) { return type(); }), dtype);
  }
}

TEST(DType, Names) {
  EXPECT_EQ(DTypeName(DType::kQ8_0), "Q8_0");
  EXPECT_TRUE(WeightDTypeNames().starts_with("F32, F16, BF16, Q8_0, "));
  EXPECT_EQ(ParseWeightDType("q4_0"), DType::kQ4_0);
  EXPECT_EQ(ParseWeightDType("q4_1"), DType::kQ4_1);
  EXPECT_EQ(ParseWeightDType("q6_k"), DType::kQ6_K);
  EXPECT_EQ(ParseWeightDType("Bf16"), DType::kBF16);
  EXPECT_EQ(ParseWeightDType("iq3_s"), DType::kIQ3_S);
  EXPECT_EQ(ParseWeightDType("I32"), std::nullopt);  // known, but not computed with
  EXPECT_EQ(ParseWeightDType(""), std::nullopt);
}

}  // namespace
}  // namespace thermocline
