// BitNet b1.58 (arXiv:2504.12285): squared ReLU with a gate; what heads found and h are normalised
// before the matrices that read them.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kBitNetFamily = {
    .architecture = "bitnet",
    .pairing = RopePairing::kHalves,
    .default_activation = Activation::kReluSqr,
    .sub_norms = true,
};

namespace {

constexpr std::string_view kBitnetClasses[] = {"BitNetForCausalLM", "BitnetForCausalLM",
                                               "BitNetModel"};
constexpr std::string_view kBitnetTypes[] = {"bitnet"};

constexpr HfTensor kBitnetTensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q", HfTransform::kTernary},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k", HfTransform::kTernary},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v", HfTransform::kTernary},
    {"layers.{}.self_attn.attn_sub_norm", "blk.{}.attn_sub_norm"},
    {"layers.{}.self_attn.inner_attn_ln", "blk.{}.attn_sub_norm", HfTransform::kNone, false},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output", HfTransform::kTernary},
    {"layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", HfTransform::kTernary},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up", HfTransform::kTernary},
    {"layers.{}.mlp.ffn_sub_norm", "blk.{}.ffn_sub_norm"},
    {"layers.{}.mlp.ffn_layernorm", "blk.{}.ffn_sub_norm", HfTransform::kNone, false},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down", HfTransform::kTernary},
    kHfFinalNorm,
    kHfHead,
};

constexpr HfKey kBitnetKeys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HfKind::kFloat, 1e-5},
};

}  // namespace

const HfImport kBitnetImport = {
    .architecture = "bitnet",
    .classes = kBitnetClasses,
    .types = kBitnetTypes,
    .prefix = "model.",
    .tensors = kBitnetTensors,
    .keys = kBitnetKeys,
    .activation = "relu_sqr",
    .rope = {.base = 500000},
};

}  // namespace thermocline
