// Command R: attention and FFN read one norm, and their sum is added. R+ normalises heads.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kCommandRFamily = {
    .architecture = "command-r",
    .norm = NormKind::kLayer,
    .norms = {.ffn = ""},
    .block = BlockKind::kParallel,
    .qk_norm = QkNorm::kEachHead,
    .qk_norm_required = false,
    .logit_scaling = LogitScaling::kMultiply,
};

namespace {

constexpr std::string_view kCommandRClasses[] = {"CohereForCausalLM", "CohereModel"};
constexpr std::string_view kCommandRTypes[] = {"cohere"};

constexpr HfTensor kCommandRTensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", HfTransform::kNone, false},
    {"layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", HfTransform::kNone, false},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    kHfFinalNorm,
    kHfHead,
};

constexpr HfKey kCommandRKeys[] = {
    {"context_length", "model_max_length|max_position_embeddings"},
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_epsilon", "layer_norm_eps", HfKind::kFloat, 1e-5},
    {"logit_scale", "logit_scale", HfKind::kFloat, 0.0625},
};

}  // namespace

const HfImport kCommandRImport = {
    .architecture = "command-r",
    .classes = kCommandRClasses,
    .types = kCommandRTypes,
    .prefix = "model.",
    .tensors = kCommandRTensors,
    .keys = kCommandRKeys,
    .tied = true,
};

}  // namespace thermocline
