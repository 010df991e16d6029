// Qwen 3 (arXiv:2505.09388): heads of queries and keys are normalised.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kQwen3Family = {
    .architecture = "qwen3",
    .pairing = RopePairing::kHalves,
    .qk_norm = QkNorm::kPerHead,
};

namespace {

constexpr std::string_view kQwen3Classes[] = {"Qwen3ForCausalLM", "Qwen3Model"};
constexpr std::string_view kQwen3Types[] = {"qwen3"};

constexpr HfTensor kQwen3Tensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm"},
    {"layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    kHfFinalNorm,
    kHfHead,
};

}  // namespace

const HfImport kQwen3Import = {
    .architecture = "qwen3",
    .classes = kQwen3Classes,
    .types = kQwen3Types,
    .prefix = "model.",
    .tensors = kQwen3Tensors,
    .keys = kHfLlamaKeys,
    .window = HfWindow::kFromLayer,
};

}  // namespace thermocline
