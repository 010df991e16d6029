// Low-rank adapters on the GPU, against double arithmetic: several adapters of several matrices, of
// which rows use none, one or more.
#include "gpu_kernels/products/low_rank.h"

#include <cmath>

#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuLowRankTest = GpuTest;

// An adapter's part of a matrix, on the host and on the GPU.
struct LowRankFactors {
  LowRankFactors(Stream& stream, int64_t r, int64_t d_in, int64_t d_out, uint32_t seed)
      : rank(r),
        a(RandomValues(static_cast<size_t>(r * d_in), seed)),
        b(RandomValues(static_cast<size_t>(r * d_out), seed + 1)),
        a_device(stream, a),
        b_device(stream, b) {}
  GpuLowRankFactors gpu() const { return {rank, a_device.data(), b_device.data()}; }

  int64_t rank;
  std::vector<float> a;
  std::vector<float> b;
  OnDevice<float> a_device;
  OnDevice<float> b_device;
};

// The adapters of a matrix; ranks: 0 where an adapter leaves it alone.
struct LowRankCase {
  LowRankCase(Stream& stream, const std::vector<int64_t>& ranks, int64_t n_in, int64_t n_out,
              uint32_t seed)
      : d_in(n_in), d_out(n_out) {
    for (const int64_t rank : ranks) {
      // No allocation is empty.
      factors.push_back(std::make_unique<LowRankFactors>(stream, std::max<int64_t>(rank, 1), d_in,
                                                         d_out, seed += 2));
      gpu.push_back(rank == 0 ? GpuLowRankFactors{} : factors.back()->gpu());
      total_rank += rank;
    }
  }

  // What rows get, and how far that may be off: of each sum its length in roundings of its terms'
  // magnitudes.
  struct Sum {
    double value = 0;
    double error = 0;
  };
  Sum Expected(const float* x, int64_t o, uint64_t used) const {
    constexpr double kEps = 0x1p-24;
    Sum sum;
    double magnitude = 0;
    for (size_t k = 0; k < factors.size(); ++k) {
      if ((used >> k & 1) == 0 || gpu[k].rank == 0) continue;
      const LowRankFactors& f = *factors[k];
      for (int64_t r = 0; r < f.rank; ++r) {
        double inner = 0;
        double inner_magnitude = 0;
        for (int64_t i = 0; i < d_in; ++i) {
          const double term = static_cast<double>(f.a[static_cast<size_t>(r * d_in + i)]) * x[i];
          inner += term;
          inner_magnitude += std::fabs(term);
        }
        const double b = f.b[static_cast<size_t>(r * d_out + o)];
        sum.value += inner * b;
        sum.error += static_cast<double>(d_in) * kEps * inner_magnitude * std::fabs(b);
        magnitude += std::fabs(inner * b);
      }
    }
    sum.error += static_cast<double>(total_rank + 2) * kEps * (magnitude + 1);
    return sum;
  }

  int64_t d_in;
  int64_t d_out;
  int64_t total_rank = 0;
  std::vector<std::unique_ptr<LowRankFactors>> factors;
  std::vector<GpuLowRankFactors> gpu;
};

// Which adapters a row uses, as bits.
using RowUse = std::vector<uint64_t>;

std::vector<uint32_t> WordsOf(const RowUse& use, size_t n_adapters) {
  const size_t n_words = (use.size() + 31) / 32;
  std::vector<uint32_t> words(n_adapters * n_words);
  for (size_t t = 0; t < use.size(); ++t) {
    for (size_t k = 0; k < n_adapters; ++k) {
      if ((use[t] >> k & 1) != 0) words[k * n_words + t / 32] |= 1U << t % 32;
    }
  }
  return words;
}

// Runs the matrices on one input. before: what outputs hold, in all elements.
std::vector<std::vector<float>> RunLowRank(Stream& stream,
                                           const std::vector<const LowRankCase*>& cases,
                                           const RowUse& use, const std::vector<float>& x,
                                           GpuLowRankInto into, float before) {
  const auto n = use.size();
  const size_t n_adapters = cases.front()->gpu.size();
  const OnDevice<float> x_device(stream, x);
  const OnDevice<uint32_t> words(stream, WordsOf(use, n_adapters));
  std::vector<std::unique_ptr<OnDevice<float>>> outs;
  std::vector<std::unique_ptr<OnDevice<float>>> inners;
  std::vector<GpuLowRankOp> ops;
  for (const LowRankCase* c : cases) {
    const auto floats = [&](int64_t width, float value) {
      return std::make_unique<OnDevice<float>>(
          stream, std::vector<float>(n * static_cast<size_t>(std::max<int64_t>(width, 1)), value));
    };
    outs.push_back(floats(c->d_out, before));
    inners.push_back(floats(c->total_rank, kNan));
    ops.push_back({c->gpu, outs.back()->data(), c->d_out, inners.back()->data()});
  }
  GpuAddLowRank(stream, ops,
                {words.data(), static_cast<int64_t>((n + 31) / 32), static_cast<int64_t>(n)},
                x_device.data(), cases.front()->d_in, into);
  std::vector<std::vector<float>> read;
  for (const auto& out : outs) read.push_back(out->Read());
  return read;
}

void ExpectLowRank(const LowRankCase& c, const RowUse& use, const std::vector<float>& x,
                   const std::vector<float>& found, float before) {
  for (size_t t = 0; t < use.size(); ++t) {
    for (int64_t o = 0; o < c.d_out; ++o) {
      const auto sum = c.Expected(x.data() + static_cast<int64_t>(t) * c.d_in, o, use[t]);
      ASSERT_NEAR(found[t * static_cast<size_t>(c.d_out) + static_cast<size_t>(o)],
                  sum.value + before, sum.error)
          << "row " << t << ", output " << o << " of " << c.d_out;
    }
  }
}

// Rows by turns use none, one, several and all of the adapters.
RowUse MixedUse(size_t n_rows, size_t n_adapters) {
  const uint64_t all = (uint64_t{1} << n_adapters) - 1;
  RowUse use;
  for (size_t t = 0; t < n_rows; ++t) use.push_back((t * 5 + t / 3) * 0x9E37U % 257 & all);
  if (n_rows > 1) use.back() = all;
  return use;
}

TEST_F(GpuLowRankTest, AddsWhatEachRowsAdaptersSay) {
  Stream stream;
  for (const int64_t d_in : {1, 129, 300}) {
    const LowRankCase q(stream, {3, 0, 8}, d_in, 131, 1);
    const LowRankCase k(stream, {1, 5, 0}, d_in, 7, 20);
    const LowRankCase untouched(stream, {0, 0, 0}, d_in, 9, 40);
    for (const size_t n_rows : {1, 2, 9, 33}) {
      const RowUse use = MixedUse(n_rows, 3);
      const auto x = RandomValues(n_rows * static_cast<size_t>(d_in), 7);
      InEveryOrderIf(d_in == 129, [&] {
        const auto found =
            RunLowRank(stream, {&q, &untouched, &k}, use, x, GpuLowRankInto::kAdd, 0.5F);
        ExpectLowRank(q, use, x, found[0], 0.5F);
        ExpectLowRank(untouched, use, x, found[1], 0.5F);
        ExpectLowRank(k, use, x, found[2], 0.5F);
        const auto replaced = RunLowRank(stream, {&q, &k}, use, x, GpuLowRankInto::kReplace, kNan);
        ExpectLowRank(q, use, x, replaced[0], 0);
        ExpectLowRank(k, use, x, replaced[1], 0);
      });
    }
  }
}

// More adapters and matrices than a launch takes.
TEST_F(GpuLowRankTest, TakesAnyNumberOfAdapters) {
  Stream stream;
  const std::vector<int64_t> ranks = {2, 1, 0, 3, 1, 1, 2, 1, 4, 1, 1, 1, 2, 1, 1, 1, 1, 1};
  std::vector<std::unique_ptr<LowRankCase>> cases;
  std::vector<const LowRankCase*> pointers;
  for (uint32_t i = 0; i < 6; ++i) {
    cases.push_back(std::make_unique<LowRankCase>(stream, ranks, 40, 20 + i, 100 * i));
    pointers.push_back(cases.back().get());
  }
  const RowUse use = MixedUse(5, ranks.size());
  const auto x = RandomValues(5 * 40, 8);
  for (const auto into : {GpuLowRankInto::kAdd, GpuLowRankInto::kReplace}) {
    const float before = into == GpuLowRankInto::kAdd ? 1.0F : kNan;
    const auto found = RunLowRank(stream, pointers, use, x, into, before);
    for (size_t i = 0; i < cases.size(); ++i) {
      ExpectLowRank(*cases[i], use, x, found[i], into == GpuLowRankInto::kAdd ? 1.0F : 0.0F);
    }
  }
}

// A row's bits are its own: alone, beside others, and at another place in the pass.
TEST_F(GpuLowRankTest, ARowIsTheSameBitsWhateverIsBesideIt) {
  Stream stream;
  const LowRankCase c(stream, {4, 2, 7}, 200, 50, 3);
  const RowUse use = MixedUse(37, 3);
  const auto x = RandomValues(37 * 200, 9);
  const auto together = RunLowRank(stream, {&c}, use, x, GpuLowRankInto::kAdd, 0.25F)[0];
  for (const size_t t : {0, 5, 31, 32, 36}) {
    const std::vector<float> own(x.begin() + static_cast<std::ptrdiff_t>(t) * 200,
                                 x.begin() + static_cast<std::ptrdiff_t>(t + 1) * 200);
    const auto alone = RunLowRank(stream, {&c}, {use[t]}, own, GpuLowRankInto::kAdd, 0.25F)[0];
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(),
                           together.begin() + static_cast<std::ptrdiff_t>(t) * 50))
        << "row " << t;
  }
}

}  // namespace
}  // namespace thermocline
