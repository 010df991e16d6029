// StarCoder 2 (arXiv:2402.19173): layer norms, biases, an FFN without gate.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kStarcoder2Family = {
    .architecture = "starcoder2",
    .pairing = RopePairing::kHalves,
    .default_activation = Activation::kGeluTanh,
    .norm = NormKind::kLayer,
    .ffn = FfnKind::kPlain,
};

namespace {

constexpr std::string_view kStarcoder2Classes[] = {"Starcoder2ForCausalLM", "Starcoder2Model"};
constexpr std::string_view kStarcoder2Types[] = {"starcoder2"};

constexpr HfTensor kStarcoder2Tensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.mlp.c_fc", "blk.{}.ffn_up"},
    {"layers.{}.mlp.c_proj", "blk.{}.ffn_down"},
    kHfFinalNorm,
    kHfHead,
};

constexpr HfKey kStarcoder2Keys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_epsilon", "norm_epsilon", HfKind::kFloat, 1e-5},
};

}  // namespace

const HfImport kStarcoder2Import = {
    .architecture = "starcoder2",
    .classes = kStarcoder2Classes,
    .types = kStarcoder2Types,
    .prefix = "model.",
    .tensors = kStarcoder2Tensors,
    .keys = kStarcoder2Keys,
    .activation = "gelu_tanh",
    .window = HfWindow::kAll,
    .tied = true,
};

}  // namespace thermocline
