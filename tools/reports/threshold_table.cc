#include "tools/reports/threshold_table.h"

#include <fmt/format.h>

#include <cmath>

namespace thermocline {

std::string ThresholdTable(const std::vector<ThresholdScore>& scores,
                           const ModelThresholds* thresholds) {
  if (thresholds == nullptr) return "";
  if (scores.empty()) return "thresholds: calibrated, and not scored\n";
  std::string text = fmt::format(
      "thresholds, scored on {} held-out tokens against "
      "dense:\n{:<9}{:<9}{:>7}{:>9}{:>12}{:>21}{:>12}\n",
      scores.front().result.tokens, "method", "split", "asked", "skipped", "mean KL",
      "perplexity ratio", "same best");
  for (const ThresholdScore& s : scores) {
    const double ratio = std::exp(s.result.nll_per_token - s.result.dense_nll_per_token);
    text += fmt::format("{:<9}{:<9}{:>7.2f}{:>9.3f}{:>12.5f}{:>21}{:>10.1f} %\n",
                        ThresholdMethodName(s.method), ThresholdSplitName(s.split), s.share,
                        s.reached, s.result.mean_kl,
                        fmt::format("{:.4f} +- {:.4f}", ratio, s.result.ratio_std_error),
                        100 * s.result.top1_agreement);
  }
  for (size_t m = 0; m < kPathMethods; ++m) {
    if (!thresholds->best[m]) continue;
    text += fmt::format("{} takes the split {}, the best of these at 0.4 and 0.5\n",
                        ThresholdMethodName(static_cast<ThresholdMethod>(m)),
                        ThresholdSplitName(*thresholds->best[m]));
  }
  return text +
         "note: what a perplexity hardly shows may cost far more where a model reasons or counts; "
         "0.5 is known\nto. Try it on your own task (`eval`) before you rely on it.\n\n";
}

std::string SkewTable(const std::vector<ChannelSkew>& skews) {
  if (skews.empty()) return "";
  std::string text =
      "channels above uniform thresholds of held-out text: how many of these reads "
      "the channels take that were kept\nmost often in calibration (if all were "
      "kept equally often, as many as they are)\n";
  text += fmt::format("{:<10}{:>7}{:>9}", "input of", "asked", "skipped");
  for (const double fraction : kHottestFractions) {
    text += fmt::format("{:>10}", fmt::format("{:.0f} %", 100 * fraction));
  }
  text +=
      fmt::format("{:>22}\n", fmt::format("layers, at {:.0f} %", 100 * kHottestFractions.back()));
  constexpr const char* kReaders[kMatrixInputs] = {"q, k, v", "o", "gate, up", "down"};
  for (const ChannelSkew& skew : skews) {
    text += fmt::format("{:<10}{:>7.2f}{:>9.3f}", kReaders[skew.input], skew.share, 1 - skew.kept);
    for (const double share : skew.hottest) text += fmt::format("{:>8.1f} %", 100 * share);
    text += fmt::format("{:>22}\n",
                        fmt::format("{:.1f} to {:.1f} %", 100 * skew.least, 100 * skew.most));
  }
  return text + "\n";
}

}  // namespace thermocline
