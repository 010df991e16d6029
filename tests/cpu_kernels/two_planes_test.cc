// Activations of 16 bits (cpu_kernels/two_planes.cc) against double on the activations as they are.
// What holds with 8 bits is tested with 16 beside it: matvec_test.cc, tokens_test.cc, gemm_test.cc.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <tuple>

#include "cpu_kernels/kernel_args.h"
#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline::testing {
namespace {

constexpr int64_t kRows = 64;
constexpr int64_t kCols = 1024;

using Param = std::tuple<const KernelTable*, DType>;

class TwoPlanesTest : public ::testing::TestWithParam<Param> {
 protected:
  const KernelTable& kernels(int bits) const { return KernelsOf(*std::get<0>(GetParam()), bits); }
  DType dtype() const { return std::get<1>(GetParam()); }

  // Activations of which every 100th is thirty times as large as the others.
  static std::vector<float> Activations(std::mt19937* rng) {
    std::vector<float> x = RandomFloats(rng, kCols);
    for (size_t i = 7; i < x.size(); i += 100) x[i] *= 30;
    return x;
  }

  static double Dot(const Matrix& w, int64_t row, const std::vector<float>& x) {
    return std::inner_product(x.begin(), x.end(), w.decoded(row).begin(), 0.0);
  }

  // Returns the root mean square of the errors of out: (kRows).
  static double ErrorOf(const Matrix& w, const std::vector<float>& x, const float* out) {
    double squares = 0;
    for (int64_t r = 0; r < kRows; ++r) squares += std::pow(out[r] - Dot(w, r, x), 2);
    return std::sqrt(squares / kRows);
  }

  double RowsError(int bits, const Matrix& w, const std::vector<float>& x) const {
    const KernelTable& table = kernels(bits);
    const Prepared prepared(table, table.vector_form(dtype()), x);
    std::vector<float> out(kRows);
    table.matvec(dtype(), w.data(), w.stride(), kCols, prepared.data(), nullptr, 0, kRows,
                 out.data());
    return ErrorOf(w, x, out.data());
  }

  double BatchError(int bits, const Matrix& w, const std::vector<float>& x) const {
    const GemmKernels& gemm = *kernels(bits).gemm;
    const GemmForm form = gemm.rows_form(dtype());
    AlignedBytes input(gemm.input_bytes(form, 1, kCols));
    gemm.prepare(form, x.data(), 1, kCols, 0, 1, input.data);
    AlignedBytes panels(kRows / kGemmPanel * gemm.panel_bytes(form, kCols));
    gemm.pack_rows(form, dtype(), w.data(), w.stride(), kRows, 0, kCols, {}, panels.data);
    std::vector<float> out(kRows);
    gemm.multiply(
        {form, panels.data, kRows, input.data, 1, kCols, 0, kCols, false, out.data(), kRows, {}});
    return ErrorOf(w, x, out.data());
  }

 private:
  struct AlignedBytes {
    explicit AlignedBytes(int64_t n) : storage(static_cast<size_t>(n) + 64) {
      data = storage.data() + (64 - reinterpret_cast<uintptr_t>(storage.data()) % 64) % 64;
    }
    std::vector<std::byte> storage;
    std::byte* data;
  };
};

// The second plane's step is the first one's divided by 254; f32 sums leave some of that.
TEST_P(TwoPlanesTest, RowsAreAHundredTimesCloserToDouble) {
  const VectorForm form = kernels(8).vector_form(dtype());
  EXPECT_EQ(kernels(16).vector_form(dtype()), form);
  std::mt19937 rng(21);
  const Matrix w(dtype(), kRows, kCols, 0, &rng);
  const std::vector<float> x = Activations(&rng);
  const double error = RowsError(8, w, x);
  ASSERT_GT(error, 0);
  if (!IsQuantised(dtype())) {
    EXPECT_EQ(RowsError(16, w, x), error);
  } else {
    EXPECT_LT(RowsError(16, w, x), error / 100);
  }
}

TEST_P(TwoPlanesTest, BatchesAreAHundredTimesCloserToDouble) {
  if (kernels(8).gemm == nullptr) return;
  std::mt19937 rng(22);
  const Matrix w(dtype(), kRows, kCols, 0, &rng);
  const std::vector<float> x = Activations(&rng);
  const double error = BatchError(8, w, x);
  const GemmForm form = kernels(8).gemm->rows_form(dtype());
  if (form == GemmForm::kF32 || form == GemmForm::kI16) {
    EXPECT_EQ(BatchError(16, w, x), error);
  } else {
    EXPECT_LT(BatchError(16, w, x), error / 100);
  }
}

// Factors are not rounded to 8 bits either.
TEST_P(TwoPlanesTest, SumsOverRowsHaveFactorsInF32) {
  std::mt19937 rng(23);
  const Matrix w(dtype(), kRows, kCols, 0, &rng);
  const std::vector<float> h = RandomFloats(&rng, kRows);
  std::vector<float> rows(kCols, 0.0F);
  std::vector<float> channels = rows;
  kernels(8).accumulate_rows(dtype(), w.data(), w.stride(), h.data(), nullptr, kRows, 0, kCols,
                             rows.data());
  kernels(16).accumulate_channels(dtype(), w.data(), w.stride(), h.data(), nullptr, kRows, 0, kCols,
                                  channels.data());
  EXPECT_EQ(rows, channels);
}

// More rows and tokens than have room at once.
TEST_P(TwoPlanesTest, LongRangesHaveTheBitsOfShortOnes) {
  if (!IsQuantised(dtype())) return;
  constexpr int64_t kTokens = 8;
  constexpr int64_t kMany = 1100;
  const KernelTable& table = kernels(16);
  std::mt19937 rng(24);
  const int64_t cols = WholeBlocks(dtype(), 64);
  const Matrix w(dtype(), kMany, cols, 0, &rng);
  const VectorForm form = table.vector_form(dtype());
  const int64_t stride = PreparedStride(table, form, cols);
  std::vector<std::byte> storage(static_cast<size_t>(kTokens * stride) + 64);
  std::byte* const x =
      storage.data() + (64 - reinterpret_cast<uintptr_t>(storage.data()) % 64) % 64;
  for (int64_t t = 0; t < kTokens; ++t) {
    table.prepare(form, RandomFloats(&rng, cols).data(), cols, x + t * stride);
  }
  std::vector<int32_t> list(kMany);
  std::iota(list.begin(), list.end(), 0);
  std::vector<float> whole(kTokens * kMany);
  std::vector<float> listed = whole;
  table.matvec_tokens(dtype(), {w.data(), w.stride(), cols, x, nullptr, 0, kMany, whole.data(),
                                kTokens, stride, kMany});
  table.matvec_tokens(dtype(), {w.data(), w.stride(), cols, x, list.data(), 0, kMany, listed.data(),
                                kTokens, stride, kMany});
  EXPECT_EQ(whole, listed);
  for (int64_t t = 0; t < kTokens; ++t) {
    for (const int64_t row : {0, 511, 512, 513, 1023, 1024, 1099}) {
      float alone = 0;
      table.matvec(dtype(), w.row(row), w.stride(), cols, x + t * stride, nullptr, 0, 1, &alone);
      EXPECT_EQ(alone, whole[static_cast<size_t>(t * kMany + row)]) << t << " " << row;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, TwoPlanesTest,
                         ::testing::Combine(::testing::ValuesIn(AvailableCpuKernels().begin(),
                                                                AvailableCpuKernels().end()),
                                            ::testing::ValuesIn(kWeightDTypes)),
                         [](const auto& test) {
                           return TableName(*std::get<0>(test.param)) + "_" +
                                  std::string(DTypeName(std::get<1>(test.param)));
                         });

TEST(KernelsOfTest, AreTheSameObjectsEachTime) {
  for (const KernelTable* table : AvailableCpuKernels()) {
    EXPECT_EQ(&KernelsOf(*table, 8), table);
    const KernelTable& wide = KernelsOf(*table, 16);
    EXPECT_EQ(wide.activation_bits, 16);
    EXPECT_EQ(wide.features, table->features);
    EXPECT_EQ(&KernelsOf(*table, 16), &wide);
  }
}

// Vectors of two planes lie as the kernels of several tokens want theirs.
TEST(KernelsOfTest, PlanesLieAsTokensDo) {
  for (const KernelTable* table : AvailableCpuKernels()) {
    const KernelTable& wide = KernelsOf(*table, 16);
    for (const int64_t n : {32, 1024, 4096, 11008}) {
      const int64_t plane = PreparedStride(*table, VectorForm::kQ8, n);
      EXPECT_EQ(plane, TokenStride(table->prepared_bytes(VectorForm::kQ8, n)));
      EXPECT_EQ(PreparedStride(wide, VectorForm::kQ8, n), 2 * plane);
      EXPECT_EQ(PreparedStride(wide, VectorForm::kF32, n),
                PreparedStride(*table, VectorForm::kF32, n));
    }
  }
}

}  // namespace
}  // namespace thermocline::testing
