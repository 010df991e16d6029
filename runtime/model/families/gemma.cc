// Gemma (arXiv:2403.08295). Files hold 1 + weight of its norms.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kGemmaFamily = {
    .architecture = "gemma",
    .pairing = RopePairing::kHalves,
    .default_activation = Activation::kGeluTanh,
    .embedding_times_root = true,
};

namespace {

constexpr std::string_view kGemmaClasses[] = {"GemmaForCausalLM", "GemmaModel"};
constexpr std::string_view kGemmaTypes[] = {"gemma"};

constexpr HfTensor kGemmaTensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm", HfTransform::kPlusOne},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", HfTransform::kPlusOne},
    {"layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    {"norm", "output_norm", HfTransform::kPlusOne},
    kHfHead,
};

}  // namespace

const HfImport kGemmaImport = {
    .architecture = "gemma",
    .classes = kGemmaClasses,
    .types = kGemmaTypes,
    .prefix = "model.",
    .tensors = kGemmaTensors,
    .keys = kHfLlamaKeys,
    .activation = "gelu_tanh",
    .activation_keys = "hidden_activation",  // hidden_act says "gelu" in some, and means the same
    .tied = true,
    .add_space_prefix = false,
};

}  // namespace thermocline
