// The whole runtime behind one door: opens a model (and a placement), sets up the tiers, feeds
// tokens of one sequence or of several and hands out logits.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "runtime/engine/engine_options.h"
#include "runtime/engine/opened_model.h"
#include "runtime/load/model_cuts.h"
#include "runtime/load/model_predictor.h"
#include "runtime/load/weights.h"
#include "runtime/moves/neuron_mover.h"
#include "runtime/pass/executor.h"
#include "runtime/text/tokenizer.h"

namespace thermocline {

// Tokens to be fed to a sequence.
struct SequenceInput {
  int32_t sequence = 0;
  std::span<const int32_t> ids;
  bool wants_logits = true;  // after the last of them
  bool all_logits = false;   // and after each of them; at most ContextOptions::drafted_rows in all
  // Tokens of which several may follow the same, and of which one path will stand (KeepPath). They
  // take the places behind the sequence as others do, and a token's position is that behind its
  // parent. The tree begins behind the sequence's first tree_begin tokens, and may have been fed in
  // part before. parents: of each of its tokens, from there on, the number of the token that it
  // follows, counted from tree_begin, or -1: the text before. Empty: each follows the one before.
  int64_t tree_begin = 0;
  std::span<const int32_t> parents = {};
};

// Called with the number of tokens fed so far.
using FeedProgress = std::function<void(size_t)>;

class Engine {
 public:
  explicit Engine(const EngineOptions& options);
  // For who wants to look at the model before gigabytes are read.
  explicit Engine(std::unique_ptr<OpenedModel> model);
  ~Engine();

  const OpenedModel& model() const { return *model_; }
  const ModelConfig& config() const { return model_->config(); }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  const ModelWeights& weights() const { return loaded_->weights; }
  // The predictors of each layer, in mode predicted.
  std::span<const LayerPredictors> predictors() const { return loaded_predictor_.layers; }
  const RequantReport& requant() const { return loaded_->requant; }
  Executor& executor() { return *executor_; }
  const Executor& executor() const { return *executor_; }
  // For other executors of the same model (drafts): its threads, and the device that has the cache.
  ThreadTeam& team() { return team_; }
  Device& fast_tier() { return *tiers_.front(); }
  int64_t n_past() const { return kv_.length(main_); }  // tokens of the main sequence
  int64_t context_tokens() const { return model_->context_tokens(); }
  uint64_t allocated_bytes() const;
  std::vector<Device*> devices() const;  // of the tiers, from the fastest on
  // What mode kThreshold leaves out; null in other modes.
  ModelCuts* cuts() { return cuts_.get(); }
  const ModelCuts* cuts() const { return cuts_.get(); }
  // What each tier holds: allocated, and mapped weights. (tiers that run)
  std::vector<uint64_t> UsedBytes() const;

  // ---- the main sequence, which is always there ----

  // Starts it anew.
  void Reset() { Truncate(0); }
  // How many of its first n tokens Truncate can keep: all, or none where the layers' windows have
  // let go of what the next token would see. All are kept that lie at most kKvSlackPages pages
  // back. REQUIRES: n_tokens <= n_past().
  int64_t KeepableTokens(int64_t n_tokens) const { return kv_.KeepableLength(main_, n_tokens); }
  // Forgets all but its first n tokens. REQUIRES: n_tokens == KeepableTokens(n_tokens).
  void Truncate(int64_t n_tokens) { kv_.Truncate(main_, n_tokens); }
  // Reads the weights once, in a pass of a few tokens which leaves nothing behind, so that the
  // first text does not pay for what was still on a disk. Nothing for models with an encoder.
  // REQUIRES: n_past() == 0.
  void WarmUp();
  // Feeds tokens in batches, and tells `progress` before and after each; returns the logits after
  // the last token, the only ones that are computed: (vocab_size). Valid until the next call.
  // Throws Error when the context is full, Interrupted between batches on Ctrl-C.
  std::span<const float> Feed(std::span<const int32_t> ids, const FeedProgress& progress = {});
  // Feeds as Feed does, but only the k best logits come from the device that has them, best first
  // (of equal ones the lower id); fewer where fewer are finite. REQUIRES: 1 <= k <= max_best(),
  // which is 0 where they lie in host memory anyway.
  std::span<const TokenLogit> FeedBest(std::span<const int32_t> ids, int64_t k,
                                       const FeedProgress& progress = {});
  int64_t max_best() const { return executor_->max_best(); }
  // Feeds at most batch_tokens tokens and returns the logits after each: (n, vocab_size).
  std::span<const float> EvaluateAll(std::span<const int32_t> ids);

  // ---- models with an encoder (ModelConfig::has_encoder) ----

  // Has the encoder read a text, and empties the sequence. What is fed to it from here on is the
  // decoder's text, which begins with ModelConfig::decoder_start and attends to the encoder's; so
  // do forks, and what follows a Reset. Throws Error when the text is longer than a context or the
  // cache is full. REQUIRES: ids not empty.
  void Encode(int32_t sequence, std::span<const int32_t> ids);

  // ---- neurons that move (AdaptOptions) ----

  // Null where none does.
  NeuronMover* mover() { return mover_.get(); }
  // The placement as it is now, on each tier in the order of what was learned. REQUIRES: mover().
  Placement LearnedPlacement();

  // ---- several sequences ----

  // Who holds which pages. New sequences are made, forked, cut and removed there; the main one must
  // stay.
  KvSequences& sequences() { return kv_; }
  KvCache& cache() { return *cache_; }  // where their keys and values lie
  const KvCache& cache() const { return *cache_; }
  int32_t main_sequence() const { return main_; }
  // ---- adapters (EngineOptions::loras) ----

  // Makes another choice of adapters, by their places in `loras`; none: the model as it is. Returns
  // what KvSequences::set_adapter_set and set_adapters take. Set 0 has all and is what sequences
  // begin with. Each sequence of a pass may have its own.
  int32_t AddAdapterSet(std::vector<int32_t> adapters);
  // The adapters of the main sequence, for what is fed from here on.
  void set_adapters(int32_t adapter_set) { kv_.set_adapter_set(main_, adapter_set); }

  // Feeds all inputs in one pass, at the ends of their sequences; returns the logits after the last
  // token of each that wants them, or after each of its tokens: (those tokens, vocab_size). Valid
  // until the next call. Throws Error when a context or the cache is full. REQUIRES: no sequence
  // twice, no input empty, at most batch_tokens tokens in all.
  std::span<const float> FeedSequences(std::span<const SequenceInput> inputs);
  // The same, but of each row's logits only the k best come to the host, as with FeedBest; by token
  // that wants some. All of one can still be asked for, until something is fed.
  // REQUIRES: 1 <= k <= max_best().
  std::span<const std::vector<TokenLogit>> FeedSequencesBest(std::span<const SequenceInput> inputs,
                                                             int64_t k);
  // The same passes by another executor, on this engine's sequences and cache; which rows want
  // logits may be all. REQUIRES: it has this engine's cache and fast tier.
  std::span<const float> FeedSequencesBy(Executor& executor, std::span<const SequenceInput> inputs,
                                         LogitsWanted wanted = LogitsWanted::kLast);
  std::span<const std::vector<TokenLogit>> FeedSequencesBestBy(
      Executor& executor, std::span<const SequenceInput> inputs, int64_t k);
  std::span<const float> LogitsOfRow(int64_t row) { return executor_->LogitsOfRow(row); }
  // Of a tree that was fed behind the first tree_begin tokens of a sequence a path stays, and goes
  // on behind them; the rest is forgotten. path: the numbers of its tokens, each the parent of the
  // next. REQUIRES: tree_begin + path.size() tokens are what KeepableLength keeps.
  void KeepPath(int32_t sequence, int64_t tree_begin, std::span<const int32_t> path);
  // Feeds a sequence, and returns what the head would compute logits from, after each token:
  // (n, d_model), normalised by the model's last norm. Valid until the next call.
  // REQUIRES: as FeedSequences.
  std::span<const float> FeedHidden(const SequenceInput& input);

 private:
  std::unique_ptr<KvCache> MakeCache();
  void MakeMover(std::span<Device* const> tiers);
  void CheckRoom(int32_t sequence, size_t n_ids) const;
  // A pass that appends the inputs; its pages are reserved and what must be copied is.
  Batch MakeBatch(std::span<const SequenceInput> inputs, LogitsWanted wanted);
  void Advance(std::span<const SequenceInput> inputs);
  // Puts a row at the place of a token of a tree: `place` of the sequence.
  static void PlaceInTree(const SequenceInput& input, int64_t place, BatchRow* row, Batch* batch);
  // Feeds all but the last batch, and returns that.
  std::span<const int32_t> FeedBatches(std::span<const int32_t> ids, const FeedProgress& progress);

  std::unique_ptr<OpenedModel> model_;
  const Tokenizer& tokenizer_;
  ThreadTeam team_;
  std::vector<std::unique_ptr<Device>> tiers_;  // from the fastest on
  std::unique_ptr<LoadedWeights> loaded_;
  LoadedPredictor loaded_predictor_;
  std::unique_ptr<ModelAdapters> adapters_;  // null: none
  ChannelOrders orders_;                     // for cuts_
  std::unique_ptr<ModelCuts> cuts_;          // null: none
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<NeuronMover> mover_;  // null: no neuron moves
  KvSequences kv_;
  int32_t main_;
};

}  // namespace thermocline
