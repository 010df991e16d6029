#include "tools/reports/synth_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/core/size_text.h"
#include "tools/reports/predictor_table.h"

namespace thermocline {
namespace {

constexpr double kPrintedRecalls[] = {0.95, 0.98, 0.99, 0.995};

}  // namespace

std::string ActivityTable(const ActivityTarget& target, const ActivityCheck& check) {
  const auto row = [&](const std::string& name, double asked, double MeasuredLayer::*field) {
    const auto [least, most] = std::minmax_element(
        check.layers.begin(), check.layers.end(),
        [&](const MeasuredLayer& a, const MeasuredLayer& b) { return a.*field < b.*field; });
    return fmt::format("{:<32}{:>7.2f} %{:>9.2f} %  ({:.2f}-{:.2f})\n", name, 100 * asked,
                       100 * (check.mean.*field), 100 * ((*least).*field), 100 * ((*most).*field));
  };
  return fmt::format("\n{:<32}{:>9}{:>11}  (over layers)\n", "", "asked", "measured") +
         row("neurons that fire in a token", target.density, &MeasuredLayer::density) +
         row(fmt::format("activations on hottest {:g} %", 100 * target.hottest), target.activations,
             &MeasuredLayer::activations) +
         fmt::format(
             "rank correlation of neurons, asked with measured: {:.3f} ({:.3f} is what "
             "counting can show)\nmeasured on {} random tokens\n",
             check.mean.rank_correlation, check.best_rank_correlation, check.n_tokens);
}

std::string PredictorReport(const std::string& path, const PredictorFile& file) {
  const PredictorTotals any = TotalsAt(file, 0);
  std::string text = fmt::format(
      "predictor: {} (rank {}, {}, {} per token), measured on {} random tokens\n"
      "  recall  predicted     true    ratio\n",
      path, file.rank, DTypeName(file.layers[0].predictor.in_proj.dtype),
      FormatBytes(any.bytes_per_token), file.heldout_tokens);
  for (const double wanted : kPrintedRecalls) {
    const PredictorTotals totals = TotalsAt(file, wanted);
    text += fmt::format("{:>7.2f} %{:>9.2f} %{:>7.2f} %{:>9.2f}\n", 100 * totals.recall,
                        100 * totals.density, 100 * totals.true_density,
                        totals.true_density > 0 ? totals.density / totals.true_density : 0);
  }
  return text;
}

}  // namespace thermocline
