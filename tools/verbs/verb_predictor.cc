// thermocline predictor: model and corpus -> activation predictor.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>

#include "profiler/predictors/predictor_build.h"
#include "profiler/predictors/predictor_resume.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/core/size_text.h"
#include "tools/reports/plan_table.h"
#include "tools/reports/predictor_table.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kPredictorDetails =
    R"(Builds a predictor of which FFN neurons will fire, before their gates are computed, for a model whose
activation has true zeros (relu, reglu, relu_sqr).

  svd   two factors of each layer's gate matrix, of --rank, the best for the inputs the layer gets on the
        text (arXiv:2603.14110), and thresholds per neuron chosen where misses cost least. No training.
  mlp   the same shape with a ReLU between, trained on what fires (Deja Vu, arXiv:2310.17157), starting
        from svd's factors of half the rank; stops when held-out tokens gain nothing. Takes minutes to hours.
  sign  sign bits of gate and input (SparseInfer, arXiv:2411.12692): nothing but one threshold per layer is
        stored, the bits are packed when a model is loaded.

The text is cut in windows of -c tokens; the last quarter (--heldout-fraction) is held out, half of it to
choose thresholds and half to measure what is printed: recall (neurons predicted of those that fire),
predicted and true density (share of all neurons), and the bytes the predictor reads per token. The file
holds several operating points; which is used is chosen by the recall wanted when the model runs.

With --look-ahead (svd, mlp) a layer's neurons are predicted from the FFN input of the layer before, which
is known while attention still runs; it predicts less well. The first layer keeps its own input.

Finished layers are kept beside the output, in FILE.partial.gguf, until all are there. After an
interruption the same command goes on with the layers that are missing, and gives the same file; other
options are an error as long as that file is there.

Memory: the tokens' residual streams (4 bytes x d_model each, twice that to look ahead) and about one
layer's statistics.

Example:
  thermocline predictor -m model.gguf -f corpus.txt --method svd --rank 256 -o model.predictor.gguf)";

constexpr double kDefaultRecall = 0.95;
constexpr int64_t kDefaultWindow = 512;  // tokens

struct PredictorArgs {
  EngineOptions engine;
  PredictorOptions predictor;
  double recall = kDefaultRecall;
  std::string output_path;
};

std::string Introduction(const PredictorArgs& args, const OpenedModel& model,
                         const PredictorTexts& texts) {
  const ModelConfig& config = model.config();
  const PredictorOptions& options = args.predictor;
  std::string text = fmt::format("model: {}, {} layers of {} neurons, d_model {}, {}\n",
                                 BaseName(model.gguf().path()), config.n_layers, config.d_ff,
                                 config.d_model, ActivationName(config.activation));
  text += fmt::format("predictor: {}", PredictorKindName(options.kind));
  if (options.kind != PredictorKind::kSign) {
    text += fmt::format(", rank {}, {}, from {} tokens", RankOf(config, options),
                        DTypeName(options.dtype), texts.calibration.n_tokens);
  }
  if (options.look_ahead) text += ", from the FFN input of the layer before";
  return text + fmt::format("\nheld-out: {} tokens to choose thresholds, {} to measure\n\n",
                            texts.choosing.n_tokens, texts.measuring.n_tokens);
}

// How much is predicted, on the thresholds' own tokens, at the recall wanted. It is printed, and
// the settings of mlp are picked by it, since the measured figures must not be.
struct ChosenDensity {
  double sum = 0;
  int64_t n_layers = 0;

  void Add(std::span<const ChosenPoint> points, double wanted_recall) {
    const auto good_enough =
        std::find_if(points.begin(), points.end() - 1,
                     [&](const ChosenPoint& point) { return point.recall >= wanted_recall; });
    sum += 1 - good_enough->skipped;
    ++n_layers;
  }
};

std::string Result(const PredictorArgs& args, const PredictorFile& file,
                   const ChosenDensity& chosen, double seconds) {
  std::string text =
      fmt::format("at a recall of {} or more, on text that nothing was fitted to:\n{}\n",
                  args.recall, PredictorTable(file, args.recall));
  if (chosen.n_layers > 0) {
    text += fmt::format("predicted on the tokens that thresholds were chosen with: {:.2f} %\n",
                        100 * chosen.sum / static_cast<double>(chosen.n_layers));
  }
  return text + fmt::format("predictor: {} ({:.1f} s)\n", args.output_path, seconds);
}

// Builds and writes the file, and goes on from where an interrupted build stopped.
void Build(PredictorArgs& args, const OpenedModel& model, const PredictorTexts& texts) {
  const std::string unfinished_path = UnfinishedPath(args.output_path);
  PredictorFile begun =
      ReadUnfinished(unfinished_path, BuildSettings(model, texts, args.predictor));
  if (!begun.layers.empty()) {
    WriteOutput(fmt::format("going on from {}: {} of {} layers are finished\n", unfinished_path,
                            begun.layers.size(), model.config().n_layers));
  }
  ChosenDensity chosen;
  args.predictor.on_layer = [&](const PredictorFile& file, std::span<const ChosenPoint> points) {
    chosen.Add(points, args.recall);
    WritePredictor(unfinished_path, file);
  };
  const auto started = std::chrono::steady_clock::now();
  EngineOptions options = args.engine;
  options.fast_tier = FastTier::kCpu;  // predictors are made from weights in host memory
  Engine engine(options);
  PredictorFile file;
  try {
    file = BuildPredictor(engine, texts, args.predictor, std::move(begun));
  } catch (const Interrupted&) {
    ClearStderrProgress();
    if (std::filesystem::exists(unfinished_path)) {
      WriteOutput(fmt::format("finished layers are in {}: the same command goes on with them\n",
                              unfinished_path));
    }
    throw;
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  WritePredictor(args.output_path, file);
  std::filesystem::remove(unfinished_path);
  ClearStderrProgress();
  WriteOutput(Result(args, file, chosen, seconds));
}

void RunPredictor(PredictorArgs& args) {
  if (args.predictor.look_ahead && args.predictor.kind == PredictorKind::kSign) {
    FailUsage("predictor", "--look-ahead is for --method svd and mlp");
  }
  for (const std::string& path : {args.output_path, UnfinishedPath(args.output_path)}) {
    CheckRereadOutputPath(path, {args.engine.model_path, args.predictor.text_path});
  }
  args.engine.sparse = "dense";  // every neuron's h is wanted
  args.engine.progress = args.predictor.progress = StderrProgress();
  if (args.engine.context_tokens == 0) {
    const OpenedModel model(args.engine);
    args.engine.context_tokens = std::min(kDefaultWindow, model.context_tokens());
  }
  const OpenedModel model(args.engine);
  RequireNoEncoder(model.config(), args.engine.model_path, "building a predictor");
  CheckPredictorOptions(model, args.predictor);
  const auto tokenizer = MakeTokenizer(model.gguf());
  const PredictorTexts texts = ReadPredictorTexts(model, *tokenizer, args.predictor);
  ClearStderrProgress();
  WriteOutput(Introduction(args, model, texts));

  Build(args, model, texts);
}

void AddBuildOptions(CLI::App& verb, PredictorArgs* args) {
  PredictorOptions* options = &args->predictor;
  verb.add_option("-f,--file", options->text_path, "Text to calibrate on")
      ->required()
      ->type_name("FILE");
  const auto choose_method = [options](const std::string& name) {
    options->kind = name == "sign"  ? PredictorKind::kSign
                    : name == "mlp" ? PredictorKind::kMlp
                                    : PredictorKind::kSvd;
  };
  verb.add_option_function<std::string>("--method", choose_method, "Kind (default svd)")
      ->type_name("svd|mlp|sign")
      ->check(CLI::IsMember({"svd", "mlp", "sign"}));
  verb.add_flag("--look-ahead", options->look_ahead,
                "svd, mlp: predict a layer from the FFN input of the layer before");
  AddNumberOption(verb, "--learning-rate", &options->learning_rate, {.least = 1e-6F, .most = 1},
                  fmt::format("mlp: where it starts (default {})", options->learning_rate))
      ->type_name("RATE");
  AddNumberOption(verb, "--epochs", &options->max_epochs, {.least = 1, .most = 10000},
                  fmt::format("mlp: most passes over the text (default {})", options->max_epochs));
  AddNumberOption(
      verb, "--rank", &options->rank, {.least = 1, .most = int64_t{1} << 20},
      fmt::format("Rank of the factors, a multiple of {} (default: d_model / 4)", kRankUnit));
  AddFactorTypeOption(verb, "--type", &options->dtype);
  AddNumberOption(
      verb, "--heldout-fraction", &options->heldout_fraction, {.least = 0.01, .most = 0.9},
      fmt::format("Share of the text to hold out (default {})", options->heldout_fraction))
      ->type_name("SHARE");
  AddNumberOption(verb, "--max-tokens", &options->max_tokens,
                  {.least = 1, .most = int64_t{1} << 53},
                  "Tokens to take of the text (default: all)");
  AddNumberOption(verb, "--recall", &args->recall, {.least = 0, .most = 1},
                  "Recall of the table (default 0.95)")
      ->type_name("SHARE");
  AddNumberOption(verb, "-s,--seed", &options->seed, {},
                  "Seed of the randomised SVD and of mlp's training (default 1)");
}

}  // namespace

void AddPredictorVerb(CLI::App& app) {
  const auto args = std::make_shared<PredictorArgs>();
  CLI::App* verb =
      AddVerb(app, "predictor", "Builds a predictor of which neurons will fire", kPredictorDetails);
  verb->add_option("-m,--model", args->engine.model_path, "GGUF model; of a split one, any file")
      ->required()
      ->type_name("FILE");
  AddBuildOptions(*verb, args.get());
  AddThreadsOption(*verb, &args->engine.n_threads);
  AddPinOption(*verb, &args->engine);
  AddNumberOption(*verb, "-c,--context,--ctx-size", &args->engine.context_tokens,
                  {.least = 0, .most = kMaxTokensFlag},
                  fmt::format("Tokens of a window (default: {}, or the model's own context where "
                              "that is shorter)",
                              kDefaultWindow));
  AddNumberOption(*verb, "-b,--batch,--batch-size", &args->engine.batch_tokens,
                  {.least = 1, .most = kMaxTokensFlag},
                  fmt::format("Tokens per pass (default {})", args->engine.batch_tokens));
  verb->add_option("-o,--output", args->output_path, "Predictor file to write (.predictor.gguf)")
      ->required()
      ->type_name("FILE");
  verb->callback([args] { RunPredictor(*args); });
}

}  // namespace thermocline
