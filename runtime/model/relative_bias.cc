#include "runtime/model/relative_bias.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "runtime/core/error.h"

namespace thermocline {

// Half of a direction's buckets hold one distance each, the others grow with its logarithm.
// Logarithms are taken in f32, as models were trained: a distance at a bucket's edge stays there.
int64_t RelativeBucket(const RelativeConfig& config, bool both_ways, int64_t distance) {
  const int64_t n_buckets = both_ways ? config.n_buckets / 2 : config.n_buckets;
  const int64_t first = both_ways && distance > 0 ? n_buckets : 0;
  const int64_t far = both_ways ? std::abs(distance) : std::max<int64_t>(0, -distance);
  const int64_t n_exact = n_buckets / 2;
  if (far < n_exact) return first + far;
  const float ratio = static_cast<float>(far) / static_cast<float>(n_exact);
  const auto widest = static_cast<float>(
      std::log(static_cast<double>(config.max_distance) / static_cast<double>(n_exact)));
  const float grown = std::log(ratio) / widest * static_cast<float>(n_buckets - n_exact);
  return first + std::min(n_exact + static_cast<int64_t>(grown), n_buckets - 1);
}

std::vector<float> BiasByDistance(const RelativeConfig& config, bool both_ways,
                                  std::span<const float> by_bucket, int64_t n_heads) {
  CHECK(static_cast<int64_t>(by_bucket.size()) == config.n_buckets * n_heads);
  const int64_t width = 2 * config.max_distance + 1;
  std::vector<float> by_distance(static_cast<size_t>(n_heads * width));
  for (int64_t i = 0; i < width; ++i) {
    const int64_t bucket = RelativeBucket(config, both_ways, i - config.max_distance);
    for (int64_t head = 0; head < n_heads; ++head) {
      by_distance[static_cast<size_t>(head * width + i)] =
          by_bucket[static_cast<size_t>(bucket * n_heads + head)];
    }
  }
  return by_distance;
}

}  // namespace thermocline
