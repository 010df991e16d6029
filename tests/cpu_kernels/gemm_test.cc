// Products of batches: every form of every table that has them is compared with double on the
// weights and activations that the form stands for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <tuple>

#include "runtime/core/half.h"
#include "tests/cpu_kernels/kernel_reference.h"
#include "tests/support/short_tests.h"

namespace thermocline::testing {
namespace {

constexpr float kSentinel = -12345.5F;
constexpr std::byte kSentinelByte{0xa5};

// 64-byte aligned bytes with sentinels behind them.
class Guarded {
 public:
  explicit Guarded(int64_t bytes) : bytes_(bytes), storage_(static_cast<size_t>(bytes) + 128) {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    data_ = storage_.data() + (64 - address % 64) % 64;
    std::memset(data_, std::to_integer<int>(kSentinelByte), static_cast<size_t>(bytes) + 64);
  }
  std::byte* data() { return data_; }
  void Check() const {
    for (int i = 0; i < 64; ++i) ASSERT_EQ(data_[bytes_ + i], kSentinelByte) << i;
  }

 private:
  int64_t bytes_;
  std::vector<std::byte> storage_;
  std::byte* data_;
};

enum class Axis { kRows, kColumns };
enum class Choice { kFastest, kF32 };
using Param = std::tuple<const KernelTable*, DType, Axis, Choice>;

// A batch of activations as the kernels want them, prepared in two parts as two lanes would.
class Batch {
 public:
  Batch(const GemmKernels& gemm, GemmForm form, int64_t n, int64_t k, std::mt19937* rng)
      : Batch(gemm, form, n, k, RandomFloats(rng, n * k)) {}
  Batch(const GemmKernels& gemm, GemmForm form, int64_t n, int64_t k, std::vector<float> x)
      : n_(n), k_(k), x_(std::move(x)), prepared_(gemm.input_bytes(form, n, k)) {
    const int64_t tiles = gemm_tile_count(n, gemm.tile_tokens(form));
    gemm.prepare(form, x_.data(), n, k, tiles / 2, tiles, prepared_.data());
    gemm.prepare(form, x_.data(), n, k, 0, tiles / 2, prepared_.data());
    prepared_.Check();
  }
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  const std::byte* prepared() { return prepared_.data(); }
  std::vector<float> token(int64_t t) const {
    return {x_.begin() + t * k_, x_.begin() + (t + 1) * k_};
  }

 private:
  int64_t n_;
  int64_t k_;
  std::vector<float> x_;
  Guarded prepared_;
};

class GemmTest : public ::testing::TestWithParam<Param> {
 protected:
  const GemmKernels& gemm() const { return *std::get<0>(GetParam())->gemm; }
  int activation_bits() const { return std::get<0>(GetParam())->activation_bits; }
  DType dtype() const { return std::get<1>(GetParam()); }
  bool by_rows() const { return std::get<2>(GetParam()) == Axis::kRows; }
  GemmForm form() const {
    if (std::get<3>(GetParam()) == Choice::kF32) return GemmForm::kF32;
    return by_rows() ? gemm().rows_form(dtype()) : gemm().columns_form(dtype());
  }
  bool InSuperBlocks() const { return GetDTypeInfo(dtype()).block_elems == kSuperBlock; }
  // False where the fastest form is f32 anyway, and its tests say all.
  bool IsFirstOfItsForm() const {
    if (std::get<3>(GetParam()) == Choice::kFastest) return true;
    return (by_rows() ? gemm().rows_form(dtype()) : gemm().columns_form(dtype())) != GemmForm::kF32;
  }
  // Returns depths k: along rows those that the type allows, over rows any.
  std::vector<int64_t> depths() const {
    if (by_rows() && InSuperBlocks()) return {256, 1280};
    if (by_rows() && IsQuantised(dtype())) return {32, 64, 96, 288, 1056};
    if (InSuperBlocks()) return {1, 2, 17, 101};
    return {1, 2, 15, 16, 17, 33, 64, 101, 1000};
  }
  std::vector<int64_t> widths() const {
    if (!by_rows() && InSuperBlocks()) return {256, 512};
    if (!by_rows() && IsQuantised(dtype())) return {32, 64, 96, 160};
    return {1, 2, 15, 16, 17, 31, 32, 33, 45, 64, 79};
  }
  // Returns as many as asked for, or some more where blocks lie along them.
  int64_t Deep(int64_t k) const { return by_rows() ? WholeBlocks(dtype(), k) : k; }
  int64_t Wide(int64_t outputs) const {
    return by_rows() ? outputs : WholeBlocks(dtype(), outputs);
  }
  Matrix MakeWeights(int64_t k, int64_t outputs, int64_t padding, std::mt19937* rng) const {
    return by_rows() ? Matrix(dtype(), outputs, k, padding, rng)
                     : Matrix(dtype(), k, outputs, padding, rng);
  }
  // Returns out: (n, outputs of the range), k taken in parts of `part`.
  std::vector<float> Multiply(const Matrix& w, Batch& x, int64_t begin, int64_t end,
                              int64_t part) const {
    const int64_t outputs = end - begin;
    const int64_t ldo = outputs + 3;
    std::vector<float> out(static_cast<size_t>(x.n() * ldo + 1), kSentinel);
    for (int64_t k = 0; k < x.k(); k += part) {
      const int64_t k_end = std::min(k + part, x.k());
      Guarded panels(CeilPanels(outputs) * gemm().panel_bytes(form(), k_end - k));
      const RowsAhead ahead = {w.data(), w.stride(), RowBytes(dtype(), w.n_cols()), w.n_rows()};
      if (by_rows()) {
        gemm().pack_rows(form(), dtype(), w.row(begin), w.stride(), outputs, k, k_end, ahead,
                         panels.data());
      } else {
        gemm().pack_columns(form(), dtype(), w.row(k), w.stride(), k_end - k, begin, end,
                            panels.data());
      }
      panels.Check();
      gemm().multiply({form(), panels.data(), outputs, x.prepared(), x.n(), x.k(), k, k_end, k > 0,
                       out.data() + 1, ldo, ahead});
    }
    EXPECT_EQ(out[0], kSentinel);
    std::vector<float> packed;
    for (int64_t t = 0; t < x.n(); ++t) {
      const float* row = out.data() + 1 + t * ldo;
      packed.insert(packed.end(), row, row + outputs);
      for (int64_t i = outputs; i < ldo; ++i) EXPECT_EQ(row[i], kSentinel) << t << " " << i;
    }
    return packed;
  }
  static int64_t CeilPanels(int64_t outputs) { return (outputs + kGemmPanel - 1) / kGemmPanel; }

  void ExpectClose(const Matrix& w, const Batch& x, int64_t outputs,
                   const std::vector<float>& got) const {
    std::vector<std::vector<double>> tokens;
    for (int64_t t = 0; t < x.n(); ++t)
      tokens.push_back(GemmActivations(form(), x.token(t), activation_bits()));
    for (int64_t o = 0; o < outputs; ++o) {
      const auto [weights, relative_to] = GemmWeights(form(), w, by_rows(), o);
      for (int64_t t = 0; t < x.n(); ++t) {
        const std::vector<double>& effective = tokens[static_cast<size_t>(t)];
        const auto [reference, magnitudes] = ReferenceDot(weights, relative_to, effective);
        double allowed = AllowedError(GemmTolerance(form()), x.k(), magnitudes, reference);
        if (form() == GemmForm::kI16) allowed += FixedPointBound(weights, effective);
        ASSERT_NEAR(got[static_cast<size_t>(t * outputs + o)], reference, allowed)
            << "token " << t << " of " << x.n() << ", output " << o << " of " << outputs << ", "
            << x.k() << " deep";
      }
    }
  }
};

bool SameBits(float a, float b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

TEST_P(GemmTest, MatchesDoubleForEveryDepthAndStride) {
  if (!IsFirstOfItsForm()) return;
  std::mt19937 rng(1);
  for (const int64_t k : depths()) {
    for (const int64_t padding : {0, 1, 70}) {
      const Matrix w = MakeWeights(k, widths().back(), padding, &rng);
      Batch x(gemm(), form(), 7, k, &rng);
      ExpectClose(w, x, widths().back(), Multiply(w, x, 0, widths().back(), k));
    }
  }
}

TEST_P(GemmTest, MatchesDoubleForEveryWidthAndBatch) {
  if (!IsFirstOfItsForm()) return;
  std::mt19937 rng(2);
  for (const int64_t outputs : widths()) {
    const int64_t k = Deep(96);
    const Matrix w = MakeWeights(k, outputs, 0, &rng);
    for (int64_t n = 1; n <= 17; n += ShortTests() || InSuperBlocks() ? 4 : 1) {
      Batch x(gemm(), form(), n, k, &rng);
      ExpectClose(w, x, outputs, Multiply(w, x, 0, outputs, k));
    }
  }
}

// The largest integers of a type, or the smallest, with the largest activations.
TEST_P(GemmTest, ExtremeIntegersMatchDouble) {
  if (!by_rows() || !TakesInt8(form())) return;
  std::mt19937 rng(9);
  const int64_t k = Deep(96);
  for (const int fill : {0x00, 0xff, 0x80, 0x7f}) {
    const Matrix w(dtype(), 3, k, static_cast<std::byte>(fill), &rng);
    for (const float sign : {127.0F, -127.0F}) {
      Batch x(gemm(), form(), 2, k, std::vector<float>(static_cast<size_t>(2 * k), sign));
      ExpectClose(w, x, 3, Multiply(w, x, 0, 3, k));
    }
  }
}

TEST_P(GemmTest, PartsOfKAreOneChain) {
  std::mt19937 rng(3);
  const int64_t outputs = widths().back();
  const int64_t k = Deep(480);
  const Matrix w = MakeWeights(k, outputs, 0, &rng);
  Batch x(gemm(), form(), 29, k, &rng);
  const std::vector<float> whole = Multiply(w, x, 0, outputs, k);
  ExpectClose(w, x, outputs, whole);
  for (const int64_t part : {128, 256}) EXPECT_EQ(Multiply(w, x, 0, outputs, part), whole);
}

TEST_P(GemmTest, BitsDependOnNeitherRangeNorBatch) {
  std::mt19937 rng(4);
  constexpr int64_t kBatch = 30;
  const int64_t outputs = Wide(96);
  const int64_t k = Deep(160);
  const Matrix w = MakeWeights(k, outputs, 3, &rng);
  Batch all(gemm(), form(), kBatch, k, &rng);
  const std::vector<float> whole = Multiply(w, all, 0, outputs, 128);
  const int64_t unit = !by_rows() && IsQuantised(dtype()) ? 32 : 1;
  for (const auto& [begin, end] : {std::pair{0, 1}, {1, 2}, {0, 3}, {2, 3}}) {
    const int64_t first = unit == 32 ? begin * 32 : begin * 29;
    const int64_t last = unit == 32 ? end * 32 : end * 29 + 5;
    for (const int64_t t : {int64_t{0}, int64_t{13}, kBatch - 1}) {
      Batch one(gemm(), form(), 1, k, all.token(t));
      const std::vector<float> part = Multiply(w, one, first, last, 128);
      for (int64_t o = first; o < last; ++o) {
        EXPECT_TRUE(SameBits(part[static_cast<size_t>(o - first)],
                             whole[static_cast<size_t>(t * outputs + o)]))
            << "token " << t << ", output " << o;
      }
    }
  }
}

TEST_P(GemmTest, ZerosGiveZero) {
  std::mt19937 rng(5);
  const int64_t k = Deep(64);
  const Matrix w = MakeWeights(k, Wide(32), 0, &rng);
  Batch x(gemm(), form(), 5, k, std::vector<float>(static_cast<size_t>(5 * k), 0.0F));
  EXPECT_THAT(Multiply(w, x, 0, 32, k), ::testing::Each(0.0F));
}

TEST_P(GemmTest, GarbageStaysVisibleInItsOwnToken) {
  std::mt19937 rng(6);
  const int64_t k = Deep(96);
  const Matrix w = MakeWeights(k, Wide(32), 0, &rng);
  for (const float garbage : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> values = RandomFloats(&rng, 14 * k);
    values[static_cast<size_t>(3 * k + 70)] = garbage;
    Batch x(gemm(), form(), 14, k, values);
    const std::vector<float> out = Multiply(w, x, 0, 32, k);
    for (size_t i = 0; i < out.size(); ++i) {
      EXPECT_EQ(std::isfinite(out[i]), i / 32 != 3) << garbage << " " << i;
    }
  }
}

std::vector<const KernelTable*> TablesWithGemm() {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* table : TablesOfAllBits()) {
    if (table->gemm != nullptr) tables.push_back(table);
  }
  return tables;
}

// Types whose factors are an f16 or two at the start of a block of 32, and its integers the rest.
constexpr DType kPlainBlocks[] = {DType::kQ8_0, DType::kQ4_1, DType::kQ4_0};

// Checks the largest integer sums that the int8 products can meet.
void ExpectExactSums(const GemmKernels& gemm, DType dtype, int fill) {
  const GemmForm form = gemm.rows_form(dtype);
  const int64_t block_bytes = GetDTypeInfo(dtype).block_bytes;
  GuardedBytes row(static_cast<size_t>(block_bytes * 3));
  std::memset(row.data(), fill, static_cast<size_t>(block_bytes * 3));
  const uint16_t one = 0x3c00;
  const uint16_t minus_eight = 0xc800;
  for (int b = 0; b < 3; ++b) {
    std::memcpy(row.data() + b * block_bytes, &one, 2);
    if (dtype == DType::kQ4_1) std::memcpy(row.data() + b * block_bytes + 2, &minus_eight, 2);
  }
  for (const float sign : {1.0F, -1.0F}) {
    Batch x(gemm, form, 2, 96, std::vector<float>(2 * 96, sign * 127.0F));
    double reference = 0;
    for (const double w : DecodeRow(dtype, row.data(), 96)) reference += w * sign * 127.0;
    Guarded panel(gemm.panel_bytes(form, 96));
    gemm.pack_rows(form, dtype, row.data(), 0, 1, 0, 96, RowsAhead{}, panel.data());
    float out[2] = {};
    gemm.multiply({form, panel.data(), 1, x.prepared(), 2, 96, 0, 96, false, out, 1, RowsAhead{}});
    EXPECT_EQ(out[0], reference) << fill;
    EXPECT_EQ(out[1], reference) << fill;
  }
}

TEST(GemmSumsTest, LargestWeightsTimesLargestActivations) {
  for (const KernelTable* table : TablesWithGemm()) {
    for (const DType dtype : kPlainBlocks) {
      if (!TakesInt8(table->gemm->rows_form(dtype))) continue;
      for (const int fill : {0x00, 0x80, 0x7f, 0xff, 0x88}) {
        ExpectExactSums(*table->gemm, dtype, fill);
      }
    }
  }
}

// A row of F16 times a token, as fixed point of 16 bits computes it.
class FixedPoint {
 public:
  FixedPoint(const GemmKernels& gemm, const std::vector<float>& w, const std::vector<float>& x)
      : row_(w.size() * 2) {
    const auto k = static_cast<int64_t>(w.size());
    for (size_t i = 0; i < w.size(); ++i) {
      const uint16_t half = F32ToF16(w[i]);
      std::memcpy(row_.data() + i * 2, &half, 2);
    }
    const std::vector<double> decoded = DecodeRow(DType::kF16, row_.data(), k);
    Batch batch(gemm, GemmForm::kI16, 1, k, x);
    Guarded panel(gemm.panel_bytes(GemmForm::kI16, k));
    gemm.pack_rows(GemmForm::kI16, DType::kF16, row_.data(), 0, 1, 0, k, RowsAhead{}, panel.data());
    gemm.multiply({GemmForm::kI16, panel.data(), 1, batch.prepared(), 1, k, 0, k, false, &got, 1,
                   RowsAhead{}});
    double w_squares = 0;
    double x_squares = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      reference += decoded[i] * x[i];
      w_squares += decoded[i] * decoded[i];
      x_squares += static_cast<double>(x[i]) * x[i];
    }
    norms = std::sqrt(w_squares * x_squares);
  }

  float got = 0;
  double reference = 0;
  double norms = 0;  // norm of the row times norm of the token

 private:
  GuardedBytes row_;
};

std::vector<const GemmKernels*> FixedPointKernels() {
  std::vector<const GemmKernels*> found;
  for (const KernelTable* table : TablesWithGemm()) {
    if (table->gemm->rows_form(DType::kF16) == GemmForm::kI16) found.push_back(table->gemm);
  }
  return found;
}

// These sums come closest to leaving 31 bits: every product is of one sign and of one size, in one
// block or in a part of it, down to a single value.
TEST(GemmSumsTest, FixedPointNeverWraps) {
  for (const GemmKernels* gemm : FixedPointKernels()) {
    for (const size_t n : {1, 2, 3, 4, 5, 8, 31, 64, 127, 128}) {
      for (const float sign : {1.0F, -1.0F}) {
        for (const float size : {1.0F, 1.9990234F, 6e-8F, 65504.0F}) {
          std::vector<float> w(128, 0.0F);
          std::vector<float> x(128, 0.0F);
          for (size_t i = 0; i < n; ++i) {
            w[i * 37 % 128] = sign * size;
            x[i * 37 % 128] = 3.0F * size;
          }
          const FixedPoint one(*gemm, w, x);
          EXPECT_NEAR(one.got, one.reference, 5e-4 * one.norms) << n << " " << sign << " " << size;
        }
      }
    }
  }
}

// Errors are root mean squares relative to the norms' product, with normal values, and with one in
// a block that is a thousand times as large. Activations rounded to f16 would be off by 2e-4.
TEST(GemmSumsTest, FixedPointIsAsPreciseAsF16) {
  std::mt19937 rng(7);
  std::normal_distribution<float> normal;
  for (const GemmKernels* gemm : FixedPointKernels()) {
    for (const float outlier : {1.0F, 1000.0F}) {
      double squares = 0;
      constexpr int kRuns = 400;
      for (int run = 0; run < kRuns; ++run) {
        std::vector<float> w(512);
        std::vector<float> x(512);
        for (float& value : w) value = normal(rng);
        for (float& value : x) value = normal(rng);
        x[200] *= outlier;
        w[90] *= outlier;
        const FixedPoint one(*gemm, w, x);
        const double error = (one.got - one.reference) / one.norms * std::sqrt(512.0);
        squares += error * error;
      }
      EXPECT_LT(std::sqrt(squares / kRuns), 1.5e-4) << outlier;
    }
  }
}

// The squares of these activations leave f32, or are nothing there.
TEST(GemmSumsTest, FixedPointOfLargeAndSmallActivations) {
  for (const GemmKernels* gemm : FixedPointKernels()) {
    for (const float size : {1e-25F, 1e-38F, 1e30F}) {
      const std::vector<float> w(128, 0.25F);
      const FixedPoint one(*gemm, w, std::vector<float>(128, size));
      // A block below 2^-100 is nothing.
      const double expected = size < 0x1p-100F ? 0.0 : one.reference;
      EXPECT_NEAR(one.got, expected, 1e-3 * one.reference) << size;
    }
  }
}

std::string ParamName(const ::testing::TestParamInfo<Param>& info) {
  return TableName(*std::get<0>(info.param)) + "_" +
         std::string(DTypeName(std::get<1>(info.param))) +
         (std::get<2>(info.param) == Axis::kRows ? "_rows" : "_columns") +
         (std::get<3>(info.param) == Choice::kF32 ? "_f32" : "");
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GemmTest);
INSTANTIATE_TEST_SUITE_P(Tables, GemmTest,
                         ::testing::Combine(::testing::ValuesIn(TablesWithGemm()),
                                            ::testing::ValuesIn(kWeightDTypes),
                                            ::testing::Values(Axis::kRows, Axis::kColumns),
                                            ::testing::Values(Choice::kFastest, Choice::kF32)),
                         ParamName);

}  // namespace
}  // namespace thermocline::testing
