// OLMo 2 (arXiv:2501.00656): norms behind attention and FFN only, queries and keys normalised
// whole.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kOlmo2Family = {
    .architecture = "olmo2",
    .pairing = RopePairing::kHalves,
    .norms = {.attn = "",
              .ffn = "",
              .attn_post = "post_attention_norm",
              .ffn_post = "post_ffw_norm"},
    .qk_norm = QkNorm::kWide,
};

namespace {

constexpr std::string_view kOlmo2Classes[] = {"Olmo2ForCausalLM", "Olmo2Model"};
constexpr std::string_view kOlmo2Types[] = {"olmo2"};

constexpr HfTensor kOlmo2Tensors[] = {
    kHfEmbedding,
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm"},
    {"layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm"},
    {"layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    {"layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm"},
    kHfFinalNorm,
    kHfHead,
};

constexpr HfKey kOlmo2Keys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HfKind::kFloat, 1e-5},
};

}  // namespace

const HfImport kOlmo2Import = {
    .architecture = "olmo2",
    .classes = kOlmo2Classes,
    .types = kOlmo2Types,
    .prefix = "model.",
    .tensors = kOlmo2Tensors,
    .keys = kOlmo2Keys,
};

}  // namespace thermocline
