// GPT-2: learned positions.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kGpt2Family = {
    .architecture = "gpt2",
    .default_activation = Activation::kGeluTanh,
    .norm = NormKind::kLayer,
    .ffn = FfnKind::kPlain,
    .learned_positions = true,
};

namespace {

constexpr std::string_view kGpt2Classes[] = {"GPT2LMHeadModel", "GPT2Model"};
constexpr std::string_view kGpt2Types[] = {"gpt2"};

constexpr HfTensor kGpt2Tensors[] = {
    {"wte", "token_embd"},
    {"wpe", "position_embd"},
    {"h.{}.ln_1", "blk.{}.attn_norm"},
    {"h.{}.attn.c_attn", "blk.{}.attn_qkv", HfTransform::kTranspose},
    {"h.{}.attn.c_proj", "blk.{}.attn_output", HfTransform::kTranspose},
    {"h.{}.ln_2", "blk.{}.ffn_norm"},
    {"h.{}.mlp.c_fc", "blk.{}.ffn_up", HfTransform::kTranspose},
    {"h.{}.mlp.c_proj", "blk.{}.ffn_down", HfTransform::kTranspose},
    {"ln_f", "output_norm"},
    kHfHead,
};

constexpr HfKey kGpt2Keys[] = {
    {"feed_forward_length", "n_inner", HfKind::kInt, kHfFourTimes},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", HfKind::kFloat, 1e-5},
};

constexpr HfExpected kGpt2Expected[] = {
    {"scale_attn_weights", 1},
    {"scale_attn_by_inverse_layer_idx", 0},
    {"add_cross_attention", 0},
};

}  // namespace

const HfImport kGpt2Import = {
    .architecture = "gpt2",
    .classes = kGpt2Classes,
    .types = kGpt2Types,
    .prefix = "transformer.",
    .tensors = kGpt2Tensors,
    .keys = kGpt2Keys,
    .expected = kGpt2Expected,
    .activation = "gelu_tanh",
    .kv_heads = HfKvHeads::kEqual,
    .rope = {.turns = false},
    .tied = true,
};

}  // namespace thermocline
