// GPT-NeoX, Pythia (arXiv:2204.06745): attention and FFN have a norm each and mostly run side by
// side.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kGptNeoXFamily = {
    .architecture = "gptneox",
    .pairing = RopePairing::kHalves,
    .default_activation = Activation::kGelu,
    .norm = NormKind::kLayer,
    .block = BlockKind::kParallel,
    .reads_block_kind = true,
    .ffn = FfnKind::kPlain,
};

namespace {

constexpr std::string_view kGptNeoXClasses[] = {"GPTNeoXForCausalLM", "GPTNeoXModel"};
constexpr std::string_view kGptNeoXTypes[] = {"gpt_neox"};

constexpr HfTensor kGptNeoXTensors[] = {
    {"embed_in", "token_embd"},
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.attention.query_key_value", "blk.{}.attn_qkv", HfTransform::kQkvByHead},
    {"layers.{}.attention.dense", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.mlp.dense_h_to_4h", "blk.{}.ffn_up"},
    {"layers.{}.mlp.dense_4h_to_h", "blk.{}.ffn_down"},
    {"final_layer_norm", "output_norm"},
    {"embed_out", "output", HfTransform::kNone, false},
};

constexpr HfKey kGptNeoXKeys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_epsilon", "layer_norm_eps", HfKind::kFloat, 1e-5},
    {"use_parallel_residual", "use_parallel_residual", HfKind::kBool, 1},
};

}  // namespace

const HfImport kGptNeoXImport = {
    .architecture = "gptneox",
    .classes = kGptNeoXClasses,
    .types = kGptNeoXTypes,
    .prefix = "gpt_neox.",
    .tensors = kGptNeoXTensors,
    .keys = kGptNeoXKeys,
    .activation = "gelu",
    .kv_heads = HfKvHeads::kEqual,
    .rope = {.partial = 0.25},
};

}  // namespace thermocline
