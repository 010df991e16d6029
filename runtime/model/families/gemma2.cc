// Gemma 2 (arXiv:2408.00118): norms before and behind, soft caps, every second layer sees a window.
// Of 27B's 46 layers scores are scaled by the width of a head's share of the model.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kGemma2Family = {
    .architecture = "gemma2",
    .pairing = RopePairing::kHalves,
    .default_activation = Activation::kGeluTanh,
    .norms = {.attn_post = "post_attention_norm", .ffn_post = "post_ffw_norm"},
    .embedding_times_root = true,
    .window_pattern = 2,
    .layers_scaled_by_width = 46,
};

namespace {

constexpr std::string_view kGemma2Classes[] = {"Gemma2ForCausalLM", "Gemma2Model"};
constexpr std::string_view kGemma2Types[] = {"gemma2"};

constexpr HfTensor kGemma2Tensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm", HfTransform::kPlusOne},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm", HfTransform::kPlusOne},
    {"layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm", HfTransform::kPlusOne},
    {"layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    {"layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm", HfTransform::kPlusOne},
    {"norm", "output_norm", HfTransform::kPlusOne},
    kHfHead,
};

constexpr HfKey kGemma2Keys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HfKind::kFloat, 1e-6},
    {"attn_logit_softcapping", "attn_logit_softcapping", HfKind::kFloat, kHfLeftOut},
    {"final_logit_softcapping", "final_logit_softcapping", HfKind::kFloat, kHfLeftOut},
};

constexpr HfExpected kGemma2Expected[] = {
    {"use_bidirectional_attention", 0},
};

}  // namespace

const HfImport kGemma2Import = {
    .architecture = "gemma2",
    .classes = kGemma2Classes,
    .types = kGemma2Types,
    .prefix = "model.",
    .tensors = kGemma2Tensors,
    .keys = kGemma2Keys,
    .expected = kGemma2Expected,
    .activation = "gelu_tanh",
    .activation_keys = "hidden_activation",  // hidden_act says "gelu" in some, and means the same
    .window = HfWindow::kAllButNth,
    .window_pattern = 2,
    .tied = true,
    .add_space_prefix = false,
};

}  // namespace thermocline
