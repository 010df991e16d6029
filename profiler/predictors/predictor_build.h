// Builds a predictor from a model and a text, layer by layer: the residual streams of all tokens
// are kept, and each layer is run over them once; beside them memory holds one layer's statistics.
//
// The text is cut into windows. Most of them (calibration) give the covariance of each layer's FFN
// inputs; of the held-out ones every other is used to choose thresholds, the rest to measure
// recall and density, so that what is reported was seen by nothing that was fitted.
//
// A predictor that looks ahead scores a layer's neurons from the FFN input of the layer before, so
// that it can run while attention does; the first layer's are scored from its own. Regression finds
// what of the gate's outcome can be told from there (RegressOn), and that is factored like the
// gate.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "predictor/low_rank.h"
#include "predictor/mlp_trainer.h"
#include "predictor/operating_points.h"
#include "profiler/activations/corpus.h"
#include "runtime/engine/engine.h"
#include "runtime/placement/predictor_file.h"

namespace thermocline {

struct PredictorOptions {
  std::string text_path;
  PredictorKind kind = PredictorKind::kSvd;
  int64_t rank = 0;  // 0: DefaultRank
  DType dtype = DType::kQ8_0;
  uint64_t seed = 1;
  double heldout_fraction = 0.25;              // share of the windows
  int64_t max_tokens = 0;                      // of the text; 0: all
  bool look_ahead = false;                     // svd, mlp
  int max_epochs = 16;                         // mlp
  float learning_rate = kDefaultLearningRate;  // mlp
  // Factors of a layer's gate matrix, where they are known (`synth`). Nothing is calibrated then,
  // and thresholds lie at one distance from firing for all neurons, in units of each gate row's
  // length, as for scores whose errors are rounding. REQUIRES: kSvd, a rank, no look_ahead.
  std::function<LowRank(int64_t layer)> known_factors = {};
  // Called whenever a layer is finished, with all layers finished so far and with the points chosen
  // for this one, as they are on the tokens they were chosen with.
  std::function<void(const PredictorFile& file, std::span<const ChosenPoint> chosen)> on_layer = {};
  ProgressFn progress;
};

// Returns a fourth of d_model in whole blocks. With Q8_0 factors of a 4-bit gate of usual shapes
// that is about half of its bytes.
int64_t DefaultRank(const ModelConfig& config);
// The rank asked for, or the default one.
int64_t RankOf(const ModelConfig& config, const PredictorOptions& options);

// Windows of ids, each a sequence of its own.
struct TokenWindows {
  std::vector<std::vector<int32_t>> windows;
  int64_t n_tokens = 0;
};

// A text's windows, parted by what they are for.
struct PredictorTexts {
  TokenWindows calibration;
  TokenWindows choosing;
  TokenWindows measuring;
  std::string corpus_hash;
};

// Throws Error when the text is too short, and says how many tokens it takes.
PredictorTexts ReadPredictorTexts(const OpenedModel& model, const Tokenizer& tokenizer,
                                  const PredictorOptions& options);

// Throws Error for a model whose activation has no true zeros, and for a rank or a type that does
// not fit the model.
void CheckPredictorOptions(const OpenedModel& model, const PredictorOptions& options);

// Builds a predictor. `engine` must run the whole model on one tier. `begun`: finished layers of an
// earlier build with the same settings (ReadUnfinished), which are kept; the result is then the
// same as if that build had not been stopped. Throws Interrupted between batches of tokens.
PredictorFile BuildPredictor(Engine& engine, const PredictorTexts& texts,
                             const PredictorOptions& options, PredictorFile begun = {});

}  // namespace thermocline
