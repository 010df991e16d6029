// Products of batches: every form of every table that has them, against double on the weights and
// activations that the form stands for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <tuple>

#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline::testing {
namespace {

constexpr float kSentinel = -12345.5F;
constexpr std::byte kSentinelByte{0xa5};

// One chain of sums per output; int8 products add one term per block.
Tolerance GemmTolerance(GemmForm form) {
  return {.fixed = 10, .per_term = form == GemmForm::kQ8 ? 1.0 / 32 : 1.0};
}

// To the nearest bf16, ties to even.
double RoundToBf16(double value) {
  int exponent = 0;
  const double mantissa = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
}

std::vector<double> Effective(GemmForm form, const std::vector<float>& x) {
  if (form == GemmForm::kQ8) return EffectiveActivations(VectorForm::kQ8, x);
  std::vector<double> out(x.begin(), x.end());
  if (form != GemmForm::kBF16) return out;
  for (double& value : out) value = RoundToBf16(value);
  return out;
}

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
using Param = std::tuple<const KernelTable*, DType, Axis>;

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
  DType dtype() const { return std::get<1>(GetParam()); }
  bool by_rows() const { return std::get<2>(GetParam()) == Axis::kRows; }
  GemmForm form() const {
    return by_rows() ? gemm().rows_form(dtype()) : gemm().columns_form(dtype());
  }
  // k along rows: what the type allows. Over rows: any.
  std::vector<int64_t> depths() const {
    if (by_rows() && dtype() == DType::kQ6_K) return {256, 512, 1280};
    if (by_rows() && IsQuantised(dtype())) return {32, 64, 96, 288, 1056};
    return {1, 2, 15, 16, 17, 33, 64, 101, 1000};
  }
  std::vector<int64_t> widths() const {
    if (!by_rows() && dtype() == DType::kQ6_K) return {256, 512};
    if (!by_rows() && IsQuantised(dtype())) return {32, 64, 96, 160};
    return {1, 2, 15, 16, 17, 31, 32, 33, 45, 64, 79};
  }
  // As many as asked for, or some more where blocks lie along them.
  int64_t Deep(int64_t k) const { return by_rows() ? WholeBlocks(dtype(), k) : k; }
  int64_t Wide(int64_t outputs) const {
    return by_rows() ? outputs : WholeBlocks(dtype(), outputs);
  }
  Matrix MakeWeights(int64_t k, int64_t outputs, int64_t padding, std::mt19937* rng) const {
    return by_rows() ? Matrix(dtype(), outputs, k, padding, rng)
                     : Matrix(dtype(), k, outputs, padding, rng);
  }
  double Weight(const Matrix& w, int64_t i, int64_t output) const {
    const double value = by_rows() ? w.decoded(output)[static_cast<size_t>(i)]
                                   : w.decoded(i)[static_cast<size_t>(output)];
    return form() == GemmForm::kBF16 ? RoundToBf16(value) : value;
  }

  // out: (n, outputs of the range), k taken in parts of `part`.
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
        gemm().pack_rows(dtype(), w.row(begin), w.stride(), outputs, k, k_end, ahead,
                         panels.data());
      } else {
        gemm().pack_columns(dtype(), w.row(k), w.stride(), k_end - k, begin, end, panels.data());
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
    for (int64_t t = 0; t < x.n(); ++t) {
      const std::vector<double> effective = Effective(form(), x.token(t));
      for (int64_t o = 0; o < outputs; ++o) {
        double reference = 0;
        double magnitudes = 0;
        for (int64_t i = 0; i < x.k(); ++i) {
          const double product = Weight(w, i, o) * effective[static_cast<size_t>(i)];
          reference += product;
          magnitudes += std::fabs(product);
        }
        const double allowed = AllowedError(GemmTolerance(form()), x.k(), magnitudes, reference);
        ASSERT_NEAR(got[static_cast<size_t>(t * outputs + o)], reference, allowed)
            << "token " << t << " of " << x.n() << ", output " << o << " of " << outputs << ", "
            << x.k() << " deep";
      }
    }
  }
};

bool SameBits(float a, float b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

TEST_P(GemmTest, MatchesDoubleForEveryDepthAndStride) {
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
  std::mt19937 rng(2);
  for (const int64_t outputs : widths()) {
    const int64_t k = Deep(96);
    const Matrix w = MakeWeights(k, outputs, 0, &rng);
    for (int64_t n = 1; n <= 17; ++n) {
      Batch x(gemm(), form(), n, k, &rng);
      ExpectClose(w, x, outputs, Multiply(w, x, 0, outputs, k));
    }
  }
}

TEST_P(GemmTest, PartsOfKAreOneChain) {
  std::mt19937 rng(3);
  const int64_t outputs = widths().back();
  const int64_t k = Deep(224);
  const Matrix w = MakeWeights(k, outputs, 0, &rng);
  Batch x(gemm(), form(), 29, k, &rng);
  const std::vector<float> whole = Multiply(w, x, 0, outputs, k);
  ExpectClose(w, x, outputs, whole);
  for (const int64_t part : {32, 64, 192}) EXPECT_EQ(Multiply(w, x, 0, outputs, part), whole);
}

TEST_P(GemmTest, BitsDependOnNeitherRangeNorBatch) {
  std::mt19937 rng(4);
  constexpr int64_t kBatch = 30;
  const int64_t outputs = Wide(96);
  const int64_t k = Deep(160);
  const Matrix w = MakeWeights(k, outputs, 3, &rng);
  Batch all(gemm(), form(), kBatch, k, &rng);
  const std::vector<float> whole = Multiply(w, all, 0, outputs, 96);
  const int64_t unit = !by_rows() && IsQuantised(dtype()) ? 32 : 1;
  for (const auto& [begin, end] : {std::pair{0, 1}, {1, 2}, {0, 3}, {2, 3}}) {
    const int64_t first = unit == 32 ? begin * 32 : begin * 29;
    const int64_t last = unit == 32 ? end * 32 : end * 29 + 5;
    for (const int64_t t : {int64_t{0}, int64_t{13}, kBatch - 1}) {
      Batch one(gemm(), form(), 1, k, all.token(t));
      const std::vector<float> part = Multiply(w, one, first, last, 96);
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
  for (const KernelTable* table : AvailableCpuKernels()) {
    if (table->gemm != nullptr) tables.push_back(table);
  }
  return tables;
}

// The largest integer sums that the int8 products can meet.
void ExpectExactSums(const GemmKernels& gemm, DType dtype, int fill) {
  const int64_t block_bytes = GetDTypeInfo(dtype).block_bytes;
  GuardedBytes row(static_cast<size_t>(block_bytes * 3));
  std::memset(row.data(), fill, static_cast<size_t>(block_bytes * 3));
  const uint16_t one = 0x3c00;
  for (int b = 0; b < 3; ++b) std::memcpy(row.data() + b * block_bytes, &one, 2);
  for (const float sign : {1.0F, -1.0F}) {
    Batch x(gemm, GemmForm::kQ8, 2, 96, std::vector<float>(2 * 96, sign * 127.0F));
    double reference = 0;
    for (const double w : DecodeRow(dtype, row.data(), 96)) reference += w * sign * 127.0;
    Guarded panel(gemm.panel_bytes(GemmForm::kQ8, 96));
    gemm.pack_rows(dtype, row.data(), 0, 1, 0, 96, RowsAhead{}, panel.data());
    float out[2] = {};
    gemm.multiply(
        {GemmForm::kQ8, panel.data(), 1, x.prepared(), 2, 96, 0, 96, false, out, 1, RowsAhead{}});
    EXPECT_EQ(out[0], reference) << fill;
    EXPECT_EQ(out[1], reference) << fill;
  }
}

TEST(GemmSumsTest, LargestWeightsTimesLargestActivations) {
  for (const KernelTable* table : TablesWithGemm()) {
    for (const DType dtype : {DType::kQ8_0, DType::kQ4_0}) {
      if (table->gemm->rows_form(dtype) != GemmForm::kQ8) continue;
      for (const int fill : {0x00, 0x80, 0x7f, 0xff, 0x88}) {
        ExpectExactSums(*table->gemm, dtype, fill);
      }
    }
  }
}

std::string ParamName(const ::testing::TestParamInfo<Param>& info) {
  return TableName(*std::get<0>(info.param)) + "_" +
         std::string(DTypeName(std::get<1>(info.param))) +
         (std::get<2>(info.param) == Axis::kRows ? "_rows" : "_columns");
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GemmTest);
INSTANTIATE_TEST_SUITE_P(Tables, GemmTest,
                         ::testing::Combine(::testing::ValuesIn(TablesWithGemm()),
                                            ::testing::ValuesIn(kDTypes),
                                            ::testing::Values(Axis::kRows, Axis::kColumns)),
                         ParamName);

}  // namespace
}  // namespace thermocline::testing
