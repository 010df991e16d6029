#include "runtime/core/dtype.h"

#include <gtest/gtest.h>

#include <set>

namespace thermocline {
namespace {

TEST(DType, SizesOfWhatWeCompute) {
  EXPECT_EQ(RowBytes(DType::kF32, 33), 132);
  EXPECT_EQ(RowBytes(DType::kF16, 33), 66);
  EXPECT_EQ(RowBytes(DType::kBF16, 33), 66);
  EXPECT_EQ(RowBytes(DType::kQ8_0, 64), 68);
  EXPECT_EQ(RowBytes(DType::kQ6_K, 512), 420);
  EXPECT_EQ(RowBytes(DType::kQ4_0, 64), 36);
  EXPECT_EQ(RowBytes(DType::kQ4_0, int64_t{1} << 40), (int64_t{1} << 35) * 18);
  EXPECT_EQ(RowBytes(DType::kF32, 0), 0);
}

TEST(DType, TheTable) {
  std::set<std::string_view> names;
  int n_computable = 0;
  for (uint32_t id = 0; id < 1000; ++id) {
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
  EXPECT_EQ(n_computable, 6);
  EXPECT_EQ(FindDType(4), nullptr);  // a type that was given up
  EXPECT_EQ(FindDType(UINT32_MAX), nullptr);
}

TEST(DType, Names) {
  EXPECT_EQ(DTypeName(DType::kQ8_0), "Q8_0");
  EXPECT_EQ(ParseWeightDType("q4_0"), DType::kQ4_0);
  EXPECT_EQ(ParseWeightDType("q6_k"), DType::kQ6_K);
  EXPECT_EQ(ParseWeightDType("Bf16"), DType::kBF16);
  EXPECT_EQ(ParseWeightDType("Q4_K"), std::nullopt);  // known, but not computed with
  EXPECT_EQ(ParseWeightDType("I32"), std::nullopt);
  EXPECT_EQ(ParseWeightDType(""), std::nullopt);
}

}  // namespace
}  // namespace thermocline
