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

namespace {

// Where a layer's neurons lie while drafting: hot ones #, more of them on the fast tier =, those
// that have stand-ins there +, the others.
std::string DraftedLayers(const RatedSplit& plain, const DraftedSplit& drafted,
                          const DraftFile& draft) {
  std::string text =
      fmt::format("\n{:<6}{:>8}{:>10}{:>8}{:>10}  {}\n", "layer", "plain", "drafting", "drafts",
                  "stand-ins", "# draft's hot, = more on the fast tier, + stand-ins, . others");
  for (size_t l = 0; l < draft.layers.size(); ++l) {
    const DraftLayer& layer = draft.layers[l];
    const int64_t n_stand_ins = draft.d_ff - layer.n_hot - layer.n_left_out();
    std::string bar;
    for (int64_t i = 0; i < kBarWidth; ++i) {
      const int64_t neuron = i * draft.d_ff / kBarWidth;
      if (neuron < layer.n_hot) {
        bar += '#';
      } else if (neuron < drafted.splits.n_hot[l]) {
        bar += '=';
      } else {
        bar += neuron < layer.n_hot + n_stand_ins ? '+' : '.';
      }
    }
    text += fmt::format("{:<6}{:>8}{:>10}{:>8}{:>10}  {}\n", l, plain.fits ? plain.n_hot[l] : 0,
                        drafted.splits.n_hot[l], layer.n_hot, n_stand_ins, bar);
  }
  return text;
}

// Of drafts alone and, where that is known, of drafts that n-grams extend.
std::string SideBySide(const RatedSplit& plain, const DraftedSplit& drafted,
                       const DraftFile& draft) {
  std::vector<const DraftPrediction*> best = {&BestOf(drafted.predictions)};
  if (!drafted.extended.empty()) best.push_back(&BestOf(drafted.extended));
  const auto hot_share = [&](std::span<const int64_t> n_hot) {
    double sum = 0;
    for (const int64_t n : n_hot) sum += static_cast<double>(n);
    return 100 * sum / static_cast<double>(draft.d_ff * std::ssize(draft.layers));
  };
  std::string text = fmt::format("{:<34}{:>12}{:>12}{}\n", "split for", "plain", "drafting",
                                 best.size() > 1 ? "  and n-grams" : "");
  const auto row = [&](const char* label, const std::string& of_plain, const auto& of_drafting) {
    text += fmt::format("{:<34}{:>12}", label, plain.fits ? of_plain : "-");
    for (const DraftPrediction* each : best) text += fmt::format("{:>12}", of_drafting(*each));
    text += "\n";
  };
  const auto same = [](const std::string& value) {
    return [value](const DraftPrediction&) { return value; };
  };
  row("neurons on the fast tier", fmt::format("{:.1f} %", hot_share(plain.n_hot)),
      same(fmt::format("{:.1f} %", hot_share(drafted.splits.n_hot))));
  row("stand-ins there", "-", same(FormatBytes(draft.own_bytes())));
  row("ms of a plain token", fmt::format("{:.3f}", plain.ms_per_token),
      same(fmt::format("{:.3f}", drafted.times.plain_ms())));
  row("ms to draft a token", "-", same(fmt::format("{:.3f}", drafted.times.draft_ms)));
  row("most drafted tokens that pay", "-",
      [](const DraftPrediction& p) { return std::to_string(p.max_drafted); });
  row("tokens per pass", "1",
      [](const DraftPrediction& p) { return fmt::format("{:.2f}", p.tokens_per_pass); });
  row("ms per token", fmt::format("{:.3f}", plain.ms_per_token),
      [](const DraftPrediction& p) { return fmt::format("{:.3f}", p.ms_per_token()); });
  if (plain.fits) {
    row("times plain", "1", [&](const DraftPrediction& p) {
      return fmt::format("{:.2f}", plain.ms_per_token / p.ms_per_token());
    });
  }
  return text;
}

std::string PredictionRows(const char* head, std::span<const DraftPrediction> predictions,
                           double plain_ms) {
  std::string text = fmt::format("\n{:<17}{:>9}{:>8}{:>8}{:>10}{:>11}{:>13}{:>10}{:>10}\n", head,
                                 "drafted", "passes", "pauses", "draft ms", "verify ms",
                                 "tokens/pass", "ms/token", "speed-up");
  for (const DraftPrediction& p : predictions) {
    text +=
        fmt::format("{:<17}{:>9.2f}{:>8.2f}{:>8.1f}{:>10.3f}{:>11.3f}{:>13.2f}{:>10.3f}{:>10.2f}\n",
                    p.max_drafted == 0 ? "none (plain)" : std::to_string(p.max_drafted),
                    p.n_drafted, p.n_draft_passes, p.n_pauses, p.draft_ms, p.verify_ms,
                    p.tokens_per_pass, p.ms_per_token(), plain_ms / p.ms_per_token());
  }
  return text;
}

Json PredictionsJson(std::span<const DraftPrediction> predictions) {
  Json rows = Json::array();
  for (const DraftPrediction& p : predictions) {
    rows.push_back({{"max_drafted", p.max_drafted},
                    {"drafted", p.n_drafted},
                    {"draft_passes", p.n_draft_passes},
                    {"pauses", p.n_pauses},
                    {"draft_ms", p.draft_ms},
                    {"verify_ms", p.verify_ms},
                    {"tokens_per_pass", p.tokens_per_pass},
                    {"ms_per_token", p.ms_per_token()}});
  }
  return rows;
}

}  // namespace

std::string DraftingTable(const RatedSplit& plain, const DraftedSplit& drafted,
                          const DraftFile& draft) {
  if (!drafted.fits) {
    return fmt::format("drafting does not fit: with the draft the fast tier holds {} or more\n",
                       FormatBytes(drafted.fast_bytes));
  }
  std::string text = SideBySide(plain, drafted, draft);
  const double plain_ms = drafted.times.plain_ms();
  text += PredictionRows("drafted at most", drafted.predictions, plain_ms);
  if (!drafted.extended.empty()) {
    text += PredictionRows("and n-grams", drafted.extended, plain_ms);
  }
  return text +
         "predicted, by how far the draft was right in texts that the model wrote when it was "
         "made;\nof a pass of the whole model in the mean; speed-up: over plain decoding with the "
         "same split;\npauses: times that drafting was found not to pay, of each text\n" +
         DraftedLayers(plain, drafted, draft);
}

Json DraftingJson(const RatedSplit& plain, const DraftedSplit& drafted) {
  Json json = {{"fits", drafted.fits},
               {"fast_bytes", drafted.fast_bytes},
               {"slow_bytes", drafted.slow_bytes}};
  if (!drafted.fits) return json;
  json["n_hot"] = drafted.splits.n_hot;
  json["ms_to_draft"] = drafted.times.draft_ms;
  json["by_drafted"] = PredictionsJson(drafted.predictions);
  if (!drafted.extended.empty()) json["by_drafted_extended"] = PredictionsJson(drafted.extended);
  const DraftPrediction& best = BestOf(drafted.predictions);
  json["best_max_drafted"] = best.max_drafted;
  if (!plain.fits) return json;
  json["speed_up"] = plain.ms_per_token / best.ms_per_token();
  if (!drafted.extended.empty()) {
    json["speed_up_extended"] = plain.ms_per_token / BestOf(drafted.extended).ms_per_token();
  }
  return json;
}

}  // namespace thermocline
