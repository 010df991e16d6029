// Predictor files (*.predictor.gguf): which neurons will fire, for one model.
//
// Keys, all `thermocline.`: model_fingerprint, n_layers, d_model, d_ff, predictor.method (svd, mlp,
// sign), predictor.rank (0 for sign), predictor.n_points, predictor.calibration_tokens,
// predictor.heldout_tokens, predictor.corpus_hash; and, absent in most files,
//   predictor.look_ahead   bool: a layer is predicted from the FFN input of the layer before, the
//                          first one from its own; not for sign
//   predictor.unfinished   string: only the first layers are there, of a build with these settings
// Tensors per layer:
//   blk.N.pred_in.weight   (rank, d_model)  F16 or Q8_0; not for sign
//   blk.N.pred_out.weight  (d_ff, rank)     the same type; neurons in the order of the model's
//                                           file, of a packed one in that of its source
//   blk.N.pred_bias        (points, d_ff)   F32; not for sign
//   blk.N.pred_points      (points, 3)      F32: recall, density, threshold; recall ascending
//   pred_true_density      (n_layers)       F32
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "predictor/predictor.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/model.h"

namespace thermocline {

inline constexpr int64_t kMaxPredictorPoints = 64;
inline constexpr int64_t kRankUnit = kQuantBlock;  // so that Q8_0 rows are whole blocks

struct StoredLayerPredictor {
  LayerPredictor predictor;  // its matrices and biases lie in the vectors below, or in the file
  float true_density = 0;    // |active| / d_ff on the tokens the points were measured on
  std::vector<std::byte> in_bytes;
  std::vector<std::byte> out_bytes;
  std::vector<float> biases;  // (points, d_ff)
};

struct PredictorFile {
  std::string path;  // where it was read from; for messages
  std::string model_fingerprint;
  PredictorKind kind = PredictorKind::kSvd;
  int64_t rank = 0;
  int64_t d_model = 0;
  int64_t d_ff = 0;
  int64_t calibration_tokens = 0;
  bool look_ahead = false;     // sets LayerPredictor::input of all layers but the first
  int64_t heldout_tokens = 0;  // tokens the points were measured on
  std::string corpus_hash;
  std::string unfinished;  // settings of a build that goes on
  std::vector<StoredLayerPredictor> layers;
  std::shared_ptr<const GgufReader> mapping;  // the file that this was read from

  // Returns the bytes of a layer's predictor that one token reads, at any operating point.
  uint64_t LayerBytes() const;
};

std::string_view PredictorKindName(PredictorKind kind);

// Returns what a layer's predictor reads in a file that looks ahead or does not.
PredictorInput PredictorInputOf(bool look_ahead, int64_t layer);

// Writes a file. REQUIRES: layers that are all of one shape, with points.
void WritePredictor(const std::string& path, const PredictorFile& file);

// Throws Error for a file that is not a predictor, or whose numbers cannot be: shapes that do not
// go together, counts over their caps, values that are not finite, points that do not ascend.
PredictorFile ReadPredictor(const std::string& path);

// Throws Error with both values when the predictor was made for another model, or a shape differs;
// also when it is unfinished. `fingerprints`: those the model goes by (ModelFingerprints).
void CheckPredictorFits(const PredictorFile& file, const ModelConfig& config,
                        const std::string& model_path,
                        const std::vector<std::string>& fingerprints);

// Returns the least dense operating point whose recall is at least the wanted one; where none is,
// that of the highest recall.
size_t ChoosePoint(const LayerPredictor& predictor, double wanted_recall);

}  // namespace thermocline
