// From adapter files to factors on the tiers: f32, the rows of neurons in the order and on the tier
// of the neurons.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/device/adapters.h"
#include "runtime/device/device.h"
#include "runtime/lora/lora_file.h"
#include "runtime/model/model.h"

namespace thermocline {

// One set, of all adapters, is there. weights: of the model that the files were checked against, as
// it lies on the tiers. The tiers must outlive what is returned.
std::unique_ptr<ModelAdapters> LoadAdapters(std::span<const std::unique_ptr<const LoraFile>> files,
                                            const ModelWeights& weights,
                                            std::span<Device* const> tiers);

}  // namespace thermocline
