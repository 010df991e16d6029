// Falcon (arXiv:2311.16867): attention and FFN side by side. Where attention has a norm of its own
// (40B), files name it attn_norm_2 and the FFN's attn_norm; else one serves both.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kFalconFamily = {
    .architecture = "falcon",
    .pairing = RopePairing::kHalves,
    .default_activation = Activation::kGelu,
    .norm = NormKind::kLayer,
    .norms = {.attn = "attn_norm_2", .ffn = "attn_norm", .attn_required = false},
    .block = BlockKind::kParallel,
    .ffn = FfnKind::kPlain,
};

namespace {

constexpr std::string_view kFalconClasses[] = {"FalconForCausalLM", "RWForCausalLM", "FalconModel"};
constexpr std::string_view kFalconTypes[] = {"falcon", "RefinedWebModel", "RefinedWeb"};

constexpr HfTensor kFalconTensors[] = {
    {"word_embeddings", "token_embd"},
    {"h.{}.input_layernorm", "blk.{}.attn_norm", HfTransform::kNone, false},
    {"h.{}.ln_mlp", "blk.{}.attn_norm", HfTransform::kNone, false},
    {"h.{}.ln_attn", "blk.{}.attn_norm_2", HfTransform::kNone, false},
    {"h.{}.self_attention.query_key_value", "blk.{}.attn_qkv", HfTransform::kQkvByKvHead},
    {"h.{}.self_attention.dense", "blk.{}.attn_output"},
    {"h.{}.mlp.dense_h_to_4h", "blk.{}.ffn_up"},
    {"h.{}.mlp.dense_4h_to_h", "blk.{}.ffn_down"},
    {"ln_f", "output_norm"},
    kHfHead,
};

constexpr HfKey kFalconKeys[] = {
    {"context_length", "max_position_embeddings", HfKind::kInt, 2048},
    {"feed_forward_length", "ffn_hidden_size", HfKind::kInt, kHfFourTimes},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", HfKind::kFloat, 1e-5},
};

constexpr HfExpected kFalconExpected[] = {
    {"alibi", 0},
    {"parallel_attn", 1},
};

}  // namespace

const HfImport kFalconImport = {
    .architecture = "falcon",
    .classes = kFalconClasses,
    .types = kFalconTypes,
    .prefix = "transformer.",
    .tensors = kFalconTensors,
    .keys = kFalconKeys,
    .expected = kFalconExpected,
    .activation = "gelu",
    .kv_heads = HfKvHeads::kFalcon,
    .tied = true,
};

}  // namespace thermocline
