// Builds a predictor from a model and a text, layer by layer: the residual streams of all tokens
// are kept, and each layer is run over them once; beside them memory holds one layer's statistics.
//
// The text is cut into windows. Most of them (calibration) give the covariance of each layer's FFN
// inputs; of the held-out ones every other is used to choose thresholds, the rest to measure
// recall and density, so that what is reported was seen by nothing that was fitted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "profiler/corpus.h"
#include "runtime/engine.h"
#include "runtime/predictor_file.h"

namespace thermocline {

struct PredictorOptions {
  std::string text_path;
  PredictorKind kind = PredictorKind::kSvd;
  int64_t rank = 0;  // 0: DefaultRank
  DType dtype = DType::kQ8_0;
  uint64_t seed = 1;
  double heldout_fraction = 0.25;  // of the windows
  int64_t max_tokens = 0;          // of the text; 0: all
  int max_epochs = 16;             // mlp
  ProgressFn progress;
};

// A fourth of d_model (with Q8_0 factors of a 4-bit gate of usual shapes, about half of its bytes),
// in whole blocks.
int64_t DefaultRank(const ModelConfig& config);

// Windows of ids, each a sequence of its own.
struct TokenWindows {
  std::vector<std::vector<int32_t>> windows;
  int64_t n_tokens = 0;
};

// A text's windows by what they are for.
struct PredictorTexts {
  TokenWindows calibration;
  TokenWindows choosing;
  TokenWindows measuring;
  std::string corpus_hash;
};

// Throws Error when the text is too short, with the tokens it takes.
PredictorTexts ReadPredictorTexts(const OpenedModel& model, const Tokenizer& tokenizer,
                                  const PredictorOptions& options);

// Throws Error for a model whose activation has no true zeros, and for a rank or a type that does
// not fit the model.
void CheckPredictorOptions(const OpenedModel& model, const PredictorOptions& options);

// `engine` must run the whole model on one tier. Throws Interrupted between batches of tokens.
PredictorFile BuildPredictor(Engine& engine, const PredictorTexts& texts,
                             const PredictorOptions& options);

}  // namespace thermocline
