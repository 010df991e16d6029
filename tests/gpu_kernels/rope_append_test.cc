#include "gpu_kernels/tokens/rope_append.h"

#include <cmath>
#include <limits>

#include "tests/gpu_kernels/kv_reference.h"
#include "tests/gpu_kernels/pass_fixture.h"
#include "tests/gpu_kernels/random_values.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

constexpr double kUnit = std::numeric_limits<float>::epsilon() / 2;
constexpr int64_t kMaxPositions = 11;

struct Case {
  RopePairing pairing;
  int64_t head_dim;
  int64_t rot_dim;
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t first_position;
  int64_t n_tokens;
};

// The angles of all positions; any numbers serve.
struct Tables {
  explicit Tables(const Case& c)
      : cos(RandomValues(static_cast<size_t>(kMaxPositions * c.rot_dim / 2), 11)),
        sin(RandomValues(static_cast<size_t>(kMaxPositions * c.rot_dim / 2), 12)) {}
  std::vector<float> cos;
  std::vector<float> sin;
};

// Element i of a turned head: in f32 as the kernel's contract has it, and how far it may be off the
// exact rotation.
struct Turned {
  float value;
  double exact;
  double bound;
};
Turned Turn(const Case& c, const Tables& tables, const float* head, int64_t i, int64_t position) {
  if (i >= c.rot_dim) return {head[i], double{head[i]}, 0};
  const int64_t half = c.rot_dim / 2;
  const bool adjacent = c.pairing == RopePairing::kAdjacent;
  const int64_t pair = adjacent ? i / 2 : i % half;
  const bool is_first = adjacent ? i % 2 == 0 : i < half;
  const float a = head[adjacent ? 2 * pair : pair];
  const float b = head[adjacent ? 2 * pair + 1 : pair + half];
  const float cos = tables.cos[static_cast<size_t>(position * half + pair)];
  const float sin = tables.sin[static_cast<size_t>(position * half + pair)];
  const float with_a = is_first ? cos : sin;
  const float with_b = is_first ? -sin : cos;
  const double exact = double{a} * with_a + double{b} * with_b;
  return {std::fma(a, with_a, b * with_b), exact,
          kUnit * std::abs(double{b} * with_b) + kUnit * std::abs(exact) * 1.001};
}

// A block as f32_to_q8_0 of the CPU's kernels stores it.
void ExpectBlock(const std::vector<float>& values, const int8_t* quants, uint16_t scale) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  const float d = largest / 127.0F;
  ASSERT_EQ(scale, F32ToF16(d));
  for (size_t i = 0; i < values.size(); ++i) {
    const float q = d == 0.0F ? 0.0F : std::nearbyint(values[i] * (1.0F / d));
    ASSERT_EQ(static_cast<float>(quants[i]), q) << i;
  }
}

// heads: (n_tokens, n_kv_heads, head_dim) as they must have been stored.
void ExpectStored(const Case& c, const KvImage& image, const std::vector<float>& heads,
                  const std::vector<TestSegment>& segments) {
  std::vector<int32_t> slots;
  for (const TestSegment& s : segments) {
    for (int64_t i = 0; i < s.n_rows; ++i) slots.push_back(s.SlotOf(s.first_position + i));
  }
  size_t n_stored = 0;
  for (int64_t t = 0; t < c.n_tokens; ++t) {
    for (int64_t head = 0; head < c.n_kv_heads; ++head) {
      const float* row = heads.data() + (t * c.n_kv_heads + head) * c.head_dim;
      const size_t at = image.At(head, slots[static_cast<size_t>(t)]);
      n_stored += static_cast<size_t>(c.head_dim);
      if (image.dtype == DType::kF16) {
        for (int64_t i = 0; i < c.head_dim; ++i) {
          ASSERT_EQ(image.f16[at + static_cast<size_t>(i)], F32ToF16(row[i])) << i;
        }
        continue;
      }
      for (int64_t i = 0; i < c.head_dim; i += kQuantBlock) {
        const size_t block = at + static_cast<size_t>(i);
        ExpectBlock({row + i, row + i + kQuantBlock}, &image.quants[block],
                    image.scales[block / kQuantBlock]);
      }
    }
  }
  // Nothing else was written: the rest has the byte that the cache was filled with.
  size_t n_other = 0;
  for (const uint16_t value : image.f16) n_other += value == 0x5a5a;
  for (const int8_t value : image.quants) n_other += value == 0x5a;
  EXPECT_GE(n_other, image.f16.size() + image.quants.size() - n_stored);
}

void Fill(Stream& stream, const GpuKvLayer& kv) {
  const auto n = static_cast<uint64_t>(kv.n_kv_heads * kv.n_slots * kv.head_dim);
  for (void* plane : {kv.k, kv.v}) stream.Fill(plane, 0x5a, kv.dtype == DType::kF16 ? 2 * n : n);
}

void Check(const Case& c, DType dtype) {
  Stream stream;
  const auto n_q = static_cast<size_t>(c.n_tokens * c.n_heads * c.head_dim);
  const auto n_kv = static_cast<size_t>(c.n_tokens * c.n_kv_heads * c.head_dim);
  const std::vector<float> q = RandomValues(n_q, 1), k = RandomValues(n_kv, 2);
  const std::vector<float> v = RandomValues(n_kv, 3);
  const Tables tables(c);
  const OnDevice<float> q_device(stream, q), k_device(stream, k), v_device(stream, v);
  const OnDevice<float> cos(stream, tables.cos), sin(stream, tables.sin);
  const GpuKvCache cache({dtype, 2, c.n_kv_heads, c.head_dim, kMaxPositions});
  const GpuKvLayer kv = cache.Layer(1);
  Fill(stream, kv);
  GpuRopeAppend(stream, {c.pairing, c.rot_dim, cos.data(), sin.data()}, kv,
                TestPass(stream, c.first_position, c.n_tokens).get(), c.n_heads, q_device.data(),
                k_device.data(), v_device.data());

  const std::vector<float> q_turned = q_device.Read();
  for (size_t i = 0; i < n_q; ++i) {
    const auto in_head = static_cast<int64_t>(i) % c.head_dim;
    const int64_t token = static_cast<int64_t>(i) / c.head_dim / c.n_heads;
    const Turned turned = Turn(c, tables, q.data() + static_cast<int64_t>(i) - in_head, in_head,
                               c.first_position + token);
    ASSERT_NEAR(q_turned[i], turned.exact, turned.bound) << "q " << i;
  }
  std::vector<float> k_turned(n_kv);
  for (size_t i = 0; i < n_kv; ++i) {
    const auto in_head = static_cast<int64_t>(i) % c.head_dim;
    const int64_t token = static_cast<int64_t>(i) / c.head_dim / c.n_kv_heads;
    k_turned[i] = Turn(c, tables, k.data() + static_cast<int64_t>(i) - in_head, in_head,
                       c.first_position + token)
                      .value;
  }
  const std::vector<TestSegment> segments = {
      {c.first_position, c.n_tokens, PagesInOrder(kMaxPositions), {}}};
  ExpectStored(c, ReadKeys(stream, kv), k_turned, segments);
  ExpectStored(c, ReadValues(stream, kv), v, segments);
  EXPECT_EQ(k_device.Read(), k);
}

using GpuRopeAppendTest = GpuTest;

TEST_F(GpuRopeAppendTest, TurnsAndStores) {
  const auto adjacent = RopePairing::kAdjacent, halves = RopePairing::kHalves;
  const Case cases[] = {
      {adjacent, 32, 32, 1, 1, 0, 1},   {halves, 64, 64, 3, 1, 7, 3},
      {adjacent, 96, 40, 4, 2, 10, 1},  {halves, 128, 64, 7, 1, 5, 6},
      {adjacent, 256, 256, 2, 2, 3, 2}, {halves, 64, 2, 2, 1, 1, 1},
  };
  for (const Case& c : cases) {
    for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
      SCOPED_TRACE(testing::Message()
                   << DTypeName(dtype) << ", head_dim " << c.head_dim << ", rot_dim " << c.rot_dim);
      InEveryOrder([&] { Check(c, dtype); });
    }
  }
  InEveryOrder([&] { Check({halves, 80, 80, 3, 3, 2, 2}, DType::kF16); });
}

// Without a rotation there are no tables, and queries stay.
TEST_F(GpuRopeAppendTest, NothingTurnsWithoutARotation) {
  Stream stream;
  const std::vector<float> q = RandomValues(3 * 64, 1), kv = RandomValues(64, 2);
  const OnDevice<float> q_device(stream, q), kv_device(stream, kv);
  const GpuKvCache cache({DType::kF16, 1, 1, 64, 4});
  GpuRopeAppend(stream, {}, cache.Layer(0), TestPass(stream, 3, 1).get(), 3, q_device.data(),
                kv_device.data(), kv_device.data());
  EXPECT_EQ(q_device.Read(), q);
  const KvImage keys = ReadKeys(stream, cache.Layer(0));
  const KvImage values = ReadValues(stream, cache.Layer(0));
  for (int64_t i = 0; i < 64; ++i) {
    const float stored = F16ToF32(F32ToF16(kv[static_cast<size_t>(i)]));
    EXPECT_EQ(keys.Decode(0, 3, i), stored);
    EXPECT_EQ(values.Decode(0, 3, i), stored);
  }
}

// Rows of two sequences at other positions, whose pages lie anywhere: each key and value goes to
// its own slot, and nothing else is written.
TEST_F(GpuRopeAppendTest, EverySequenceWritesToItsOwnPages) {
  constexpr int64_t kHeadDim = 32, kKvHeads = 2, kSlots = 5 * kGpuKvPageTokens;
  const std::vector<TestSegment> segments = {{30, 4, {3, 1}, {}}, {70, 1, {2, 4, 0}, {}}};
  const Case c = {RopePairing::kAdjacent, kHeadDim, 0, 1, kKvHeads, 0, 5};
  for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
    InEveryOrder([&] {
      Stream stream;
      const size_t n = 5 * kKvHeads * kHeadDim;
      const std::vector<float> k = RandomValues(n, 1), v = RandomValues(n, 2);
      const OnDevice<float> k_device(stream, k), v_device(stream, v), q(stream, k);
      const GpuKvCache cache({dtype, 1, kKvHeads, kHeadDim, kSlots});
      const GpuKvLayer kv = cache.Layer(0);
      Fill(stream, kv);
      GpuRopeAppend(stream, {.cos = q.data(), .sin = q.data()}, kv,
                    TestPass(stream, segments).get(), 1, q.data(), k_device.data(),
                    v_device.data());
      ExpectStored(c, ReadKeys(stream, kv), k, segments);
      ExpectStored(c, ReadValues(stream, kv), v, segments);
    });
  }
}

TEST_F(GpuRopeAppendTest, GarbageStaysVisibleInAQuantisedCache) {
  Stream stream;
  std::vector<float> v(96, 0.5F);
  v[40] = std::numeric_limits<float>::infinity();  // the second of three blocks
  std::fill(v.begin() + 64, v.end(), 1e-35F);      // too small to have a scale
  const OnDevice<float> v_device(stream, v), q(stream, v), k(stream, v);
  const GpuKvCache cache({DType::kQ8_0, 1, 1, 96, 4});
  GpuRopeAppend(stream, {}, cache.Layer(0), TestPass(stream, 2, 1).get(), 1, q.data(), k.data(),
                v_device.data());
  const KvImage image = ReadValues(stream, cache.Layer(0));
  EXPECT_NEAR(image.Decode(0, 2, 31), 0.5, 1e-3);
  for (int64_t i = 32; i < 64; ++i) EXPECT_TRUE(std::isnan(image.Decode(0, 2, i)));
  for (int64_t i = 64; i < 96; ++i) EXPECT_EQ(image.Decode(0, 2, i), 0.0);
}

TEST(GpuKvCacheTest, RefusesWhatItCannotStore) {
  EXPECT_NE(MessageOf([] {
              GpuKvCache({DType::kQ8_0, 1, 1, 80, 4});
            }).find("found 80"),
            std::string::npos);
  EXPECT_NE(MessageOf([] {
              GpuKvCache({DType::kF16, 1, 1, 512, 4});
            }).find("at most 256"),
            std::string::npos);
  EXPECT_NE(MessageOf([] {
              GpuKvCache({DType::kF32, 1, 1, 64, 4});
            }).find("expected F16 or Q8_0"),
            std::string::npos);
}

TEST_F(GpuRopeAppendTest, APageIsCopiedInAllLayersAndHeads) {
  constexpr int64_t kLayers = 2, kKvHeads = 3, kHeadDim = 32, kPages = 4;
  for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
    Stream stream;
    const GpuKvCache cache({dtype, kLayers, kKvHeads, kHeadDim, kPages * kGpuKvPageTokens});
    std::vector<KvImage> before;
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      const GpuKvLayer kv = cache.Layer(layer);
      const size_t n = kPages * kGpuKvPageTokens * kKvHeads * kHeadDim;
      const auto seed = static_cast<uint32_t>(layer);
      const OnDevice<float> k(stream, RandomValues(n, 2 * seed + 1));
      const OnDevice<float> v(stream, RandomValues(n, 2 * seed + 2));
      GpuRopeAppend(stream, {.cos = k.data(), .sin = k.data()}, kv,
                    TestPass(stream, 0, kPages * kGpuKvPageTokens).get(), 0, nullptr, k.data(),
                    v.data());
      before.push_back(ReadKeys(stream, kv));
      before.push_back(ReadValues(stream, kv));
    }
    cache.CopyPage(stream, 3, 1);
    for (int64_t plane = 0; plane < 2 * kLayers; ++plane) {
      const GpuKvLayer kv = cache.Layer(plane / 2);
      const KvImage now = plane % 2 == 0 ? ReadKeys(stream, kv) : ReadValues(stream, kv);
      for (int64_t head = 0; head < kKvHeads; ++head) {
        for (int64_t slot = 0; slot < kPages * kGpuKvPageTokens; ++slot) {
          const int64_t source = slot / kGpuKvPageTokens == 1 ? slot + 2 * kGpuKvPageTokens : slot;
          ASSERT_EQ(now.Decode(head, slot, 7),
                    before[static_cast<size_t>(plane)].Decode(head, source, 7))
              << "plane " << plane << ", head " << head << ", slot " << slot;
        }
      }
    }
  }
}

TEST(GpuKvCacheTest, IsAsLargeAsRowsOfBlocks) {
  EXPECT_EQ(GpuKvCache::Bytes({DType::kQ8_0, 3, 2, 64, 10}), 3U * 2 * 2 * 10 * 68);
  EXPECT_EQ(GpuKvCache::Bytes({DType::kF16, 3, 2, 64, 10}), 3U * 2 * 2 * 10 * 128);
}

}  // namespace
}  // namespace thermocline
