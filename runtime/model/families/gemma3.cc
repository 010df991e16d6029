// Gemma 3 (arXiv:2503.19786): five layers with a window and a rotation of their own, then one that
// sees everything.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kGemma3Family = {
    .architecture = "gemma3",
    .pairing = RopePairing::kHalves,
    .default_activation = Activation::kGeluTanh,
    .norms = {.attn_post = "post_attention_norm", .ffn_post = "post_ffw_norm"},
    .qk_norm = QkNorm::kPerHead,
    .embedding_times_root = true,
    .window_pattern = 6,
    .local_freq_base = 10000,
    .layers_scaled_by_width = 62,
};

namespace {

constexpr std::string_view kGemma3Classes[] = {"Gemma3ForCausalLM",
                                               "Gemma3ForConditionalGeneration"};
constexpr std::string_view kGemma3Types[] = {"gemma3_text", "gemma3"};

constexpr HfTensor kGemma3Tensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm", HfTransform::kPlusOne},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", HfTransform::kPlusOne},
    {"layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", HfTransform::kPlusOne},
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

constexpr HfKey kGemma3Keys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HfKind::kFloat, 1e-6},
    {"final_logit_softcapping", "final_logit_softcapping", HfKind::kFloat, kHfLeftOut},
};

// Models with an image part have what differs from these alone.
constexpr HfDefault kGemma3Defaults[] = {
    {"num_attention_heads", 8}, {"num_key_value_heads", 4},          {"head_dim", 256},
    {"vocab_size", 262208},     {"max_position_embeddings", 131072}, {"query_pre_attn_scalar", 256},
    {"sliding_window", 4096},
};

constexpr HfExpected kGemma3Expected[] = {
    {"use_bidirectional_attention", 0},
    {"attn_logit_softcapping", 0},
};

}  // namespace

const HfImport kGemma3Import = {
    .architecture = "gemma3",
    .classes = kGemma3Classes,
    .types = kGemma3Types,
    .prefix = "model.",
    .tensors = kGemma3Tensors,
    .keys = kGemma3Keys,
    .expected = kGemma3Expected,
    .defaults = kGemma3Defaults,
    .activation = "gelu_tanh",
    .activation_keys = "hidden_activation",  // hidden_act says "gelu" in some, and means the same
    .window = HfWindow::kAllButNth,
    .window_pattern = 6,
    .rope = {.base = 1000000, .local_base = 10000},
    .tied = true,
    .add_space_prefix = false,
};

}  // namespace thermocline
