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
  kOutputNorm,
  kOutput,
  kRopeFreqs,  // divisors of the rotation's frequencies, read into RopeConfig
  kAttnNorm,
  kWq,
  kWk,
  kWv,
  kWo,
  kWqBias,
  kWkBias,
  kWvBias,
  kWoBias,
  kFfnNorm,
  kGate,
  kGateBias,
  kUp,
  kDown,         // as GGUF files store it
  kDownT,        // a row per neuron, as PowerInfer stores it
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
  kDFf,
  kHalfRotDim,
  kPredictorRank,  // what the file says; CheckPowerInferPredictor compares
};

enum class TensorUse : uint8_t {
  kTable,    // rows are looked up
  kMatrix,   // multiplied with, in the file's type
  kVector,   // one row, widened to f32
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
  std::string_view name;  // name in a GGUF; "{}" stands for the layer, and every layer has one then
  TensorUse use;
  TensorDim rows;
  TensorDim cols;
  TensorTier tier = TensorTier::kFast;
  bool required = true;  // a file of one of its forms must have it
  uint8_t forms = kAllForms;
  const float* LayerWeights::*vector = nullptr;
  LinearWeights LayerWeights::*matrix = nullptr;
  LinearWeights LayerWeights::*bias_of = nullptr;
  const float* FfnSlice::*neuron_vector = nullptr;

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
};

// A packed model's own tensors and keys (neurons hot to cold, down transposed, up and down rows
// side by side), and those of PowerInfer's predictor.
inline constexpr const char* kPackedSourceKey = "thermocline.packed.source_fingerprint";
inline constexpr std::string_view kPackedUpDown = "blk.{}.ffn_up_down.weight";
inline constexpr std::string_view kPackedOrder = "blk.{}.neuron_order";
inline constexpr std::string_view kPowerInferIn = "blk.{}.fc1.weight";
inline constexpr std::string_view kPowerInferOut = "blk.{}.fc2.weight";

bool IsPacked(const GgufReader& gguf);

// Turns "blk.{}.ffn_up.weight" into "blk.7.ffn_up.weight".
std::string LayerTensorName(std::string_view pattern, int64_t layer);

// Returns the row of a role. CHECKs that the table has it.
const TensorRow& RowOf(TensorTable table, TensorRole role);
// Returns the tensor of a role. layer: kNoLayer for a tensor of the model.
ModelTensor TensorOf(TensorTable table, TensorRole role, const ModelConfig& config,
                     int64_t layer = kNoLayer);

FfnForm ReadFfnForm(const GgufReader& gguf, TensorTable table, int64_t layer);

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
