// The sign predictor's scores on the GPU, against the CPU's: the same bits.
#include "gpu_kernels/products/sign_scores.h"

#include <cstring>

#include "predictor/sign_predictor.h"
#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuSignScoresTest = GpuTest;

// What the CPU says of n_tokens inputs.
std::vector<float> CpuScores(const SignRows& rows, const std::vector<float>& x, int64_t n_tokens) {
  const auto m = static_cast<size_t>(rows.n_neurons());
  std::vector<float> scores(m * static_cast<size_t>(n_tokens));
  std::vector<int32_t> counts(m);
  for (int64_t t = 0; t < n_tokens; ++t) {
    SignInput input;
    rows.Prepare(x.data() + t * rows.d_model(), &input);
    rows.Score(input, 0, rows.n_neurons(), counts.data(), scores.data() + t * rows.n_neurons());
  }
  return scores;
}

// The words of the rows as the GPU has them.
std::vector<uint32_t> Words(const SignRows& rows) {
  const auto n_words = static_cast<size_t>(GpuSignWords(rows.d_model()));
  std::vector<uint32_t> words(n_words * static_cast<size_t>(rows.n_neurons()));
  for (int64_t i = 0; i < rows.n_neurons(); ++i) {
    std::memcpy(words.data() + static_cast<size_t>(i) * n_words, rows.row(i), rows.row_bytes());
  }
  return words;
}

std::vector<float> GpuScores(const SignRows& rows, const std::vector<float>& x, int64_t n_tokens) {
  Stream stream;
  const OnDevice<uint32_t> words(stream, Words(rows));
  const bool biased = !rows.scaled_bias().empty();
  const OnDevice<float> bias(
      stream, biased ? std::vector<float>(rows.scaled_bias().begin(), rows.scaled_bias().end())
                     : std::vector<float>(1));
  const OnDevice<float> x_device(stream, x);
  const OnDevice<float> scores(
      stream, std::vector<float>(static_cast<size_t>(rows.n_neurons() * n_tokens)));
  const DeviceMemory input(GpuSignInputBytes(rows.d_model(), n_tokens), "a test's sign bits");
  GpuSignScores(stream,
                {words.data(), rows.n_neurons(), rows.d_model(), biased ? bias.data() : nullptr},
                x_device.data(), n_tokens,
                MakeGpuSignInput(input.as<void>(), rows.d_model(), n_tokens), scores.data());
  return scores.Read();
}

TEST_F(GpuSignScoresTest, AreTheCpusBitForBit) {
  for (const int64_t d_model : {1, 63, 128, 257, 4224}) {
    for (const int64_t n_neurons : {1, 37}) {
      for (const int64_t n_tokens : {1, 2, 8, 11}) {
        const std::vector<float> w = RandomValues(static_cast<size_t>(n_neurons * d_model), 1);
        const std::vector<float> bias = RandomValues(static_cast<size_t>(n_neurons), 2);
        std::vector<float> x = RandomValues(static_cast<size_t>(n_tokens * d_model), 3);
        x[0] = -0.0F;  // its sign counts
        for (const bool biased : {false, true}) {
          SignRows rows(CpuKernels(), DenseView(w.data(), DType::kF32, n_neurons, d_model),
                        biased ? bias.data() : nullptr);
          rows.Pack(0, n_neurons);
          const std::vector<float> expected = CpuScores(rows, x, n_tokens);
          InEveryOrderIf(d_model == 257, [&] {
            EXPECT_EQ(GpuScores(rows, x, n_tokens), expected)
                << n_neurons << " x " << d_model << ", " << n_tokens << " tokens";
          });
        }
      }
    }
  }
}

// Every product of a row and its own signs is positive.
TEST_F(GpuSignScoresTest, CountProductsBySign) {
  constexpr int64_t kCols = 200;
  const std::vector<float> w = RandomValues(2 * kCols, 4);
  SignRows rows(CpuKernels(), DenseView(w.data(), DType::kF32, 2, kCols), nullptr);
  rows.Pack(0, 2);
  std::vector<float> x(w.begin(), w.begin() + kCols);
  EXPECT_EQ(GpuScores(rows, x, 1)[0], kCols);
  for (size_t i = 0; i < 30; ++i) x[i] = -x[i];
  EXPECT_EQ(GpuScores(rows, x, 1)[0], kCols - 2 * 30);
}

}  // namespace
}  // namespace thermocline
