// Thresholds below which channels are skipped, as a part of a profile file: what `profile
// --thresholds` measured of a model, from which any share up to kMaxSparsity can be chosen later.
//
// Keys, all `thermocline.`: thresholds.tokens, and thresholds.best.METHOD (uniform, block, layers)
// where ways to split a share were compared. Tensors, for METHOD teal and wina:
//   blk.N.magnitudes.INPUT         I64 a MagnitudeHistogram: its first bin that is not 0, then the
//                                      counts from there on. INPUT: attention (of q, k, v),
//                                      attended (of o), ffn (of gate, up), down, gates (activated
//                                      ones), weighed_gates; and wina.MATRIX, of |x_j| times a norm
//   blk.N.channel_norms.MATRIX     F32 (d_in) norms of the columns. MATRIX: q k v o gate up down
//   blk.N.gate_weights             F32 (d_ff) what up and down are on average to a gate
//   blk.N.sparsity_path.METHOD     F32 (points, 9): share of the layer's weights that is skipped,
//                                      error of the layer's output, share of each matrix
//   thresholds.reached.METHOD.SPLIT F32 what was skipped where kMeasuredShares were asked for
//   thresholds.layer_shares.METHOD F32 (kShareTargets, n_layers): share of each layer where that of
//                                      all is ShareTarget(i)
// Channels of down, gates and gate_weights are those of the model; of a packed one, of its source.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "predictor/sparse_mode.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/model/model.h"
#include "runtime/placement/magnitude_histogram.h"

namespace thermocline {

inline constexpr size_t kMatrices = 7;  // q k v o gate up down
inline constexpr size_t kMatrixInputs = 4;
inline constexpr size_t kPathMethods = 2;  // teal, wina
inline constexpr double kMaxMatrixSparsity = 0.95;
inline constexpr size_t kShareTargets = 19;  // 0 to kMaxSparsity
inline constexpr double ShareTarget(size_t i) {
  return kMaxSparsity * static_cast<double>(i) / static_cast<double>(kShareTargets - 1);
}
// Inputs get smaller where those before them were cut, so that more is skipped than a quantile
// says. How much it is was measured where these shares were asked for.
inline constexpr std::array<double, 5> kMeasuredShares = {0.25, 0.4, 0.5, 0.6, 0.8};
// Which of the inputs a matrix reads.
inline constexpr std::array<size_t, kMatrices> kInputOf = {0, 0, 0, 1, 2, 2, 3};
using MatrixShares = std::array<float, kMatrices>;

// A point of a search: what each matrix skips, and what that does to the layer's output.
struct PathPoint {
  float share = 0;  // of the layer's weights
  float error = 0;  // mean over tokens of |dy|^2 / |y|^2
  MatrixShares matrices{};
};

struct LayerThresholds {
  std::array<MagnitudeHistogram, kMatrixInputs> inputs;
  std::array<MagnitudeHistogram, kMatrices> wina;
  MagnitudeHistogram gates;
  MagnitudeHistogram weighed_gates;
  std::array<std::vector<float>, kMatrices> norms;  // empty for a matrix that is not there
  std::vector<float> gate_weights;                  // empty: the FFN is not gated
  // From no skipping on, the share rising; empty where nothing was searched.
  std::array<std::vector<PathPoint>, kPathMethods> paths;
};

struct ModelThresholds {
  std::string path;  // where it was read from; for messages
  int64_t n_tokens = 0;
  std::vector<LayerThresholds> layers;
  // (kShareTargets, n_layers), or empty.
  std::array<std::vector<float>, kPathMethods> layer_shares;
  // By method and split: what was skipped where kMeasuredShares were asked for, or empty.
  std::array<std::array<std::vector<float>, kThresholdSplits>, kThresholdMethods> reached;
  // Absent where ways were not compared: then kUniform.
  std::array<std::optional<ThresholdSplit>, kPathMethods> best;
};

// Weights of each matrix of a layer; 0 where it has none.
std::array<int64_t, kMatrices> MatrixSizes(const ModelConfig& config, int64_t layer);

// What each matrix of each layer skips, so that all matrices that thresholds are for (attention's
// alone beside another mode of the FFN) skip choice.sparsity of their weights: (n_layers).
// REQUIRES: a method of kPathMethods. Throws Error where the split asked for was not searched.
std::vector<MatrixShares> ChooseShares(const ModelThresholds& thresholds,
                                       const ThresholdChoice& choice, ThresholdSplit split,
                                       const ModelConfig& config);

// The split that kAuto stands for.
ThresholdSplit SplitOf(const ModelThresholds& thresholds, ThresholdMethod method,
                       ThresholdSplit split);
// The share to ask for so that `share` is skipped, by what was measured; `share` where nothing was.
double ShareToAsk(const ModelThresholds& thresholds, ThresholdMethod method, ThresholdSplit split,
                  double share);

// The magnitude below which that share of a matrix's inputs lies, by the method's score.
float ThresholdFor(const LayerThresholds& layer, ThresholdMethod method, size_t matrix,
                   double share);

// Declares, then writes, what is in `thresholds`, between other tensors of a profile.
void DeclareThresholds(const ModelThresholds& thresholds, GgufWriter* writer);
void WriteThresholds(const ModelThresholds& thresholds, GgufWriter* writer);
// Returns nullopt for a profile without thresholds. Throws Error where they cannot be those of a
// model of this shape.
std::optional<ModelThresholds> ReadThresholds(const GgufReader& gguf, const ModelConfig& config);
// Opens a profile for its thresholds. Throws Error where it is none, has none, or is of another
// model than `fingerprints` say (ModelFingerprints).
ModelThresholds OpenThresholds(const std::string& path, const ModelConfig& config,
                               const std::string& model_path,
                               const std::vector<std::string>& fingerprints);

}  // namespace thermocline
