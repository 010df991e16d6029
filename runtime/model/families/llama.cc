// Llama, Mistral and what shares their layer: ReluLLaMA and ProSparse among them
// (arXiv:2302.13971).
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kLlamaFamily = {
    .architecture = "llama",
};

namespace {

constexpr std::string_view kLlamaClasses[] = {"LlamaForCausalLM",   "LLaMAForCausalLM",
                                              "MistralForCausalLM", "LlamaModel",
                                              "MistralModel",       "SparseLlamaForCausalLM"};
constexpr std::string_view kLlamaTypes[] = {"llama", "mistral", "sparsellama"};

}  // namespace

const HfImport kLlamaImport = {
    .architecture = "llama",
    .classes = kLlamaClasses,
    .types = kLlamaTypes,
    .prefix = "model.",
    .tensors = kHfLlamaTensors,
    .keys = kHfLlamaKeys,
    .window = HfWindow::kAll,
};

}  // namespace thermocline
