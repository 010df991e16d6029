// OPT (arXiv:2205.01068): learned positions, of which the table's first two rows are unused; ReLU.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kOptFamily = {
    .architecture = "opt",
    .default_activation = Activation::kRelu,
    .norm = NormKind::kLayer,
    .ffn = FfnKind::kPlain,
    .learned_positions = true,
    .position_offset = 2,
};

namespace {

constexpr std::string_view kOptClasses[] = {"OPTForCausalLM", "OPTModel"};
constexpr std::string_view kOptTypes[] = {"opt"};

constexpr HfTensor kOptTensors[] = {
    kHfEmbedding,
    {"embed_positions", "position_embd"},
    {"layers.{}.self_attn_layer_norm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.out_proj", "blk.{}.attn_output"},
    {"layers.{}.final_layer_norm", "blk.{}.ffn_norm"},
    {"layers.{}.fc1", "blk.{}.ffn_up"},
    {"layers.{}.fc2", "blk.{}.ffn_down"},
    {"final_layer_norm", "output_norm"},
    kHfHead,
};

constexpr HfKey kOptKeys[] = {
    {"feed_forward_length", "ffn_dim"},
    {"attention.layer_norm_epsilon", "layer_norm_eps", HfKind::kFloat, 1e-5},
};

constexpr HfExpected kOptExpected[] = {
    {"do_layer_norm_before", 1},
    {"layer_norm_elementwise_affine", 1},
    {"_remove_final_layer_norm", 0},
};

}  // namespace

const HfImport kOptImport = {
    .architecture = "opt",
    .classes = kOptClasses,
    .types = kOptTypes,
    .prefix = "model.decoder.",
    .tensors = kOptTensors,
    .keys = kOptKeys,
    .expected = kOptExpected,
    .activation = "relu",
    .kv_heads = HfKvHeads::kEqual,
    .rope = {.turns = false},
    .tied = true,
};

}  // namespace thermocline
