#include "gpu_kernels/tokens/attention.h"

#include <cmath>
#include <limits>
#include <utility>

#include "gpu_kernels/tokens/rope_append.h"
#include "tests/gpu_kernels/kv_reference.h"
#include "tests/gpu_kernels/pass_fixture.h"
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
  int64_t window = 0;
  float soft_cap = 0;
  float scale = 0;           // 0: 1 / sqrt(head_dim)
  int64_t n_encoder = 0;     // positions of an encoder's text, which rows see instead of their own
  int64_t max_distance = 0;  // of a bias; 0: there is none

  // Positions that the cache has.
  int64_t n_positions() const { return std::max(first_position + n_tokens, n_encoder); }
  int64_t EndSeen(int64_t token) const {
    return n_encoder > 0 ? n_encoder : first_position + token + 1;
  }
  GpuAttention attention() const {
    const float usual = 1 / std::sqrt(static_cast<float>(head_dim));
    return {.n_heads = n_heads,
            .scale = scale == 0 ? usual : scale,
            .soft_cap = soft_cap,
            .window = window,
            .max_distance = max_distance,
            .sees_encoder = n_encoder > 0};
  }
  int64_t n_biases() const { return n_heads * (2 * max_distance + 1); }
};

// A cache filled with random keys and values, and random queries. Two layers: the other one keeps
// what fresh memory holds.
struct Inputs {
  Inputs(const Case& shape, DType dtype, int64_t n_slots)
      : c(shape),
        cache({dtype, 2, c.n_kv_heads, c.head_dim, n_slots}),
        kv(cache.Layer(1)),
        q(RandomValues(static_cast<size_t>(c.n_tokens * c.n_heads * c.head_dim), 3)),
        q_device(stream, q),
        bias(RandomValues(static_cast<size_t>(c.n_biases()), 4)),
        bias_device(stream, bias),
        out(stream, std::vector<float>(q.size())) {
    const auto n = static_cast<size_t>(c.n_positions() * c.n_kv_heads * c.head_dim);
    const OnDevice<float> k(stream, RandomValues(n, 1));
    const OnDevice<float> v(stream, RandomValues(n, 2));
    const OnDevice<float> none(stream, std::vector<float>(1));
    GpuRopeAppend(stream, {.cos = none.data(), .sin = none.data()}, kv,
                  TestPass(stream, 0, c.n_positions()).get(), 0, none.data(), k.data(), v.data());
    keys = ReadKeys(stream, kv);
    values = ReadValues(stream, kv);
  }

  std::vector<float> AttendFew() {
    const int64_t max_positions = kv.n_slots;
    const DeviceMemory scratch(
        GpuAttendScratchBytes(c.n_tokens, c.n_heads, c.head_dim, max_positions), "a test");
    const TestPass pass(stream, {Segment()});
    GpuAttendFew(stream, kv, pass.get(), Attention(), max_positions, q_device.data(),
                 scratch.as<void>(), out.data());
    return out.Read();
  }
  std::vector<float> AttendMany() {
    const TestPass pass(stream, {Segment()});
    GpuAttendMany(stream, kv, pass.get(), Attention(), q_device.data(), out.data());
    return out.Read();
  }
  // With an encoder's text, what rows see lies in the cache's pages from 0 on, and their own
  // positions in none that is read.
  TestSegment Segment() const {
    const std::vector<int32_t> pages = PagesInOrder(c.n_positions());
    if (c.n_encoder == 0) return {c.first_position, c.n_tokens, pages, {}};
    const std::vector<int32_t> own(pages.size(), 999);
    return {c.first_position, c.n_tokens, own, {}, 0, pages, c.n_encoder};
  }
  GpuAttention Attention() const {
    GpuAttention attention = c.attention();
    if (c.max_distance > 0) attention.bias = bias_device.data();
    return attention;
  }
  std::vector<float> Attend(bool few) { return few ? AttendFew() : AttendMany(); }

  // Makes keys and values of the first positions NaN.
  void SpoilBefore(int64_t position) {
    const auto n = static_cast<size_t>(position * c.n_kv_heads * c.head_dim);
    const OnDevice<float> nan(stream, std::vector<float>(n, kNan));
    GpuRopeAppend(stream, {}, kv, TestPass(stream, 0, position).get(), 0, nullptr, nan.data(),
                  nan.data());
    stream.Synchronize();
  }

  Case c;
  Stream stream;
  GpuKvCache cache;
  GpuKvLayer kv;
  std::vector<float> q;
  OnDevice<float> q_device;
  std::vector<float> bias;
  OnDevice<float> bias_device;
  OnDevice<float> out;
  KvImage keys;
  KvImage values;
};

// In double. With S the largest sum of |q_i k_i| over a row, scaled, a score is off by at most
// (head_dim + 4) units of S, with a cap, which is no steeper than 1, by 10 more, and its difference
// from the maximum by 3 more; that, and 2 for e^x, is a weight's relative error, which counts above
// and below the line. Sums over n positions add n + 8.
void ExpectAttention(const Inputs& in, const std::vector<float>& out) {
  const Case& c = in.c;
  const double scale =
      c.scale == 0 ? 1 / std::sqrt(static_cast<double>(c.head_dim)) : double{c.scale};
  for (int64_t row = 0; row < c.n_tokens * c.n_heads; ++row) {
    const int64_t kv_head = row % c.n_heads / (c.n_heads / c.n_kv_heads);
    const int64_t position = c.first_position + row / c.n_heads;
    const int64_t n = c.EndSeen(row / c.n_heads);
    const int64_t first = c.window == 0 ? 0 : std::max<int64_t>(0, n - c.window);
    const float* const q = in.q.data() + row * c.head_dim;
    std::vector<double> weights(static_cast<size_t>(n));
    double largest = -1e300, largest_sum = 0;
    for (int64_t p = first; p < n; ++p) {
      double dot = 0, magnitude = 0;
      for (int64_t i = 0; i < c.head_dim; ++i) {
        const double product = scale * q[i] * in.keys.Decode(kv_head, p, i);
        dot += product;
        magnitude += std::abs(product);
      }
      if (c.soft_cap != 0) dot = c.soft_cap * std::tanh(dot / c.soft_cap);
      if (c.max_distance > 0) {
        const int64_t most = c.max_distance;
        const int64_t at = row % c.n_heads * (2 * most + 1) + most;
        const float bias = in.bias[static_cast<size_t>(at + std::clamp(p - position, -most, most))];
        dot += bias;
        magnitude += std::abs(bias);
      }
      weights[static_cast<size_t>(p)] = dot;
      largest = std::max(largest, dot);
      largest_sum = std::max(largest_sum, magnitude);
    }
    double total = 0;
    for (int64_t p = first; p < n; ++p) {
      double& weight = weights[static_cast<size_t>(p)];
      total += weight = std::exp(weight - largest);
    }
    const double of_score = static_cast<double>(c.head_dim) + (c.soft_cap == 0 ? 7 : 17);
    const double relative = 2 * (of_score * largest_sum + 2) + static_cast<double>(n - first) + 8;
    for (int64_t i = 0; i < c.head_dim; ++i) {
      double expected = 0, magnitude = 0;
      for (int64_t p = first; p < n; ++p) {
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
         std::to_string(c.n_tokens) + " tokens from " + std::to_string(c.first_position) +
         ", window " + std::to_string(c.window) + ", cap " + std::to_string(c.soft_cap) +
         ", encoder " + std::to_string(c.n_encoder) + ", bias to " + std::to_string(c.max_distance);
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
  for (const auto& [dtype, window] :
       {std::pair{DType::kF16, 0}, {DType::kQ8_0, 0}, {DType::kF16, 3}, {DType::kQ8_0, 129}}) {
    const Case together = {64, 4, 2, 253, 5, window};
    Inputs in(together, dtype, 600);
    const std::vector<float> all = in.AttendFew();
    for (int64_t t = 0; t < together.n_tokens; ++t) {
      const int64_t width = together.n_heads * together.head_dim;
      const DeviceMemory scratch(GpuAttendScratchBytes(1, 4, 64, 258), "a test");
      const TestPass alone(in.stream, together.first_position + t, 1);
      GpuAttendFew(in.stream, in.kv, alone.get(), together.attention(), 258,
                   in.q_device.data() + t * width, scratch.as<void>(), in.out.data() + t * width);
    }
    EXPECT_EQ(in.out.Read(), all);
  }
}

// One graph, captured once, follows the context from position to position.
void ExpectAGraphToFollow(int64_t window) {
  Inputs in({64, 4, 2, 259, 1, window}, DType::kF16, 300);
  const DeviceMemory scratch(GpuAttendScratchBytes(1, 4, 64, 300), "a test");
  TestPass pass(in.stream, 299, 1);
  GraphCapture capture(in.stream);
  pass.inputs().SendRows(in.stream);
  GpuAttendFew(in.stream, in.kv, pass.get(), in.c.attention(), 300, in.q_device.data(),
               scratch.as<void>(), in.out.data());
  Graph graph = capture.Finish();
  for (const int64_t position : {0, 127, 128, 259}) {
    pass.Set({{position, 1, PagesInOrder(300), {}}});
    graph.Launch(in.stream);
    in.c.first_position = position;
    ExpectAttention(in, in.out.Read());
  }
}
TEST_F(GpuAttendFewTest, AReplayedGraphTakesItsPositionFromTheInputs) {
  ExpectAGraphToFollow(0);
  ExpectAGraphToFollow(100);
}

// Rows of three sequences in one pass, of other lengths, in pages that lie anywhere and of which
// two share the first: each row has the bits that it has alone, in a cache where its sequence lies
// in one stretch.
class GpuPagedAttention : public GpuTest {
 protected:
  static constexpr int64_t kHeadDim = 64, kHeads = 4, kKvHeads = 2, kPages = 12;
  static constexpr int64_t kMaxPositions = 200;
  static constexpr size_t kPageValues = kGpuKvPageTokens * kKvHeads * kHeadDim;

  struct Sequence {
    TestSegment segment;
    std::vector<int32_t> seeds;  // by page: whose keys and values it holds
  };
  static std::vector<Sequence> Sequences() {
    return {{{150, 2, {7, 0, 9, 3, 5}, {}}, {1, 2, 3, 4, 5}},
            {{40, 1, {7, 11}, {}}, {1, 6}},
            {{31, 4, {2, 8}, {}}, {7, 8}}};
  }
  // Fills the page with values that follow from the seed alone.
  static void FillPage(Stream& stream, const GpuKvLayer& kv, int32_t page, int32_t seed) {
    FillPage(stream, kv, page, RandomValues(kPageValues, static_cast<uint32_t>(100 + 2 * seed)),
             RandomValues(kPageValues, static_cast<uint32_t>(101 + 2 * seed)));
  }
  static void FillPageWith(Stream& stream, const GpuKvLayer& kv, int32_t page, float value) {
    const std::vector<float> values(kPageValues, value);
    FillPage(stream, kv, page, values, values);
  }
  static void FillPage(Stream& stream, const GpuKvLayer& kv, int32_t page,
                       const std::vector<float>& keys, const std::vector<float>& values) {
    const OnDevice<float> k(stream, keys);
    const OnDevice<float> v(stream, values);
    const TestPass pass(stream, {{0, kGpuKvPageTokens, {page}, {}}});
    GpuRopeAppend(stream, {.cos = k.data(), .sin = k.data()}, kv, pass.get(), 0, nullptr, k.data(),
                  v.data());
    stream.Synchronize();
  }
  static std::vector<float> Attend(Stream& stream, const GpuKvLayer& kv,
                                   const std::vector<TestSegment>& segments,
                                   const std::vector<float>& q, bool few, int64_t window,
                                   int64_t max_positions = kMaxPositions) {
    const GpuAttention attention{kHeads, 0.125F, 0, window};
    const OnDevice<float> q_device(stream, q);
    const OnDevice<float> out(stream, std::vector<float>(q.size(), kNan));
    const int64_t n_rows = static_cast<int64_t>(q.size()) / (kHeads * kHeadDim);
    const DeviceMemory scratch(GpuAttendScratchBytes(n_rows, kHeads, kHeadDim, max_positions),
                               "a test");
    const TestPass pass(stream, segments);
    if (few) {
      GpuAttendFew(stream, kv, pass.get(), attention, max_positions, q_device.data(),
                   scratch.as<void>(), out.data());
    } else {
      GpuAttendMany(stream, kv, pass.get(), attention, q_device.data(), out.data());
    }
    return out.Read();
  }
};

TEST_F(GpuPagedAttention, EverySequenceAttendsToItsOwnPages) {
  for (const auto& c : {std::pair{DType::kF16, 0}, {DType::kQ8_0, 0}, {DType::kF16, 35}}) {
    const DType dtype = c.first;
    const int64_t window = c.second;
    for (const bool few : {true, false}) {
      SCOPED_TRACE(std::string(DTypeName(dtype)) + (few ? ", few" : ", many"));
      InEveryOrder([&] {
        Stream stream;
        const GpuKvCache paged({dtype, 1, kKvHeads, kHeadDim, kPages * kGpuKvPageTokens});
        const GpuKvCache whole({dtype, 1, kKvHeads, kHeadDim, kPages * kGpuKvPageTokens});
        std::vector<TestSegment> segments;
        for (const Sequence& sequence : Sequences()) {
          segments.push_back(sequence.segment);
          for (size_t p = 0; p < sequence.seeds.size(); ++p) {
            FillPage(stream, paged.Layer(0), sequence.segment.pages[p], sequence.seeds[p]);
          }
        }
        const size_t width = kHeads * kHeadDim;
        const std::vector<float> q = RandomValues(7 * width, 3);
        const std::vector<float> together =
            Attend(stream, paged.Layer(0), segments, q, few, window);
        size_t row = 0;
        for (const Sequence& sequence : Sequences()) {
          TestSegment alone = sequence.segment;
          alone.pages = PagesInOrder(alone.first_position + alone.n_rows);
          for (size_t p = 0; p < sequence.seeds.size(); ++p) {
            FillPage(stream, whole.Layer(0), static_cast<int32_t>(p), sequence.seeds[p]);
          }
          const auto begin = static_cast<std::ptrdiff_t>(row * width);
          row += static_cast<size_t>(alone.n_rows);
          const auto end = static_cast<std::ptrdiff_t>(row * width);
          const std::vector<float> own(q.begin() + begin, q.begin() + end);
          EXPECT_EQ(Attend(stream, whole.Layer(0), {alone}, own, few, window),
                    std::vector<float>(together.begin() + begin, together.begin() + end));
        }
      });
    }
  }
}

// Five sequences, of which four begin with the same chunk, and three with the same two, but the
// last of these finds that by way of another. Where a sequence shares a chunk, its own page table
// leads to a page of NaN: only the first one's is read. Every row has the bits that it has alone.
TEST_F(GpuPagedAttention, ChunksThatSequencesShareAreReadByTheFirst) {
  constexpr int32_t kNowhere = 30;
  constexpr int64_t kLongest = 500;
  const auto with = [](std::vector<int32_t> pages, int32_t first, int n) {
    for (int i = 0; i < n; ++i) pages.push_back(first + i);
    return pages;
  };
  const std::vector<int32_t> common = PagesInOrder(256);
  const std::vector<int32_t> half(common.begin(), common.begin() + 4);
  const std::vector<TestSegment> true_ones = {{370, 1, with(common, 8, 4), {}},
                                              {140, 3, with(half, 12, 1), {}},
                                              {289, 2, with(common, 13, 2), {}},
                                              {10, 1, {15}, {}},
                                              {300, 2, with(common, 16, 2), {}}};
  std::vector<TestSegment> sharing = true_ones;
  const auto share = [&](size_t segment, int32_t n_pages, int32_t with_segment) {
    sharing[segment].n_shared_pages = n_pages;
    sharing[segment].shares_with = with_segment;
    for (int32_t p = 0; p < n_pages; ++p) sharing[segment].pages[static_cast<size_t>(p)] = kNowhere;
  };
  share(1, 4, 0);
  share(2, 8, 0);
  share(4, 8, 2);
  for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
    InEveryOrderIf(dtype == DType::kF16, [&] {
      Stream stream;
      const GpuKvCache cache({dtype, 1, kKvHeads, kHeadDim, (kNowhere + 1) * kGpuKvPageTokens});
      for (int32_t page = 0; page < 18; ++page) FillPage(stream, cache.Layer(0), page, page);
      FillPageWith(stream, cache.Layer(0), kNowhere, kNan);
      const std::vector<float> q = RandomValues(9 * kHeads * kHeadDim, 3);
      const std::vector<float> together =
          Attend(stream, cache.Layer(0), sharing, q, true, 0, kLongest);
      size_t at = 0;
      for (const TestSegment& segment : true_ones) {
        const size_t n = static_cast<size_t>(segment.n_rows) * kHeads * kHeadDim;
        const std::vector<float> own(q.begin() + static_cast<std::ptrdiff_t>(at),
                                     q.begin() + static_cast<std::ptrdiff_t>(at + n));
        const std::vector<float> alone =
            Attend(stream, cache.Layer(0), {segment}, own, true, 0, kLongest);
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(),
                               together.begin() + static_cast<std::ptrdiff_t>(at)))
            << "from element " << at;
        at += n;
      }
    });
  }
}

// What a window has let go of is in no page table, and its pages may hold anything. The bits are
// those of the whole table.
TEST_F(GpuPagedAttention, PagesBehindTheWindowMayBeGone) {
  constexpr int64_t kFirst = 150, kRows = 3;
  const TestSegment whole{kFirst, kRows, {7, 0, 9, 3, 5}, {}};
  for (const int64_t window : {1, 23, 35, 60}) {
    const int64_t first_page = (kFirst + 1 - window) / kGpuKvPageTokens;
    TestSegment rest = whole;
    rest.first_page = first_page;
    rest.pages.erase(rest.pages.begin(), rest.pages.begin() + first_page);
    for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
      for (const bool few : {true, false}) {
        SCOPED_TRACE(std::to_string(window) + (few ? ", few" : ", many"));
        Stream stream;
        const GpuKvCache cache({dtype, 1, kKvHeads, kHeadDim, kPages * kGpuKvPageTokens});
        for (const int32_t page : whole.pages) FillPage(stream, cache.Layer(0), page, page);
        const std::vector<float> q = RandomValues(kRows * kHeads * kHeadDim, 3);
        const auto expected = Attend(stream, cache.Layer(0), {whole}, q, few, window);
        for (int64_t p = 0; p < first_page; ++p) {
          FillPageWith(stream, cache.Layer(0), whole.pages[static_cast<size_t>(p)], kNan);
        }
        // Another sequence's pages stand before its own.
        const TestSegment other{0, 1, {whole.pages[4]}, {}};
        std::vector<float> two = RandomValues(kHeads * kHeadDim, 4);
        two.insert(two.end(), q.begin(), q.end());
        const auto found = Attend(stream, cache.Layer(0), {other, rest}, two, few, window);
        EXPECT_EQ(std::vector<float>(found.begin() + kHeads * kHeadDim, found.end()), expected);
      }
    }
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

// Scores scaled and capped, and windows of one position, of a page and beside its ends, of a chunk
// and beside its ends, longer than the context; rows of a block whose windows begin in different
// chunks and tiles.
class GpuScoringTest : public GpuTest {
 protected:
  static std::vector<Case> Cases() {
    std::vector<Case> cases;
    for (const int64_t window : {1, 31, 32, 33, 127, 128, 129, 500}) {
      cases.push_back({64, 3, 1, 254, 5, window});
    }
    cases.push_back({64, 2, 2, 128, 1, 1});
    cases.push_back({128, 4, 2, 40, 2, 0, 0.5F});
    cases.push_back({256, 2, 1, 130, 3, 100, 30.0F, 0.3F});
    cases.push_back({96, 3, 3, 20, 33, 9, 2.0F, 1.0F});
    // An encoder's own layers, a decoder's on its text, and a decoder's own with a bias.
    cases.push_back({64, 4, 2, 0, 45, 0, 0, 1.0F, 45, 7});
    cases.push_back({64, 2, 1, 3, 2, 0, 0, 1.0F, 129});
    cases.push_back({128, 2, 2, 130, 3, 0, 5.0F, 0.2F, 0, 128});
    return cases;
  }
};

TEST_F(GpuScoringTest, EqualsTheReference) {
  for (const Case& c : Cases()) {
    for (const bool few : {true, false}) {
      const DType dtype = c.window % 2 == 0 ? DType::kF16 : DType::kQ8_0;
      SCOPED_TRACE(Name(c, dtype) + (few ? ", few" : ", many"));
      InEveryOrderIf(c.window == 33 || c.soft_cap != 0 || c.n_encoder > 0, [&] {
        Inputs in(c, dtype, c.n_positions());
        ExpectAttention(in, in.Attend(few));
      });
    }
  }
}

TEST_F(GpuScoringTest, AWindowOverAllPositionsIsNone) {
  for (const bool few : {true, false}) {
    Inputs in({64, 2, 1, 140, 3}, DType::kF16, 150);
    const std::vector<float> all = in.Attend(few);
    in.c.window = 143;
    EXPECT_EQ(in.Attend(few), all);
  }
}

// Rows 290 to 292 see 20 positions each, from 271 on: their chunk begins at 256, their tile at 256,
// and what lies before is not looked at.
TEST_F(GpuScoringTest, WhatLiesBeforeAllWindowsIsNotRead) {
  for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
    for (const bool few : {true, false}) {
      Inputs in({64, 2, 1, 290, 3, 20}, dtype, 300);
      const std::vector<float> before = in.Attend(few);
      in.SpoilBefore(256);
      EXPECT_EQ(in.Attend(few), before);
    }
  }
}

// A row is the same bits alone as between others that see what it does not.
TEST_F(GpuScoringTest, RowsOfTilesTogetherEqualRowsAlone) {
  const Case together = {64, 2, 1, 50, 20, 9, 3.0F};
  Inputs in(together, DType::kF16, 80);
  const std::vector<float> all = in.AttendMany();
  const int64_t width = together.n_heads * together.head_dim;
  for (int64_t t = 0; t < together.n_tokens; ++t) {
    const TestPass alone(in.stream, together.first_position + t, 1);
    GpuAttendMany(in.stream, in.kv, alone.get(), together.attention(),
                  in.q_device.data() + t * width, in.out.data() + t * width);
  }
  EXPECT_EQ(in.out.Read(), all);
}

}  // namespace
}  // namespace thermocline
