// Granite 3: Llama's layer with four multipliers.
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kGraniteFamily = {
    .architecture = "granite",
    .logit_scaling = LogitScaling::kDivide,
};

namespace {

constexpr std::string_view kGraniteClasses[] = {"GraniteForCausalLM", "GraniteModel"};
constexpr std::string_view kGraniteTypes[] = {"granite"};

constexpr HfKey kGraniteKeys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HfKind::kFloat, 1e-6},
    {"attention.scale", "attention_multiplier", HfKind::kFloat, 1},
    {"embedding_scale", "embedding_multiplier", HfKind::kFloat, 1},
    {"residual_scale", "residual_multiplier", HfKind::kFloat, 1},
    {"logit_scale", "logits_scaling", HfKind::kFloat, 1},
};

}  // namespace

const HfImport kGraniteImport = {
    .architecture = "granite",
    .classes = kGraniteClasses,
    .types = kGraniteTypes,
    .prefix = "model.",
    .tensors = kHfLlamaTensors,
    .keys = kGraniteKeys,
    .narrow_heads = true,
};

}  // namespace thermocline
