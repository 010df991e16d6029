// Lists of channels, products with matrices by column and cuts of batches, against double.
#include "gpu_kernels/products/channels.h"

#include <algorithm>
#include <cmath>

#include "tests/gpu_kernels/gpu_matrix.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuChannelsTest = GpuTest;

constexpr int32_t kFirst = 4;  // positions before it are never cut

// Tokens of which the second stands at a position that is not cut.
std::vector<GpuPassRow> RowsOf(int64_t n_tokens) {
  std::vector<GpuPassRow> rows(static_cast<size_t>(n_tokens));
  for (size_t t = 0; t < rows.size(); ++t) rows[t].position = t == 1 ? kFirst - 1 : kFirst + 3;
  return rows;
}

// What a test cuts, on the host and on the GPU.
class CutInput {
 public:
  CutInput(Stream& stream, int64_t n_tokens, int64_t n, float least, bool weighed)
      : n_(n),
        least_(least),
        x_(RandomValues(static_cast<size_t>(n_tokens * n), 5)),
        factors_(RandomValues(static_cast<size_t>(n), 6)) {
    for (float& factor : factors_) factor = weighed ? std::fabs(factor) : 1;
    x_[0] = 0;
    x_.back() = kNan;
    memory_.emplace(stream, x_);
    factor_memory_.emplace(stream, factors_);
    rows_.emplace(stream, RowsOf(n_tokens));
    cut_ = {.rows = rows_->data(),
            .first_position = kFirst,
            .least = least,
            .factors = weighed ? factor_memory_->data() : nullptr};
  }

  static bool IsCut(int64_t t) { return t != 1; }
  float x(int64_t t, int64_t j) const { return x_[static_cast<size_t>(t * n_ + j)]; }
  // What is left of a channel.
  float Left(int64_t t, int64_t j) const {
    const float value = x(t, j);
    const bool small = std::fabs(value) * factors_[static_cast<size_t>(j)] < least_;
    return IsCut(t) && small ? 0 : value;
  }
  bool IsListed(int64_t t, int64_t j) const { return !IsCut(t) || least_ <= 0 || Left(t, j) != 0; }
  const GpuRowCut& cut() const { return cut_; }
  float* data() const { return memory_->data(); }
  std::vector<float> Read() const { return memory_->Read(); }

 private:
  int64_t n_;
  float least_;
  std::vector<float> x_;
  std::vector<float> factors_;
  std::optional<OnDevice<float>> memory_;
  std::optional<OnDevice<float>> factor_memory_;
  std::optional<OnDevice<GpuPassRow>> rows_;
  GpuRowCut cut_;
};

struct ListOnGpu {
  OnDevice<int32_t> rows;
  OnDevice<float> values;
  OnDevice<int32_t> counts;
  OnDevice<int32_t> kept;
  OnDevice<int32_t> listed;

  ListOnGpu(Stream& stream, int64_t n_tokens, int64_t n)
      : rows(stream, std::vector<int32_t>(static_cast<size_t>(n_tokens * n), -7)),
        values(stream, std::vector<float>(static_cast<size_t>(n_tokens * n), kNan)),
        counts(stream, std::vector<int32_t>(static_cast<size_t>(n_tokens), -7)),
        kept(stream, {-7}),
        listed(stream, {-7}) {}
  GpuListMemory memory() const { return {rows.data(), values.data(), counts.data()}; }
};

bool SameValue(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

TEST_F(GpuChannelsTest, ListsHoldWhatIsKeptInOrder) {
  Stream stream;
  for (const int64_t n : {1, 31, 33, 1024, 3001}) {
    for (const int64_t n_tokens : {1, 3}) {
      for (const float least : {0.0F, 0.3F, 100.0F}) {
        InEveryOrderIf(n == 33, [&] {
          const CutInput input(stream, n_tokens, n, least, n != 31);
          const ListOnGpu list(stream, n_tokens, n);
          GpuListChannels(stream, input.data(), input.cut(), n_tokens, n, list.memory(),
                          list.kept.data(), list.listed.data());
          const auto rows = list.rows.Read();
          const auto values = list.values.Read();
          int32_t kept = 0;
          int32_t listed = 0;
          for (int64_t t = 0; t < n_tokens; ++t) {
            int32_t count = 0;
            for (int64_t j = 0; j < n; ++j) {
              if (!input.IsListed(t, j)) continue;
              const auto at = static_cast<size_t>(t * n + count++);
              ASSERT_EQ(rows[at], j) << "of " << n << ", token " << t;
              ASSERT_TRUE(SameValue(values[at], input.x(t, j)));
            }
            ASSERT_EQ(list.counts.Read()[static_cast<size_t>(t)], count);
            kept += CutInput::IsCut(t) ? count : 0;
            listed += count;
          }
          EXPECT_EQ(list.kept.Read()[0], kept);
          EXPECT_EQ(list.listed.Read()[0], listed);
        });
      }
    }
  }
}

TEST_F(GpuChannelsTest, BatchesAreCutAndCounted) {
  Stream stream;
  for (const int64_t n : {1, 1025, 2048}) {
    constexpr int64_t kTokens = 37;
    InEveryOrderIf(n == 1025, [&] {
      const CutInput input(stream, kTokens, n, 0.4F, true);
      const OnDevice<float> out(stream, std::vector<float>(static_cast<size_t>(kTokens * n), kNan));
      const OnDevice<int32_t> counts(stream, std::vector<int32_t>(kTokens, -7));
      const OnDevice<int32_t> kept(stream, {-7});
      GpuCutChannels(stream, input.data(), input.cut(), kTokens, n, out.data(), counts.data(),
                     kept.data());
      const auto found = out.Read();
      int32_t expected = 0;
      for (int64_t t = 0; t < kTokens; ++t) {
        for (int64_t j = 0; j < n; ++j) {
          const float left = input.Left(t, j);
          ASSERT_TRUE(SameValue(found[static_cast<size_t>(t * n + j)], left));
          expected += CutInput::IsCut(t) && left != 0 ? 1 : 0;
        }
      }
      EXPECT_EQ(kept.Read()[0], expected);
      // In place it is the same.
      GpuCutChannels(stream, input.data(), input.cut(), kTokens, n, input.data(), counts.data(),
                     kept.data());
      const auto in_place = input.Read();
      for (size_t i = 0; i < found.size(); ++i) ASSERT_TRUE(SameValue(in_place[i], found[i]));
    });
  }
}

// y of some tokens whose channels are listed by `rows` and `values`; without rows by all.
std::vector<float> Multiply(Stream& stream, const TestMatrix& w, const GpuChannelList& list,
                            int64_t n_tokens, const float* bias) {
  const OnDevice<float> y(stream,
                          std::vector<float>(static_cast<size_t>(n_tokens * w.cols()), kNan));
  const OnDevice<std::byte> workspace(
      stream, std::vector<std::byte>(GpuColumnsBytes(w.gpu(), n_tokens), std::byte{0xff}));
  GpuAddColumns(stream, w.gpu(), list, n_tokens, bias, workspace.data(), y.data());
  return y.Read();
}

TEST_F(GpuChannelsTest, ProductsOfEveryTypeMatchDouble) {
  Stream stream;
  for (const DType dtype : KernelTypes()) {
    for (const int64_t rows : {int64_t{1}, int64_t{45}, int64_t{400}}) {
      const int64_t cols = MatrixCols(dtype).back();
      TestMatrix w(dtype, rows, cols, 3);
      w.Upload(stream);
      const std::vector<float> bias = RandomValues(static_cast<size_t>(cols), 8);
      const OnDevice<float> bias_memory(stream, bias);
      constexpr int64_t kTokens = 2;
      // The first token reads each third channel or so, the second nearly all.
      std::vector<int32_t> list(static_cast<size_t>(kTokens * rows), 0);
      std::vector<float> values = RandomValues(list.size(), 9);
      std::vector<int32_t> counts(kTokens, 0);
      for (int64_t j = 0; j < rows; ++j) {
        if (j * 7 % 3 == 0) list[static_cast<size_t>(counts[0]++)] = static_cast<int32_t>(j);
        if (j % 9 != 4) {
          list[static_cast<size_t>(rows + counts[1]++)] = static_cast<int32_t>(j);
        }
      }
      const OnDevice<int32_t> list_memory(stream, list);
      const OnDevice<float> value_memory(stream, values);
      const OnDevice<int32_t> count_memory(stream, counts);
      const GpuChannelList on_gpu{list_memory.data(), value_memory.data(), count_memory.data()};
      InEveryOrderIf(dtype == DType::kQ4_0 && rows == 45, [&] {
        const auto y = Multiply(stream, w, on_gpu, kTokens, bias_memory.data());
        for (int64_t t = 0; t < kTokens; ++t) {
          for (int64_t c = 0; c < cols; ++c) {
            double sum = bias[static_cast<size_t>(c)];
            double magnitudes = std::fabs(sum);
            for (int32_t i = 0; i < counts[static_cast<size_t>(t)]; ++i) {
              const auto at = static_cast<size_t>(t * rows + i);
              const auto col = static_cast<size_t>(c);
              sum += w.row(list[at])[col] * values[at];
              magnitudes += w.magnitudes(list[at])[col] * std::fabs(values[at]);
            }
            // A chain of some dozens of additions in a warp, then those of warps and chunks.
            ASSERT_NEAR(y[static_cast<size_t>(t * cols + c)], sum, 0x1p-24 * 80 * magnitudes)
                << DTypeName(dtype) << ", " << rows << " rows, token " << t << ", column " << c;
          }
        }
        // A token alone has the same bits.
        const GpuChannelList second{list_memory.data() + rows, value_memory.data() + rows,
                                    count_memory.data() + 1};
        const auto alone = Multiply(stream, w, second, 1, bias_memory.data());
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(), y.begin() + cols));
      });
    }
  }
}

TEST_F(GpuChannelsTest, AListOfAllChannelsChangesNoBit) {
  Stream stream;
  TestMatrix w(DType::kQ4_0, 300, 96, 3);
  w.Upload(stream);
  const std::vector<float> x = RandomValues(300, 4);
  std::vector<int32_t> all(300);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
  const OnDevice<float> x_memory(stream, x);
  const OnDevice<int32_t> rows(stream, all);
  const OnDevice<int32_t> counts(stream, {300});
  const auto dense = Multiply(stream, w, {.values = x_memory.data()}, 1, nullptr);
  EXPECT_EQ(Multiply(stream, w, {rows.data(), x_memory.data(), counts.data()}, 1, nullptr), dense);
}

}  // namespace
}  // namespace thermocline
