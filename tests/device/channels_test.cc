// Products of inputs of which small channels are left out, by rows and by column, against double
// arithmetic on the same weights.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <random>
#include <vector>

#include "runtime/device/cpu/cpu_device.h"
#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline {
namespace {

using testing::DecodeRow;
using testing::RandomFloats;

struct ChannelsCase {
  DType dtype;
  int64_t d_in;
  int64_t d_out;
  int64_t n;  // rows of the pass
};

// One matrix stored by column, and its input.
class Columns {
 public:
  explicit Columns(const ChannelsCase& c) : case_(c), rng_(5) {
    const int64_t bytes = RowBytes(c.dtype, c.d_out);
    rows_.resize(static_cast<size_t>(c.d_in * bytes));
    for (int64_t j = 0; j < c.d_in; ++j) {
      QuantizeRow(c.dtype, RandomFloats(&rng_, c.d_out, 0.1F).data(), c.d_out,
                  rows_.data() + j * bytes);
    }
    bias_ = RandomFloats(&rng_, c.d_out);
    weights_ = {.w = DenseView(rows_.data(), c.dtype, c.d_in, c.d_out),
                .bias = bias_.data(),
                .by_column = true};
    x_ = RandomFloats(&rng_, c.n * c.d_in);
    factors_ = RandomFloats(&rng_, c.d_in);
    for (float& factor : factors_) factor = std::fabs(factor);
    flags_.assign(static_cast<size_t>(c.n), 1);
    if (c.n > 1) flags_[1] = 0;
    cut_.factors = factors_.data();
    cut_.rows = flags_.data();
    cut_.kept = &kept_;
  }

  // least < 0: no cut at all.
  std::vector<float> Run(float least, int n_lanes) {
    const CpuDeviceLimits limits{.n_lanes = n_lanes,
                                 .max_tokens = case_.n,
                                 .d_model = case_.d_out,
                                 .max_d_in = std::max(case_.d_in, case_.d_out),
                                 .max_neurons = 32,
                                 .max_seq_len = 1,
                                 .n_heads = 1,
                                 .head_dim = 32,
                                 .cuts = true,
                                 .by_column = true};
    CpuDevice device("tested", limits);
    ThreadTeam team(n_lanes);
    LaneGroup* const group = team.MakeGroup(n_lanes);
    std::vector<float> out(static_cast<size_t>(case_.n * case_.d_out), NAN);
    cut_.least = least;
    kept_ = 0;
    const LinearOp op{&weights_, out.data(), least < 0 ? nullptr : &cut_};
    team.Run([&](int thread) {
      device.Linear(Lane{thread, n_lanes, group}, {&op, 1}, x_.data(), case_.n);
    });
    return out;
  }

  bool Keeps(int64_t t, int64_t j, float least) const {
    const auto at = static_cast<size_t>(t * case_.d_in + j);
    const bool cut = least >= 0 && flags_[static_cast<size_t>(t)] != 0;
    return !cut || std::fabs(x_[at]) * factors_[static_cast<size_t>(j)] >= least;
  }

  void ExpectMatchesDouble(const std::vector<float>& out, float least) const {
    std::vector<std::vector<double>> rows;
    for (int64_t j = 0; j < case_.d_in; ++j) {
      rows.push_back(DecodeRow(case_.dtype, weights_.w.row(j), case_.d_out));
    }
    // Batches multiply activations that are rounded, to 8 bits at the least; so do lists of 4 bits,
    // and with AVX-VNNI of 8 (kernels.h, accumulate_channels).
    const bool rounded = case_.n >= kGemmMinTokens || case_.dtype == DType::kQ4_0 ||
                         (case_.dtype == DType::kQ8_0 && CpuKernels().isa == "avx2");
    const double relative = rounded ? 1.0 / 128 : 1e-6;
    int64_t n_kept = 0;
    for (int64_t t = 0; t < case_.n; ++t) {
      float most = 0;
      for (int64_t j = 0; j < case_.d_in; ++j) {
        most = std::max(most, std::fabs(x_[static_cast<size_t>(t * case_.d_in + j)]));
        n_kept += flags_[static_cast<size_t>(t)] != 0 && Keeps(t, j, least) ? 1 : 0;
      }
      for (int64_t c = 0; c < case_.d_out; ++c) {
        double sum = bias_[static_cast<size_t>(c)];
        double magnitudes = std::fabs(sum);
        for (int64_t j = 0; j < case_.d_in; ++j) {
          if (!Keeps(t, j, least)) continue;
          const double w = rows[static_cast<size_t>(j)][static_cast<size_t>(c)];
          sum += w * x_[static_cast<size_t>(t * case_.d_in + j)];
          magnitudes += std::fabs(w) * most;
        }
        ASSERT_NEAR(out[static_cast<size_t>(t * case_.d_out + c)], sum, relative * magnitudes)
            << "row " << t << ", output " << c;
      }
    }
    if (least >= 0) {
      EXPECT_EQ(kept_.load(), n_kept);
    }
  }

 private:
  ChannelsCase case_;
  std::mt19937 rng_;
  std::vector<std::byte> rows_;
  std::vector<float> bias_;
  std::vector<float> x_;
  std::vector<float> factors_;
  std::vector<uint8_t> flags_;
  std::atomic<int64_t> kept_{0};
  LinearWeights weights_;
  ChannelCut cut_;
};

// Sizes of one stripe and of several, of one part and of several, with ends that fill neither.
constexpr ChannelsCase kChannelsCases[] = {
    {DType::kF32, 33, 40, 1},     {DType::kF16, 200, 1312, 1},   {DType::kQ8_0, 512, 2080, 1},
    {DType::kQ4_0, 700, 4704, 1}, {DType::kQ4_1, 96, 160, 3},    {DType::kQ4_0, 256, 128, 3},
    {DType::kQ8_0, 64, 4128, 2},  {DType::kQ6_K, 128, 1024, 1},  {DType::kQ4_0, 96, 288, 7},
    {DType::kF16, 64, 96, 9},     {DType::kQ4_0, 160, 16416, 1},  // stripes only for many lanes
};

TEST(Channels, MatchDoubleAndCountWhatTheyKeep) {
  for (const ChannelsCase& c : kChannelsCases) {
    SCOPED_TRACE(::testing::Message()
                 << DTypeName(c.dtype) << " " << c.d_in << "x" << c.d_out << ", rows " << c.n);
    Columns columns(c);
    for (const float least : {-1.0F, 0.0F, 0.2F, 0.6F, 100.0F}) {
      columns.ExpectMatchesDouble(columns.Run(least, 2), least);
    }
  }
}

// What is left out changes no bit where it is 0, and the number of lanes none at all.
TEST(Channels, AreTheSameBitsForAnyLanesAndWithNothingLeftOut) {
  for (const ChannelsCase& c : kChannelsCases) {
    Columns columns(c);
    const std::vector<float> dense = columns.Run(-1, 1);
    EXPECT_EQ(columns.Run(0, 1), dense);
    EXPECT_EQ(columns.Run(0, 3), dense);
    if (c.n < kGemmMinTokens) {
      EXPECT_EQ(columns.Run(0.3F, 3), columns.Run(0.3F, 1));
    }
  }
}

}  // namespace
}  // namespace thermocline
