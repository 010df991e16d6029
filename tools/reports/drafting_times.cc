#include "tools/reports/drafting_times.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

double Each(double sum, int64_t n) { return n > 0 ? sum / static_cast<double>(n) : 0; }

nlohmann::ordered_json BothJson(const PredictedAndMeasured& both) {
  return {{"predicted", both.predicted}, {"measured", both.measured}};
}

}  // namespace

DraftingComparison CompareDrafting(const SpeculationResult& measured, const DraftingTimes& times,
                                   const RecordedDrafting& recorded) {
  const SpeculateStats& stats = measured.stats;
  DraftingComparison both;
  both.mode = measured.mode;
  both.source = measured.source;
  both.width = measured.width;
  double verify_ms = 0;  // of all
  for (size_t i = 0; i < stats.n_of_size.size(); ++i) {
    CHECK(i + 1 < times.verify_ms.size());
    verify_ms += static_cast<double>(stats.n_of_size[i]) * times.verify_ms[i + 1];
  }
  const double predicted_ms = verify_ms +
                              static_cast<double>(stats.n_plain_passes) * times.plain_ms() +
                              static_cast<double>(stats.n_draft_passes) * times.draft_ms;
  both.plain_ms = {times.plain_ms(), measured.plain_ms_per_token};
  both.draft_ms = {times.draft_ms, Each(stats.draft_ms, stats.n_draft_passes)};
  both.verify_ms = {Each(verify_ms, stats.n_verify_passes),
                    Each(stats.verify_ms, stats.n_verify_passes)};
  both.ms_per_token = {Each(predicted_ms, stats.n_written), measured.ms_per_token};
  const auto gain = [](double plain, double drafted) { return drafted > 0 ? plain / drafted : 0; };
  both.speed_up = {gain(both.plain_ms.predicted, both.ms_per_token.predicted),
                   gain(both.plain_ms.measured, both.ms_per_token.measured)};
  const DraftChains* const chains = recorded.chains;
  if (chains == nullptr || chains->empty() || measured.width != 1) return both;
  if (recorded.extend && !chains->has_ids()) return both;
  const DraftPrediction expected = PredictChains(*chains, times, recorded.options, recorded.extend);
  both.tokens_per_pass = {
      expected.tokens_per_draft,
      Each(static_cast<double>(stats.n_written - stats.n_plain), stats.n_drafts)};
  both.pauses = {expected.n_pauses, Each(static_cast<double>(stats.n_pauses), measured.n_texts)};
  both.recorded_speed_up = {gain(times.plain_ms(), expected.ms_per_token()),
                            both.speed_up.measured};
  return both;
}

std::string DraftingComparisonTable(const DraftingComparison& comparison) {
  std::string text =
      fmt::format("\n{}, {} by {}, by the rates of this machine\n{:<34}{:>11}{:>11}{:>9}\n",
                  SparseModeName(comparison.mode), comparison.width == 1 ? "chains" : "trees",
                  comparison.source, "", "predicted", "measured", "error");
  const auto row = [&](const char* label, const PredictedAndMeasured& both) {
    text += fmt::format("{:<34}{:>11.3f}{:>11.3f}{:>+8.1f}%\n", label, both.predicted,
                        both.measured, 100 * both.error());
  };
  row("ms of a plain token", comparison.plain_ms);
  if (comparison.draft_ms.measured > 0) row("ms to draft a token", comparison.draft_ms);
  if (comparison.verify_ms.measured > 0) row("ms of a verifying pass", comparison.verify_ms);
  row("ms of a token with drafts", comparison.ms_per_token);
  row("times plain", comparison.speed_up);
  if (!comparison.recorded_speed_up) return text;
  text += "by how far the draft was right when it was made:\n";
  row("tokens per verifying pass", *comparison.tokens_per_pass);
  text += fmt::format("{:<34}{:>11.1f}{:>11.1f}\n", "pauses of a text",
                      comparison.pauses->predicted, comparison.pauses->measured);
  row("times plain", *comparison.recorded_speed_up);
  return text;
}

nlohmann::ordered_json DraftingComparisonJson(const DraftingComparison& comparison) {
  nlohmann::ordered_json json = {{"mode", SparseModeName(comparison.mode)},
                                 {"source", comparison.source},
                                 {"width", comparison.width},
                                 {"plain_ms", BothJson(comparison.plain_ms)},
                                 {"draft_ms", BothJson(comparison.draft_ms)},
                                 {"verify_ms", BothJson(comparison.verify_ms)},
                                 {"ms_per_token", BothJson(comparison.ms_per_token)},
                                 {"speed_up", BothJson(comparison.speed_up)}};
  if (comparison.recorded_speed_up) {
    json["recorded_tokens_per_pass"] = BothJson(*comparison.tokens_per_pass);
    json["recorded_pauses"] = BothJson(*comparison.pauses);
    json["recorded_speed_up"] = BothJson(*comparison.recorded_speed_up);
  }
  return json;
}

}  // namespace thermocline
