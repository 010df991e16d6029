// The tensors of a family, from what it is made of. Synthetic models are written in this order.
#include "runtime/model/families.h"

namespace thermocline {
namespace {

using Role = TensorRole;
using Dim = TensorDim;

constexpr uint8_t kStockForm = static_cast<uint8_t>(FfnForm::kStock);
constexpr uint8_t kPerNeuronForm = static_cast<uint8_t>(FfnForm::kPerNeuron);
constexpr uint8_t kPackedForm = static_cast<uint8_t>(FfnForm::kPacked);

class TableMaker {
 public:
  explicit TableMaker(Family* family) : family_(*family) {}

  void Make() {
    Model(Role::kTokenEmbd, "token_embd.weight", TensorUse::kTable, Dim::kVocab);
    if (family_.learned_positions) {
      Model(Role::kPositionEmbd, "position_embd.weight", TensorUse::kTable, Dim::kPositions);
    }
    AddModelEmbeddings();
    Setting(Role::kRopeFreqs, "rope_freqs.weight");
    Setting(Role::kRopeShort, "rope_factors_short.weight");
    Setting(Role::kRopeLong, "rope_factors_long.weight");
    AddAttention();
    AddBeside();
    AddFfn();
    AddLayerEmbedding();
    if (family_.encoder) {
      Model(Role::kEncoderNorm, "enc.output_norm.weight", TensorUse::kVector, Dim::kOne);
    }
    Model(Role::kOutputNorm, family_.encoder ? "dec.output_norm.weight" : "output_norm.weight",
          TensorUse::kVector, Dim::kOne);
    if (family_.norm == NormKind::kLayer) {
      Model(Role::kOutputNormBias, "output_norm.bias", TensorUse::kVector, Dim::kOne, false);
    }
    // Where this is absent, the head is the embedding table.
    Model(Role::kOutput, "output.weight", TensorUse::kMatrix, Dim::kVocab, false);
    if (family_.norm == NormKind::kLayer) {
      Add({.role = Role::kOutputBias,
           .name = "output.bias",
           .use = TensorUse::kVector,
           .rows = Dim::kOne,
           .cols = Dim::kVocab,
           .required = false});
    }
    family_.tensors = family_.rows;
  }

 private:
  void Add(const TensorRow& row) { family_.rows.push_back(row); }

  std::string_view LayerName(std::string_view name, std::string_view ending) {
    return family_.names.emplace_back("blk.{}." + std::string(name) + std::string(ending));
  }

  // Makes the row of the embedding table, the last norm or the head, which loading treats one by
  // one.
  void Model(Role role, std::string_view name, TensorUse use, Dim rows, bool required = true) {
    Add({.role = role,
         .name = name,
         .use = use,
         .rows = rows,
         .cols = Dim::kDModel,
         .required = required});
  }

  void Setting(Role role, std::string_view name) {
    Add({.role = role,
         .name = name,
         .use = TensorUse::kSetting,
         .rows = Dim::kOne,
         .cols = Dim::kHalfRotDim,
         .tier = TensorTier::kNone,
         .required = false});
  }

  void Norm(Role role, std::string_view name, Dim rows, Dim cols, NormWeights LayerWeights::*member,
            bool required = true) {
    if (name.empty()) return;
    Add({.role = role,
         .name = LayerName(name, ".weight"),
         .use = TensorUse::kVector,
         .rows = rows,
         .cols = cols,
         .required = required,
         .norm = member});
  }

  // Makes the rows of a norm of d_model and, where norms have them, of its biases.
  void NormAndBias(Role role, Role bias, std::string_view name, NormWeights LayerWeights::*member,
                   bool required = true) {
    Norm(role, name, Dim::kOne, Dim::kDModel, member, required);
    if (name.empty() || family_.norm != NormKind::kLayer) return;
    Add({.role = bias,
         .name = LayerName(name, ".bias"),
         .use = TensorUse::kVector,
         .rows = Dim::kOne,
         .cols = Dim::kDModel,
         .required = false,
         .norm_bias_of = member});
  }

  void Matrix(Role role, std::string_view name, Dim rows, Dim cols,
              LinearWeights LayerWeights::*member, bool own_kv = false) {
    Add({.role = role,
         .name = LayerName(name, ".weight"),
         .use = TensorUse::kMatrix,
         .rows = rows,
         .cols = cols,
         .own_kv = own_kv,
         .matrix = member});
  }

  // Makes the rows of a matrix and of its bias.
  void MatrixAndBias(Role role, Role bias, std::string_view name, Dim rows, Dim cols,
                     LinearWeights LayerWeights::*member) {
    const bool own_kv = rows == Dim::kKvDim;
    Matrix(role, name, rows, cols, member, own_kv);
    Add({.role = bias,
         .name = LayerName(name, ".bias"),
         .use = TensorUse::kVector,
         .rows = Dim::kOne,
         .cols = rows,
         .required = false,
         .own_kv = own_kv,
         .bias_of = member});
  }

  void Vector(Role role, std::string_view name, Dim rows, Dim cols,
              const float* LayerWeights::*member) {
    Add({.role = role,
         .name = LayerName(name, ".weight"),
         .use = TensorUse::kVector,
         .rows = rows,
         .cols = cols,
         .vector = member});
  }

  void NeuronMatrix(Role role, std::string_view name, Dim rows, Dim cols,
                    uint8_t forms = kAllForms) {
    Add({.role = role,
         .name = name,
         .use = TensorUse::kMatrix,
         .rows = rows,
         .cols = cols,
         .tier = TensorTier::kNeurons,
         .forms = forms});
  }

  void NeuronVector(Role role, std::string_view name, const float* FfnSlice::*member,
                    bool required = false) {
    Add({.role = role,
         .name = name,
         .use = TensorUse::kVector,
         .rows = Dim::kOne,
         .cols = Dim::kDFf,
         .tier = TensorTier::kNeurons,
         .required = required,
         .neuron_vector = member});
  }

  void NoWeights(Role role, std::string_view name, TensorUse use, Dim rows, Dim cols,
                 bool required = false, uint8_t forms = kAllForms) {
    Add({.role = role,
         .name = name,
         .use = use,
         .rows = rows,
         .cols = cols,
         .tier = TensorTier::kNone,
         .required = required,
         .forms = forms});
  }

  void AddAttention() {
    const NormNames& norms = family_.norms;
    NormAndBias(Role::kAttnNorm, Role::kAttnNormBias, norms.attn, &LayerWeights::attn_norm,
                norms.attn_required);
    MatrixAndBias(Role::kWq, Role::kWqBias, "attn_q", Dim::kQDim, Dim::kDModel, &LayerWeights::wq);
    MatrixAndBias(Role::kWk, Role::kWkBias, "attn_k", Dim::kKvDim, Dim::kDModel, &LayerWeights::wk);
    MatrixAndBias(Role::kWv, Role::kWvBias, "attn_v", Dim::kKvDim, Dim::kDModel, &LayerWeights::wv);
    AddQkNorms();
    if (family_.sub_norms) {
      Norm(Role::kAttnSubNorm, "attn_sub_norm", Dim::kOne, Dim::kQDim,
           &LayerWeights::attn_sub_norm);
    }
    MatrixAndBias(Role::kWo, Role::kWoBias, family_.attn_output, Dim::kDModel, Dim::kQDim,
                  &LayerWeights::wo);
    Norm(Role::kAttnPostNorm, norms.attn_post, Dim::kOne, Dim::kDModel,
         &LayerWeights::attn_post_norm);
    if (family_.relative_positions) {
      Add({.role = Role::kRelativeBias,
           .name = LayerName("attn_rel_b", ".weight"),
           .use = TensorUse::kVector,
           .rows = Dim::kBuckets,
           .cols = Dim::kHeads,
           .required = false,
           .first_has_it = true});
    }
    if (family_.encoder) AddCrossAttention();
  }

  void AddCrossAttention() {
    Add({.role = Role::kCrossNorm,
         .name = LayerName("cross_attn_norm", ".weight"),
         .use = TensorUse::kVector,
         .rows = Dim::kOne,
         .cols = Dim::kDModel,
         .norm = &LayerWeights::cross_norm,
         .in_encoder = false});
    const auto matrix = [this](Role role, std::string_view name, Dim rows, Dim cols,
                               LinearWeights LayerWeights::*member) {
      Add({.role = role,
           .name = LayerName(name, ".weight"),
           .use = TensorUse::kMatrix,
           .rows = rows,
           .cols = cols,
           .matrix = member,
           .in_encoder = false});
    };
    matrix(Role::kCrossQ, "cross_attn_q", Dim::kQDim, Dim::kDModel, &LayerWeights::cross_q);
    matrix(Role::kCrossK, "cross_attn_k", Dim::kKvDim, Dim::kDModel, &LayerWeights::cross_k);
    matrix(Role::kCrossV, "cross_attn_v", Dim::kKvDim, Dim::kDModel, &LayerWeights::cross_v);
    matrix(Role::kCrossO, "cross_attn_o", Dim::kDModel, Dim::kQDim, &LayerWeights::cross_o);
    Add({.role = Role::kCrossRelativeBias,
         .name = LayerName("cross_attn_rel_b", ".weight"),
         .use = TensorUse::kVector,
         .rows = Dim::kBuckets,
         .cols = Dim::kHeads,
         .tier = TensorTier::kNone,
         .required = false,
         .in_encoder = false});
  }

  void AddQkNorms() {
    if (family_.qk_norm == QkNorm::kNone) return;
    const bool each = family_.qk_norm == QkNorm::kEachHead;
    const bool wide = family_.qk_norm == QkNorm::kWide;
    Norm(Role::kQNorm, "attn_q_norm", each ? Dim::kHeads : Dim::kOne,
         wide ? Dim::kQDim : Dim::kHeadDim, &LayerWeights::q_norm, family_.qk_norm_required);
    Norm(Role::kKNorm, "attn_k_norm", each ? Dim::kKvHeads : Dim::kOne,
         wide ? Dim::kKvDim : Dim::kHeadDim, &LayerWeights::k_norm, family_.qk_norm_required);
    family_.rows.back().own_kv = true;
  }

  // What makes the layers' own embeddings, and several streams of one.
  void AddModelEmbeddings() {
    if (family_.layer_embeddings) {
      AddOfModel(Role::kLayerEmbd, "per_layer_token_embd.weight", TensorUse::kTable, Dim::kVocab,
                 Dim::kLayerEmbds);
      AddOfModel(Role::kLayerEmbdProj, "per_layer_model_proj.weight", TensorUse::kMatrix,
                 Dim::kLayerEmbds, Dim::kDModel);
      AddOfModel(Role::kLayerEmbdNorm, "per_layer_proj_norm.weight", TensorUse::kVector, Dim::kOne,
                 Dim::kLayerEmbd);
    }
    if (!family_.streams) return;
    AddOfModel(Role::kToStreams, "altup_proj.weight", TensorUse::kMatrix, Dim::kOtherStreams,
               Dim::kDModel);
    AddOfModel(Role::kFromStreams, "altup_unembd_proj.weight", TensorUse::kMatrix,
               Dim::kOtherStreams, Dim::kDModel);
  }

  void AddOfModel(Role role, std::string_view name, TensorUse use, Dim rows, Dim cols) {
    Add({.role = role, .name = name, .use = use, .rows = rows, .cols = cols});
  }

  // What runs beside attention: the mixing of streams, and a low-rank block.
  void AddBeside() {
    if (family_.streams) {
      Norm(Role::kRouterNorm, "altup_router_norm", Dim::kOne, Dim::kDModel,
           &LayerWeights::router_norm);
      Matrix(Role::kRouter, "altup_router", Dim::kStreams, Dim::kDModel, &LayerWeights::router);
      Vector(Role::kPredictCoef, "altup_predict_coef", Dim::kStreamsSquared, Dim::kStreams,
             &LayerWeights::predict_coef);
      Vector(Role::kCorrectCoef, "altup_correct_coef", Dim::kStreams, Dim::kStreams,
             &LayerWeights::correct_coef);
    }
    if (!family_.laurel) return;
    Matrix(Role::kLaurelLeft, "laurel_l", Dim::kLaurelRank, Dim::kDModel,
           &LayerWeights::laurel_left);
    Matrix(Role::kLaurelRight, "laurel_r", Dim::kDModel, Dim::kLaurelRank,
           &LayerWeights::laurel_right);
    Norm(Role::kLaurelPostNorm, "laurel_post_norm", Dim::kOne, Dim::kDModel,
         &LayerWeights::laurel_post_norm);
  }

  // What joins a layer's own embedding to its output.
  void AddLayerEmbedding() {
    if (!family_.layer_embeddings) return;
    if (family_.streams) {
      Vector(Role::kLayerGateScale, "altup_correct_scale", Dim::kOne, Dim::kDModel,
             &LayerWeights::layer_gate_scale);
    }
    Matrix(Role::kLayerGate, "inp_gate", Dim::kLayerEmbd, Dim::kDModel, &LayerWeights::layer_gate);
    Matrix(Role::kLayerProj, "proj", Dim::kDModel, Dim::kLayerEmbd, &LayerWeights::layer_proj);
    Norm(Role::kLayerPostNorm, "post_norm", Dim::kOne, Dim::kDModel,
         &LayerWeights::layer_post_norm);
  }

  void AddFfn() {
    const bool gated = family_.ffn == FfnKind::kGated;
    NormAndBias(Role::kFfnNorm, Role::kFfnNormBias, family_.norms.ffn, &LayerWeights::ffn_norm);
    const std::string_view first = gated ? "ffn_gate" : "ffn_up";
    NeuronMatrix(Role::kGate, LayerName(first, ".weight"), Dim::kDFf, Dim::kDModel);
    NeuronVector(Role::kGateBias, LayerName(first, ".bias"), &FfnSlice::gate_bias);
    if (gated) {
      NeuronMatrix(Role::kUp, "blk.{}.ffn_up.weight", Dim::kDFf, Dim::kDModel,
                   kStockForm | kPerNeuronForm);
      NeuronVector(Role::kUpBias, "blk.{}.ffn_up.bias", &FfnSlice::up_bias);
    }
    if (family_.sub_norms) {
      NeuronVector(Role::kFfnSubNorm, "blk.{}.ffn_sub_norm.weight", &FfnSlice::h_norm, true);
    }
    NeuronMatrix(Role::kDown, "blk.{}.ffn_down.weight", Dim::kDModel, Dim::kDFf, kStockForm);
    NeuronMatrix(Role::kDownT, "blk.{}.ffn_down_t.weight", Dim::kDFf, Dim::kDModel,
                 gated ? kPerNeuronForm : kPerNeuronForm | kPackedForm);
    if (gated) {
      NeuronMatrix(Role::kUpDown, kPackedUpDown, Dim::kDFf, Dim::kTwoDModel, kPackedForm);
    }
    DownBias(Role::kDownBias, "blk.{}.ffn_down.bias", gated ? kAllForms : kStockForm | kPackedForm);
    if (!gated) DownBias(Role::kDownTBias, "blk.{}.ffn_down_t.bias", kPerNeuronForm);
    Norm(Role::kFfnPostNorm, family_.norms.ffn_post, Dim::kOne, Dim::kDModel,
         &LayerWeights::ffn_post_norm);
    NoWeights(Role::kNeuronOrder, kPackedOrder, TensorUse::kIndices, Dim::kOne, Dim::kDFf, true,
              kPackedForm);
    if (family_.encoder) return;
    NoWeights(Role::kPredictorIn, kPowerInferIn, TensorUse::kMatrix, Dim::kPredictorRank,
              Dim::kDModel);
    NoWeights(Role::kPredictorOut, kPowerInferOut, TensorUse::kMatrix, Dim::kDFf,
              Dim::kPredictorRank);
  }

  void DownBias(Role role, std::string_view name, uint8_t forms) {
    Add({.role = role,
         .name = name,
         .use = TensorUse::kVector,
         .rows = Dim::kOne,
         .cols = Dim::kDModel,
         .required = false,
         .forms = forms,
         .vector = &LayerWeights::down_bias});
  }

  Family& family_;
};

}  // namespace

Family::Family(const FamilyData& data) : FamilyData(data) { TableMaker(this).Make(); }

}  // namespace thermocline
