#include "tools/reports/roofline.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/rates/read_bandwidth.h"
#include "tools/reports/pass_report.h"

namespace thermocline {
namespace {

constexpr uint64_t kBandwidthBytes = uint64_t{192} << 20;  // read per measurement

// Returns the bytes of keys and values read per token at this context.
double CacheBytes(const Engine& engine, double context_tokens) {
  const ModelConfig& config = engine.config();
  const int64_t row_bytes = RowBytes(engine.model().options().cache_type, config.head_dim);
  int64_t rows = 0;
  for (const LayerConfig& layer : config.layers) rows += 2 * layer.attention.n_kv_heads;
  return static_cast<double>(rows * row_bytes) * context_tokens;
}

double Share(const RooflinePart& part, double bandwidth) {
  return part.ms > 0 && bandwidth > 0 ? part.bytes / bandwidth / (part.ms / 1e3) : 0;
}

}  // namespace

Roofline MeasureRoofline(Engine& engine, SparseMode mode,
                         const std::vector<std::vector<int32_t>>& prompts,
                         const ComparisonOptions& options) {
  Roofline roofline;
  roofline.mode = mode;
  engine.executor().set_mode(mode);
  std::vector<double> bandwidths;
  std::vector<double> totals;
  std::vector<std::vector<double>> ms(kPassParts);
  TouchedBytes touched;
  for (const std::vector<int32_t>& prompt : prompts) {
    Report(options.progress, "decoding by part", totals.size(), prompts.size());
    bandwidths.push_back(MeasureReadBandwidth(engine.model().n_threads(), kBandwidthBytes));
    PassProfile profile(engine.model().n_threads());
    DecodeProfiled(engine, prompt, options.decode_tokens, &profile);
    double total = 0;
    for (size_t p = 0; p < kPassParts; ++p) {
      if (static_cast<PassPart>(p) == PassPart::kFinish)
        continue;  // the other threads' last barrier
      ms[p].push_back(static_cast<double>(profile.thread_times(0)[p]) / 1e6 /
                      static_cast<double>(options.decode_tokens));
      total += ms[p].back();
    }
    totals.push_back(total);
    touched = TouchedPerToken(engine, engine.executor().counts(), mode);
  }
  roofline.context_tokens =
      static_cast<double>(prompts.front().size()) + static_cast<double>(options.decode_tokens) / 2;
  roofline.bandwidth = SpreadOf(bandwidths).median;
  for (int p = 0; p < kPassParts; ++p) {
    const auto at = static_cast<size_t>(p);
    RooflinePart part{std::string(kPassPartNames[at]), touched.parts[at], SpreadOf(ms[at]).median};
    if (static_cast<PassPart>(p) == PassPart::kAttention) {
      part.bytes += CacheBytes(engine, roofline.context_tokens);
    }
    roofline.total.bytes += part.bytes;
    if (part.ms > 0 || part.bytes > 0) roofline.parts.push_back(std::move(part));
  }
  roofline.total.name = "token";
  roofline.total.ms = SpreadOf(totals).median;
  return roofline;
}

std::string RooflineTable(const Roofline& roofline) {
  std::string text = fmt::format(
      "\n{}, decode by part at {:.0f} tokens of context; read bandwidth {:.1f} GB/s\n"
      "{:<18}{:>12}{:>12}{:>10}{:>10}{:>15}{:>14}\n",
      SparseModeName(roofline.mode), roofline.context_tokens, roofline.bandwidth / 1e9, "part",
      "MB/token", "ms/token", "of time", "GB/s", "of bandwidth", "bound, ms");
  const auto row = [&](const RooflinePart& part) {
    text += fmt::format("{:<18}{:>12.3f}{:>12.4f}{:>8.1f} %{:>10.1f}{:>13.0f} %{:>14.4f}\n",
                        part.name, part.bytes / 1e6, part.ms, 100 * part.ms / roofline.total.ms,
                        part.bytes / 1e6 / part.ms, 100 * Share(part, roofline.bandwidth),
                        1e3 * part.bytes / roofline.bandwidth);
  };
  for (const RooflinePart& part : roofline.parts) row(part);
  row(roofline.total);
  return text;
}

nlohmann::ordered_json RooflineJson(const Roofline& roofline) {
  const auto part_json = [&](const RooflinePart& part) {
    return nlohmann::ordered_json{{"part", part.name},
                                  {"bytes_per_token", part.bytes},
                                  {"ms_per_token", part.ms},
                                  {"share_of_read_bandwidth", Share(part, roofline.bandwidth)}};
  };
  nlohmann::ordered_json json = {{"mode", SparseModeName(roofline.mode)},
                                 {"context_tokens", roofline.context_tokens},
                                 {"read_bandwidth_bytes_per_s", roofline.bandwidth},
                                 {"parts", nlohmann::ordered_json::array()},
                                 {"token", part_json(roofline.total)}};
  for (const RooflinePart& part : roofline.parts) json["parts"].push_back(part_json(part));
  return json;
}

}  // namespace thermocline
