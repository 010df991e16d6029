// thermocline perplexity: how well a model (in a mode) predicts a text.
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/size_text.h"
#include "runtime/engine/evaluate.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/scored_mode.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kPerplexityDetails =
    R"(The text is tokenised whole and cut in windows of -c tokens less one; each window is fed behind BOS and
every one of its tokens is scored. In a mode other than dense the dense run is made too, on the same weights,
and compared: KL divergence (nats per token), share of equal best tokens, ratio of perplexities with its
standard error. Large batches run dense in every mode; unless -b is given it is chosen so that the mode is
what is scored (exact: 3, predicted: 16).

In mode predicted a table tells, layer by layer, which share of the active neurons was predicted on this text
(recall), how many neurons were predicted and are active (of d_ff), and what the predictor reads per token.

Example:
  thermocline perplexity -m model.gguf -f text.txt -c 256 --predictor model.predictor.gguf --max-windows 8)";

struct PerplexityArgs {
  EngineOptions engine;
  PerplexityOptions perplexity;
  const CLI::Option* sparse = nullptr;
  const CLI::Option* batch = nullptr;
  std::string text_path;
  bool json = false;
};

// What a predictor does, of one layer or of all that are predicted.
struct PredictorQuality {
  FfnCount count;
  int64_t n_neurons = 0;
  uint64_t predictor_bytes = 0;
};

std::vector<PredictorQuality> LayerQualities(const PerplexityResult& r, const Engine& engine) {
  std::vector<PredictorQuality> layers;
  for (size_t l = 0; l < r.counts.layers.size(); ++l) {
    PredictorQuality& quality = layers.emplace_back();
    for (const SlicePredictor& predictor : engine.predictors()[l]) {
      if (!predictor.runs) continue;
      quality.count = r.counts.layers[l];
      quality.n_neurons = engine.config().layers[l].ffn.d_ff;
      quality.predictor_bytes += predictor.touched_bytes;
    }
  }
  return layers;
}

PredictorQuality Total(const std::vector<PredictorQuality>& layers) {
  PredictorQuality total;
  for (const PredictorQuality& layer : layers) {
    total.count.Add(layer.count);
    total.n_neurons += layer.n_neurons;
    total.predictor_bytes += layer.predictor_bytes;
  }
  return total;
}

// Shares of all neurons that were asked about.
struct Densities {
  double predicted;
  double active;
};
Densities DensitiesOf(const PredictorQuality& q, const PerplexityResult& r) {
  const auto neurons = static_cast<double>(r.counts.tokens * q.n_neurons);
  return {static_cast<double>(q.count.gates) / neurons,
          static_cast<double>(q.count.hits + q.count.missed) / neurons};
}

std::string PredictorTable(const PerplexityResult& r, const Engine& engine) {
  std::string text = fmt::format("predictor       {}\n{:<8}{:>9}{:>12}{:>11}{:>14}\n",
                                 engine.model().predictor()->Description(), "layer", "recall",
                                 "predicted", "active", "bytes/token");
  const auto row = [&](const std::string& name, const PredictorQuality& q) {
    const Densities d = DensitiesOf(q, r);
    text +=
        q.n_neurons == 0
            ? fmt::format("{:<8}  every gate is computed, which costs less than predicting\n", name)
            : fmt::format("{:<8}{:>7.2f} %{:>10.2f} %{:>9.2f} %{:>14}\n", name,
                          100 * q.count.Recall(), 100 * d.predicted, 100 * d.active,
                          FormatBytes(q.predictor_bytes));
  };
  const auto layers = LayerQualities(r, engine);
  for (size_t l = 0; l < layers.size(); ++l) row(std::to_string(l), layers[l]);
  row("total", Total(layers));
  return text;
}

nlohmann::ordered_json QualityJson(const PredictorQuality& q, const PerplexityResult& r) {
  if (q.n_neurons == 0) return nullptr;  // not predicted
  const Densities d = DensitiesOf(q, r);
  return {{"recall", q.count.Recall()},
          {"predicted_density", d.predicted},
          {"true_density", d.active},
          {"predictor_bytes_per_token", q.predictor_bytes}};
}

// What the FFN's mode and thresholds in attention cost, each alone, where both are in use.
struct Parts {
  PerplexityResult ffn;
  PerplexityResult attention;
};

std::optional<Parts> ScoreParts(Engine& engine, std::span<const int32_t> ids,
                                PerplexityOptions options) {
  const auto& choice = engine.model().threshold_choice();
  if (!choice || choice->ffn_mode == SparseMode::kThreshold ||
      choice->ffn_mode == SparseMode::kDense) {
    return std::nullopt;
  }
  Parts parts;
  options.mode = choice->ffn_mode;
  parts.ffn = EvaluatePerplexity(engine, ids, options);
  options.mode = SparseMode::kThreshold;
  engine.cuts()->cuts()->ffn_mode = SparseMode::kDense;
  parts.attention = EvaluatePerplexity(engine, ids, options);
  engine.cuts()->cuts()->ffn_mode = choice->ffn_mode;
  return parts;
}

double RatioOf(const PerplexityResult& r) {
  return std::exp(r.nll_per_token - r.dense_nll_per_token);
}

// The shares skipped of a layer's parts, as "attention 0.398, down 0.412".
std::string SkippedText(const ModelCuts::PartShares& shares) {
  std::string text;
  for (const auto& [name, share] : {std::pair{"attention", shares.attention},
                                    {"gate and up", shares.gate_up},
                                    {"down", shares.down}}) {
    if (share) text += fmt::format("{}{} {:.3f}", text.empty() ? "" : ", ", name, *share);
  }
  return text;
}

void PrintTable(const PerplexityResult& r, const std::optional<Parts>& parts, const Engine& engine,
                bool compared) {
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
  if (parts) {
    for (const auto& [name, part] :
         {std::pair{"FFN alone", &parts->ffn}, {"attention alone", &parts->attention}}) {
      text += fmt::format("  {:<14}perplexity ratio {:.6f} +- {:.6f}, mean KL {:.3e} nats\n", name,
                          RatioOf(*part), part->ratio_std_error, part->mean_kl);
    }
  }
  if (const ModelCuts* const cuts = engine.cuts()) {
    text += fmt::format("skipped         {:.3f} of the weights that {} is for: {}\n",
                        cuts->ShareSkipped(r.counts.channels), engine.model().options().sparse,
                        SkippedText(cuts->SharesSkipped(r.counts.channels)));
  }
  if (engine.model().predictor() != nullptr) text += PredictorTable(r, engine);
  WriteOutput(text);
}

nlohmann::ordered_json PartJson(const PerplexityResult& r) {
  return {{"perplexity_ratio", RatioOf(r)},
          {"perplexity_ratio_std_error", r.ratio_std_error},
          {"mean_kl_nats", r.mean_kl},
          {"top1_agreement", r.top1_agreement}};
}

void PrintJson(const PerplexityResult& r, const std::optional<Parts>& parts, const Engine& engine,
               bool compared) {
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
  if (const ModelCuts* const cuts = engine.cuts()) {
    json["sparse"] = engine.model().options().sparse;
    json["skipped_share"] = cuts->ShareSkipped(r.counts.channels);
    const auto shares = cuts->SharesSkipped(r.counts.channels);
    const auto of = [](const std::optional<double>& share) {
      return share ? nlohmann::ordered_json(*share) : nlohmann::ordered_json(nullptr);
    };
    json["skipped_share_of"] = {{"attention", of(shares.attention)},
                                {"gate_up", of(shares.gate_up)},
                                {"down", of(shares.down)}};
    if (parts) {
      json["parts"] = {{"ffn", PartJson(parts->ffn)}, {"attention", PartJson(parts->attention)}};
    }
  }
  if (engine.model().predictor() != nullptr) {
    json["predictor"] = engine.model().predictor()->Description();
    json["layers"] = nlohmann::ordered_json::array();
    const auto layers = LayerQualities(r, engine);
    for (const PredictorQuality& q : layers) json["layers"].push_back(QualityJson(q, r));
    json["all_layers"] = QualityJson(Total(layers), r);
  }
  WriteOutput(json.dump(2) + "\n");
}

void Run(PerplexityArgs& options) {
  const std::string text = ReadTextFile(options.text_path);
  if (text.empty()) {
    throw Error({.path = options.text_path, .what = "the text is empty"});
  }
  SettleScoredMode("perplexity", *options.sparse, *options.batch, &options.engine);
  options.engine.all_logits = true;
  options.engine.progress = StderrProgress();
  options.perplexity.progress = options.engine.progress;
  auto model = std::make_unique<OpenedModel>(options.engine);
  RequireNoEncoder(model->config(), options.engine.model_path, "scoring a text");
  Engine engine(std::move(model));
  const bool compare = engine.model().mode() != SparseMode::kDense;
  options.perplexity.compare_to_dense = compare;
  const auto ids = engine.tokenizer().Encode(text);
  const PerplexityResult result = EvaluatePerplexity(engine, ids, options.perplexity);
  const std::optional<Parts> parts = ScoreParts(engine, ids, options.perplexity);
  ClearStderrProgress();
  options.json ? PrintJson(result, parts, engine, compare)
               : PrintTable(result, parts, engine, compare);
}

}  // namespace

void AddPerplexityVerb(CLI::App& app) {
  auto options = std::make_shared<PerplexityArgs>();
  CLI::App* verb = AddVerb(app, "perplexity", "Scores a text with a model, every token counted",
                           kPerplexityDetails);
  AddModelOptions(*verb, &options->engine);
  AddEngineOptions(*verb, &options->engine);
  AddAdaptOption(*verb, Adapt::kOff, &options->engine);
  AddLoraOption(*verb, &options->engine);
  options->sparse = verb->get_option("--sparse");
  options->batch = verb->get_option("--batch");
  verb->add_option("-f,--file", options->text_path, "text to score (- is standard input)")
      ->required();
  AddNumberOption(*verb, "--max-windows", &options->perplexity.max_windows, {.least = 0},
                  "score only the first N windows; 0 (the default): all");
  verb->add_flag("--json", options->json, "print JSON");
  verb->callback([options] { Run(*options); });
}

}  // namespace thermocline
