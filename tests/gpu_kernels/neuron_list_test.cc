#include "gpu_kernels/neuron_list.h"

#include <limits>

#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuNeuronListTest = GpuTest;

// The list that the GPU makes; what lies behind it stays as it was.
std::vector<int32_t> ListOf(Stream& stream, const std::vector<float>& scores, int64_t n_tokens,
                            float predictor_threshold) {
  constexpr int32_t kUntouched = -7;
  const auto n_neurons = static_cast<int64_t>(scores.size()) / n_tokens;
  const OnDevice<float> scores_device(stream, scores);
  const OnDevice<int32_t> rows(stream,
                               std::vector<int32_t>(static_cast<size_t>(n_neurons), kUntouched));
  const OnDevice<int32_t> count(stream, std::vector<int32_t>{kUntouched});
  GpuListNeurons(stream, scores_device.data(), n_tokens, n_neurons, predictor_threshold,
                 {rows.data(), count.data()});
  std::vector<int32_t> list = rows.Read();
  const auto n = static_cast<size_t>(count.Read()[0]);
  EXPECT_LE(n, list.size());
  for (size_t i = n; i < list.size(); ++i) EXPECT_EQ(list[i], kUntouched);
  list.resize(n);
  return list;
}

TEST_F(GpuNeuronListTest, HoldsTheNeuronsAboveTheThresholdInOrder) {
  for (const size_t n_neurons : {1, 31, 32, 33, 1023, 1024, 1025, 5001}) {
    for (const size_t n_tokens : {1, 3}) {
      for (const float threshold : {-2.0F, 0.0F, 0.8F, 2.0F}) {
        InEveryOrder([=] {
          Stream stream;
          const std::vector<float> scores = RandomValues(n_neurons * n_tokens, 1);
          std::vector<int32_t> expected;
          for (size_t i = 0; i < n_neurons; ++i) {
            bool above = false;
            for (size_t t = 0; t < n_tokens; ++t) above |= scores[t * n_neurons + i] > threshold;
            if (above) expected.push_back(static_cast<int32_t>(i));
          }
          ASSERT_EQ(ListOf(stream, scores, static_cast<int64_t>(n_tokens), threshold), expected)
              << n_neurons << " neurons, " << n_tokens << " tokens, threshold " << threshold;
        });
      }
    }
  }
}

TEST_F(GpuNeuronListTest, AScoreAtTheThresholdOrNanIsNotAbove) {
  Stream stream;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(ListOf(stream, {0.5F, 0.25F, nan, 0.75F, 0.5F}, 1, 0.5F), std::vector<int32_t>{3});
}

}  // namespace
}  // namespace thermocline
