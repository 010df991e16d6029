// Phi-3 and Phi-4-mini (arXiv:2404.14219): one matrix for queries, keys and values, one for gate
// and up.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kPhi3Family = {
    .architecture = "phi3",
    .pairing = RopePairing::kHalves,
    .fused_gate_up = true,
};

namespace {

constexpr std::string_view kPhi3Classes[] = {"Phi3ForCausalLM", "Phi3Model"};
constexpr std::string_view kPhi3Types[] = {"phi3"};

constexpr HfTensor kPhi3Tensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.qkv_proj", "blk.{}.attn_qkv"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.mlp.gate_up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    kHfFinalNorm,
    kHfHead,
};

constexpr HfKey kPhi3Keys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HfKind::kFloat, 1e-5},
    {"rope.scaling.original_context_length", "original_max_position_embeddings", HfKind::kInt,
     4096},
};

}  // namespace

const HfImport kPhi3Import = {
    .architecture = "phi3",
    .classes = kPhi3Classes,
    .types = kPhi3Types,
    .prefix = "model.",
    .tensors = kPhi3Tensors,
    .keys = kPhi3Keys,
    .window = HfWindow::kAll,
    .says_no_window = true,
};

}  // namespace thermocline
