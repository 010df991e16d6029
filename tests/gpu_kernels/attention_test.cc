#include "gpu_kernels/tokens/attention.h"

#include <cmath>
#include <limits>

#include "gpu_kernels/tokens/rope_append.h"
#include "tests/gpu_kernels/kv_reference.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

constexpr double kUnit = std::numeric_limits<float>::epsilon() / 2;

struct Case {
  int64_t head_dim;
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t first_position;
  int64_t n_tokens;
  int64_t n_positions() const { return first_position + n_tokens; }
};

// A cache filled with random keys and values, and random queries. Two layers: the other one keeps
// what fresh memory holds.
struct Inputs {
  Inputs(const Case& shape, DType dtype, int64_t max_positions)
      : c(shape),
        cache({dtype, 2, c.n_kv_heads, c.head_dim, max_positions}),
        kv(cache.Layer(1)),
        q(RandomValues(static_cast<size_t>(c.n_tokens * c.n_heads * c.head_dim), 3)),
        q_device(stream, q),
        out(stream, std::vector<float>(q.size())) {
    const auto n = static_cast<size_t>(c.n_positions() * c.n_kv_heads * c.head_dim);
    const OnDevice<float> k(stream, RandomValues(n, 1));
    const OnDevice<float> v(stream, RandomValues(n, 2));
    const OnDevice<float> none(stream, std::vector<float>(1));
    GpuRopeAppend(stream, {.cos = none.data(), .sin = none.data()}, kv,
                  TokensAt(0, c.n_positions()), 0, none.data(), k.data(), v.data());
    keys = ReadKeys(stream, kv);
    values = ReadValues(stream, kv);
  }
  GpuPassTokens tokens() const { return TokensAt(c.first_position, c.n_tokens); }

  std::vector<float> AttendFew() {
    const int64_t max_positions = kv.max_positions;
    const DeviceMemory scratch(
        GpuAttendScratchBytes(c.n_tokens, c.n_heads, c.head_dim, max_positions), "a test");
    GpuAttendFew(stream, kv, tokens(), c.n_heads, max_positions, q_device.data(),
                 scratch.as<void>(), out.data());
    return out.Read();
  }
  std::vector<float> AttendMany() {
    GpuAttendMany(stream, kv, tokens(), c.n_heads, q_device.data(), out.data());
    return out.Read();
  }

  Case c;
  Stream stream;
  GpuKvCache cache;
  GpuKvLayer kv;
  std::vector<float> q;
  OnDevice<float> q_device;
  OnDevice<float> out;
  KvImage keys;
  KvImage values;
};

// In double. With S the largest sum of |q_i k_i| over a row, scaled, a score is off by at most
// (head_dim + 4) units of S and its difference from the maximum by 3 more; that, and 2 for e^x, is
// a weight's relative error, which counts above and below the line. Sums over n positions add n
// + 8.
void ExpectAttention(const Inputs& in, const std::vector<float>& out) {
  const Case& c = in.c;
  const double scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  for (int64_t row = 0; row < c.n_tokens * c.n_heads; ++row) {
    const int64_t kv_head = row % c.n_heads / (c.n_heads / c.n_kv_heads);
    const int64_t n = c.first_position + row / c.n_heads + 1;
    const float* const q = in.q.data() + row * c.head_dim;
    std::vector<double> weights(static_cast<size_t>(n));
    double largest = -1e300, largest_sum = 0;
    for (int64_t p = 0; p < n; ++p) {
      double dot = 0, magnitude = 0;
      for (int64_t i = 0; i < c.head_dim; ++i) {
        const double product = scale * q[i] * in.keys.Decode(kv_head, p, i);
        dot += product;
        magnitude += std::abs(product);
      }
      weights[static_cast<size_t>(p)] = dot;
      largest = std::max(largest, dot);
      largest_sum = std::max(largest_sum, magnitude);
    }
    double total = 0;
    for (double& weight : weights) total += weight = std::exp(weight - largest);
    const double relative =
        2 * ((static_cast<double>(c.head_dim) + 7) * largest_sum + 2) + static_cast<double>(n) + 8;
    for (int64_t i = 0; i < c.head_dim; ++i) {
      double expected = 0, magnitude = 0;
      for (int64_t p = 0; p < n; ++p) {
        const double term =
            weights[static_cast<size_t>(p)] / total * in.values.Decode(kv_head, p, i);
        expected += term;
        magnitude += std::abs(term);
      }
      ASSERT_NEAR(out[static_cast<size_t>(row * c.head_dim + i)], expected,
                  kUnit * (relative * magnitude + std::abs(expected)) + 1e-30)
          << "row " << row << ", element " << i;
    }
  }
}

std::string Name(const Case& c, DType dtype) {
  return std::string(DTypeName(dtype)) + ", head_dim " + std::to_string(c.head_dim) + ", " +
         std::to_string(c.n_heads) + " heads on " + std::to_string(c.n_kv_heads) + ", " +
         std::to_string(c.n_tokens) + " tokens from " + std::to_string(c.first_position);
}

using GpuAttendFewTest = GpuTest;
using GpuAttendManyTest = GpuTest;

TEST_F(GpuAttendFewTest, EqualsTheReference) {
  // One position, a chunk less one, one more, several; one to 16 queries per KV head and more.
  const Case cases[] = {{32, 2, 2, 0, 1},    {64, 4, 1, 127, 1},  {96, 3, 1, 128, 1},
                        {128, 4, 2, 300, 1}, {128, 7, 1, 126, 3}, {256, 2, 2, 255, 2},
                        {160, 3, 3, 129, 1}, {64, 2, 1, 120, 16}};
  for (const Case& c : cases) {
    for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
      SCOPED_TRACE(Name(c, dtype));
      InEveryOrder([&] {
        Inputs in(c, dtype, c.n_positions());
        ExpectAttention(in, in.AttendFew());
      });
    }
  }
  const Case f16_only = {80, 6, 2, 130, 1};
  Inputs in(f16_only, DType::kF16, 140);
  ExpectAttention(in, in.AttendFew());
}

// The bits of a token do not depend on what goes with it, nor on the size of the grid.
TEST_F(GpuAttendFewTest, TokensTogetherEqualTokensAlone) {
  const Case together = {64, 4, 2, 253, 5};
  for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
    Inputs in(together, dtype, 600);
    const std::vector<float> all = in.AttendFew();
    for (int64_t t = 0; t < together.n_tokens; ++t) {
      const int64_t width = together.n_heads * together.head_dim;
      const DeviceMemory scratch(GpuAttendScratchBytes(1, 4, 64, 258), "a test");
      GpuAttendFew(in.stream, in.kv, TokensAt(together.first_position + t, 1), 4, 258,
                   in.q_device.data() + t * width, scratch.as<void>(), in.out.data() + t * width);
    }
    EXPECT_EQ(in.out.Read(), all);
  }
}

// One graph, captured once, follows the context from position to position.
TEST_F(GpuAttendFewTest, AReplayedGraphTakesItsPositionFromTheInputs) {
  Inputs in({64, 4, 2, 259, 1}, DType::kF16, 300);
  const DeviceMemory scratch(GpuAttendScratchBytes(1, 4, 64, 300), "a test");
  const MappedMemory host(sizeof(GpuPassInputs), "a test");
  const DeviceMemory inputs(sizeof(GpuPassInputs), "a test");
  in.stream.Synchronize();
  GraphCapture capture(in.stream);
  in.stream.Copy(inputs.as<void>(), host.host<void>(), sizeof(GpuPassInputs));
  GpuAttendFew(in.stream, in.kv, TokensFrom(inputs.as<GpuPassInputs>(), 1), 4, 300,
               in.q_device.data(), scratch.as<void>(), in.out.data());
  Graph graph = capture.Finish();
  for (const int64_t position : {0, 127, 128, 259}) {
    SetPassInputs(std::vector<int32_t>{0}, position, host.host<GpuPassInputs>());
    graph.Launch(in.stream);
    in.c.first_position = position;
    ExpectAttention(in, in.out.Read());
  }
}

TEST_F(GpuAttendManyTest, EqualsTheReference) {
  const Case cases[] = {{32, 2, 2, 0, 1},   {64, 4, 1, 37, 33},  {96, 3, 1, 0, 11},
                        {128, 2, 1, 5, 20}, {256, 1, 1, 14, 33}, {192, 3, 1, 0, 17}};
  for (const Case& c : cases) {
    for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
      SCOPED_TRACE(Name(c, dtype));
      InEveryOrder([&] {
        Inputs in(c, dtype, c.n_positions());
        ExpectAttention(in, in.AttendMany());
      });
    }
  }
  Inputs in({80, 4, 2, 3, 40}, DType::kF16, 50);
  ExpectAttention(in, in.AttendMany());
}

}  // namespace
}  // namespace thermocline
