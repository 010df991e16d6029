// thermocline perplexity: how well a model (in a mode) predicts a text.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/core/error.h"
#include "runtime/evaluate.h"
#include "tools/cli_options.h"
#include "tools/progress_bar.h"
#include "tools/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kDetails =
    "The text is tokenised whole and cut in windows of -c tokens less one; each window is fed "
    "behind\n"
    "BOS and every one of its tokens is scored. Prefill batches (-b above 3) always run dense; -b "
    "1\n"
    "scores what decode computes, token by token. In a mode other than dense the dense run is made "
    "too,\n"
    "on the same weights, and compared: KL divergence (nats per token), share of equal best "
    "tokens,\n"
    "ratio of perplexities with its standard error.\n"
    "\n"
    "Example:\n"
    "  thermocline perplexity -m model.gguf -f text.txt -c 256 --sparse exact -b 1 --max-windows 8";

struct Options {
  EngineOptions engine;
  PerplexityOptions perplexity;
  std::string text_path;
  bool json = false;
};

void PrintTable(const PerplexityResult& r, const Engine& engine, bool compared) {
  std::string text = fmt::format("mode            {}\n", SparseModeName(engine.model().mode()));
  text += fmt::format("tokens          {} in {} windows\n", r.tokens, r.windows);
  text += fmt::format("nll per token   {:.5f} +- {:.5f}\n", r.nll_per_token, r.nll_std_error);
  text += fmt::format("perplexity      {:.4f} +- {:.4f}\n", r.perplexity,
                      r.perplexity * r.nll_std_error);
  if (compared) {
    text += fmt::format("against dense   perplexity ratio {:.6f} +- {:.6f}\n",
                        std::exp(r.nll_per_token - r.dense_nll_per_token), r.ratio_std_error);
    text += fmt::format("                mean KL {:.3e} nats, same best token {:.3f} %\n",
                        r.mean_kl, 100 * r.top1_agreement);
  }
  WriteOutput(text);
}

void PrintJson(const PerplexityResult& r, const Engine& engine, bool compared) {
  nlohmann::ordered_json json = {{"model", engine.model().options().model_path},
                                 {"mode", SparseModeName(engine.model().mode())},
                                 {"tokens", r.tokens},
                                 {"windows", r.windows},
                                 {"nll_per_token", r.nll_per_token},
                                 {"nll_std_error", r.nll_std_error},
                                 {"perplexity", r.perplexity}};
  if (compared) {
    json["dense_nll_per_token"] = r.dense_nll_per_token;
    json["perplexity_ratio"] = std::exp(r.nll_per_token - r.dense_nll_per_token);
    json["perplexity_ratio_std_error"] = r.ratio_std_error;
    json["mean_kl_nats"] = r.mean_kl;
    json["top1_agreement"] = r.top1_agreement;
  }
  WriteOutput(json.dump(2) + "\n");
}

void Run(Options& options) {
  const std::string text = ReadTextFile(options.text_path);
  if (text.empty()) {
    throw Error({.path = options.text_path, .what = "the text is empty"});
  }
  options.engine.all_logits = true;
  options.engine.progress = StderrProgress();
  options.perplexity.progress = options.engine.progress;
  Engine engine(options.engine);
  const bool compare = engine.model().mode() != SparseMode::kDense;
  options.perplexity.compare_to_dense = compare;
  const auto ids = engine.tokenizer().Encode(text);
  const PerplexityResult result = EvaluatePerplexity(engine, ids, options.perplexity);
  ClearStderrProgress();
  options.json ? PrintJson(result, engine, compare) : PrintTable(result, engine, compare);
}

}  // namespace

void AddPerplexityVerb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  options->engine.sparse = "dense";
  CLI::App* verb =
      AddVerb(app, "perplexity", "Scores a text with a model, every token counted", kDetails);
  AddModelOptions(*verb, &options->engine);
  AddEngineOptions(*verb, &options->engine);
  verb->add_option("-f,--file", options->text_path, "text to score (- is standard input)")
      ->required();
  verb->add_option("--max-windows", options->perplexity.max_windows,
                   "score only the first N windows")
      ->check(CLI::NonNegativeNumber);
  verb->add_flag("--json", options->json, "print JSON");
  verb->callback([options] { Run(*options); });
}

}  // namespace thermocline
