#include "tools/reports/placement_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "runtime/core/size_text.h"
#include "tools/pictures/svg.h"
#include "tools/reports/drift_report.h"
#include "tools/reports/plan_table.h"

namespace thermocline {
namespace {

constexpr size_t kCurvePoints = 41;  // every 2.5 %
constexpr size_t kHeatBins = 64;
constexpr double kGiB = 1 << 30;
constexpr std::array<double, 7> kTableShares = {0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0};
constexpr std::array<double, 6> kTableRanks = {0, 0.05, 0.1, 0.25, 0.5, 0.9};

std::string Percent(double share) { return fmt::format("{:.1f} %", 100 * share); }
std::string Percent(const std::optional<double>& share) { return share ? Percent(*share) : "-"; }

double MiB(uint64_t n_bytes) { return static_cast<double>(n_bytes) / (1 << 20); }

std::vector<std::string> LayerNames(size_t n_layers) {
  std::vector<std::string> names;
  for (size_t l = 0; l < n_layers; ++l) names.push_back(fmt::format("{}", l));
  return names;
}

void AddHeat(const ProfileStats& stats, HtmlPage* page) {
  const size_t n_bins = std::min(kHeatBins, static_cast<size_t>(stats.d_ff()));
  const auto heat = ActivityByRank(stats, n_bins);
  HeatMap map{"How often neurons fire, by layer and rank",
              "neurons of the layer, by how often they fire", "layer", LayerNames(heat.size()),
              heat};
  HtmlTable table{{"layer"}, {}};
  for (const double rank : kTableRanks) {
    table.columns.push_back(fmt::format("at {:.0f} %", 100 * rank));
  }
  for (size_t l = 0; l < heat.size(); ++l) {
    std::vector<std::string> row = {fmt::format("{}", l)};
    for (const double rank : kTableRanks) {
      row.push_back(Percent(heat[l][static_cast<size_t>(rank * static_cast<double>(n_bins))]));
    }
    table.rows.push_back(std::move(row));
  }
  page->AddPicture("Neuron heat",
                   fmt::format("Every row is a layer, its neurons sorted hot to cold into {} "
                               "groups. The stronger the colour, the larger the share of the "
                               "calibration's tokens in which they fire. The table has the groups "
                               "at some ranks.",
                               n_bins),
                   DrawHeat(map), table);
}

// The size that the placement has, as a share of all neurons; nullopt without one.
std::optional<double> HotShare(const OpenedModel* placed) {
  if (placed == nullptr) return std::nullopt;
  double hot = 0;
  for (const LayerPlacement& layer : placed->placement()->layers) {
    hot += static_cast<double>(layer.n_on[kVram]);
  }
  return hot / static_cast<double>(placed->config().n_neurons());
}

void AddCoverage(const ProfileStats& stats, const CoverageReport& coverage,
                 const OpenedModel* placed, const PlacementMoves& moves, HtmlPage* page) {
  const CoverageCurve curve = MakeCoverageCurve(stats, kCurvePoints);
  LineChart chart{"Share of activations on the hottest neurons",
                  {"share of each layer's neurons that is hot", 0, 1, true},
                  {"activations covered", 0, 1, true},
                  {{"calibration", {}}, {"held-out", {}}, {"uniform", {{0, 0}, {1, 1}}, true}},
                  {}};
  for (size_t i = 0; i < kCurvePoints; ++i) {
    chart.lines[0].points.emplace_back(curve.shares[i], curve.calibration[i]);
    chart.lines[1].points.emplace_back(curve.shares[i], curve.heldout[i]);
  }
  if (!moves.held_out.empty()) chart.lines.push_back({"held-out, adapted", moves.held_out});
  HtmlTable table{{"hot", "calibration", "held-out", "uniform"}, {}};
  for (const double share : kTableShares) {
    const auto i = static_cast<size_t>(std::lround(share * (kCurvePoints - 1)));
    table.rows.push_back({Percent(curve.shares[i]), Percent(curve.calibration[i]),
                          Percent(curve.heldout[i]), Percent(curve.shares[i])});
  }
  if (const auto hot = HotShare(placed)) {
    const LayerCoverage& total = coverage.total;
    if (total.heldout) chart.markers.push_back({"placement", *hot, *total.heldout});
    if (total.lru) chart.markers.push_back({"LRU", *hot, *total.lru});
    table.rows.push_back({"placement: " + Percent(*hot), Percent(total.heldin),
                          Percent(total.heldout), Percent(total.uniform)});
    if (total.lru) {
      table.rows.push_back({"LRU caches of that size", "-", Percent(total.lru), "-"});
    }
  }
  for (const auto& [share, covered] : moves.held_out) {
    table.rows.push_back({"adapted: " + Percent(share), "-", Percent(covered), Percent(share)});
  }
  page->AddPicture(
      "Coverage",
      "The share of activations (a token and a neuron that fires in it) that fall on hot neurons. "
      "The lines take the same share of every layer, hottest in calibration first; a placement "
      "may give layers different shares. Adapted is the held-out text with neurons that move "
      "between "
      "the tiers while it is read.",
      DrawLines(chart), table);
}

void AddBytes(const OpenedModel& placed, HtmlPage* page) {
  const MemoryPlan plan = placed.Plan();
  BarChart chart{
      "Bytes of each layer by tier",
      {"MiB", 0, 0},
      {"attention (fast tier)", "attention (slow)", "hot neurons (fast)", "cold neurons (slow)"},
      {}};
  HtmlTable table{
      {"layer", "attention, fast", "attention, slow", "hot neurons", "hot", "cold neurons", "cold"},
      {}};
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    const MemoryPlan::Layer& layer = plan.layers[l];
    const std::vector<double> parts = {MiB(layer.attention_bytes), MiB(layer.slow_attention_bytes),
                                       MiB(layer.slices[0].bytes), MiB(layer.slices[1].bytes)};
    chart.x.most = std::max(chart.x.most, std::accumulate(parts.begin(), parts.end(), 0.0));
    chart.rows.push_back({fmt::format("{}", l), parts});
    table.rows.push_back(
        {fmt::format("{}", l), FormatBytes(layer.attention_bytes),
         FormatBytes(layer.slow_attention_bytes), fmt::format("{}", layer.slices[0].n_neurons),
         FormatBytes(layer.slices[0].bytes), fmt::format("{}", layer.slices[1].n_neurons),
         FormatBytes(layer.slices[1].bytes)});
  }
  page->AddPicture(
      "Where each layer's bytes lie",
      fmt::format("Fast tier: {}; slow tier: {}.", plan.tiers[0].name, plan.tiers[1].name),
      DrawBars(chart), table);
  page->AddTable(
      "Memory of the tiers",
      fmt::format("Of a run with a context of {} tokens and batches of {}.", plan.context_tokens,
                  plan.batch_tokens),
      {{"", "fast tier", "slow tier"},
       {{"embedding, output head", FormatBytes(plan.embedding_bytes),
         FormatBytes(plan.host_table_bytes)},
        {"attention, norms", FormatBytes(plan.attention_bytes(0)),
         FormatBytes(plan.attention_bytes(1))},
        {"FFN neurons", FormatBytes(plan.neuron_bytes(0)), FormatBytes(plan.neuron_bytes(1))},
        {"KV cache", FormatBytes(plan.kv_bytes(0)), FormatBytes(plan.kv_bytes(1))},
        {"scratch", FormatBytes(plan.tiers[0].scratch_bytes),
         FormatBytes(plan.tiers[1].scratch_bytes)},
        {"total", FormatBytes(plan.total_bytes(0)), FormatBytes(plan.total_bytes(1))}}});
}

// What the ways to split take, and the layers of the best.
void AddSplits(const std::vector<RatedSplit>& splits, HtmlPage* page) {
  BarChart ways{"Predicted time of a token by strategy", {"ms/token", 0, 0}, {"predicted"}, {}};
  HtmlTable table{{"strategy", "ms/token", "neurons in vram", "in dram"}, {}};
  for (const RatedSplit& split : splits) {
    if (!split.fits) {
      table.rows.push_back({split.strategy, "does not fit", "-", "-"});
      continue;
    }
    ways.x.most = std::max(ways.x.most, split.ms_per_token);
    const std::string ms = fmt::format("{:.3f}", split.ms_per_token);
    ways.rows.push_back({split.strategy, {split.ms_per_token}, ms});
    table.rows.push_back(
        {split.strategy, ms, FormatBytes(split.fast_bytes), FormatBytes(split.slow_bytes)});
  }
  page->AddPicture("Ways to split",
                   "What a token is expected to take by the rates of this machine, for splits that "
                   "keep the same budgets.",
                   DrawBars(ways), table);
  if (!splits.front().fits) return;
  BarChart layers{"Predicted time of each layer",
                  {"ms", 0, 0},
                  {"attention", "FFN, both tiers", "hand-over"},
                  {}};
  HtmlTable times{{"layer", "attention, ms", "fast tier alone", "slow tier alone", "FFN together",
                   "of it hand-over"},
                  {}};
  for (size_t l = 0; l < splits.front().time.layers.size(); ++l) {
    const LayerTime& time = splits.front().time.layers[l];
    const double ffn = std::max(0.0, time.ffn_ms - time.handover_ms);
    layers.x.most = std::max(layers.x.most, time.attention_ms + ffn + time.handover_ms);
    layers.rows.push_back({fmt::format("{}", l), {time.attention_ms, ffn, time.handover_ms}});
    std::vector<std::string> row = {fmt::format("{}", l)};
    for (const double ms :
         {time.attention_ms, time.fast_ms, time.slow_ms, time.ffn_ms, time.handover_ms}) {
      row.push_back(fmt::format("{:.4f}", ms));
    }
    times.rows.push_back(std::move(row));
  }
  page->AddPicture("Predicted time of each layer",
                   fmt::format("Of the split by the strategy {}.", splits.front().strategy),
                   DrawBars(layers), times);
}

void AddSweep(const std::vector<SweepPoint>& sweep, HtmlPage* page) {
  LineChart chart{"Predicted time of a token by the fast tier's budget",
                  {"GiB of the fast tier", static_cast<double>(sweep.front().vram_bytes) / kGiB,
                   static_cast<double>(sweep.back().vram_bytes) / kGiB},
                  {"ms/token", 0, 0},
                  {{"optimal", {}}},
                  {}};
  HtmlTable table{{"budget", "ms/token", "neurons there"}, {}};
  for (const SweepPoint& point : sweep) {
    const std::string budget = FormatBytes(point.vram_bytes);
    if (!point.best.fits) {
      table.rows.push_back({budget, "does not fit", "-"});
      continue;
    }
    chart.y.most = std::max(chart.y.most, 1.05 * point.best.ms_per_token);
    chart.lines[0].points.emplace_back(static_cast<double>(point.vram_bytes) / kGiB,
                                       point.best.ms_per_token);
    table.rows.push_back({budget, fmt::format("{:.3f}", point.best.ms_per_token),
                          FormatBytes(point.best.fast_bytes)});
  }
  page->AddPicture("What more memory would bring",
                   "The best split for each budget of the fast tier, with the rates of this "
                   "machine.",
                   DrawLines(chart), table);
}

void AddLayers(const CoverageReport& coverage, bool placed, HtmlPage* page) {
  HtmlTable table{{"layer", "sparsity, calibration", "held-out"}, {}};
  if (placed) {
    table.columns.insert(table.columns.end(),
                         {"in vram", "covered, calibration", "held-out", "uniform", "LRU"});
  }
  const auto row = [&](const std::string& name, const LayerCoverage& c) {
    std::vector<std::string> cells = {name, Percent(c.calibration_sparsity),
                                      Percent(c.heldout_sparsity)};
    if (placed) {
      cells.insert(cells.end(), {fmt::format("{}", c.n_vram), Percent(c.heldin), Percent(c.heldout),
                                 Percent(c.uniform), Percent(c.lru)});
    }
    table.rows.push_back(std::move(cells));
  };
  for (size_t l = 0; l < coverage.layers.size(); ++l) {
    row(fmt::format("{}", l), coverage.layers[l]);
  }
  row("total", coverage.total);
  page->AddTable("Layer by layer",
                 "Sparsity is the share of neurons that do not fire in the mean token.", table);
}

}  // namespace

HtmlPage PlacementPage(const OpenedModel& model, const ProfileStats& stats,
                       const CoverageReport& coverage, const OpenedModel* placed,
                       const PlacementTimes& times, const PlacementMoves& moves) {
  const ModelConfig& config = model.config();
  HtmlPage page(
      "Neurons of " + BaseName(model.gguf().path()),
      fmt::format("{} layers of up to {} neurons, {}. Counted on {} tokens of calibration and {} "
                  "held-out tokens; a neuron fires where |h| is above {}.",
                  config.n_layers, config.d_ff, ActivationName(config.activation),
                  stats.calibration.n_tokens, stats.heldout.n_tokens, stats.activation_threshold));
  AddHeat(stats, &page);
  AddCoverage(stats, coverage, placed, moves, &page);
  if (!moves.texts.empty()) AddDrift(moves.texts, &page);
  if (placed != nullptr) AddBytes(*placed, &page);
  if (!times.splits.empty()) AddSplits(times.splits, &page);
  if (!times.sweep.empty()) AddSweep(times.sweep, &page);
  AddLayers(coverage, placed != nullptr, &page);
  return page;
}

}  // namespace thermocline
