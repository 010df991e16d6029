#include "runtime/model/read_encoder.h"

#include <fmt/format.h>

#include "runtime/core/error.h"
#include "runtime/model/families.h"

namespace thermocline {
namespace {

// Far above any model known; the table by distance has twice as many numbers for each head.
constexpr uint64_t kMaxRelativeDistance = 1U << 14;
constexpr uint64_t kMaxRelativeBuckets = 1U << 12;
constexpr uint64_t kDefaultRelativeDistance = 128;  // files of other tools do not say it

}  // namespace

void ReadDecoderStart(const GgufReader& gguf, ModelConfig* config) {
  config->decoder_start =
      static_cast<int32_t>(gguf.RequireU64(config->architecture + ".decoder_start_token_id", 0,
                                           static_cast<uint64_t>(config->vocab_size - 1)));
}

void ReadRelative(const GgufReader& gguf, ModelConfig* config) {
  const std::string prefix = config->architecture + ".attention.";
  const uint64_t n_buckets =
      gguf.RequireU64(prefix + "relative_buckets_count", 4, kMaxRelativeBuckets);
  const std::string key = prefix + "relative_max_distance";
  const uint64_t distance = gguf.GetU64(key).value_or(kDefaultRelativeDistance);
  // Half of the buckets are of one distance each; beyond them lies the largest.
  if (distance <= n_buckets / 2 || distance > kMaxRelativeDistance) {
    throw Error({.path = gguf.path(),
                 .what = "key " + key,
                 .expected = fmt::format("{} to {} with {} buckets", n_buckets / 2 + 1,
                                         kMaxRelativeDistance, n_buckets),
                 .found = std::to_string(distance)});
  }
  for (LayerConfig& layer : config->layers) {
    layer.attention.relative = {static_cast<int64_t>(n_buckets), static_cast<int64_t>(distance)};
  }
}

void RequireNoEncoder(const ModelConfig& config, const std::string& path, const std::string& who) {
  if (!config.has_encoder()) return;
  throw Error({.path = path,
               .what = who + " does not take models with an encoder",
               .expected = "a decoder alone",
               .found = fmt::format("architecture {}, with {} layers of an encoder",
                                    config.architecture, config.n_encoder_layers),
               .hint = "the model can be run",
               .jobs = {Job::kRun}});
}

}  // namespace thermocline
