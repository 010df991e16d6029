#include "tools/reports/plan_times.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "profiler/placement/cost_model.h"
#include "profiler/placement/place.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

// Milliseconds of a token by these rates; nothing where they lack a type.
std::optional<double> DenseMs(const OpenedModel& model, const MachineRates& rates) {
  const ModelConfig& config = model.config();
  if (!config.has_equal_ffns() || config.has_encoder()) return std::nullopt;
  const std::vector<RateKey> types = RateTypesOf(model);
  const bool complete =
      std::ranges::all_of(types, [&](const RateKey& key) { return rates.HasType(key.dtype); });
  if (!complete || (!model.gpu().empty() && !rates.gpu)) return std::nullopt;
  std::vector<int64_t> n_hot;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const Placement* const placement = model.placement();
    n_hot.push_back(placement == nullptr ? config.d_ff
                                         : placement->layers[static_cast<size_t>(l)].n_on[kVram]);
  }
  const PassShape shape = {.context_tokens = model.context_tokens() / 2,
                           .n_threads = model.n_threads(),
                           .placed = model.placement() != nullptr};
  const ProfileStats all_active = NoActivity(config);
  const std::vector<uint8_t> away =
      model.placement() == nullptr ? std::vector<uint8_t>{} : AttendsAway(*model.placement());
  return CostModel(model, all_active, {}, rates, shape).Pass(n_hot, away).total_ms();
}

}  // namespace

PlanTimes TimesOfPlan(const OpenedModel& model) {
  PlanTimes times;
  if (model.placement() != nullptr) times.placed = model.placement()->prediction;
  const std::string path = RatesCachePath(ThisMachine());
  if (path.empty() || !std::filesystem::exists(path)) return times;
  const MachineRates rates = ReadRates(path);
  CheckRatesFit(rates, ThisMachine());
  times.dense_ms = DenseMs(model, rates);
  times.rates_path = path;
  return times;
}

std::string PlanTimesText(const PlanTimes& times) {
  std::string text;
  if (times.dense_ms) {
    text += fmt::format(
        "\ntime: {:.3f} ms/token if every neuron fires, in the middle of the context "
        "(rates: {})\n",
        *times.dense_ms, times.rates_path);
  }
  if (times.placed) {
    text += fmt::format(
        "{}the placement was made for {:.3f} ms/token in mode {}, {} threads, after {} tokens\n",
        times.dense_ms ? "      " : "\ntime: ", times.placed->ms_per_token,
        Printable(times.placed->mode), times.placed->n_threads, times.placed->context_tokens);
  }
  return text;
}

nlohmann::ordered_json PlanTimesJson(const PlanTimes& times) {
  nlohmann::ordered_json json = {{"dense_ms_per_token", nullptr}, {"placed_ms_per_token", nullptr}};
  if (times.dense_ms) json["dense_ms_per_token"] = *times.dense_ms;
  if (times.placed) json["placed_ms_per_token"] = times.placed->ms_per_token;
  return json;
}

}  // namespace thermocline
