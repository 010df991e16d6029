#include "tools/serve/model_host.h"

#include <algorithm>
#include <utility>

#include "runtime/engine/touched_bytes.h"

namespace thermocline {
namespace {

// What a scheduler counted, on top of what those before it did. What is now is now's.
ScheduleStats Together(const ScheduleStats& before, ScheduleStats now) {
  now.n_requests += before.n_requests;
  now.n_ended += before.n_ended;
  now.n_cancelled += before.n_cancelled;
  now.n_failed += before.n_failed;
  now.n_preempted += before.n_preempted;
  now.n_shifted += before.n_shifted;
  now.n_passes += before.n_passes;
  now.n_busy_slots += before.n_busy_slots;
  now.longest_text = std::max(now.longest_text, before.longest_text);
  now.prompt_tokens += before.prompt_tokens;
  now.cached_tokens += before.cached_tokens;
  now.prefix_pages_hit += before.prefix_pages_hit;
  now.prefix_pages_missed += before.prefix_pages_missed;
  now.generated_tokens += before.generated_tokens;
  now.written_tokens += before.written_tokens;
  now.n_all_fetched += before.n_all_fetched;
  now.tokens_again += before.tokens_again;
  now.host_pages.n_out += before.host_pages.n_out;
  now.host_pages.n_back += before.host_pages.n_back;
  now.host_pages.copy_ms += before.host_pages.copy_ms;
  now.kv_bytes.read += before.kv_bytes.read;
  now.kv_bytes.unshared += before.kv_bytes.unshared;
  now.reading_ms += before.reading_ms;
  now.writing_ms += before.writing_ms;
  if (now.neurons.layers.empty()) {
    now.neurons = before.neurons;
  } else if (!before.neurons.layers.empty()) {
    now.neurons.Add(before.neurons);
  }
  now.speculation += before.speculation;
  return now;
}

std::unique_ptr<Drafting> MakeDrafting(const DraftOptions& options, OpenedModel& model) {
  if (options.kind == DraftKind::kNone) return nullptr;
  return std::make_unique<Drafting>(options, model);
}

ScheduleOptions MakeReady(const ServeOptions& all, bool is_first, Drafting* drafting,
                          Engine& engine) {
  ScheduleOptions options = all.schedule;
  if (all.warms_up && is_first) engine.WarmUp();
  if (drafting == nullptr) return options;
  drafting->Use(engine);
  options.speculator = &drafting->speculator();
  return options;
}

}  // namespace

LoadedModel::LoadedModel(const ServeOptions& options, ScheduleStats stats_before, bool is_first)
    : LoadedModel(options, std::make_unique<OpenedModel>(options.engine), std::move(stats_before),
                  is_first) {}

LoadedModel::LoadedModel(const ServeOptions& options, std::unique_ptr<OpenedModel> model,
                         ScheduleStats stats_before, bool is_first)
    : drafting(MakeDrafting(options.draft, *model)),
      engine(std::move(model)),
      before(std::move(stats_before)),
      scheduler(engine, MakeReady(options, is_first, drafting.get(), engine)) {}

ModelHost::ModelHost(const ServeOptions& options)
    : options_(options),
      opened_(std::make_unique<OpenedModel>(options.engine)),
      tokenizer_(opened_->tokenizer()),
      tier_names_(opened_->TierNames()),
      loaded_(std::make_shared<LoadedModel>(options, ScheduleStats(), true)) {
  context_tokens_ = loaded_->engine.context_tokens();
  for (const LayerWeights& layer : loaded_->engine.weights().layers) {
    int64_t n_all = 0;
    for (const FfnSlice& slice : layer.slices) n_all += slice.n_neurons;
    const bool any = n_all > 0 && !layer.slices.empty();
    const auto n_hot = any ? static_cast<double>(layer.slices.front().n_neurons) : 0.0;
    hot_.push_back({.hot_share = any ? n_hot / static_cast<double>(n_all) : 0});
  }
}

// What runs holds the model: it must not be the last to.
ModelHost::~ModelHost() {
  if (loaded_ != nullptr) loaded_->scheduler.Stop();
}

std::shared_ptr<LoadedModel> ModelHost::Wake() {
  const std::lock_guard lock(mutex_);
  used_ = std::chrono::steady_clock::now();
  if (loaded_ == nullptr) loaded_ = std::make_shared<LoadedModel>(options_, asleep_, false);
  return loaded_;
}

bool ModelHost::is_sleeping() const {
  const std::lock_guard lock(mutex_);
  return loaded_ == nullptr;
}

void ModelHost::SleepWhereIdle() {
  if (options_.sleep_idle_seconds < 0) return;
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  // Whoever generates holds the model.
  if (loaded_ == nullptr || loaded_.use_count() > 1) {
    if (loaded_ != nullptr) used_ = now;
    return;
  }
  if (now - used_ < std::chrono::seconds(options_.sleep_idle_seconds)) return;
  const ScheduleStats stats = loaded_->scheduler.stats();
  if (stats.n_running + stats.n_waiting > 0) {
    used_ = now;
    return;
  }
  asleep_ = Together(loaded_->before, stats);
  asleep_slots_ = loaded_->scheduler.slots();
  for (SlotState& slot : asleep_slots_) slot.n_tokens = 0;
  loaded_.reset();
}

ScheduleStats ModelHost::stats() const {
  const std::lock_guard lock(mutex_);
  return loaded_ == nullptr ? asleep_ : Together(loaded_->before, loaded_->scheduler.stats());
}

std::vector<SlotState> ModelHost::slots() const {
  const std::lock_guard lock(mutex_);
  return loaded_ == nullptr ? asleep_slots_ : loaded_->scheduler.slots();
}

int64_t ModelHost::NeuronsOf(const ScheduleStats& stats) const {
  int64_t n = 0;
  for (const LayerConfig& layer : opened_->config().layers) n += layer.ffn.d_ff;
  return n * stats.neurons.tokens;
}

std::vector<LayerHeat> ModelHost::Heat(const ScheduleStats& stats) const {
  std::vector<LayerHeat> heat = hot_;
  const std::vector<LayerConfig>& layers = opened_->config().layers;
  for (size_t l = 0; l < heat.size() && l < stats.neurons.layers.size(); ++l) {
    const auto n = static_cast<double>(layers[l].ffn.d_ff * stats.neurons.tokens);
    if (n > 0) heat[l].fired_share = static_cast<double>(stats.neurons.layers[l].active) / n;
  }
  return heat;
}

ModelHost::BytesPerToken ModelHost::Bytes(const ScheduleStats& stats) const {
  const std::lock_guard lock(mutex_);
  if (loaded_ == nullptr || stats.neurons.layers.empty() || stats.neurons.tokens == 0) return {};
  const TouchedBytes touched = TouchedPerToken(loaded_->engine, stats.neurons, opened_->mode());
  return {.read = touched.bytes, .dense = touched.dense_bytes, .tiers = touched.tiers};
}

}  // namespace thermocline
