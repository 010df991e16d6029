#include "runtime/model/tensor_table.h"

#include <algorithm>
#include <array>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

int64_t DimOf(TensorDim dim, const ModelConfig& config, const LayerConfig* layer) {
  switch (dim) {
    case TensorDim::kOne:
      return 1;
    case TensorDim::kVocab:
      return config.vocab_size;
    case TensorDim::kDModel:
      return config.d_model;
    case TensorDim::kTwoDModel:
      return 2 * config.d_model;
    case TensorDim::kHalfRotDim:
      return config.rope.rot_dim / 2;
    case TensorDim::kPredictorRank:
      return kAnyDim;
    case TensorDim::kQDim:
    case TensorDim::kKvDim:
    case TensorDim::kDFf:
      break;
  }
  CHECK(layer != nullptr);  // the dimension is a layer's
  if (dim == TensorDim::kDFf) return layer->ffn.d_ff;
  return dim == TensorDim::kQDim ? layer->attention.q_dim() : layer->attention.kv_dim();
}

ModelTensor MakeTensor(const TensorRow& row, const ModelConfig& config, int64_t layer) {
  CHECK(row.in_layer() == (layer != kNoLayer));
  const LayerConfig* own = row.in_layer() ? &config.layer(layer) : nullptr;
  return {.row = &row,
          .layer = layer,
          .name = row.in_layer() ? LayerTensorName(row.name, layer) : std::string(row.name),
          .rows = DimOf(row.rows, config, own),
          .cols = DimOf(row.cols, config, own)};
}

void Visit(const GgufReader& gguf, const ModelTensor& tensor, const TensorFn& fn) {
  const GgufTensorInfo* info = gguf.FindTensor(tensor.name);
  if (info != nullptr || tensor.row->required) fn(tensor, info);
}

bool IsLayerRow(const TensorRow& row) { return row.in_layer(); }

struct Parts {
  TensorTable first, layer, last;
};
Parts Split(TensorTable table) {
  const auto begin = std::find_if(table.begin(), table.end(), IsLayerRow);
  const auto end = std::find_if_not(begin, table.end(), IsLayerRow);
  CHECK(std::none_of(end, table.end(), IsLayerRow));  // the layers' rows stand together
  return {{table.begin(), begin}, {begin, end}, {end, table.end()}};
}

struct RoleName {
  TensorRole role;
  std::string_view name;
};
constexpr RoleName kRoleNames[] = {
    {TensorRole::kTokenEmbd, "token_embd"},
    {TensorRole::kOutputNorm, "output_norm"},
    {TensorRole::kOutput, "output"},
    {TensorRole::kRopeFreqs, "rope_freqs"},
    {TensorRole::kAttnNorm, "attn_norm"},
    {TensorRole::kWq, "attn_q"},
    {TensorRole::kWk, "attn_k"},
    {TensorRole::kWv, "attn_v"},
    {TensorRole::kWo, "attn_output"},
    {TensorRole::kWqBias, "attn_q_bias"},
    {TensorRole::kWkBias, "attn_k_bias"},
    {TensorRole::kWvBias, "attn_v_bias"},
    {TensorRole::kWoBias, "attn_output_bias"},
    {TensorRole::kFfnNorm, "ffn_norm"},
    {TensorRole::kGate, "ffn_gate"},
    {TensorRole::kGateBias, "ffn_gate_bias"},
    {TensorRole::kUp, "ffn_up"},
    {TensorRole::kDown, "ffn_down"},
    {TensorRole::kDownT, "ffn_down_t"},
    {TensorRole::kUpDown, "ffn_up_down"},
    {TensorRole::kNeuronOrder, "neuron_order"},
    {TensorRole::kPredictorIn, "predictor_in"},
    {TensorRole::kPredictorOut, "predictor_out"},
};

}  // namespace

bool IsPacked(const GgufReader& gguf) { return gguf.Find(kPackedSourceKey) != nullptr; }

std::string LayerTensorName(std::string_view pattern, int64_t layer) {
  const size_t hole = pattern.find("{}");
  CHECK(hole != std::string_view::npos);
  return std::string(pattern.substr(0, hole)) + std::to_string(layer) +
         std::string(pattern.substr(hole + 2));
}

const TensorRow& RowOf(TensorTable table, TensorRole role) {
  const auto row = std::ranges::find(table, role, &TensorRow::role);
  CHECK(row != table.end());
  return *row;
}

ModelTensor TensorOf(TensorTable table, TensorRole role, const ModelConfig& config, int64_t layer) {
  return MakeTensor(RowOf(table, role), config, layer);
}

FfnForm ReadFfnForm(const GgufReader& gguf, TensorTable table, int64_t layer) {
  if (IsPacked(gguf)) return FfnForm::kPacked;
  const std::string per_neuron = LayerTensorName(RowOf(table, TensorRole::kDownT).name, layer);
  return gguf.FindTensor(per_neuron) == nullptr ? FfnForm::kStock : FfnForm::kPerNeuron;
}

void ForEachNamed(TensorTable table, const ModelConfig& config,
                  const std::function<void(const ModelTensor&)>& fn) {
  const Parts parts = Split(table);
  for (const TensorRow& row : parts.first) fn(MakeTensor(row, config, kNoLayer));
  for (int64_t l = 0; l < config.n_layers; ++l) {
    for (const TensorRow& row : parts.layer) fn(MakeTensor(row, config, l));
  }
  for (const TensorRow& row : parts.last) fn(MakeTensor(row, config, kNoLayer));
}

void ForEachTensor(const GgufReader& gguf, TensorTable table, const ModelConfig& config,
                   const TensorFn& fn) {
  const Parts parts = Split(table);
  for (const TensorRow& row : parts.first) Visit(gguf, MakeTensor(row, config, kNoLayer), fn);
  for (int64_t l = 0; l < config.n_layers; ++l) ForEachLayerTensor(gguf, table, config, l, fn);
  for (const TensorRow& row : parts.last) Visit(gguf, MakeTensor(row, config, kNoLayer), fn);
}

void ForEachLayerTensor(const GgufReader& gguf, TensorTable table, const ModelConfig& config,
                        int64_t layer, const TensorFn& fn) {
  const FfnForm form = ReadFfnForm(gguf, table, layer);
  for (const TensorRow& row : Split(table).layer) {
    if (row.in_form(form)) Visit(gguf, MakeTensor(row, config, layer), fn);
  }
}

std::string_view TensorRoleName(TensorRole role) {
  const auto* entry = std::ranges::find(kRoleNames, role, &RoleName::role);
  CHECK(entry != std::end(kRoleNames));
  return entry->name;
}

std::string_view TensorTierName(TensorTier tier) {
  switch (tier) {
    case TensorTier::kFast:
      return "fast";
    case TensorTier::kNeurons:
      return "by neuron";
    case TensorTier::kNone:
      return "none";
  }
  return "?";
}

}  // namespace thermocline
