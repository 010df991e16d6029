// Which tensors a model has. A family has one table of them; loading, checking, the memory plan,
// packing, synth and inspect all go through that table, so that a tensor is one row (and, where the
// executor uses it, one member of LayerWeights or FfnSlice).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/model.h"

namespace thermocline {

enum class TensorRole : uint8_t {
  kTokenEmbd,
  kPositionEmbd,
  kLayerEmbd,  // the layers' own embeddings, side by side
  kLayerEmbdProj,
  kLayerEmbdNorm,
  kToStreams,  // AltUp's, one below the other
  kFromStreams,
  kOutputNorm,
  kOutputNormBias,
  kEncoderNorm,
  kOutput,
  kOutputBias,
  kRopeFreqs,  // divisors of the rotation's frequencies, read into RopeConfig
  kRopeShort,  // LongRoPE's
  kRopeLong,
  kAttnNorm,
  kAttnNormBias,
  kWq,
  kWk,
  kWv,
  kWo,
  kWqBias,
  kWkBias,
  kWvBias,
  kWoBias,
  kQNorm,
  kKNorm,
  kAttnSubNorm,
  kAttnPostNorm,
  kRelativeBias,
  kCrossNorm,
  kCrossQ,
  kCrossK,
  kCrossV,
  kCrossO,
  kCrossRelativeBias,  // old T5 files have it, and nothing computes with it
  kFfnNorm,
  kFfnNormBias,
  kFfnPostNorm,
  kRouterNorm,  // AltUp's
  kRouter,
  kPredictCoef,
  kCorrectCoef,
  kLaurelLeft,
  kLaurelRight,
  kLaurelPostNorm,
  kLayerGateScale,
  kLayerGate,
  kLayerProj,
  kLayerPostNorm,
  kGate,  // in a plain FFN the one matrix before the activation
  kGateBias,
  kUp,
  kUpBias,
  kFfnSubNorm,
  kDown,  // as GGUF files store it
  kDownBias,
  kDownT,        // a row per neuron, as PowerInfer stores it
  kDownTBias,    // down's bias under the name that it then has
  kUpDown,       // packed: a neuron's up row, then its down column
  kNeuronOrder,  // packed: the channel of each row
  kPredictorIn,  // PowerInfer's predictor
  kPredictorOut,
};

// A dimension by its meaning. A layer's dimensions come from its LayerConfig.
enum class TensorDim : uint8_t {
  kOne,
  kVocab,
  kDModel,
  kTwoDModel,
  kQDim,
  kKvDim,
  kHeadDim,
  kHeads,
  kKvHeads,
  kDFf,
  kHalfRotDim,
  kLayerEmbd,
  kLayerEmbds,  // of all layers
  kLaurelRank,
  kStreams,
  kStreamsSquared,
  kOtherStreams,   // d_model of each but the first
  kBuckets,        // of a relative bias
  kPositions,      // max_seq_len, and position_offset before
  kPredictorRank,  // what the file says; CheckPowerInferPredictor compares
};

enum class TensorUse : uint8_t {
  kTable,    // rows are looked up
  kMatrix,   // multiplied with, in the file's type
  kVector,   // widened to f32: one row, or a few where it is a table of coefficients
  kIndices,  // one row of I32
  kSetting,  // read with the config
};

// Where the weights lie.
enum class TensorTier : uint8_t {
  kFast,     // the fast tier, whole
  kNeurons,  // a part per neuron, on the neuron's tier
  kNone,     // no weights of the model: read once, or held by who uses it
};

// How a file stores a layer's FFN. A row is part of some of these forms.
enum class FfnForm : uint8_t {
  kStock = 1,      // gate, up, down
  kPerNeuron = 2,  // gate, up, down with a row per neuron (PowerInfer)
  kPacked = 4,     // gate, up and down side by side, the order of neurons (ours)
};
inline constexpr uint8_t kAllForms = 7;

// A row says what a tensor is; a pointer to a member says where loading puts it.
struct TensorRow {
  TensorRole role;
  // Name in a GGUF. "{}" stands for the layer, and every layer has one then. With an encoder such
  // names begin with "enc." or "dec.", and each counts its own layers.
  std::string_view name;
  TensorUse use;
  TensorDim rows;
  TensorDim cols;
  TensorTier tier = TensorTier::kFast;
  bool required = true;  // a file of one of its forms must have it
  bool own_kv = false;   // of keys and values: unused in a layer that reads another's
  uint8_t forms = kAllForms;
  const float* LayerWeights::*vector = nullptr;
  NormWeights LayerWeights::*norm = nullptr;
  NormWeights LayerWeights::*norm_bias_of = nullptr;
  LinearWeights LayerWeights::*matrix = nullptr;
  LinearWeights LayerWeights::*bias_of = nullptr;
  const float* FfnSlice::*neuron_vector = nullptr;

  bool in_encoder = true;     // the encoder's layers have it, too
  bool first_has_it = false;  // required in the first layer of the encoder and of the decoder

  // Whether it lies where the layer attends: what makes queries, keys, values and the output, but
  // not the norms of what comes in and goes out.
  bool goes_with_attention() const;
  bool in_layer() const { return name.find("{}") != std::string_view::npos; }
  bool in_form(FfnForm form) const { return (forms & static_cast<uint8_t>(form)) != 0; }
  // Packing moves these with the neurons: a row belongs to each neuron, or in a vector an element.
  bool has_row_per_neuron() const { return rows == TensorDim::kDFf; }
  bool has_element_per_neuron() const { return rows == TensorDim::kOne && cols == TensorDim::kDFf; }
};

// Rows in the order in which files have them: the model's first, the layers', the model's last.
using TensorTable = std::span<const TensorRow>;

inline constexpr int64_t kNoLayer = -1;
inline constexpr int64_t kAnyDim = -1;

// One tensor of a model: a row, and for a layer's row the layer.
struct ModelTensor {
  const TensorRow* row = nullptr;
  int64_t layer = kNoLayer;
  std::string name;
  int64_t rows = 0;  // the shape that the config asks for, or kAnyDim
  int64_t cols = 0;
  bool unused = false;  // the file may have it, and nothing reads it
};

// A packed model's own tensors and keys (neurons hot to cold, down transposed, up and down rows
// side by side), and those of PowerInfer's predictor.
inline constexpr const char* kPackedSourceKey = "thermocline.packed.source_fingerprint";
// A model whose matrices are stored by column names its source here.
inline constexpr const char* kColumnsSourceKey = "thermocline.columns.source_fingerprint";
inline constexpr std::string_view kPackedUpDown = "blk.{}.ffn_up_down.weight";
inline constexpr std::string_view kPackedOrder = "blk.{}.neuron_order";
inline constexpr std::string_view kPowerInferIn = "blk.{}.fc1.weight";
inline constexpr std::string_view kPowerInferOut = "blk.{}.fc2.weight";

bool IsPacked(const GgufReader& gguf);
// Whether a matrix has a row per channel of its input in a model that is stored by column. (Down
// then has a row per neuron, which is the same.)
bool IsStoredByColumn(TensorRole role);

// Turns "blk.{}.ffn_up.weight" into "blk.7.ffn_up.weight".
std::string LayerTensorName(std::string_view pattern, int64_t layer);
// The same with an encoder's and a decoder's names: "enc.blk.7.ffn_up.weight".
std::string LayerTensorName(std::string_view pattern, const ModelConfig& config, int64_t layer);

// Returns the row of a role. CHECKs that the table has it.
const TensorRow& RowOf(TensorTable table, TensorRole role);
// Returns the tensor of a role. layer: kNoLayer for a tensor of the model.
ModelTensor TensorOf(TensorTable table, TensorRole role, const ModelConfig& config,
                     int64_t layer = kNoLayer);

FfnForm ReadFfnForm(const GgufReader& gguf, TensorTable table, const ModelConfig& config,
                    int64_t layer);

// Calls fn for every tensor that the table names, of all forms, whether a file has it or not.
void ForEachNamed(TensorTable table, const ModelConfig& config,
                  const std::function<void(const ModelTensor&)>& fn);

// Calls fn for the tensors of a file: those it must hold in its form, `info` null where one is
// missing, and those of the optional ones that it does hold.
using TensorFn = std::function<void(const ModelTensor&, const GgufTensorInfo* info)>;
void ForEachTensor(const GgufReader& gguf, TensorTable table, const ModelConfig& config,
                   const TensorFn& fn);
// Calls fn for the tensors of one layer.
void ForEachLayerTensor(const GgufReader& gguf, TensorTable table, const ModelConfig& config,
                        int64_t layer, const TensorFn& fn);

std::string_view TensorRoleName(TensorRole role);  // "attn_q", ...
std::string_view TensorTierName(TensorTier tier);  // "fast", "by neuron", "none"

}  // namespace thermocline
