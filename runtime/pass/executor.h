// Runs a model: one pass feeds a batch of rows, of one sequence or of several, through all layers.
// The layer's ops stand in layer_ops.cc; who carries them out is chosen for every pass
// (pass_runner.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "runtime/device/device.h"
#include "runtime/pass/ffn_counts.h"
#include "runtime/pass/ffn_observer.h"
#include "runtime/pass/pass_context.h"
#include "runtime/pass/pass_runner.h"
#include "runtime/pass/streamed_runner.h"

namespace thermocline {

class Executor {
 public:
  // tiers: from the fastest on. Everything referenced must outlive the executor. predictors:
  // (n_layers), or empty where kPredicted is not asked for. adapters: null, or made for the tiers.
  // REQUIRES: at most kMaxTiers tiers, and a slice of every layer for each.
  Executor(const ModelConfig& config, const ModelWeights& weights, const ExecutorOptions& options,
           ThreadTeam& team, KvCache& cache, std::span<Device* const> tiers,
           std::span<const LayerPredictors> predictors = {},
           const ModelAdapters* adapters = nullptr);

  // Feeds the rows. Returns the logits of those that want them, in their order: (n_wanted,
  // vocab_size). Valid until the next call. REQUIRES: 0 < n_rows <= max_tokens, n_wanted <=
  // max_logits; the cache holds what a row sees of the positions before its own, and its pages have
  // room for it; with an encoder, every sequence has an encoder's text.
  std::span<const float> Run(const Batch& batch);

  // Has the model's encoder read a text, and stores what the decoder's layers attend to. The batch
  // is one sequence's whole text, from position 0 on; its pages and its encoder_pages are those to
  // write. REQUIRES: a model with an encoder, 0 < n_rows <= max_tokens, no row wants logits.
  void Encode(const Batch& batch);

  // Most tokens that RunBest can be asked for; 0 where the logits lie in host memory anyway.
  int64_t max_best() const { return runner_->max_best(); }
  // Runs a batch, but of the logits of each row that wants some only the k best come to the host,
  // best first (of equal ones the lower id); fewer where fewer are finite. Returns them by row;
  // valid until the next call. REQUIRES: 1 <= k <= max_best().
  std::span<const std::vector<TokenLogit>> RunBest(const Batch& batch, int64_t k);
  // All logits of such a row of the last RunBest: (vocab_size), valid until the next call.
  // REQUIRES: no pass since.
  std::span<const float> LogitsOfRow(int64_t row);
  // Runs a batch, and returns in the place of logits what they are computed from, the rows'
  // residual streams, normalised: (n_wanted, d_model), valid until the next call.
  std::span<const float> RunHidden(const Batch& batch);

  // One segment of a sequence that has the cache to itself. Position p lies in page p /
  // kKvPageTokens of a class, or where these come round, in that less a multiple of their number.
  Batch OnlySequence(std::span<const int32_t> ids, int64_t first_position,
                     LogitsWanted wanted = LogitsWanted::kLast) const;

  // For work that goes through a text layer by layer, with the residual streams of all its tokens
  // at hand. x: (n, d_model) in host memory. RunLayers updates x by layers [layer_begin,
  // layer_end), at positions first_position ... of a sequence that has the cache to itself; these
  // layers' cache must hold the positions before (0 starts a new sequence). REQUIRES: 0 < n <=
  // max_tokens, the cache has room for so many and for the windows; has_one_stream().
  void Embed(std::span<const int32_t> ids, float* x);
  // keeps_cache: the cache stays as it is, and must hold these positions, too (Pass).
  void RunLayers(float* x, int64_t n, int64_t first_position, int64_t layer_begin,
                 int64_t layer_end, bool keeps_cache = false);
  // x += attention of a layer alone. REQUIRES: as RunLayers, and RunsAttentionAlone(layer).
  void RunAttention(float* x, int64_t n, int64_t first_position, int64_t layer);
  // Whether attention is added to the residual stream before the layer goes on.
  bool RunsAttentionAlone(int64_t layer) const;
  // Whether x is all that a layer reads of the one before.
  bool has_one_stream() const {
    return !context_.config.streams.several() && context_.config.layer_embd_dim == 0;
  }

  void set_mode(SparseMode mode) { context_.options.mode = mode; }
  // Up to how many rows the batches of each layer skip neurons (FfnOp::skip_rows); empty: none
  // does. REQUIRES: (n_layers), each at most kMostSkipRows.
  void set_skip_rows(std::vector<int64_t> rows) { context_.skip_rows = std::move(rows); }
  // In kPredicted, also count the active neurons that were not predicted (which takes every gate).
  void set_audit(bool audit) { context_.audit = audit; }
  // With an observer every FFN runs dense, since h of all neurons is what it wants. Null: none.
  void set_observer(FfnObserver* observer) { context_.observer = observer; }
  // Count which neurons fire from now on; null: no more. The counters outlive it. An observer has
  // everything run dense, and nothing is counted then.
  void set_fired(const FiredCounters* fired) { context_.fired = fired; }
  // Called before every pass, while nothing is under way, with the tokens that were counted since
  // the last time.
  using BetweenPasses = std::function<void(int64_t n_tokens)>;
  void set_between_passes(BetweenPasses work) { between_passes_ = std::move(work); }
  // What mode kThreshold leaves out; null: none. REQUIRES: outlives the executor; made for its
  // layers and max_tokens.
  void set_cuts(ChannelCuts* cuts) { context_.cuts = cuts; }
  ChannelCuts* cuts() { return context_.cuts; }
  const FfnCounts& counts() const { return counts_; }
  // Bytes of keys and values that attention read so far, and would have read if no two sequences
  // shared a page (DeviceOps::ReadsOf).
  struct KvBytes {
    int64_t read = 0;
    int64_t unshared = 0;
  };
  const KvBytes& kv_bytes() const { return kv_bytes_; }
  // Measure where the time of the passes goes that follow, until it is null (costs a clock reading
  // per part and layer on each thread, and on a queued device a kernel). REQUIRES: made for as many
  // threads as the team has; outlives them.
  void set_profile(PassProfile* profile);
  void ResetCounts();
  StreamUse stream_use() const;
  // Null where nothing may be streamed; for tests.
  WeightStream* weight_stream() { return streamed_ ? &streamed_->stream() : nullptr; }
  // The residual streams after each layer of the last pass's last token: (n_layers, n_streams,
  // d_model); an encoder's layers have those of the last text. For tests.
  void set_keep_hidden(bool keep);
  std::span<const float> hidden() const { return context_.hidden; }

 private:
  // A pass through all layers but an encoder's.
  Pass DecoderPass(const Batch& batch, int64_t n_best = 0) const;
  // Runs the layers that `part` says over x, at these positions.
  void RunPart(float* x, int64_t n, int64_t first_position, const Pass& part);
  // Whoever runs a pass that begins with this call.
  PassRunner& BeginPass(const Pass& pass);
  PassRunner& RunPass(const Pass& pass);
  void EndPass(PassRunner& runner, int64_t n);
  void CountChannels();
  void CountPass(const Pass& pass);
  void CountKvBytes(const Pass& pass);

  PassContext context_;
  std::unique_ptr<PassRunner> runner_;
  std::unique_ptr<StreamedRunner> streamed_;     // where batches may be streamed
  std::vector<std::vector<int32_t>> all_pages_;  // of each class, in their order, twice
  FfnCounts counts_;
  KvBytes kv_bytes_;
  std::vector<std::vector<TokenLogit>> best_;
  PassRunner* last_runner_ = nullptr;  // of RunBest
  BetweenPasses between_passes_;
  int64_t n_fired_tokens_ = 0;  // since it was called
};

}  // namespace thermocline
