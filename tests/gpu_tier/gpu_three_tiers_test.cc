// A GPU and two tiers of the host behind it.
#include <gmock/gmock.h>

#include "tests/gpu_tier/gpu_tier_fixture.h"
#include "tests/pass/three_tiers.h"

namespace thermocline {
namespace {

class GpuThreeTiers : public GpuTier {
 protected:
  static std::vector<float> LogitsOf(const TierShares& shares, SparseMode mode) {
    const std::string path = Golden("gqa_relu");
    const GgufReader gguf(path);
    const ModelConfig config = ReadModelConfig(gguf, FindFamily(gguf));
    const auto gpu = MakeGpuDevice(
        "gpu", {&config, ThreeTierModel::kMaxTokens, ThreeTierModel::kContext, config.d_ff});
    CpuDevice second("second", ThreeTierModel::Limits(path, 2));
    CpuDevice third("third", ThreeTierModel::Limits(path, 2));
    Device* const tiers[] = {gpu.get(), &second, &third};
    return ThreeTierModel(path, shares, mode, 2, tiers).Logits();
  }
};

TEST_F(GpuThreeTiers, AgreeWithOneTierAtEverySplit) {
  const auto one = LogitsOf({32, 0}, SparseMode::kDense);
  for (const TierShares& shares : {TierShares{8, 12}, TierShares{0, 16}, TierShares{16, 0}}) {
    EXPECT_LE(MaxDifference(LogitsOf(shares, SparseMode::kDense), one), 5e-3)
        << shares.first << ", " << shares.second;
    EXPECT_LE(MaxDifference(LogitsOf(shares, SparseMode::kExact), one), 5e-3)
        << shares.first << ", " << shares.second;
  }
}

}  // namespace
}  // namespace thermocline
