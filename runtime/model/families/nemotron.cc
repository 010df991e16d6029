// Nemotron 4, Minitron (arXiv:2407.14679): squared ReLU. Files hold 1 + weight of its norms.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kNemotronFamily = {
    .architecture = "nemotron",
    .pairing = RopePairing::kHalves,
    .default_activation = Activation::kReluSqr,
    .norm = NormKind::kLayer,
    .ffn = FfnKind::kPlain,
};

namespace {

constexpr std::string_view kNemotronClasses[] = {"NemotronForCausalLM", "NemotronModel"};
constexpr std::string_view kNemotronTypes[] = {"nemotron"};

constexpr HfTensor kNemotronTensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm", HfTransform::kPlusOne},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", HfTransform::kPlusOne},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    {"norm", "output_norm", HfTransform::kPlusOne},
    kHfHead,
};

constexpr HfKey kNemotronKeys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_epsilon", "norm_eps", HfKind::kFloat, 1e-5},
};

}  // namespace

const HfImport kNemotronImport = {
    .architecture = "nemotron",
    .classes = kNemotronClasses,
    .types = kNemotronTypes,
    .prefix = "model.",
    .tensors = kNemotronTensors,
    .keys = kNemotronKeys,
    .activation = "relu_sqr",
    .rope = {.partial = 0.5},
};

}  // namespace thermocline
