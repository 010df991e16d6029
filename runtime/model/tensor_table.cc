#include "runtime/model/tensor_table.h"

#include <algorithm>
#include <array>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

int64_t DimOfLayer(TensorDim dim, const LayerConfig& layer) {
  switch (dim) {
    case TensorDim::kQDim:
      return layer.attention.q_dim();
    case TensorDim::kKvDim:
      return layer.attention.kv_dim();
    case TensorDim::kHeadDim:
      return layer.attention.head_dim;
    case TensorDim::kHeads:
      return layer.attention.n_heads;
    case TensorDim::kKvHeads:
      return layer.attention.n_kv_heads;
    case TensorDim::kDFf:
      return layer.ffn.d_ff;
    case TensorDim::kBuckets:
      return layer.attention.relative.n_buckets;
    default:
      CHECK(false);
      return 0;
  }
}

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
    case TensorDim::kLayerEmbd:
      return config.layer_embd_dim;
    case TensorDim::kLayerEmbds:
      return config.layer_embds_dim();
    case TensorDim::kLaurelRank:
      return config.laurel_rank;
    case TensorDim::kStreams:
      return config.streams.n;
    case TensorDim::kStreamsSquared:
      return config.streams.n * config.streams.n;
    case TensorDim::kOtherStreams:
      return (config.streams.n - 1) * config.d_model;
    case TensorDim::kPredictorRank:
      return kAnyDim;
    case TensorDim::kPositions:
      return config.max_seq_len + config.position_offset;
    default:
      CHECK(layer != nullptr);  // the dimension is a layer's
      return DimOfLayer(dim, *layer);
  }
}

ModelTensor MakeTensor(const TensorRow& row, const ModelConfig& config, int64_t layer) {
  CHECK(row.in_layer() == (layer != kNoLayer));
  const LayerConfig* own = row.in_layer() ? &config.layer(layer) : nullptr;
  const bool turned = config.by_column && IsStoredByColumn(row.role);
  return {.row = &row,
          .layer = layer,
          .name = row.in_layer() ? LayerTensorName(row.name, config, layer) : std::string(row.name),
          .rows = DimOf(turned ? row.cols : row.rows, config, own),
          .cols = DimOf(turned ? row.rows : row.cols, config, own),
          .unused = row.own_kv && !own->attention.has_own_kv()};
}

void Visit(const GgufReader& gguf, const ModelConfig& config, const ModelTensor& tensor,
           const TensorFn& fn) {
  const GgufTensorInfo* info = gguf.FindTensor(tensor.name);
  const bool first = tensor.layer == 0 || tensor.layer == config.n_encoder_layers;
  const bool required = tensor.row->required || (tensor.row->first_has_it && first);
  if (info != nullptr || (required && !tensor.unused)) fn(tensor, info);
}

// Whether a layer can have the row's tensor.
bool IsOfLayer(const TensorRow& row, const ModelConfig& config, int64_t layer) {
  return row.in_encoder || !config.in_encoder(layer);
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
    {TensorRole::kPositionEmbd, "position_embd"},
    {TensorRole::kLayerEmbd, "per_layer_token_embd"},
    {TensorRole::kLayerEmbdProj, "per_layer_model_proj"},
    {TensorRole::kLayerEmbdNorm, "per_layer_proj_norm"},
    {TensorRole::kToStreams, "altup_proj"},
    {TensorRole::kFromStreams, "altup_unembd_proj"},
    {TensorRole::kOutputNorm, "output_norm"},
    {TensorRole::kOutputNormBias, "output_norm_bias"},
    {TensorRole::kEncoderNorm, "encoder_norm"},
    {TensorRole::kOutput, "output"},
    {TensorRole::kOutputBias, "output_bias"},
    {TensorRole::kRopeFreqs, "rope_freqs"},
    {TensorRole::kRopeShort, "rope_factors_short"},
    {TensorRole::kRopeLong, "rope_factors_long"},
    {TensorRole::kAttnNorm, "attn_norm"},
    {TensorRole::kAttnNormBias, "attn_norm_bias"},
    {TensorRole::kWq, "attn_q"},
    {TensorRole::kWk, "attn_k"},
    {TensorRole::kWv, "attn_v"},
    {TensorRole::kWo, "attn_output"},
    {TensorRole::kWqBias, "attn_q_bias"},
    {TensorRole::kWkBias, "attn_k_bias"},
    {TensorRole::kWvBias, "attn_v_bias"},
    {TensorRole::kWoBias, "attn_output_bias"},
    {TensorRole::kQNorm, "attn_q_norm"},
    {TensorRole::kKNorm, "attn_k_norm"},
    {TensorRole::kAttnSubNorm, "attn_sub_norm"},
    {TensorRole::kAttnPostNorm, "attn_post_norm"},
    {TensorRole::kRelativeBias, "attn_rel_b"},
    {TensorRole::kCrossNorm, "cross_attn_norm"},
    {TensorRole::kCrossQ, "cross_attn_q"},
    {TensorRole::kCrossK, "cross_attn_k"},
    {TensorRole::kCrossV, "cross_attn_v"},
    {TensorRole::kCrossO, "cross_attn_output"},
    {TensorRole::kCrossRelativeBias, "cross_attn_rel_b"},
    {TensorRole::kFfnNorm, "ffn_norm"},
    {TensorRole::kFfnNormBias, "ffn_norm_bias"},
    {TensorRole::kFfnPostNorm, "ffn_post_norm"},
    {TensorRole::kRouterNorm, "altup_router_norm"},
    {TensorRole::kRouter, "altup_router"},
    {TensorRole::kPredictCoef, "altup_predict_coef"},
    {TensorRole::kCorrectCoef, "altup_correct_coef"},
    {TensorRole::kLaurelLeft, "laurel_l"},
    {TensorRole::kLaurelRight, "laurel_r"},
    {TensorRole::kLaurelPostNorm, "laurel_post_norm"},
    {TensorRole::kLayerGateScale, "altup_correct_scale"},
    {TensorRole::kLayerGate, "inp_gate"},
    {TensorRole::kLayerProj, "proj"},
    {TensorRole::kLayerPostNorm, "post_norm"},
    {TensorRole::kGate, "ffn_gate"},
    {TensorRole::kGateBias, "ffn_gate_bias"},
    {TensorRole::kUp, "ffn_up"},
    {TensorRole::kUpBias, "ffn_up_bias"},
    {TensorRole::kFfnSubNorm, "ffn_sub_norm"},
    {TensorRole::kDown, "ffn_down"},
    {TensorRole::kDownBias, "ffn_down_bias"},
    {TensorRole::kDownT, "ffn_down_t"},
    {TensorRole::kDownTBias, "ffn_down_t_bias"},
    {TensorRole::kUpDown, "ffn_up_down"},
    {TensorRole::kNeuronOrder, "neuron_order"},
    {TensorRole::kPredictorIn, "predictor_in"},
    {TensorRole::kPredictorOut, "predictor_out"},
};

}  // namespace

bool TensorRow::goes_with_attention() const {
  switch (role) {
    case TensorRole::kWq:
    case TensorRole::kWk:
    case TensorRole::kWv:
    case TensorRole::kWo:
    case TensorRole::kWqBias:
    case TensorRole::kWkBias:
    case TensorRole::kWvBias:
    case TensorRole::kWoBias:
    case TensorRole::kQNorm:
    case TensorRole::kKNorm:
    case TensorRole::kAttnSubNorm:
      return true;
    default:
      return false;
  }
}

bool IsStoredByColumn(TensorRole role) {
  switch (role) {
    case TensorRole::kWq:
    case TensorRole::kWk:
    case TensorRole::kWv:
    case TensorRole::kWo:
    case TensorRole::kGate:
    case TensorRole::kUp:
      return true;
    default:
      return false;
  }
}

bool IsPacked(const GgufReader& gguf) { return gguf.Find(kPackedSourceKey) != nullptr; }

std::string LayerTensorName(std::string_view pattern, int64_t layer) {
  const size_t hole = pattern.find("{}");
  CHECK(hole != std::string_view::npos);
  return std::string(pattern.substr(0, hole)) + std::to_string(layer) +
         std::string(pattern.substr(hole + 2));
}

std::string LayerTensorName(std::string_view pattern, const ModelConfig& config, int64_t layer) {
  if (!config.has_encoder()) return LayerTensorName(pattern, layer);
  return config.in_encoder(layer)
             ? "enc." + LayerTensorName(pattern, layer)
             : "dec." + LayerTensorName(pattern, layer - config.n_encoder_layers);
}

const TensorRow& RowOf(TensorTable table, TensorRole role) {
  const auto row = std::ranges::find(table, role, &TensorRow::role);
  CHECK(row != table.end());
  return *row;
}

ModelTensor TensorOf(TensorTable table, TensorRole role, const ModelConfig& config, int64_t layer) {
  return MakeTensor(RowOf(table, role), config, layer);
}

FfnForm ReadFfnForm(const GgufReader& gguf, TensorTable table, const ModelConfig& config,
                    int64_t layer) {
  if (IsPacked(gguf)) return FfnForm::kPacked;
  const std::string per_neuron =
      LayerTensorName(RowOf(table, TensorRole::kDownT).name, config, layer);
  return gguf.FindTensor(per_neuron) == nullptr ? FfnForm::kStock : FfnForm::kPerNeuron;
}

void ForEachNamed(TensorTable table, const ModelConfig& config,
                  const std::function<void(const ModelTensor&)>& fn) {
  const Parts parts = Split(table);
  for (const TensorRow& row : parts.first) fn(MakeTensor(row, config, kNoLayer));
  for (int64_t l = 0; l < config.n_layers; ++l) {
    for (const TensorRow& row : parts.layer) {
      if (IsOfLayer(row, config, l)) fn(MakeTensor(row, config, l));
    }
  }
  for (const TensorRow& row : parts.last) fn(MakeTensor(row, config, kNoLayer));
}

void ForEachTensor(const GgufReader& gguf, TensorTable table, const ModelConfig& config,
                   const TensorFn& fn) {
  const Parts parts = Split(table);
  const auto visit = [&](const TensorRow& row) {
    Visit(gguf, config, MakeTensor(row, config, kNoLayer), fn);
  };
  for (const TensorRow& row : parts.first) visit(row);
  for (int64_t l = 0; l < config.n_layers; ++l) ForEachLayerTensor(gguf, table, config, l, fn);
  for (const TensorRow& row : parts.last) visit(row);
}

void ForEachLayerTensor(const GgufReader& gguf, TensorTable table, const ModelConfig& config,
                        int64_t layer, const TensorFn& fn) {
  const FfnForm form = ReadFfnForm(gguf, table, config, layer);
  for (const TensorRow& row : Split(table).layer) {
    if (!row.in_form(form) || !IsOfLayer(row, config, layer)) continue;
    Visit(gguf, config, MakeTensor(row, config, layer), fn);
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
