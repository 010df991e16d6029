// Gemma 3n, of which the text part is taken: AltUp (arXiv:2301.13310), LAuReL (arXiv:2411.07501),
// embeddings of each layer's own, and last layers that share keys and values.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kGemma3nFamily = {
    .architecture = "gemma3n",
    .pairing = RopePairing::kHalves,
    .default_activation = Activation::kGeluTanh,
    .norms = {.attn_post = "post_attention_norm", .ffn_post = "post_ffw_norm"},
    .qk_norm = QkNorm::kPerHead,
    .v_norm = true,
    .streams = true,
    .laurel = true,
    .layer_embeddings = true,
    .embedding_times_root = true,
    .window_pattern = 5,
    .local_freq_base = 10000,
    .attention_scale = 1,
};

namespace {

constexpr std::string_view kGemma3nClasses[] = {"Gemma3nForCausalLM",
                                                "Gemma3nForConditionalGeneration"};
constexpr std::string_view kGemma3nTypes[] = {"gemma3n_text", "gemma3n"};

constexpr HfTensor kGemma3nTensors[] = {
    kHfEmbedding,
    {"embed_tokens_per_layer", "per_layer_token_embd", HfTransform::kPadVocab},
    {"per_layer_model_projection", "per_layer_model_proj", HfTransform::kNone, false},
    // How transformers writes the name when it saves the text part alone.
    {"per_layer_model.language_model_projection", "per_layer_model_proj", HfTransform::kNone,
     false},
    {"per_layer_projection_norm", "per_layer_proj_norm"},
    {"altup_projections.{}", "altup_proj", HfTransform::kStack},
    {"altup_unembed_projections.{}", "altup_unembd_proj", HfTransform::kStack},
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm"},
    {"layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm"},
    {"layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    {"layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm"},
    {"layers.{}.per_layer_input_gate", "blk.{}.inp_gate"},
    {"layers.{}.per_layer_projection", "blk.{}.proj"},
    {"layers.{}.post_per_layer_input_norm", "blk.{}.post_norm"},
    {"layers.{}.altup.correction_coefs", "blk.{}.altup_correct_coef"},
    {"layers.{}.altup.correct_output_scale", "blk.{}.altup_correct_scale"},
    {"layers.{}.altup.prediction_coefs", "blk.{}.altup_predict_coef"},
    {"layers.{}.altup.modality_router", "blk.{}.altup_router"},
    {"layers.{}.altup.router_norm", "blk.{}.altup_router_norm"},
    {"layers.{}.laurel.linear_left", "blk.{}.laurel_l"},
    {"layers.{}.laurel.linear_right", "blk.{}.laurel_r"},
    {"layers.{}.laurel.post_laurel_norm", "blk.{}.laurel_post_norm"},
    kHfFinalNorm,
    kHfHead,
};

constexpr HfKey kGemma3nKeys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HfKind::kFloat, 1e-6},
    {"final_logit_softcapping", "final_logit_softcapping", HfKind::kFloat, kHfLeftOut},
    {"altup.active_idx", "altup_active_idx", HfKind::kIndex, 0},
    {"altup.num_inputs", "altup_num_inputs", HfKind::kInt, 4},
    {"embedding_length_per_layer_input", "hidden_size_per_layer_input", HfKind::kInt, 256},
    {"attention.shared_kv_layers", "num_kv_shared_layers", HfKind::kIndex, 15},
    {"activation_sparsity_scale", "activation_sparsity_pattern", HfKind::kQuantiles, kHfLeftOut},
};

constexpr HfExpected kGemma3nExpected[] = {
    {"altup_correct_scale", 1},
};

}  // namespace

const HfImport kGemma3nImport = {
    .architecture = "gemma3n",
    .classes = kGemma3nClasses,
    .types = kGemma3nTypes,
    .prefix = "model.",
    .tensors = kGemma3nTensors,
    .keys = kGemma3nKeys,
    .expected = kGemma3nExpected,
    .activation = "gelu_tanh",
    .activation_keys = "hidden_activation",  // hidden_act says "gelu" in some, and means the same
    .window = HfWindow::kAllButNth,
    .window_pattern = 5,
    .rope = {.base = 1000000, .local_base = 10000},
    .tied = true,
    .add_space_prefix = false,
};

}  // namespace thermocline
