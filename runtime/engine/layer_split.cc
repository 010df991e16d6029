// Without a placement: which layers' neurons lie on the GPU.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "runtime/core/error.h"
#include "runtime/core/size_text.h"
#include "runtime/engine/opened_model.h"
#include "runtime/model/stored_ffn.h"

namespace thermocline {
namespace {

// The neurons of the first n_layers on the fast tier, those of the others on the slow one; and the
// attention of the first n_attending.
Placement LayerSplit(const ModelConfig& config, int64_t n_layers, int64_t n_attending) {
  Placement placement;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    LayerPlacement& split = placement.layers.emplace_back();
    const int64_t d_ff = config.d_ff_of(l);
    split.neuron_order.resize(static_cast<size_t>(d_ff));
    std::iota(split.neuron_order.begin(), split.neuron_order.end(), 0);
    (l < n_layers ? split.n_on[kVram] : split.n_on[kDram]) = d_ff;
    split.attention = l < n_attending ? kVram : kDram;
  }
  return placement;
}

}  // namespace

// As many layers' neurons as fit with all of the attention; where not even that fits, as much of
// it.
OpenedModel::FastLayers OpenedModel::LayersThatFit(uint64_t n_bytes) const {
  const int64_t all = config_.n_layers;
  if (PlanOf(nullptr).total_bytes(0) <= n_bytes) return {all, all};
  const auto fits = [&](const FastLayers& layers) {
    const Placement split = LayerSplit(config_, layers.neurons, layers.attention);
    return PlanOf(&split).total_bytes(0) <= n_bytes;
  };
  for (int64_t n = all - 1; n >= 0; --n) {
    if (fits({n, all})) return {n, all};
  }
  for (int64_t n = all - 1; config_.attention_may_move() && n >= 1; --n) {
    if (fits({0, n})) return {0, n};
  }
  return {-1, -1};
}

void OpenedModel::SplitLayers() {
  const uint64_t free_bytes = GpuFreeBytes();
  const uint64_t room = free_bytes - std::min(free_bytes, kGpuReserveBytes);
  const bool asked = options_.gpu_layers.has_value();
  const FastLayers layers =
      asked ? FastLayers{std::min(*options_.gpu_layers, config_.n_layers), config_.n_layers}
            : LayersThatFit(room);
  if (layers.neurons == config_.n_layers) return;
  const bool packed = IsPacked(gguf_);
  if (layers.neurons >= 0 && !packed && options_.may_split_layers) {
    placement_ = LayerSplit(config_, layers.neurons, layers.attention);
    const bool some_attend = layers.attention < config_.n_layers;
    gpu_note_.text = fmt::format(
        "the {} of {} of {} layers lie{} on the GPU", some_attend ? "attention" : "neurons",
        some_attend ? layers.attention : layers.neurons, config_.n_layers, some_attend ? "s" : "");
    if (!asked) {
      gpu_note_.text += fmt::format(
          ": its memory ({} free) holds no more; a placement puts the hot neurons of every layer "
          "there",
          FormatBytes(free_bytes));
      gpu_note_.settings = {{Setting::kVramBudget}};
      gpu_note_.jobs = {Job::kProfile};
    }
    return;
  }
  const std::string hint =
      packed ? "give the placement it was packed for"
             : "take a smaller context, a KV cache of q8_0 or a model quantised further";
  std::vector<SettingUse> settings = {{Setting::kContextSize}, {Setting::kCacheType, "q8_0"}};
  if (packed) settings = {{Setting::kPlacement}};
  const uint64_t needed = PlanOf(nullptr).total_bytes(0);
  if (options_.fast_tier == FastTier::kGpu) {
    settings.push_back({Setting::kFastTier, "cpu"});
    throw Error({.path = options_.model_path,
                 .what = "the model does not fit the GPU's memory",
                 .expected = fmt::format("{} free for all of it, and {} of reserve",
                                         FormatBytes(needed), FormatBytes(kGpuReserveBytes)),
                 .found = FormatBytes(free_bytes),
                 .hint = hint + ", or run on the CPU",
                 .settings = std::move(settings)});
  }
  gpu_.clear();
  gpu_note_ = {.text = fmt::format("the GPU is not used: {} free, the model takes {}; {}",
                                   FormatBytes(free_bytes), FormatBytes(needed), hint),
               .settings = std::move(settings)};
}

}  // namespace thermocline
