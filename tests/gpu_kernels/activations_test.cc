#include "gpu_kernels/products/activations.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gpu_kernels/products/weight_layout.h"
#include "gpu_kernels/tokens/norms.h"
#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"
#include "tests/support/weight_reference.h"

namespace thermocline {
namespace {

using GpuPrepareTest = GpuTest;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Vectors on the GPU, read back.
class Vectors {
 public:
  Vectors(Stream& stream, int64_t cols, int64_t n_tokens)
      : stream_(stream),
        n_(static_cast<size_t>(GpuPaddedCols(cols) * n_tokens)),
        memory_(GpuVectorsBytes(cols, n_tokens), "a test's vectors"),
        gpu_(MakeGpuVectors(memory_.as<void>(), cols, n_tokens)) {}

  const GpuVectors& gpu() const { return gpu_; }
  std::vector<float> values() const { return Read(gpu_.values, n_); }
  // Compares the numbers that they stand for.
  std::vector<double> quantised() const {
    const std::vector<int8_t> quants = Read(gpu_.quants, n_);
    const std::vector<float> scales = Read(gpu_.scales, n_ / 32);
    std::vector<double> out;
    for (size_t i = 0; i < n_; ++i) out.push_back(double{scales[i / 32]} * quants[i]);
    return out;
  }

 private:
  template <typename T>
  std::vector<T> Read(const T* from, size_t n) const {
    std::vector<T> out(n);
    stream_.Copy(out.data(), from, n * sizeof(T));
    stream_.Synchronize();
    return out;
  }

  Stream& stream_;
  size_t n_;
  DeviceMemory memory_;
  GpuVectors gpu_;
};

// x: (n_tokens, cols), with zeros behind each token.
std::vector<float> Padded(const std::vector<float>& x, int64_t cols) {
  std::vector<float> padded;
  for (size_t at = 0; at < x.size(); at += static_cast<size_t>(cols)) {
    padded.insert(padded.end(), x.begin() + static_cast<int64_t>(at),
                  x.begin() + static_cast<int64_t>(at) + cols);
    padded.resize(padded.size() + static_cast<size_t>(GpuPaddedCols(cols) - cols), 0.0F);
  }
  return padded;
}

TEST_F(GpuPrepareTest, CopiesAndQuantisesWhateverTheSize) {
  for (const int64_t cols : {1, 31, 32, 33, 255, 257, 1000}) {
    for (const int64_t n_tokens : {1, 3, 16}) {
      InEveryOrder([=] {
        Stream stream;
        const std::vector<float> x = RandomValues(static_cast<size_t>(cols * n_tokens), 1);
        const OnDevice<float> x_device(stream, x);
        const Vectors out(stream, cols, n_tokens);
        GpuPrepare(stream, x_device.data(), n_tokens, PrepareOp::kCopy, out.gpu());
        const std::vector<float> padded = Padded(x, cols);
        EXPECT_EQ(out.values(), padded) << cols;
        EXPECT_EQ(out.quantised(), testing::QuantisedActivations(padded)) << cols;
      });
    }
  }
}

TEST_F(GpuPrepareTest, ReluComesFirst) {
  Stream stream;
  std::vector<float> x = RandomValues(100, 2);
  x[5] = kNan;
  const OnDevice<float> x_device(stream, x);
  const Vectors out(stream, 100, 1);
  GpuPrepare(stream, x_device.data(), 1, PrepareOp::kRelu, out.gpu());
  const std::vector<float> values = out.values();
  EXPECT_TRUE(std::isnan(values[5]));
  for (size_t i = 0; i < x.size(); ++i) {
    if (i == 5) continue;
    EXPECT_EQ(values[i], std::max(x[i], 0.0F)) << i;
  }
}

TEST_F(GpuPrepareTest, BlocksThatAreNotFiniteAreNan) {
  Stream stream;
  std::vector<float> x = RandomValues(128, 3);
  x[3] = kNan;
  x[40] = -kInfinity;
  for (size_t i = 64; i < 96; ++i) x[i] = 1e-44F;  // its scale is no normal number
  const OnDevice<float> x_device(stream, x);
  const Vectors out(stream, 128, 1);
  GpuPrepare(stream, x_device.data(), 1, PrepareOp::kCopy, out.gpu());
  const std::vector<double> quantised = out.quantised();
  for (size_t i = 0; i < 64; ++i) EXPECT_TRUE(std::isnan(quantised[i])) << i;
  for (size_t i = 64; i < 96; ++i) EXPECT_EQ(quantised[i], 0) << i;
  for (size_t i = 96; i < 128; ++i) EXPECT_NEAR(quantised[i], x[i], 0.5 / 127) << i;
}

// Against the norm and the preparation as steps of their own, bit by bit.
void ExpectTheSameBits(GpuNormKind kind, int64_t cols, bool adds) {
  constexpr int64_t kTokens = 2;
  Stream stream;
  const auto n = static_cast<size_t>(cols * kTokens);
  const OnDevice<float> weight(stream, RandomValues(static_cast<size_t>(cols), 5));
  const OnDevice<float> bias(stream, RandomValues(static_cast<size_t>(cols), 7));
  const OnDevice<float> y(stream, RandomValues(n, 6));
  const OnDevice<float> x(stream, RandomValues(n, 4));
  const OnDevice<float> x_apart(stream, RandomValues(n, 4));
  const OnDevice<float> normed(stream, std::vector<float>(n, kNan));
  const OnDevice<float> normed_apart(stream, std::vector<float>(n, kNan));
  const Vectors out(stream, cols, kTokens);
  const Vectors out_apart(stream, cols, kTokens);
  const GpuNorm norm{kind, weight.data(), adds ? nullptr : bias.data(), 1e-5F};
  if (adds) {
    GpuAddNormPrepare(stream, x.data(), y.data(), {norm, normed.data()}, kTokens, out.gpu());
    GpuAddNormRows(stream, norm, x_apart.data(), y.data(), kTokens, cols, normed_apart.data());
  } else {
    GpuNormPrepare(stream, x.data(), {norm, normed.data()}, kTokens, out.gpu());
    GpuNormRows(stream, norm, x_apart.data(), kTokens, cols, normed_apart.data());
  }
  GpuPrepare(stream, normed_apart.data(), kTokens, PrepareOp::kCopy, out_apart.gpu());
  EXPECT_EQ(x.Read(), x_apart.Read()) << cols;
  EXPECT_EQ(normed.Read(), normed_apart.Read()) << cols;
  EXPECT_EQ(out.values(), out_apart.values()) << cols;
  EXPECT_EQ(out.quantised(), out_apart.quantised()) << cols;
  // In place.
  const OnDevice<float> both(stream, adds ? x.Read() : RandomValues(n, 4));
  GpuNormPrepare(stream, both.data(), {norm, both.data()}, kTokens, out.gpu());
  EXPECT_EQ(both.Read(), normed.Read()) << cols;
  EXPECT_EQ(out.quantised(), out_apart.quantised()) << cols;
}

TEST_F(GpuPrepareTest, NormedAndPreparedInOneOpAreTheSameBits) {
  for (const int64_t cols : {1, 33, 511, 512, 1500}) {
    for (const GpuNormKind kind : {GpuNormKind::kRms, GpuNormKind::kLayer}) {
      for (const bool adds : {false, true}) {
        InEveryOrder([=] { ExpectTheSameBits(kind, cols, adds); });
      }
    }
  }
}

}  // namespace
}  // namespace thermocline
