// GLM-4-0414: norms before and behind, half of each head is turned, one matrix for gate and up.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kGlm4Family = {
    .architecture = "glm4",
    .norms = {.attn_post = "post_attention_norm", .ffn_post = "post_ffw_norm"},
    .fused_gate_up = true,
};

namespace {

constexpr std::string_view kGlm4Classes[] = {"Glm4ForCausalLM", "Glm4Model"};
constexpr std::string_view kGlm4Types[] = {"glm4"};

constexpr HfTensor kGlm4Tensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_self_attn_layernorm", "blk.{}.post_attention_norm"},
    {"layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.mlp.gate_up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    {"layers.{}.post_mlp_layernorm", "blk.{}.post_ffw_norm"},
    kHfFinalNorm,
    kHfHead,
};

constexpr HfKey kGlm4Keys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HfKind::kFloat, 1e-5},
};

}  // namespace

const HfImport kGlm4Import = {
    .architecture = "glm4",
    .classes = kGlm4Classes,
    .types = kGlm4Types,
    .prefix = "model.",
    .tensors = kGlm4Tensors,
    .keys = kGlm4Keys,
    .rope = {.partial = 0.5},
};

}  // namespace thermocline
