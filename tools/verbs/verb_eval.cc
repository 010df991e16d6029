// thermocline eval: multiple-choice and likelihood tasks from files.
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "runtime/core/error.h"
#include "tools/eval/score_tasks.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/scored_mode.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kEvalDetails =
    R"(Each line of the file is one task in JSON, as these sets are given out: ARC (question, choices, answerKey),
PIQA (goal, sol1, sol2, label), HellaSwag (ctx, endings, label), LAMBADA (text, of which the last word is to be
foretold), or {"context": C, "choices": [A, B], "answer": 0}. Of the choices the model takes the one that is
likeliest behind the text; "per byte": likeliest by its mean over bytes. LAMBADA counts a word as right when
each of its tokens is the likeliest.

In a mode other than dense the dense run is made too, on the same weights, and the two are compared task by
task: how many more are right, with the standard error of that, and how many changed either way. Shares have
95 % intervals.

Example:
  thermocline eval -m model.gguf --tasks arc_easy.jsonl --sparse teal:0.4 --thresholds model.profile.gguf)";

struct EvalArgs {
  EngineOptions engine;
  const CLI::Option* sparse = nullptr;
  const CLI::Option* batch = nullptr;
  std::string tasks_path;
  int64_t max_items = 0;
  bool json = false;
};

// The scores of a mode over all items.
struct Summary {
  ScoredShare right;
  ScoredShare right_norm;
  double nll_per_token = 0;
};

Summary SummariseTasks(const std::vector<ItemScore>& scores) {
  int64_t right = 0;
  int64_t right_norm = 0;
  int64_t tokens = 0;
  double nll = 0;
  for (const ItemScore& score : scores) {
    right += score.right ? 1 : 0;
    right_norm += score.right_norm ? 1 : 0;
    tokens += score.tokens;
    nll += score.nll;
  }
  const auto n = static_cast<int64_t>(scores.size());
  return {ShareRight(right, n), ShareRight(right_norm, n),
          tokens == 0 ? 0 : nll / static_cast<double>(tokens)};
}

std::string Row(const std::string& name, const Summary& s) {
  const auto share = [](const ScoredShare& of) {
    return fmt::format("{:.2f} % ({:.2f} to {:.2f})", 100 * of.mean, 100 * of.low, 100 * of.high);
  };
  return fmt::format("{:<16}{:>28}{:>28}{:>16.4f}\n", name, share(s.right), share(s.right_norm),
                     std::exp(s.nll_per_token));
}

std::string Difference(const char* name, const PairedDifference& d) {
  return fmt::format("{:<16}{:+.2f} +- {:.2f} points, {} became right and {} wrong\n", name,
                     100 * d.mean, 100 * d.std_error, d.gained, d.lost);
}

nlohmann::ordered_json ToJson(const Summary& s) {
  const auto share = [](const ScoredShare& of) {
    return nlohmann::ordered_json{{"mean", of.mean}, {"low", of.low}, {"high", of.high}};
  };
  return {{"accuracy", share(s.right)},
          {"accuracy_per_byte", share(s.right_norm)},
          {"answer_perplexity", std::exp(s.nll_per_token)}};
}

nlohmann::ordered_json ToJson(const PairedDifference& d) {
  return {{"mean", d.mean}, {"std_error", d.std_error}, {"gained", d.gained}, {"lost", d.lost}};
}

void Run(EvalArgs& args) {
  const std::vector<EvalItem> items = ReadEvalItems(args.tasks_path, args.max_items);
  SettleScoredMode("eval", *args.sparse, *args.batch, &args.engine);
  args.engine.all_logits = true;
  args.engine.progress = StderrProgress();
  auto model = std::make_unique<OpenedModel>(args.engine);
  RequireNoEncoder(model->config(), args.engine.model_path, "scoring tasks");
  Engine engine(std::move(model));
  const SparseMode mode = engine.model().mode();
  const bool compared = mode != SparseMode::kDense;
  const auto dense = ScoreItems(engine, items, SparseMode::kDense, args.engine.progress);
  const auto scores = compared ? ScoreItems(engine, items, mode, args.engine.progress) : dense;
  ClearStderrProgress();
  const PairedDifference right = Compare(dense, scores, &ItemScore::right);
  const PairedDifference right_norm = Compare(dense, scores, &ItemScore::right_norm);
  if (args.json) {
    nlohmann::ordered_json json = {{"model", args.engine.model_path},
                                   {"tasks", args.tasks_path},
                                   {"items", items.size()},
                                   {"dense", ToJson(SummariseTasks(dense))}};
    if (compared) {
      json["mode"] = args.engine.sparse;
      json["scores"] = ToJson(SummariseTasks(scores));
      json["accuracy_difference"] = ToJson(right);
      json["accuracy_per_byte_difference"] = ToJson(right_norm);
    }
    WriteOutput(json.dump(2) + "\n");
    return;
  }
  std::string text = fmt::format("{} tasks\n{:<16}{:>28}{:>28}{:>16}\n", items.size(), "mode",
                                 "right", "right per byte", "perplexity");
  text += Row("dense", SummariseTasks(dense));
  if (compared) {
    text += Row(args.engine.sparse, SummariseTasks(scores));
    text += Difference("right", right) + Difference("right per byte", right_norm);
  }
  WriteOutput(text);
}

}  // namespace

void AddEvalVerb(CLI::App& app) {
  auto args = std::make_shared<EvalArgs>();
  CLI::App* verb =
      AddVerb(app, "eval", "Scores multiple-choice and likelihood tasks from a file", kEvalDetails);
  AddModelOptions(*verb, &args->engine);
  AddEngineOptions(*verb, &args->engine);
  AddLoraOption(*verb, &args->engine);
  args->sparse = verb->get_option("--sparse");
  args->batch = verb->get_option("--batch");
  verb->add_option("--tasks", args->tasks_path, "Tasks, one a line in JSON")
      ->required()
      ->type_name("FILE");
  AddNumberOption(*verb, "--max-tasks", &args->max_items, {.least = 0},
                  "Score only the first N tasks; 0 (the default): all");
  verb->add_flag("--json", args->json, "print JSON");
  verb->callback([args] { Run(*args); });
}

}  // namespace thermocline
