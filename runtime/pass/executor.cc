#include "runtime/pass/executor.h"

#include <algorithm>
#include <utility>

#include "gpu_kernels/base/trace_range.h"
#include "runtime/core/error.h"
#include "runtime/pass/host_runner.h"
#include "runtime/pass/queued_runner.h"
#include "runtime/pass/tier_attention.h"

namespace thermocline {
namespace {

// The most neurons that a layer has on any tier but the first.
int64_t MaxSlowNeurons(const ModelWeights& weights) {
  int64_t most = 0;
  for (const LayerWeights& layer : weights.layers) {
    for (size_t tier = 1; tier < layer.slices.size(); ++tier) {
      most = std::max(most, layer.slices[tier].n_neurons);
    }
  }
  return most;
}

}  // namespace

Executor::Executor(const ModelConfig& config, const ModelWeights& weights,
                   const ExecutorOptions& options, ThreadTeam& team, KvCache& cache,
                   std::span<Device* const> tiers, std::span<const LayerPredictors> predictors,
                   const ModelAdapters* adapters)
    : context_(config, weights, options, team, cache, tiers, predictors, adapters) {
  for (const KvPageClass& page_class : cache.layout().classes) {
    std::vector<int32_t>& pages = all_pages_.emplace_back();
    for (int64_t i = 0; i < 2 * page_class.n_pages; ++i) {
      pages.push_back(static_cast<int32_t>(i % page_class.n_pages));
    }
  }
  if (QueuedDevice* const queued = context_.fast().queued()) {
    runner_ = std::make_unique<QueuedRunner>(context_, *queued);
    const int64_t max_neurons = MaxSlowNeurons(weights);
    if (max_neurons > 0 && options.MayStream()) {
      streamed_ = std::make_unique<StreamedRunner>(context_, *queued, max_neurons);
    }
  } else {
    runner_ = std::make_unique<HostRunner>(context_);
  }
  ResetCounts();
}

void Executor::ResetCounts() {
  counts_ = {};
  counts_.layers.assign(context_.weights.layers.size(), {});
  counts_.tiers.assign(context_.tiers.size(), counts_.layers);
  kv_bytes_ = {};
  if (context_.cuts == nullptr) return;
  for (auto& layer : context_.cuts->kept) {
    for (std::atomic<int64_t>& kept : layer) kept.store(0, std::memory_order_relaxed);
  }
}

void Executor::set_profile(PassProfile* profile) {
  CHECK(profile == nullptr || profile->n_threads() == context_.team.n_threads());
  context_.profile = profile;
  if (profile != nullptr) profile->Resume();
  runner_->TimePasses(profile != nullptr);
  if (streamed_) streamed_->TimePasses(profile != nullptr);
}

void Executor::set_keep_hidden(bool keep) {
  const int64_t n = context_.config.n_layers * context_.config.streams_dim();
  context_.keep_hidden = keep;
  context_.hidden.assign(keep ? static_cast<size_t>(n) : 0, 0.0F);
}

StreamUse Executor::stream_use() const {
  if (streamed_) return streamed_->use();
  return {.possible = false, .option = context_.options.stream_cold, .rates = {}};
}

Batch Executor::OnlySequence(std::span<const int32_t> ids, int64_t first_position,
                             LogitsWanted wanted) const {
  Batch batch;
  BatchSequence& sequence = batch.sequences.emplace_back();
  const int64_t end = KvPagesFor(first_position + static_cast<int64_t>(ids.size()));
  for (size_t c = 0; c < all_pages_.size(); ++c) {
    const KvPageClass& page_class = context_.cache.layout().classes[c];
    const int64_t first = page_class.FirstSeen(first_position) / kKvPageTokens;
    CHECK(end - first <= page_class.n_pages);
    const std::span<const int32_t> pages(all_pages_[c]);
    sequence.tables.push_back({first, pages.subspan(static_cast<size_t>(first % page_class.n_pages),
                                                    static_cast<size_t>(end - first))});
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool logits =
        wanted == LogitsWanted::kAll || (wanted != LogitsWanted::kNone && i + 1 == ids.size());
    batch.rows.push_back({ids[i], 0, first_position + static_cast<int64_t>(i), logits});
  }
  return batch;
}

PassRunner& Executor::BeginPass(const Pass& pass) {
  // Before anything else: of a pass that failed, nothing may be under way.
  if (streamed_) streamed_->stream().BeginPass();
  if (between_passes_) between_passes_(std::exchange(n_fired_tokens_, 0));
  if (context_.CountsFired(pass.n())) n_fired_tokens_ += pass.n();
  context_.BeginPass(pass);
  const bool streams = streamed_ && streamed_->Chooses(pass.n());
  context_.streams_ffn = streams;
  return streams ? *streamed_ : *runner_;
}

void Executor::Embed(std::span<const int32_t> ids, float* x) {
  CHECK(has_one_stream());
  const Batch batch = OnlySequence(ids, 0, LogitsWanted::kNone);
  const Pass pass = MakePass(batch, 0);
  if (streamed_) streamed_->stream().BeginPass();
  context_.BeginPass(pass);
  runner_->Embed(pass, x);
}

void Executor::RunLayers(float* x, int64_t n, int64_t first_position, int64_t layer_begin,
                         int64_t layer_end, bool keeps_cache) {
  CHECK(layer_begin >= 0 && layer_end <= context_.config.n_layers);
  Pass part;
  part.layer_begin = layer_begin;
  part.layer_end = layer_end;
  part.keeps_cache = keeps_cache;
  RunPart(x, n, first_position, part);
}

void Executor::RunAttention(float* x, int64_t n, int64_t first_position, int64_t layer) {
  CHECK(RunsAttentionAlone(layer));
  Pass part;
  part.layer_begin = layer;
  part.layer_end = layer + 1;
  part.attention_only = true;
  RunPart(x, n, first_position, part);
}

bool Executor::RunsAttentionAlone(int64_t layer) const {
  const ModelConfig& c = context_.config;
  return has_one_stream() && !c.has_encoder() && c.laurel_rank == 0 &&
         c.layer(layer).block != BlockKind::kParallel;
}

void Executor::RunPart(float* x, int64_t n, int64_t first_position, const Pass& part) {
  CHECK(has_one_stream());
  const std::vector<int32_t> no_ids(static_cast<size_t>(n), 0);
  const Batch batch = OnlySequence(no_ids, first_position, LogitsWanted::kNone);
  Pass pass = MakePass(batch, part.layer_end);
  pass.layer_begin = part.layer_begin;
  pass.attention_only = part.attention_only;
  pass.keeps_cache = part.keeps_cache;
  BeginPass(pass).RunLayers(pass, x);
}

Pass Executor::DecoderPass(const Batch& batch, int64_t n_best) const {
  Pass pass = MakePass(batch, context_.config.n_layers, n_best);
  pass.layer_begin = context_.config.n_encoder_layers;
  return pass;
}

void Executor::Encode(const Batch& batch) {
  CHECK(context_.config.has_encoder() && batch.n_wanted() == 0);
  Pass pass = MakePass(batch, context_.config.n_encoder_layers);
  pass.encodes = true;
  EndPass(RunPass(pass), batch.n_rows());
}

std::span<const float> Executor::Run(const Batch& batch) {
  CHECK(batch.n_wanted() <= context_.options.max_logits);
  PassRunner& runner = RunPass(DecoderPass(batch));
  const auto logits = runner.Logits(0, batch.n_wanted() * context_.config.vocab_size);
  EndPass(runner, batch.n_rows());
  return logits;
}

std::span<const std::vector<TokenLogit>> Executor::RunBest(const Batch& batch, int64_t k) {
  CHECK(k >= 1 && k <= max_best() && batch.n_wanted() <= context_.options.max_logits);
  PassRunner& runner = RunPass(DecoderPass(batch, k));
  best_.clear();
  for (int64_t row = 0; row < batch.n_wanted(); ++row) best_.push_back(runner.Best(row, k));
  last_runner_ = &runner;
  EndPass(runner, batch.n_rows());
  return best_;
}

std::span<const float> Executor::LogitsOfRow(int64_t row) {
  CHECK(last_runner_ != nullptr);
  const int64_t width = context_.config.vocab_size;
  return last_runner_->Logits(row * width, width);
}

std::span<const float> Executor::RunHidden(const Batch& batch) {
  Pass pass = DecoderPass(batch);
  pass.wants_hidden = true;
  PassRunner& runner = RunPass(pass);
  const auto hidden = runner.Hidden(batch.n_wanted() * context_.config.d_model);
  EndPass(runner, batch.n_rows());
  return hidden;
}

PassRunner& Executor::RunPass(const Pass& pass) {
  const TraceRange range(pass.n() == 1 ? "token" : "prompt", pass.first_position());
  PassRunner& runner = BeginPass(pass);
  if (context_.profile != nullptr) context_.profile->BeginPass();
  runner.RunAll(pass);
  // Counts are of the tokens that a model writes, which an encoder does not.
  if (!pass.encodes) CountPass(pass);
  return runner;
}

// What the pass left has crossed to the host by now.
void Executor::EndPass(PassRunner& runner, int64_t n) {
  if (context_.profile == nullptr) return;
  runner.AddTimes(context_.profile);
  context_.profile->EndPass(n);
}

// Takes the counts of the pass's cuts.
void Executor::CountChannels() {
  if (context_.n_cut_rows == 0) return;
  ChannelCounts counts{.rows = context_.n_cut_rows};
  counts.kept.resize(context_.cuts->kept.size());
  for (size_t l = 0; l < counts.kept.size(); ++l) {
    for (size_t m = 0; m < kCutMatrices; ++m) {
      counts.kept[l][m] = context_.cuts->kept[l][m].exchange(0, std::memory_order_relaxed);
    }
  }
  counts_.channels.Add(counts);
}

// Layers that see equally far of the same pages read as many positions.
void Executor::CountKvBytes(const Pass& pass) {
  struct Counted {
    size_t page_class;
    int64_t window;
    KvReads reads;
  };
  std::vector<Counted> counted;
  for (int64_t layer = pass.layer_begin; layer < pass.layer_end; ++layer) {
    const AttentionOp op = MakeAttention(context_, layer, pass);
    auto same = std::ranges::find_if(counted, [&](const Counted& other) {
      return other.page_class == op.page_class && other.window == op.window;
    });
    if (same == counted.end()) {
      counted.push_back({op.page_class, op.window,
                         context_.tiers[context_.AttentionTier(layer)].device->ReadsOf(op)});
      same = std::prev(counted.end());
    }
    const int64_t row_bytes = 2 * op.n_kv_heads * RowBytes(context_.cache.dtype(), op.head_dim);
    kv_bytes_.read += same->reads.positions * row_bytes;
    kv_bytes_.unshared += same->reads.unshared * row_bytes;
  }
}

void Executor::CountPass(const Pass& pass) {
  const int64_t n = pass.n();
  CountChannels();
  CountKvBytes(pass);
  const auto by_rows = [](const std::vector<FfnCount>& tiers) {
    return std::ranges::any_of(tiers, [](const FfnCount& count) { return count.tokens > 0; });
  };
  const int64_t n_by_rows = std::ranges::count_if(context_.counts, by_rows);
  if (n > 1 && n <= kMostSkipRows && pass.layer_end > pass.layer_begin) {
    counts_.batch_layers_by_neuron += n_by_rows;
    counts_.batch_layers_dense += pass.layer_end - pass.layer_begin - n_by_rows;
  }
  if (n_by_rows == 0) return;
  counts_.tokens += n;
  for (size_t l = 0; l < context_.counts.size(); ++l) {
    for (size_t tier = 0; tier < context_.counts[l].size(); ++tier) {
      counts_.layers[l].Add(context_.counts[l][tier]);
      counts_.tiers[tier][l].Add(context_.counts[l][tier]);
    }
  }
}

}  // namespace thermocline
