#include "tools/reports/predictor_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "predictor/sign_predictor.h"
#include "runtime/core/size_text.h"

namespace thermocline {
namespace {

std::string Line(const std::string& layer, double recall, double density, double true_density,
                 uint64_t n_bytes) {
  const double ratio = true_density > 0 ? density / true_density : 0;
  return fmt::format("{:<7}{:>7.2f} %{:>9.2f} %{:>7.2f} %{:>9.2f}{:>13}", layer, 100 * recall,
                     100 * density, 100 * true_density, ratio, FormatBytes(n_bytes));
}

}  // namespace

PredictorTotals TotalsAt(const PredictorFile& file, double wanted_recall) {
  PredictorTotals totals;
  for (const StoredLayerPredictor& layer : file.layers) {
    const LayerPredictor& predictor = layer.predictor;
    const OperatingPoint& point = predictor.points[ChoosePoint(predictor, wanted_recall)];
    totals.recall += static_cast<double>(point.recall) * layer.true_density;
    totals.density += point.density;
    totals.true_density += layer.true_density;
    totals.bytes_per_token += file.LayerBytes();
  }
  totals.recall = totals.true_density > 0 ? totals.recall / totals.true_density : 1;
  totals.density /= static_cast<double>(file.layers.size());
  totals.true_density /= static_cast<double>(file.layers.size());
  return totals;
}

CLI::Option* AddFactorTypeOption(CLI::App& verb, const std::string& flag, DType* dtype) {
  const auto choose = [dtype](const std::string& name) {
    *dtype = name == "F16" ? DType::kF16 : DType::kQ8_0;
  };
  return verb.add_option_function<std::string>(flag, choose, "Type of the factors (default Q8_0)")
      ->type_name("F16|Q8_0")
      ->transform(CLI::IsMember({"F16", "Q8_0"}, CLI::ignore_case));
}

std::string PredictorTable(const PredictorFile& file, double wanted_recall) {
  const bool sign = file.kind == PredictorKind::kSign;
  std::string text = file.look_ahead ? "predicted from the FFN input of the layer before\n" : "";
  text += fmt::format("layer   recall  predicted     true    ratio  bytes/token{}\n",
                      sign ? "   alpha" : "");
  size_t number = 0;
  for (const StoredLayerPredictor& layer : file.layers) {
    const LayerPredictor& predictor = layer.predictor;
    const OperatingPoint& point = predictor.points[ChoosePoint(predictor, wanted_recall)];
    text += Line(std::to_string(number++), point.recall, point.density, layer.true_density,
                 file.LayerBytes());
    if (sign) text += fmt::format("{:>8.3f}", SignAlpha(point.predictor_threshold, file.d_model));
    if (static_cast<double>(point.recall) < wanted_recall) text += "  (no point has this recall)";
    text += "\n";
  }
  const PredictorTotals totals = TotalsAt(file, wanted_recall);
  return text +
         Line("total", totals.recall, totals.density, totals.true_density, totals.bytes_per_token) +
         "\n";
}

}  // namespace thermocline
