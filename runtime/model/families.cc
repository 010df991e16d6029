#include "runtime/model/families.h"

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

using Role = TensorRole;
using Dim = TensorDim;

constexpr uint8_t kStockForm = static_cast<uint8_t>(FfnForm::kStock);
constexpr uint8_t kPerNeuronForm = static_cast<uint8_t>(FfnForm::kPerNeuron);
constexpr uint8_t kPackedForm = static_cast<uint8_t>(FfnForm::kPacked);

// ---- rows of each kind ----

constexpr TensorRow Norm(Role role, std::string_view name, const float* LayerWeights::*member) {
  return {.role = role,
          .name = name,
          .use = TensorUse::kVector,
          .rows = Dim::kOne,
          .cols = Dim::kDModel,
          .vector = member};
}

constexpr TensorRow Matrix(Role role, std::string_view name, Dim rows, Dim cols,
                           LinearWeights LayerWeights::*member) {
  return {.role = role,
          .name = name,
          .use = TensorUse::kMatrix,
          .rows = rows,
          .cols = cols,
          .matrix = member};
}

constexpr TensorRow Bias(Role role, std::string_view name, Dim cols,
                         LinearWeights LayerWeights::*member) {
  return {.role = role,
          .name = name,
          .use = TensorUse::kVector,
          .rows = Dim::kOne,
          .cols = cols,
          .required = false,
          .bias_of = member};
}

constexpr TensorRow NeuronMatrix(Role role, std::string_view name, Dim rows, Dim cols,
                                 uint8_t forms = kAllForms) {
  return {.role = role,
          .name = name,
          .use = TensorUse::kMatrix,
          .rows = rows,
          .cols = cols,
          .tier = TensorTier::kNeurons,
          .forms = forms};
}

constexpr TensorRow NeuronBias(Role role, std::string_view name, const float* FfnSlice::*member) {
  return {.role = role,
          .name = name,
          .use = TensorUse::kVector,
          .rows = Dim::kOne,
          .cols = Dim::kDFf,
          .tier = TensorTier::kNeurons,
          .required = false,
          .neuron_vector = member};
}

// Makes the row of the embedding table, the last norm or the head, which loading treats one by one.
constexpr TensorRow OfModel(Role role, std::string_view name, TensorUse use, Dim rows,
                            bool required = true) {
  return {.role = role,
          .name = name,
          .use = use,
          .rows = rows,
          .cols = Dim::kDModel,
          .required = required};
}

constexpr TensorRow NoWeights(Role role, std::string_view name, TensorUse use, Dim rows, Dim cols,
                              bool required = false, uint8_t forms = kAllForms) {
  return {.role = role,
          .name = name,
          .use = use,
          .rows = rows,
          .cols = cols,
          .tier = TensorTier::kNone,
          .required = required,
          .forms = forms};
}

// ---- families ----

// Synthetic models are written in this order.
constexpr TensorRow kLlamaTensors[] = {
    OfModel(Role::kTokenEmbd, "token_embd.weight", TensorUse::kTable, Dim::kVocab),
    NoWeights(Role::kRopeFreqs, "rope_freqs.weight", TensorUse::kSetting, Dim::kOne,
              Dim::kHalfRotDim),

    Norm(Role::kAttnNorm, "blk.{}.attn_norm.weight", &LayerWeights::attn_norm),
    Matrix(Role::kWq, "blk.{}.attn_q.weight", Dim::kQDim, Dim::kDModel, &LayerWeights::wq),
    Bias(Role::kWqBias, "blk.{}.attn_q.bias", Dim::kQDim, &LayerWeights::wq),
    Matrix(Role::kWk, "blk.{}.attn_k.weight", Dim::kKvDim, Dim::kDModel, &LayerWeights::wk),
    Bias(Role::kWkBias, "blk.{}.attn_k.bias", Dim::kKvDim, &LayerWeights::wk),
    Matrix(Role::kWv, "blk.{}.attn_v.weight", Dim::kKvDim, Dim::kDModel, &LayerWeights::wv),
    Bias(Role::kWvBias, "blk.{}.attn_v.bias", Dim::kKvDim, &LayerWeights::wv),
    Matrix(Role::kWo, "blk.{}.attn_output.weight", Dim::kDModel, Dim::kQDim, &LayerWeights::wo),
    Bias(Role::kWoBias, "blk.{}.attn_output.bias", Dim::kDModel, &LayerWeights::wo),

    Norm(Role::kFfnNorm, "blk.{}.ffn_norm.weight", &LayerWeights::ffn_norm),
    NeuronMatrix(Role::kGate, "blk.{}.ffn_gate.weight", Dim::kDFf, Dim::kDModel),
    NeuronBias(Role::kGateBias, "blk.{}.ffn_gate.bias", &FfnSlice::gate_bias),
    NeuronMatrix(Role::kUp, "blk.{}.ffn_up.weight", Dim::kDFf, Dim::kDModel,
                 kStockForm | kPerNeuronForm),
    NeuronMatrix(Role::kDown, "blk.{}.ffn_down.weight", Dim::kDModel, Dim::kDFf, kStockForm),
    NeuronMatrix(Role::kDownT, "blk.{}.ffn_down_t.weight", Dim::kDFf, Dim::kDModel, kPerNeuronForm),
    NeuronMatrix(Role::kUpDown, kPackedUpDown, Dim::kDFf, Dim::kTwoDModel, kPackedForm),
    NoWeights(Role::kNeuronOrder, kPackedOrder, TensorUse::kIndices, Dim::kOne, Dim::kDFf, true,
              kPackedForm),
    NoWeights(Role::kPredictorIn, kPowerInferIn, TensorUse::kMatrix, Dim::kPredictorRank,
              Dim::kDModel),
    NoWeights(Role::kPredictorOut, kPowerInferOut, TensorUse::kMatrix, Dim::kDFf,
              Dim::kPredictorRank),

    OfModel(Role::kOutputNorm, "output_norm.weight", TensorUse::kVector, Dim::kOne),
    // Where this is absent, the head is the embedding table.
    OfModel(Role::kOutput, "output.weight", TensorUse::kMatrix, Dim::kVocab, false),
};

constexpr Family kFamilies[] = {
    {.architecture = "llama",
     .pairing = RopePairing::kAdjacent,
     .default_activation = Activation::kSilu,
     .tensors = kLlamaTensors},
};

}  // namespace

const Family& FamilyNamed(std::string_view architecture) {
  const auto* family = std::ranges::find(kFamilies, architecture, &Family::architecture);
  CHECK(family != std::end(kFamilies));
  return *family;
}

const Family& FindFamily(const GgufReader& gguf) {
  const std::string architecture = gguf.RequireString("general.architecture");
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.architecture == architecture) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.architecture);
  }
  throw Error({.path = gguf.path(),
               .what = "model family not supported",
               .expected = known,
               .found = Printable(architecture),
               .hint = "look at what the file holds",
               .jobs = {Job::kInspect}});
}

}  // namespace thermocline
