// The bias on attention's scores by how far a key lies from the query, as T5 has it
// (arXiv:1910.10683, section 2.1): a learned number for each head and bucket of distances.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/model/model.h"

namespace thermocline {

// Returns the bucket of a key that lies `distance` positions behind the query (negative: before
// it). both_ways: half of the buckets are for keys behind the query, as an encoder has it; without,
// such keys fall into the query's own bucket. REQUIRES: a config as ReadModelConfig takes it.
int64_t RelativeBucket(const RelativeConfig& config, bool both_ways, int64_t distance);

// Spreads a table by bucket (n_buckets, n_heads) out by distance: (n_heads, 2 * max_distance + 1),
// from -max_distance on.
std::vector<float> BiasByDistance(const RelativeConfig& config, bool both_ways,
                                  std::span<const float> by_bucket, int64_t n_heads);

}  // namespace thermocline
