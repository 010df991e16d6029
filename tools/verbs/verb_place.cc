// thermocline place: statistics and budgets -> placement.
#include <fmt/format.h>

#include <memory>

#include "profiler/activations/profile_file.h"
#include "runtime/core/error.h"
#include "runtime/core/size_text.h"
#include "tools/reports/plan_table.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/placement_options.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kPlaceDetails =
    R"(Reads the statistics that `thermocline profile` counted and decides which neurons of each layer lie in
VRAM: of what --vram leaves over after embeddings, attention, KV cache and scratch, the clusters of 32
neurons with the most activations per byte, over all layers. The others must fit --ram. Prints the memory
each tier will hold and how much of the held-out activations the placement covers (an LRU cache for
comparison needs the text, so `profile` prints it). The model is opened but not loaded.

The plan holds for runs with this context (-c), batch (-b) and number of threads (-t), or smaller ones.
Sizes: 8G, 512M, 1.5G (binary units). Output: a .placement.gguf, for `run --placement`.

Example:
  thermocline place -m model.gguf --profile model.profile.gguf --vram 8G --ram 32G \
    -o model.placement.gguf)";

struct PlaceArgs {
  PlacementArgs common;
  std::string profile_path;
  std::string output_path;
};

void RunPlace(PlaceArgs& args) {
  if (!args.common.wants_placement()) {
    FailUsage("place", "how much may lie in the fast tier? Give --vram SIZE (or --hot SHARE)");
  }
  CheckRereadOutputPath(args.output_path, {args.common.engine.model_path, args.profile_path});
  const OpenedModel model(args.common.engine);
  const ProfileStats stats = ReadProfile(args.profile_path);
  CheckProfileFits(stats, model.config(), model.gguf().path(), ModelFingerprints(model.gguf()));
  const std::string budgets = SettleBudgets(&args.common);
  const SolvedPlacement solved = SolvePlacement(model, stats, args.common);
  WritePlacement(args.output_path, solved.placement);

  EngineOptions placed = args.common.engine;  // what `run --dry-run` will print
  placed.placement_path = args.output_path;
  const CoverageReport report = MakeCoverageReport(stats, &solved.placement, nullptr);
  WriteOutput(fmt::format("{}\n{}\n{}\nplacement: {}\n", budgets,
                          MemoryPlanTable(OpenedModel(placed)),
                          CoverageTable(report, /*placed=*/true, /*lru=*/false), args.output_path));
}

}  // namespace

void AddPlaceVerb(CLI::App& app) {
  const auto args = std::make_shared<PlaceArgs>();
  CLI::App* verb = AddVerb(
      app, "place", "Makes a placement for other budgets from statistics, without profiling again",
      kPlaceDetails);
  AddPlacementOptions(*verb, &args->common);
  verb->add_option("--profile", args->profile_path, "Statistics made by `profile` from this model")
      ->required()
      ->type_name("FILE");
  verb->add_option("-o,--output", args->output_path, "Placement file to write")
      ->required()
      ->type_name("FILE");
  verb->callback([args] { RunPlace(*args); });
}

}  // namespace thermocline
