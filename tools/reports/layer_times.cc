#include "tools/reports/layer_times.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "profiler/placement/draft_cost.h"
#include "tools/pictures/svg.h"

namespace thermocline {
namespace {

bool IsAttention(PassPart part) {
  switch (part) {
    case PassPart::kQkv:
    case PassPart::kRope:
    case PassPart::kAttention:
    case PassPart::kOutput:
    case PassPart::kNorm:
      return true;
    default:
      return false;
  }
}

// Milliseconds of each pass, of which the median counts.
using Samples = std::vector<double>;

double MedianOf(Samples samples) {
  return samples.empty() ? 0 : SpreadOf(std::move(samples)).median;
}

struct LayerSamples {
  std::vector<Samples> attention;  // (n_layers)
  std::vector<Samples> ffn;        // (n_layers)
  Samples head;
};

// Whoever goes through all layers: the GPU where there is one, else the first thread.
std::span<const PassSpan> SpansOf(const PassProfile& profile) {
  return profile.has_gpu() ? profile.gpu_spans() : profile.thread_spans(0);
}

LayerSamples SamplesOf(const PassProfile& profile, size_t n_layers) {
  LayerSamples samples{std::vector<Samples>(n_layers), std::vector<Samples>(n_layers), {}};
  const std::span<const PassSpan> spans = SpansOf(profile);
  auto span = spans.begin();
  for (const PassProfile::Pass& pass : profile.kept_passes()) {
    std::vector<double> attention(n_layers);
    std::vector<double> ffn(n_layers);
    double head = 0;
    for (; span != spans.end() && span->begin_ns < pass.end_ns; ++span) {
      const double ms = static_cast<double>(span->end_ns - span->begin_ns) / 1e6;
      if (span->part == PassPart::kHead) head += ms;
      if (span->layer == PassSpan::kNoLayer) continue;
      const auto layer = static_cast<size_t>(span->layer);
      (IsAttention(span->part) ? attention : ffn)[layer] += ms;
    }
    for (size_t l = 0; l < n_layers; ++l) {
      samples.attention[l].push_back(attention[l]);
      samples.ffn[l].push_back(ffn[l]);
    }
    samples.head.push_back(head);
  }
  return samples;
}

// Predicted over measured, as a signed share.
double ErrorOf(double predicted, double measured) {
  return measured > 0 ? predicted / measured - 1 : 0;
}

}  // namespace

double LayerTimes::measured_ms() const {
  double sum = head_ms;
  for (const Row& row : layers) sum += row.measured_ms();
  return sum;
}

double LayerTimes::predicted_ms() const {
  double sum = predicted_head_ms;
  for (const Row& row : layers) sum += row.predicted_ms();
  return sum;
}

LayerTimes MakeLayerTimes(const Engine& engine, const PassReport& measured,
                          const ProfileStats& stats, const MachineRates& rates,
                          int64_t context_tokens) {
  const OpenedModel& model = engine.model();
  const PassShape shape = {.context_tokens = context_tokens,
                           .mode = measured.mode,
                           .n_threads = model.n_threads(),
                           .placed = model.placement() != nullptr};
  const LayerSplits splits = SplitsOf(model);
  const PassTime predicted =
      CostModel(model, stats, splits.orders, rates, shape).Pass(splits.n_hot, splits.away);
  const LayerSamples samples = SamplesOf(measured.profile, predicted.layers.size());
  LayerTimes times{.mode = measured.mode,
                   .context_tokens = context_tokens,
                   .n_passes = static_cast<int64_t>(samples.head.size()),
                   .layers = {},
                   .head_ms = MedianOf(samples.head),
                   .predicted_head_ms = predicted.head_ms};
  for (size_t l = 0; l < predicted.layers.size(); ++l) {
    const LayerTime& expected = predicted.layers[l];
    times.layers.push_back({.attention_ms = MedianOf(samples.attention[l]),
                            .ffn_ms = MedianOf(samples.ffn[l]),
                            .predicted_attention_ms = expected.attention_ms,
                            .predicted_ffn_ms = expected.ffn_ms});
  }
  return times;
}

std::string LayerTimesTable(const LayerTimes& times) {
  std::string text = fmt::format(
      "\n{}, time of each layer at {} tokens of context, median of {} passes, ms\n"
      "{:<8}{:>22}{:>22}{:>22}\n{:<8}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}{:>9}\n",
      SparseModeName(times.mode), times.context_tokens, times.n_passes, "", "attention  ", "FFN  ",
      "both  ", "layer", "predicted", "measured", "predicted", "measured", "predicted", "measured",
      "error");
  for (size_t l = 0; l < times.layers.size(); ++l) {
    const LayerTimes::Row& row = times.layers[l];
    text += fmt::format("{:<8}{:>11.4f}{:>11.4f}{:>11.4f}{:>11.4f}{:>11.4f}{:>11.4f}{:>+8.1f}%\n",
                        l, row.predicted_attention_ms, row.attention_ms, row.predicted_ffn_ms,
                        row.ffn_ms, row.predicted_ms(), row.measured_ms(),
                        100 * ErrorOf(row.predicted_ms(), row.measured_ms()));
  }
  const auto sum = [&](const char* name, double predicted, double measured) {
    text += fmt::format("{:<8}{:>55.4f}{:>11.4f}{:>+8.1f}%\n", name, predicted, measured,
                        100 * ErrorOf(predicted, measured));
  };
  sum("head", times.predicted_head_ms, times.head_ms);
  sum("token", times.predicted_ms(), times.measured_ms());
  return text;
}

nlohmann::ordered_json LayerTimesJson(const LayerTimes& times) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerTimes::Row& row : times.layers) {
    layers.push_back({{"attention_ms", row.attention_ms},
                      {"ffn_ms", row.ffn_ms},
                      {"predicted_attention_ms", row.predicted_attention_ms},
                      {"predicted_ffn_ms", row.predicted_ffn_ms}});
  }
  return {{"mode", SparseModeName(times.mode)}, {"context_tokens", times.context_tokens},
          {"passes", times.n_passes},           {"layers", layers},
          {"head_ms", times.head_ms},           {"predicted_head_ms", times.predicted_head_ms},
          {"measured_ms", times.measured_ms()}, {"predicted_ms", times.predicted_ms()}};
}

void AddLayerTimes(const LayerTimes& times, HtmlPage* page) {
  const std::string mode(SparseModeName(times.mode));
  LineChart chart{"Predicted and measured time of each layer, " + mode,
                  {"layer", 0, std::max(1.0, static_cast<double>(times.layers.size()) - 1)},
                  {"ms", 0, 0},
                  {{"predicted", {}, true}, {"measured", {}}},
                  {}};
  HtmlTable table{{"layer", "attention predicted, ms", "measured", "FFN predicted", "measured",
                   "layer predicted", "measured"},
                  {}};
  for (size_t l = 0; l < times.layers.size(); ++l) {
    const LayerTimes::Row& row = times.layers[l];
    const auto x = static_cast<double>(l);
    chart.lines[0].points.emplace_back(x, row.predicted_ms());
    chart.lines[1].points.emplace_back(x, row.measured_ms());
    chart.y.most = std::max({chart.y.most, 1.05 * row.predicted_ms(), 1.05 * row.measured_ms()});
    std::vector<std::string> cells = {fmt::format("{}", l)};
    for (const double ms : {row.predicted_attention_ms, row.attention_ms, row.predicted_ffn_ms,
                            row.ffn_ms, row.predicted_ms(), row.measured_ms()}) {
      cells.push_back(fmt::format("{:.4f}", ms));
    }
    table.rows.push_back(std::move(cells));
  }
  table.rows.push_back({"head", "-", "-", "-", "-", fmt::format("{:.4f}", times.predicted_head_ms),
                        fmt::format("{:.4f}", times.head_ms)});
  table.rows.push_back({"token", "-", "-", "-", "-", fmt::format("{:.4f}", times.predicted_ms()),
                        fmt::format("{:.4f}", times.measured_ms())});
  page->AddPicture(
      "Time of each layer, " + mode,
      fmt::format(
          "What the rates of this machine say a decoded token takes at {} tokens of context, "
          "and the median of {} passes.",
          times.context_tokens, times.n_passes),
      DrawLines(chart), table);
}

}  // namespace thermocline
