// T5 (arXiv:1910.10683): encoder and decoder, relative positions; 1.1 with gated FFNs.
#include "runtime/model/families/all.h"

namespace thermocline {

// T5 1.1 and what came of it: gated FFNs, and a head of its own.
const FamilyData kT5GatedFamily = {
    .architecture = "t5",
    .marked_by = "enc.blk.0.ffn_gate.weight",
    .default_activation = Activation::kGeluTanh,
    .attention_scale = 1,
    .encoder = true,
    .relative_positions = true,
    .attn_output = "attn_o",
    .tied_head_by_root = true,
};

const FamilyData kT5Family = {
    .architecture = "t5",
    .default_activation = Activation::kRelu,
    .ffn = FfnKind::kPlain,
    .attention_scale = 1,
    .encoder = true,
    .relative_positions = true,
    .attn_output = "attn_o",
    .tied_head_by_root = true,
};

namespace {

constexpr std::string_view kT5Classes[] = {"T5ForConditionalGeneration", "T5WithLMHeadModel",
                                           "MT5ForConditionalGeneration"};
constexpr std::string_view kT5Types[] = {"t5", "mt5"};

constexpr HfTensor kT5Tensors[] = {
    {"shared", "token_embd"},
    {"encoder.block.{}.layer.0.layer_norm", "enc.blk.{}.attn_norm"},
    {"encoder.block.{}.layer.0.SelfAttention.q", "enc.blk.{}.attn_q"},
    {"encoder.block.{}.layer.0.SelfAttention.k", "enc.blk.{}.attn_k"},
    {"encoder.block.{}.layer.0.SelfAttention.v", "enc.blk.{}.attn_v"},
    {"encoder.block.{}.layer.0.SelfAttention.o", "enc.blk.{}.attn_o"},
    {"encoder.block.{}.layer.0.SelfAttention.relative_attention_bias", "enc.blk.{}.attn_rel_b",
     HfTransform::kNone, false},
    {"encoder.block.{}.layer.1.layer_norm", "enc.blk.{}.ffn_norm"},
    {"encoder.block.{}.layer.1.DenseReluDense.wi_0", "enc.blk.{}.ffn_gate", HfTransform::kNone,
     false},
    {"encoder.block.{}.layer.1.DenseReluDense.wi_1", "enc.blk.{}.ffn_up", HfTransform::kNone,
     false},
    {"encoder.block.{}.layer.1.DenseReluDense.wi", "enc.blk.{}.ffn_up", HfTransform::kNone, false},
    {"encoder.block.{}.layer.1.DenseReluDense.wo", "enc.blk.{}.ffn_down"},
    {"encoder.final_layer_norm", "enc.output_norm"},
    {"decoder.block.{}.layer.0.layer_norm", "dec.blk.{}.attn_norm"},
    {"decoder.block.{}.layer.0.SelfAttention.q", "dec.blk.{}.attn_q"},
    {"decoder.block.{}.layer.0.SelfAttention.k", "dec.blk.{}.attn_k"},
    {"decoder.block.{}.layer.0.SelfAttention.v", "dec.blk.{}.attn_v"},
    {"decoder.block.{}.layer.0.SelfAttention.o", "dec.blk.{}.attn_o"},
    {"decoder.block.{}.layer.0.SelfAttention.relative_attention_bias", "dec.blk.{}.attn_rel_b",
     HfTransform::kNone, false},
    {"decoder.block.{}.layer.1.layer_norm", "dec.blk.{}.cross_attn_norm"},
    {"decoder.block.{}.layer.1.EncDecAttention.q", "dec.blk.{}.cross_attn_q"},
    {"decoder.block.{}.layer.1.EncDecAttention.k", "dec.blk.{}.cross_attn_k"},
    {"decoder.block.{}.layer.1.EncDecAttention.v", "dec.blk.{}.cross_attn_v"},
    {"decoder.block.{}.layer.1.EncDecAttention.o", "dec.blk.{}.cross_attn_o"},
    {"decoder.block.{}.layer.1.EncDecAttention.relative_attention_bias",
     "dec.blk.{}.cross_attn_rel_b", HfTransform::kNone, false},
    {"decoder.block.{}.layer.2.layer_norm", "dec.blk.{}.ffn_norm"},
    {"decoder.block.{}.layer.2.DenseReluDense.wi_0", "dec.blk.{}.ffn_gate", HfTransform::kNone,
     false},
    {"decoder.block.{}.layer.2.DenseReluDense.wi_1", "dec.blk.{}.ffn_up", HfTransform::kNone,
     false},
    {"decoder.block.{}.layer.2.DenseReluDense.wi", "dec.blk.{}.ffn_up", HfTransform::kNone, false},
    {"decoder.block.{}.layer.2.DenseReluDense.wo", "dec.blk.{}.ffn_down"},
    {"decoder.final_layer_norm", "dec.output_norm"},
    kHfHead,
};

constexpr HfKey kT5Keys[] = {
    {"context_length", "n_positions", HfKind::kInt, 512},
    {"feed_forward_length", "d_ff"},
    {"decoder_block_count", "num_decoder_layers|num_layers"},
    {"attention.key_length", "d_kv"},
    {"attention.value_length", "d_kv"},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", HfKind::kFloat, 1e-6},
    {"attention.layer_norm_rms_epsilon", "layer_norm_epsilon", HfKind::kFloat, 1e-6},
    {"attention.relative_buckets_count", "relative_attention_num_buckets", HfKind::kInt, 32},
    {"attention.relative_max_distance", "relative_attention_max_distance", HfKind::kInt, 128},
    {"decoder_start_token_id", "decoder_start_token_id", HfKind::kIndex, 0},
};

}  // namespace

const HfImport kT5Import = {
    .architecture = "t5",
    .classes = kT5Classes,
    .types = kT5Types,
    .tensors = kT5Tensors,
    .keys = kT5Keys,
    .activation = "relu",
    .kv_heads = HfKvHeads::kEqual,
    .rope = {.turns = false},
    .tied = true,
};

}  // namespace thermocline
