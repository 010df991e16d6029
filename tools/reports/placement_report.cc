#include "tools/reports/placement_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/core/size_text.h"

namespace thermocline {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kBarWidth = 40;

// Layers that both tiers compute.
int64_t Handovers(const RatedSplit& split) {
  return std::ranges::count_if(split.time.layers,
                               [](const LayerTime& layer) { return layer.handover_ms > 0; });
}

double HotShare(const RatedSplit& split) {
  const double all = static_cast<double>(split.fast_bytes + split.slow_bytes);
  return all == 0 ? 0 : static_cast<double>(split.fast_bytes) / all;
}

std::string LayerLines(const RatedSplit& split, int64_t d_ff) {
  std::string text = fmt::format("\n{:<6}{:>8}  {:<{}}  {:>8}{:>8}{:>8}{:>8}\n", "layer", "hot",
                                 "neurons (# fast tier, . slow tier)", kBarWidth, "attn ms",
                                 "fast ms", "slow ms", "ffn ms");
  for (size_t l = 0; l < split.n_hot.size(); ++l) {
    const LayerTime& time = split.time.layers[l];
    const auto width = static_cast<size_t>(split.n_hot[l] * kBarWidth / d_ff);
    text += fmt::format("{:<6}{:>8}  {} {}{:>8.3f}{:>8.3f}{:>8.3f}{:>8.3f}\n", l, split.n_hot[l],
                        std::string(width, '#') + std::string(kBarWidth - width, '.'),
                        split.away[l] != 0 ? 's' : ' ', time.attention_ms, time.fast_ms,
                        time.slow_ms, time.ffn_ms);
  }
  return text;
}

}  // namespace

std::string SplitsTable(std::span<const RatedSplit> splits, int64_t d_ff) {
  std::string text = fmt::format("{:<17}{:>10}{:>10}{:>12}{:>12}{:>11}\n", "split", "ms/token",
                                 "tokens/s", "fast tier", "slow tier", "hand-overs");
  for (const RatedSplit& split : splits) {
    if (!split.fits) {
      text += fmt::format("{:<17}{:>10}\n", split.strategy, "does not fit");
      continue;
    }
    text += fmt::format("{:<17}{:>10.3f}{:>10.2f}{:>12}{:>12}{:>11}\n", split.strategy,
                        split.ms_per_token, 1e3 / split.ms_per_token, FormatBytes(split.fast_bytes),
                        FormatBytes(split.slow_bytes), Handovers(split));
  }
  if (splits.empty() || !splits.front().fits) return text;
  text += fmt::format(
      "predicted, of decoding; bytes of neurons and, where it can lie on either tier, of attention "
      "with its KV cache;\nno split takes less than {:.3f} ms. s: the layer attends on the slow "
      "tier\n",
      splits.front().least_ms_per_token);
  return text + LayerLines(splits.front(), d_ff);
}

Json SplitsJson(std::span<const RatedSplit> splits) {
  Json list = Json::array();
  for (const RatedSplit& split : splits) {
    Json json = {{"strategy", split.strategy}, {"fits", split.fits}};
    if (split.fits) {
      json["ms_per_token"] = split.ms_per_token;
      json["least_ms_per_token"] = split.least_ms_per_token;
      json["fast_bytes"] = split.fast_bytes;
      json["slow_bytes"] = split.slow_bytes;
      json["head_ms"] = split.time.head_ms;
      json["pass_ms"] = split.time.pass_ms;
      Json layers = Json::array();
      for (size_t l = 0; l < split.n_hot.size(); ++l) {
        const LayerTime& time = split.time.layers[l];
        layers.push_back({{"n_hot", split.n_hot[l]},
                          {"attends_away", split.away[l] != 0},
                          {"attention_ms", time.attention_ms},
                          {"fast_ms", time.fast_ms},
                          {"slow_ms", time.slow_ms},
                          {"handover_ms", time.handover_ms},
                          {"ffn_ms", time.ffn_ms}});
      }
      json["layers"] = std::move(layers);
    }
    list.push_back(std::move(json));
  }
  return list;
}

std::string SweepTable(std::span<const SweepPoint> points) {
  std::string text = fmt::format("{:>10}{:>11}{:>10}{:>12}{:>9}{:>12}\n", "vram", "ms/token",
                                 "tokens/s", "fast tier", "hot", "hand-overs");
  for (const SweepPoint& point : points) {
    if (!point.best.fits) {
      text += fmt::format("{:>10}{:>24}\n", FormatBytes(point.vram_bytes), "does not fit");
      continue;
    }
    text += fmt::format("{:>10}{:>11.3f}{:>10.2f}{:>12}{:>8.1f}%{:>12}\n",
                        FormatBytes(point.vram_bytes), point.best.ms_per_token,
                        1e3 / point.best.ms_per_token, FormatBytes(point.best.fast_bytes),
                        100 * HotShare(point.best), Handovers(point.best));
  }
  return text +
         "predicted, of decoding with the split that takes the least time; hot: share of "
         "the neurons' bytes\n";
}

Json SweepJson(std::span<const SweepPoint> points) {
  Json list = Json::array();
  for (const SweepPoint& point : points) {
    Json json = {{"vram_bytes", point.vram_bytes}, {"fits", point.best.fits}};
    if (point.best.fits) {
      json["ms_per_token"] = point.best.ms_per_token;
      json["fast_bytes"] = point.best.fast_bytes;
      json["slow_bytes"] = point.best.slow_bytes;
      json["handovers"] = Handovers(point.best);
    }
    list.push_back(std::move(json));
  }
  return list;
}

std::string DraftingTable(std::span<const DraftPrediction> predictions, double acceptance) {
  if (predictions.empty()) return "";
  const double plain = predictions.front().ms_per_token();
  std::string text =
      fmt::format("{:<17}{:>10}{:>11}{:>17}{:>10}{:>10}\n", "drafted tokens", "draft ms",
                  "verify ms", "tokens per pass", "ms/token", "speed-up");
  for (const DraftPrediction& p : predictions) {
    text += fmt::format("{:<17}{:>10.3f}{:>11.3f}{:>17.2f}{:>10.3f}{:>10.2f}\n",
                        p.n_drafted == 0 ? "none (plain)" : std::to_string(p.n_drafted), p.draft_ms,
                        p.verify_ms, p.tokens_per_pass, p.ms_per_token(), plain / p.ms_per_token());
  }
  return text + fmt::format(
                    "predicted, with the draft's neurons on the fast tier and {:.1f} % of "
                    "drafted tokens accepted, as measured\nwhen it was made.\n",
                    100 * acceptance);
}

Json DraftingJson(std::span<const DraftPrediction> predictions, double acceptance) {
  Json rows = Json::array();
  for (const DraftPrediction& p : predictions) {
    rows.push_back({{"n_drafted", p.n_drafted},
                    {"draft_ms", p.draft_ms},
                    {"verify_ms", p.verify_ms},
                    {"tokens_per_pass", p.tokens_per_pass},
                    {"ms_per_token", p.ms_per_token()}});
  }
  return {{"acceptance", acceptance}, {"by_drafted", rows}};
}

}  // namespace thermocline
