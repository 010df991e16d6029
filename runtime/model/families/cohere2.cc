// Command R7B: three layers with a window, which are turned, then one that sees everything and is
// not.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kCohere2Family = {
    .architecture = "cohere2",
    .norm = NormKind::kLayer,
    .norms = {.ffn = ""},
    .block = BlockKind::kParallel,
    .logit_scaling = LogitScaling::kMultiply,
    .window_pattern = 4,
    .only_local_turns = true,
};

namespace {

constexpr std::string_view kCohere2Classes[] = {"Cohere2ForCausalLM", "Cohere2Model"};
constexpr std::string_view kCohere2Types[] = {"cohere2"};

constexpr HfTensor kCohere2Tensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q"},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k"},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    kHfFinalNorm,
    kHfHead,
};

constexpr HfKey kCohere2Keys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_epsilon", "layer_norm_eps", HfKind::kFloat, 1e-5},
    {"logit_scale", "logit_scale", HfKind::kFloat, 0.0625},
};

}  // namespace

const HfImport kCohere2Import = {
    .architecture = "cohere2",
    .classes = kCohere2Classes,
    .types = kCohere2Types,
    .prefix = "model.",
    .tensors = kCohere2Tensors,
    .keys = kCohere2Keys,
    .window = HfWindow::kAllButNth,
    .window_pattern = 4,
    .tied = true,
};

}  // namespace thermocline
