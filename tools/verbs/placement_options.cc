#include "tools/verbs/placement_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "gpu_kernels/base/gpu_support.h"
#include "profiler/placement/default_ram.h"
#include "runtime/core/error.h"
#include "runtime/core/size_text.h"
#include "runtime/device/gpu/make_gpu_device.h"
#include "runtime/rates/measure_rates.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"

namespace thermocline {
namespace {

std::string Percent(const std::optional<double>& share) {
  return share ? fmt::format("{:.1f} %", 100 * *share) : "-";
}

std::string CoverageLegend(bool placed, bool lru) {
  std::string text =
      "held-in: on the calibration text, held-out: on text kept apart from it.\n"
      "sparsity: 1 - mean share of active neurons.\n"
      "activations on hottest: share of the held-out activations (a token and a neuron active in "
      "it)\n"
      "  that fall on so many of the layer's neurons, those most often active in calibration.\n";
  if (placed) {
    text +=
        "coverage: share of activations that fall on neurons in vram. uniform: what as many "
        "neurons of\n"
        "  each layer, picked at random, are expected to cover.\n";
  }
  if (lru) {
    text +=
        "LRU: held-out hits of a cache per layer, as large, that keeps the neurons used last. It "
        "starts\n"
        "  empty, takes single neurons, and its loads are free.\n";
  }
  return text;
}

// What --vram auto stands for.
uint64_t FreeVramBytes(bool gpu) {
  if (!gpu) {
    throw Error({.what = "there is no GPU whose free memory could be taken",
                 .expected = "a size",
                 .found = "auto",
                 .settings = {{Setting::kVramBudget, "2G"}}});
  }
  const uint64_t free_bytes = GpuFreeBytes();
  return free_bytes - std::min(free_bytes, kGpuReserveBytes);
}

// So that what was measured in addition is there the next time. A cache that takes nothing is no
// reason to stop.
void KeepRates(const std::string& path, const MachineRates& rates) {
  try {
    WriteRates(path, rates);
  } catch (const Error& error) {
    PrintNote(fmt::format("note: the rates were not kept: {}\n", error.what()));
  }
}

}  // namespace

void AddPlacementOptions(CLI::App& verb, PlacementArgs* args) {
  args->engine.plan_moves = true;  // as runs do by default
  verb.add_option("-m,--model", args->engine.model_path,
                  "GGUF model; of a split one, any of its files")
      ->required()
      ->type_name("FILE");
  AddBudgetOptions(verb, args);
  AddThreadsOption(verb, &args->engine.n_threads);
}

void AddBudgetOptions(CLI::App& verb, PlacementArgs* args) {
  args->vram = AddSizeOrAutoOption(
      verb, "--vram", &args->vram_bytes, &args->vram_auto,
      fmt::format("Memory of the fast tier: what the GPU may hold of the model, with KV cache and "
                  "scratch; auto: what is free there now, less {}",
                  FormatBytes(kGpuReserveBytes)));
  args->ram = AddSizeOrAutoOption(
      verb, "--ram", &args->ram_bytes, &args->ram_auto,
      "Memory of the slow tier, for the other neurons; auto (the default): 90 % of the memory "
      "available now (without a GPU less --vram, which then comes out of the same memory)");
  args->hot = AddShareOption(
      verb, "--hot", &args->hot_fraction,
      "For experiments, instead of --vram: this share of every layer's neurons in VRAM, 0.1 or "
      "10%, rounded to clusters of 32, whatever memory that takes");
  args->vram->excludes(args->hot);
  verb.add_option("--rates", args->rates_path,
                  "Rates of this machine, made by `calibrate`; default: those that it keeps, and "
                  "where there are none what is needed is measured")
      ->type_name("FILE");
  verb.add_option("--objective", args->objective,
                  "What --vram is filled for: time, the least time per token; coverage, the most "
                  "activations per byte; auto (the default): time where there is a GPU. Without "
                  "one both tiers read one memory, and no split is faster than none")
      ->check(CLI::IsMember({"auto", "time", "coverage"}));
  AddNumberOption(verb, "-c,--context,--ctx-size", &args->engine.context_tokens,
                  {.least = 0, .most = kMaxTokensFlag},
                  fmt::format("Context in tokens of the runs to place for; 0 (the default): the "
                              "model's own, at most {}",
                              kDefaultContext));
  AddNumberOption(
      verb, "-b,--batch,--batch-size", &args->engine.batch_tokens,
      {.least = 1, .most = kMaxTokensFlag},
      fmt::format("Prompt tokens per pass of those runs (default {})", args->engine.batch_tokens));
}

std::string SettleBudgets(PlacementArgs* args) {
  const bool gpu = QueryGpuSupport().available;
  if (args->vram_auto) args->vram_bytes = FreeVramBytes(gpu);
  std::string vram = args->hot->count() > 0
                         ? fmt::format("{:.1f} % of every layer", 100 * args->hot_fraction)
                         : FormatBytes(args->vram_bytes);
  if (args->vram_auto) {
    vram += fmt::format(" (what is free, less {})", FormatBytes(kGpuReserveBytes));
  }
  if (args->ram->count() > 0 && !args->ram_auto) {
    return fmt::format("budgets: vram {}, ram {}\n", vram, FormatBytes(args->ram_bytes));
  }
  args->ram_bytes = DefaultRamBytes(args->vram_bytes, !gpu);
  return fmt::format("budgets: vram {}, ram {} (90 % of the memory available now{})\n", vram,
                     FormatBytes(args->ram_bytes),
                     gpu || args->vram_bytes == 0 ? "" : ", less vram");
}

void CheckPlacementArgs(const OpenedModel& model, const PlacementArgs& args) {
  SolvePlacement(model, NoActivity(model.config()), args);
}

bool PlacementArgs::by_time(const OpenedModel& model) const {
  if (hot->count() > 0) return false;
  return objective == "auto" ? !model.gpu().empty() : objective == "time";
}

std::string SettleRates(const OpenedModel& model, bool needed, PlacementArgs* args,
                        const DraftFile* draft) {
  const std::vector<RateKey> types = RateTypesOf(model, draft);
  const auto complete = [&] { return AddMissingTypes(types, /*quick=*/true, &*args->rates); };
  if (!args->rates_path.empty()) {
    args->rates = ReadRates(args->rates_path);
    CheckRatesFit(*args->rates, ThisMachine());
    complete();
    return fmt::format("rates: {}\n", args->rates_path);
  }
  const std::string cache = RatesCachePath(ThisMachine());
  if (!cache.empty() && std::filesystem::exists(cache)) {
    args->rates = ReadRates(cache);
    CheckRatesFit(*args->rates, ThisMachine());
    if (complete()) KeepRates(cache, *args->rates);
    return fmt::format("rates: {}\n", cache);
  }
  if (!needed && !args->by_time(model)) return "";
  MeasureOptions options;
  options.n_threads = model.n_threads();
  options.types = types;
  options.every_count = false;
  options.quick = true;
  args->rates = MeasureRates(options);
  return "rates: measured now, in short (`thermocline calibrate` measures and keeps them)\n";
}

bool HasRates(const std::string& rates_path) {
  const std::string cache = RatesCachePath(ThisMachine());
  return !rates_path.empty() || (!cache.empty() && std::filesystem::exists(cache));
}

std::shared_ptr<const MachineRates> RatesForBatches(const OpenedModel& model,
                                                    const std::string& rates_path) {
  if (model.mode() != SparseMode::kExact) return nullptr;
  if (!HasRates(rates_path)) return nullptr;
  PlacementArgs args;
  args.rates_path = rates_path;
  PrintNote(SettleRates(model, /*needed=*/true, &args));
  return std::make_shared<const MachineRates>(std::move(*args.rates));
}

TimeGoal GoalOf(const OpenedModel& model, const PlacementArgs& args) {
  CHECK(args.rates.has_value());
  // In the middle of the context that is planned for.
  return {.rates = &*args.rates,
          .mode = UsualMode(model),
          .context_tokens = model.context_tokens() / 2};
}

SolvedPlacement SolvePlacement(const OpenedModel& model, const ProfileStats& stats,
                               const PlacementArgs& args) {
  if (args.by_time(model)) {
    return TimePlacer(model, stats, GoalOf(model, args)).Place({args.vram_bytes, args.ram_bytes});
  }
  SolvedPlacement solved = args.hot->count() > 0
                               ? PlaceFraction(model, stats, args.hot_fraction, args.ram_bytes)
                               : Place(model, stats, {args.vram_bytes, args.ram_bytes});
  if (args.rates) {
    solved.placement.prediction =
        TimePlacer(model, stats, GoalOf(model, args)).Predict(solved.placement);
  }
  return solved;
}

std::string CoverageTable(const CoverageReport& report, bool placed, bool lru) {
  std::string text =
      fmt::format("{:<5}{:>20}{:>27}", "", "sparsity      ", "activations on hottest");
  if (placed) text += fmt::format("{:>9}{:>27}", "neurons", "coverage       ");
  if (lru) text += fmt::format("{:>9}", "");
  text.erase(text.find_last_not_of(' ') + 1);
  text += fmt::format("\n{:<5}{:>10}{:>10}{:>9}{:>9}{:>9}", "layer", "held-in", "held-out", "10 %",
                      "26 %", "50 %");
  if (placed)
    text += fmt::format("{:>9}{:>9}{:>9}{:>9}", "in vram", "held-in", "held-out", "uniform");
  if (lru) text += fmt::format("{:>9}", "LRU");
  const auto row = [&](const std::string& name, const LayerCoverage& c) {
    text += fmt::format("\n{:<5}{:>10}{:>10}{:>9}{:>9}{:>9}", name, Percent(c.calibration_sparsity),
                        Percent(c.heldout_sparsity), Percent(c.hottest[0]), Percent(c.hottest[1]),
                        Percent(c.hottest[2]));
    if (placed) {
      text += fmt::format("{:>9}{:>9}{:>9}{:>9}", c.n_vram, Percent(c.heldin), Percent(c.heldout),
                          Percent(c.uniform));
    }
    if (lru) text += fmt::format("{:>9}", Percent(c.lru));
  };
  for (size_t l = 0; l < report.layers.size(); ++l) row(std::to_string(l), report.layers[l]);
  row("total", report.total);
  return text + "\n\n" + CoverageLegend(placed, lru);
}

}  // namespace thermocline
