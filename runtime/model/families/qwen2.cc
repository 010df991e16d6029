// Qwen 2 and 2.5 (arXiv:2407.10671): queries, keys and values have biases.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kQwen2Family = {
    .architecture = "qwen2",
    .pairing = RopePairing::kHalves,
};

namespace {

constexpr std::string_view kQwen2Classes[] = {"Qwen2ForCausalLM", "Qwen2Model"};
constexpr std::string_view kQwen2Types[] = {"qwen2"};

constexpr HfTensor kQwen2Tensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    kHfFinalNorm,
    kHfHead,
};

}  // namespace

const HfImport kQwen2Import = {
    .architecture = "qwen2",
    .classes = kQwen2Classes,
    .types = kQwen2Types,
    .prefix = "model.",
    .tensors = kQwen2Tensors,
    .keys = kHfLlamaKeys,
    .window = HfWindow::kFromLayer,
};

}  // namespace thermocline
