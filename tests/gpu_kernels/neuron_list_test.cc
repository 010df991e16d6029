#include "gpu_kernels/products/neuron_list.h"

#include <limits>
#include <string>

#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuNeuronListTest = GpuTest;

struct List {
  std::vector<int32_t> listed;
  std::vector<int32_t> others;
  std::vector<uint32_t> masks;  // of those listed
  int32_t n_wanted = 0;
};

// Where a list lies on the GPU.
struct ListMemory {
  OnDevice<int32_t> rows;
  OnDevice<uint32_t> masks;
  OnDevice<int32_t> count;
  OnDevice<int32_t> n_wanted;

  ListMemory(Stream& stream, size_t n_neurons)
      : rows(stream, std::vector<int32_t>(n_neurons, -7)),
        masks(stream, std::vector<uint32_t>(n_neurons, 0)),
        count(stream, std::vector<int32_t>{-7}),
        n_wanted(stream, std::vector<int32_t>{-7}) {}
  GpuNeuronList list() const { return {rows.data(), count.data(), masks.data()}; }
};

// The list that the GPU makes.
List ListOf(Stream& stream, const std::vector<float>& scores, int64_t n_tokens,
            float predictor_threshold) {
  const auto n_neurons = static_cast<int64_t>(scores.size()) / n_tokens;
  const OnDevice<float> scores_device(stream, scores);
  const ListMemory memory(stream, static_cast<size_t>(n_neurons));
  GpuListNeurons(stream, scores_device.data(), n_tokens, n_neurons, predictor_threshold,
                 memory.list(), memory.n_wanted.data());
  const std::vector<int32_t> rows = memory.rows.Read();
  List list{.listed = {},
            .others = {},
            .masks = memory.masks.Read(),
            .n_wanted = memory.n_wanted.Read()[0]};
  const int64_t n = memory.count.Read()[0];
  EXPECT_LE(n, n_neurons);
  list.listed = {rows.begin(), rows.begin() + n};
  list.others = {rows.begin() + n, rows.end()};
  list.masks.resize(static_cast<size_t>(n));
  return list;
}

TEST_F(GpuNeuronListTest, HoldsTheNeuronsAboveTheThresholdInOrderAndThenTheOthers) {
  for (const size_t n_neurons : {1, 31, 33, 1025, 5001}) {
    for (const size_t n_tokens : {1, 3, 16, 32}) {
      for (const float threshold : {-2.0F, 0.8F, 2.0F}) {
        InEveryOrderIf(n_neurons == 1025 && n_tokens < 16, [=] {
          Stream stream;
          const std::vector<float> scores = RandomValues(n_neurons * n_tokens, 1);
          List expected;
          for (size_t i = 0; i < n_neurons; ++i) {
            uint32_t mask = 0;
            for (size_t t = 0; t < n_tokens; ++t) {
              const bool above = scores[t * n_neurons + i] > threshold;
              mask |= (above ? uint32_t{1} : 0) << t;
              expected.n_wanted += above ? 1 : 0;
            }
            (mask != 0 ? expected.listed : expected.others).push_back(static_cast<int32_t>(i));
            if (mask != 0) expected.masks.push_back(mask);
          }
          const List list = ListOf(stream, scores, static_cast<int64_t>(n_tokens), threshold);
          const std::string what = std::to_string(n_neurons) + " neurons, " +
                                   std::to_string(n_tokens) + " tokens, threshold " +
                                   std::to_string(threshold);
          EXPECT_EQ(list.listed, expected.listed) << what;
          EXPECT_EQ(list.others, expected.others) << what;
          EXPECT_EQ(list.masks, expected.masks) << what;
          EXPECT_EQ(list.n_wanted, expected.n_wanted) << what;
        });
      }
    }
  }
}

TEST_F(GpuNeuronListTest, DropsWhatATokenDoesNotWant) {
  for (const int64_t n_neurons : {1, 33, 2051}) {
    for (const int64_t n_tokens : {1, 16}) {
      Stream stream;
      const auto n = static_cast<size_t>(n_neurons * n_tokens);
      const std::vector<float> scores = RandomValues(n, 5);
      std::vector<float> expected = RandomValues(n, 6);
      const OnDevice<float> scores_device(stream, scores);
      const OnDevice<float> h(stream, expected);
      const ListMemory memory(stream, static_cast<size_t>(n_neurons));
      GpuListNeurons(stream, scores_device.data(), n_tokens, n_neurons, 0.1F, memory.list(),
                     memory.n_wanted.data());
      GpuDropUnwanted(stream, memory.list(), n_tokens, n_neurons, h.data());
      for (size_t i = 0; i < n; ++i) {
        if (scores[i] <= 0.1F) expected[i] = 0;
      }
      EXPECT_EQ(h.Read(), expected) << n_neurons << " neurons, " << n_tokens << " tokens";
    }
  }
}

TEST_F(GpuNeuronListTest, AScoreAtTheThresholdIsNotAboveAndNanIs) {
  Stream stream;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const List list = ListOf(stream, {0.5F, 0.25F, nan, 0.75F, 0.5F}, 1, 0.5F);
  EXPECT_EQ(list.listed, (std::vector<int32_t>{2, 3}));
}

TEST_F(GpuNeuronListTest, AnAuditCountsWhatFiresAndWasWantedAndWhatWasNot) {
  for (const int64_t n_neurons : {1, 70, 2051}) {
    for (const int64_t n_tokens : {1, 5}) {
      InEveryOrder([=] {
        Stream stream;
        const auto n = static_cast<size_t>(n_neurons * n_tokens);
        const std::vector<float> scores = RandomValues(n, 2);
        const std::vector<float> gates = RandomValues(n, 3);
        const std::vector<float> bias = RandomValues(static_cast<size_t>(n_neurons), 4);
        GpuListAudit expected{};
        for (size_t at = 0; at < n; ++at) {
          if (gates[at] + bias[at % static_cast<size_t>(n_neurons)] <= 0) continue;
          ++(scores[at] > 0.3F ? expected.hits : expected.missed);
        }
        const OnDevice<float> scores_device(stream, scores);
        const OnDevice<float> gates_device(stream, gates);
        const OnDevice<float> bias_device(stream, bias);
        const ListMemory memory(stream, static_cast<size_t>(n_neurons));
        const OnDevice<GpuListAudit> audit(stream, std::vector<GpuListAudit>{{-1, -1}});
        GpuListNeurons(stream, scores_device.data(), n_tokens, n_neurons, 0.3F, memory.list(),
                       memory.n_wanted.data());
        GpuAuditList(stream, memory.list(), gates_device.data(), bias_device.data(),
                     {Activation::kRelu}, n_tokens, n_neurons, audit.data());
        EXPECT_EQ(audit.Read()[0].hits, expected.hits);
        EXPECT_EQ(audit.Read()[0].missed, expected.missed);
      });
    }
  }
}

}  // namespace
}  // namespace thermocline
