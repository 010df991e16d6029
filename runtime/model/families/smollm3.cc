// SmolLM3: Llama's layer; every fourth layer does not see positions (arXiv:2501.18795).
#include "runtime/model/families/all.h"

namespace thermocline {

const FamilyData kSmolLm3Family = {
    .architecture = "smollm3",
    .no_rope_every = 4,
};

namespace {

constexpr std::string_view kSmolLm3Classes[] = {"SmolLM3ForCausalLM", "SmolLM3Model"};
constexpr std::string_view kSmolLm3Types[] = {"smollm3"};

}  // namespace

const HfImport kSmolLm3Import = {
    .architecture = "smollm3",
    .classes = kSmolLm3Classes,
    .types = kSmolLm3Types,
    .prefix = "model.",
    .tensors = kHfLlamaTensors,
    .keys = kHfLlamaKeys,
    .window = HfWindow::kFromLayer,
    .rope = {.base = 2000000, .no_rope_every = 4},
    .tied = true,
};

}  // namespace thermocline
