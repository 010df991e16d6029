// Bamboo (PowerInfer's): Mistral's layer, with ReLU on gate and up (arXiv:2406.05955).
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kBambooFamily = {
    .architecture = "bamboo",
    .default_activation = Activation::kRelu,
    .relu_up = true,
};

namespace {

constexpr std::string_view kBambooClasses[] = {"BambooForCausalLM"};
constexpr std::string_view kBambooTypes[] = {"bamboo"};

}  // namespace

const HfImport kBambooImport = {
    .architecture = "bamboo",
    .classes = kBambooClasses,
    .types = kBambooTypes,
    .prefix = "model.",
    .tensors = kHfLlamaTensors,
    .keys = kHfLlamaKeys,
    .activation = "relu",
    .window = HfWindow::kAll,
};

}  // namespace thermocline
