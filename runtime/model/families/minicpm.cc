// MiniCPM and MiniCPM-S (arXiv:2404.06395, 2402.13516): Llama's layer with multipliers.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kMiniCpmFamily = {
    .architecture = "minicpm",
    .logit_scaling = LogitScaling::kDivide,
    .scales_required = true,
};

namespace {

constexpr std::string_view kMiniCpmClasses[] = {"MiniCPMForCausalLM"};
constexpr std::string_view kMiniCpmTypes[] = {"minicpm"};

constexpr HfKey kMiniCpmKeys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HfKind::kFloat, 1e-6},
    {"embedding_scale", "scale_emb", HfKind::kFloat, 1},
    {"residual_scale", "scale_depth", HfKind::kPerRootOfLayers},
    {"logit_scale", "dim_model_base", HfKind::kShareOfWidth},
};

}  // namespace

const HfImport kMiniCpmImport = {
    .architecture = "minicpm",
    .classes = kMiniCpmClasses,
    .types = kMiniCpmTypes,
    .prefix = "model.",
    .tensors = kHfLlamaTensors,
    .keys = kMiniCpmKeys,
    .tied = true,
};

}  // namespace thermocline
