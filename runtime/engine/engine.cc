#include "runtime/engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/device/gpu/make_gpu_device.h"
#include "runtime/engine/memory_fit.h"
#include "runtime/lora/load_adapters.h"

namespace thermocline {
namespace {

constexpr int64_t kWarmUpTokens = 16;

}  // namespace

Engine::Engine(const EngineOptions& options) : Engine(std::make_unique<OpenedModel>(options)) {}

Engine::Engine(std::unique_ptr<OpenedModel> model)
    : model_(std::move(model)),
      tokenizer_(model_->tokenizer()),
      team_(model_->n_threads(),
            CoresToPin(model_->options().pinning, model_->n_threads(), ThreadCpus())),
      kv_(model_->kv_layout().classes),
      main_(kv_.Add()) {
  RequireMemory(*model_, QueryAvailableMemory());
  const EngineOptions& options = model_->options();
  const ExecutorOptions executor_options = model_->executor_options();
  const ModelPredictor* predictor = model_->predictor();
  CpuDeviceLimits limits = MakeCpuDeviceLimits(
      model_->config(), executor_options.max_tokens, model_->context_tokens(), model_->n_threads(),
      predictor == nullptr ? kNoPredictor : predictor->max_rank());
  limits.adapter_rank = model_->adapter_rank();
  limits.max_sequences = options.n_sequences;
  limits.cuts = model_->cuts_channels();
  limits.by_column = model_->has_columns();
  limits.activation_bits = options.activation_bits;
  const std::vector<std::string> names = model_->TierNames();
  if (model_->gpu().empty()) {
    tiers_.push_back(std::make_unique<CpuDevice>(names[kVram], limits));
  } else {
    tiers_.push_back(MakeGpuDevice(names[kVram], model_->fast_tier_needs()));
  }
  // A placement may put everything on the fast tier.
  if (model_->uses_slow_tier()) tiers_.push_back(std::make_unique<CpuDevice>(names[kDram], limits));
  std::vector<Device*> tiers;
  for (const auto& tier : tiers_) tiers.push_back(tier.get());
  LoadOptions load;
  load.down = model_->down_storage();
  load.columns = model_->column_storage();
  load.placement = model_->placement();
  load.n_threads = model_->n_threads();
  load.copy_weights = options.copy_weights;
  load.movable_neurons = model_->adapt().moves;
  load.progress = options.progress;
  loaded_ = LoadWeights(model_->gguf(), model_->family(), model_->config(), load, tiers);
  if (predictor != nullptr) {
    loaded_predictor_ =
        predictor->Load(weights(), tiers, model_->placement() != nullptr, model_->n_threads());
  }
  if (!model_->loras().empty()) adapters_ = LoadAdapters(model_->loras(), weights(), tiers);
  cache_ = MakeCache();
  executor_ = std::make_unique<Executor>(model_->config(), loaded_->weights, executor_options,
                                         team_, *cache_, tiers, predictors(), adapters_.get());
  if (model_->adapt().moves) MakeMover(tiers);
  if (!model_->threshold_choice()) return;
  orders_ = ReadChannelOrders(model_->gguf(), model_->config());
  cuts_ = std::make_unique<ModelCuts>(model_->TakeThresholds(), model_->config(), weights(),
                                      orders_, executor_options.max_tokens, tiers);
  cuts_->Choose(*model_->threshold_choice(), options.threshold_split);
  executor_->set_cuts(cuts_->cuts());
}

// On each tier that has layers' attention.
std::unique_ptr<KvCache> Engine::MakeCache() {
  const KvLayout layout = model_->kv_layout();
  std::vector<std::unique_ptr<KvCache>> caches(tiers_.size());
  for (const KvPageClass& page_class : layout.classes) {
    std::unique_ptr<KvCache>& cache = caches[page_class.tier];
    if (cache != nullptr) continue;
    cache = tiers_[page_class.tier]->MakeKvCache(model_->config(), model_->options().cache_type,
                                                 layout, page_class.tier);
  }
  const auto n_caches = std::ranges::count_if(caches, [](const auto& c) { return c != nullptr; });
  if (n_caches == 1 && caches.front() != nullptr) return std::move(caches.front());
  return std::make_unique<TieredKvCache>(std::move(caches));
}

void Engine::MakeMover(std::span<Device* const> tiers) {
  const MovedModel moved = {.gguf = &model_->gguf(),
                            .family = &model_->family(),
                            .config = &model_->config(),
                            .down = model_->down_storage(),
                            .weights = loaded_.get(),
                            .loaded_predictor = &loaded_predictor_,
                            .predictor = model_->predictor(),
                            .tiers = {tiers.begin(), tiers.end()}};
  mover_ = std::make_unique<NeuronMover>(moved, MoverOptionsOf(*model_, *model_->placement()));
  executor_->set_fired(&mover_->fired());
  executor_->set_between_passes([this](int64_t n_tokens) { mover_->BetweenPasses(n_tokens); });
}

Placement Engine::LearnedPlacement() {
  CHECK(mover_ != nullptr);
  mover_->Settle();
  Placement placement = *model_->placement();
  for (size_t l = 0; l < placement.layers.size(); ++l) {
    placement.layers[l].neuron_order = mover_->LearnedOrder(static_cast<int64_t>(l));
  }
  return placement;
}

Engine::~Engine() = default;

std::vector<Device*> Engine::devices() const {
  std::vector<Device*> devices;
  for (const auto& tier : tiers_) devices.push_back(tier.get());
  return devices;
}

uint64_t Engine::allocated_bytes() const {
  uint64_t n_bytes = cache_->allocated_bytes();
  for (const auto& tier : tiers_) n_bytes += tier->allocated_bytes();
  if (const QueuedDevice* queued = tiers_.front()->queued()) n_bytes += queued->host_bytes();
  return n_bytes;
}

std::vector<uint64_t> Engine::UsedBytes() const {
  std::vector<uint64_t> used = loaded_->mapped_bytes;
  for (size_t tier = 0; tier < tiers_.size(); ++tier) {
    used[tier] += tiers_[tier]->allocated_bytes() + cache_->BytesOn(tier);
  }
  if (const QueuedDevice* const queued = tiers_.front()->queued()) {
    used.resize(std::max<size_t>(used.size(), 2));
    used[1] += queued->host_bytes();
  }
  // Sign bits are memory of the host's, beside the device's.
  for (const LayerPredictors& layer : predictors()) {
    for (size_t tier = 0; tier < tiers_.size(); ++tier) {
      if (layer[tier].signs != nullptr) used[tier] += layer[tier].touched_bytes;
    }
  }
  return used;
}

int32_t Engine::AddAdapterSet(std::vector<int32_t> adapters) {
  CHECK(adapters_ != nullptr);
  std::ranges::sort(adapters);
  for (size_t i = 0; i < adapters.size(); ++i) {
    CHECK(adapters[i] >= 0 && static_cast<size_t>(adapters[i]) < adapters_->ranks.size());
    CHECK(i == 0 || adapters[i] != adapters[i - 1]);
  }
  adapters_->sets.push_back(std::move(adapters));
  return static_cast<int32_t>(adapters_->sets.size()) - 1;
}

void Engine::CheckRoom(int32_t sequence, size_t n_ids) const {
  const int64_t needed = kv_.length(sequence) + static_cast<int64_t>(n_ids);
  if (needed <= context_tokens()) return;
  throw Error({.what = "the context is full",
               .expected = fmt::format("at most {} tokens", context_tokens()),
               .found = std::to_string(needed),
               .hint = fmt::format("shorten the text or raise the context size, to at most {}",
                                   config().max_seq_len),
               .settings = {{Setting::kContextSize}}});
}

void Engine::Encode(int32_t sequence, std::span<const int32_t> ids) {
  CHECK(config().has_encoder() && !ids.empty());
  const auto n = static_cast<int64_t>(ids.size());
  if (n > context_tokens()) {
    throw Error({.what = "the text is longer than what the encoder may read",
                 .expected = fmt::format("at most {} tokens", context_tokens()),
                 .found = std::to_string(n),
                 .hint = fmt::format("shorten the text or raise the context size, to at most {}",
                                     config().max_seq_len),
                 .settings = {{Setting::kContextSize}}});
  }
  kv_.Truncate(sequence, 0);
  kv_.ReserveEncoder(sequence, n);
  const std::span<const int32_t> pages = kv_.encoder_pages(sequence);
  Batch batch;
  batch.sequences.push_back({.tables = {{0, pages}}, .encoder_pages = pages, .encoder_length = n});
  for (const int32_t id : ids) batch.rows.push_back({id, 0, batch.n_rows(), false});
  executor_->Encode(batch);
  kv_.SetEncoderLength(sequence, n);
}

void Engine::PlaceInTree(const SequenceInput& input, int64_t place, BatchRow* row, Batch* batch) {
  BatchBranch branch{.begin = input.tree_begin};
  for (int64_t at = place - input.tree_begin; at >= 0;) {
    branch.places.push_back(input.tree_begin + at);
    const int64_t parent = input.parents[static_cast<size_t>(at)];
    CHECK(parent >= -1 && parent < at);
    at = parent;
  }
  std::ranges::reverse(branch.places);
  row->position = input.tree_begin + static_cast<int64_t>(branch.places.size()) - 1;
  // What lies in its order is no branch.
  size_t n_in_order = 0;
  while (n_in_order < branch.places.size() &&
         branch.places[n_in_order] == input.tree_begin + static_cast<int64_t>(n_in_order)) {
    ++n_in_order;
  }
  if (n_in_order == branch.places.size()) return;
  branch.begin += static_cast<int64_t>(n_in_order);
  branch.places.erase(branch.places.begin(),
                      branch.places.begin() + static_cast<ptrdiff_t>(n_in_order));
  row->branch = static_cast<int32_t>(batch->branches.size());
  batch->branches.push_back(std::move(branch));
}

void Engine::KeepPath(int32_t sequence, int64_t tree_begin, std::span<const int32_t> path) {
  int64_t to = tree_begin;
  for (const int32_t token : path) {
    const int64_t from = tree_begin + token;
    CHECK(from >= to && from < kv_.length(sequence));
    for (size_t c = 0; c < kv_.n_classes() && from != to; ++c) {
      const KvPageTable table = kv_.table(sequence, c);
      cache_->CopyPosition({table.SlotOf(from), table.SlotOf(to), c});
    }
    ++to;
  }
  kv_.Truncate(sequence, to);
}

Batch Engine::MakeBatch(std::span<const SequenceInput> inputs, LogitsWanted wanted) {
  Batch batch;
  for (const SequenceInput& input : inputs) {
    CHECK(!input.ids.empty());
    CheckRoom(input.sequence, input.ids.size());
    if (config().has_encoder() && kv_.encoder_length(input.sequence) == 0) {
      throw Error({.path = model_->gguf().path(),
                   .what = "the model writes from a text that its encoder has read",
                   .expected = "a text for the encoder before the first token",
                   .found = "none"});
    }
  }
  kv_.DropReserved();
  for (const SequenceInput& input : inputs) {
    const int64_t first = kv_.length(input.sequence);
    const auto n = static_cast<int64_t>(input.ids.size());
    const bool in_tree = !input.parents.empty();
    CHECK(!in_tree ||
          (input.tree_begin <= first && std::ssize(input.parents) == first + n - input.tree_begin));
    // Copied at once: where a later input finds no pages, this sequence has its new page already.
    std::vector<KvPageCopy> copies;
    kv_.Reserve(input.sequence, n, &copies);
    for (const KvPageCopy& copy : copies) cache_->CopyPage(copy);
    for (int64_t i = 0; i < n; ++i) {
      const bool logits =
          wanted == LogitsWanted::kAll ||
          (wanted != LogitsWanted::kNone && input.wants_logits && (input.all_logits || i + 1 == n));
      batch.rows.push_back({input.ids[static_cast<size_t>(i)],
                            static_cast<int32_t>(batch.sequences.size()), first + i, logits});
      if (in_tree) PlaceInTree(input, first + i, &batch.rows.back(), &batch);
    }
    BatchSequence& sequence = batch.sequences.emplace_back();
    for (size_t c = 0; c < kv_.n_classes(); ++c) {
      sequence.tables.push_back(kv_.table(input.sequence, c));
    }
    sequence.adapter_set = kv_.adapter_set(input.sequence);
    sequence.encoder_pages = kv_.encoder_pages(input.sequence);
    sequence.encoder_length = kv_.encoder_length(input.sequence);
  }
  return batch;
}

std::span<const int32_t> Engine::FeedBatches(std::span<const int32_t> ids,
                                             const FeedProgress& progress) {
  CHECK(!ids.empty());
  CheckRoom(main_, ids.size());
  const auto batch = static_cast<size_t>(model_->batch_tokens());
  size_t n_fed = 0;
  while (true) {
    const std::span<const int32_t> rest = ids.subspan(n_fed);
    if (rest.size() > 1) ThrowIfInterrupted();
    if (progress) progress(n_fed);
    if (rest.size() <= batch) return rest;
    const SequenceInput input{main_, rest.first(batch)};
    executor_->Run(MakeBatch({&input, 1}, LogitsWanted::kNone));
    kv_.Advance(main_, static_cast<int64_t>(batch));
    n_fed += batch;
  }
}

void Engine::WarmUp() {
  if (config().has_encoder()) return;
  const auto n_tokens = std::min<int64_t>(kWarmUpTokens, context_tokens());
  Feed(std::vector<int32_t>(static_cast<size_t>(n_tokens), 0));
  Reset();
  executor().ResetCounts();
}

std::span<const float> Engine::Feed(std::span<const int32_t> ids, const FeedProgress& progress) {
  const SequenceInput last{main_, FeedBatches(ids, progress)};
  const auto logits = executor_->Run(MakeBatch({&last, 1}, LogitsWanted::kLast));
  kv_.Advance(main_, static_cast<int64_t>(last.ids.size()));
  if (progress) progress(ids.size());
  return logits;
}

std::span<const TokenLogit> Engine::FeedBest(std::span<const int32_t> ids, int64_t k,
                                             const FeedProgress& progress) {
  const SequenceInput last{main_, FeedBatches(ids, progress)};
  const auto best = executor_->RunBest(MakeBatch({&last, 1}, LogitsWanted::kLast), k);
  kv_.Advance(main_, static_cast<int64_t>(last.ids.size()));
  if (progress) progress(ids.size());
  return best.front();
}

std::span<const float> Engine::EvaluateAll(std::span<const int32_t> ids) {
  CHECK(model_->options().all_logits && !ids.empty());
  const SequenceInput input{main_, ids};
  const auto logits = executor_->Run(MakeBatch({&input, 1}, LogitsWanted::kAll));
  kv_.Advance(main_, static_cast<int64_t>(ids.size()));
  return logits;
}

std::span<const float> Engine::FeedSequences(std::span<const SequenceInput> inputs) {
  return FeedSequencesBy(*executor_, inputs);
}

std::span<const float> Engine::FeedSequencesBy(Executor& executor,
                                               std::span<const SequenceInput> inputs,
                                               LogitsWanted wanted) {
  const auto logits = executor.Run(MakeBatch(inputs, wanted));
  Advance(inputs);
  return logits;
}

std::span<const std::vector<TokenLogit>> Engine::FeedSequencesBest(
    std::span<const SequenceInput> inputs, int64_t k) {
  return FeedSequencesBestBy(*executor_, inputs, k);
}

std::span<const std::vector<TokenLogit>> Engine::FeedSequencesBestBy(
    Executor& executor, std::span<const SequenceInput> inputs, int64_t k) {
  const auto best = executor.RunBest(MakeBatch(inputs, LogitsWanted::kLast), k);
  Advance(inputs);
  return best;
}

std::span<const float> Engine::FeedHidden(const SequenceInput& input) {
  const auto hidden = executor_->RunHidden(MakeBatch({&input, 1}, LogitsWanted::kAll));
  Advance({&input, 1});
  return hidden;
}

void Engine::Advance(std::span<const SequenceInput> inputs) {
  for (const SequenceInput& input : inputs) {
    kv_.Advance(input.sequence, static_cast<int64_t>(input.ids.size()));
  }
}

}  // namespace thermocline
