#include "runtime/pass/executor.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gpu_kernels/base/trace_range.h"
#include "runtime/core/error.h"
#include "runtime/device/handover.h"

namespace thermocline {
namespace {

int64_t MaxNeurons(const ModelWeights& weights, FfnSlice LayerWeights::*slice) {
  int64_t most = 0;
  for (const LayerWeights& layer : weights.layers) {
    most = std::max(most, (layer.*slice).n_neurons);
  }
  return most;
}

template <typename T>
T* AllocateElems(Device& device, int64_t n, const char* purpose) {
  return static_cast<T*>(device.Allocate(static_cast<uint64_t>(n) * sizeof(T), purpose));
}

}  // namespace

Executor::Executor(const ModelConfig& config, const ModelWeights& weights,
                   const ExecutorOptions& options, ThreadTeam& team, KvCache& cache, Device& fast,
                   Device* slow, std::span<const SlicePredictor> predictors)
    : config_(config),
      weights_(weights),
      options_(options),
      team_(team),
      cache_(cache),
      fast_(fast),
      slow_(slow),
      angles_(config.rope),
      queued_(fast.queued()),
      predictors_(predictors) {
  CHECK(predictors.empty() || predictors.size() == weights.layers.size());
  all_pages_.resize(static_cast<size_t>(cache.n_pages()));
  std::iota(all_pages_.begin(), all_pages_.end(), 0);
  AllocateState();
  MakeGroups();
  ResetCounts();
  pass_counts_.resize(static_cast<size_t>(config.n_layers));
}

StateSize Executor::StateBytes(const ModelConfig& config, const ExecutorOptions& options,
                               int64_t max_hot, int64_t max_cold) {
  const int64_t n = options.max_tokens;
  // x, xn, proj; two more of the FFN's inputs where a predictor looks ahead.
  const bool looks_ahead = options.predictor_input == PredictorInput::kPreviousNormed;
  const int64_t residual = (looks_ahead ? 5 : 3) * config.d_model;
  const int64_t attention = 2 * config.q_dim() + 2 * config.kv_dim();
  const auto ffn = [&](int64_t neurons) {  // gate, up, y
    return n * (2 * neurons + config.d_model);
  };
  const int64_t fast =
      n * (residual + attention) + ffn(max_hot) + options.max_logits * config.vocab_size;
  // x_cold, and what the predictor reads where that is another.
  const int64_t inputs = options.predictor_input == PredictorInput::kNormed ? 1 : 2;
  const int64_t slow = max_cold == 0 ? 0 : ffn(max_cold) + inputs * n * config.d_model;
  return {static_cast<uint64_t>(fast) * sizeof(float), static_cast<uint64_t>(slow) * sizeof(float)};
}

void Executor::AllocateState() {
  const int64_t n = options_.max_tokens;
  const auto floats = [&](int64_t elems, const char* purpose) {
    return AllocateElems<float>(fast_, elems, purpose);
  };
  state_.x = floats(n * config_.d_model, "the residual stream");
  state_.xn = floats(n * config_.d_model, "normalised inputs");
  for (float*& x : state_.ffn_x) {
    const bool looks_ahead = options_.predictor_input == PredictorInput::kPreviousNormed;
    x = looks_ahead ? floats(n * config_.d_model, "FFN inputs") : state_.xn;
  }
  state_.q = floats(n * config_.q_dim(), "queries");
  state_.k = floats(n * config_.kv_dim(), "keys");
  state_.v = floats(n * config_.kv_dim(), "values");
  state_.att = floats(n * config_.q_dim(), "attention outputs");
  state_.proj = floats(n * config_.d_model, "attention projections");
  state_.logits = floats(options_.max_logits * config_.vocab_size, "logits");
  cos_.resize(static_cast<size_t>(n * angles_.n_frequencies()));
  sin_.resize(cos_.size());
  AllocateFfn(state_.hot, MaxNeurons(weights_, &LayerWeights::hot), fast_);
  const int64_t max_cold = MaxNeurons(weights_, &LayerWeights::cold);
  if (max_cold == 0) return;
  CHECK(slow_ != nullptr);
  AllocateFfn(state_.cold, max_cold, *slow_);
  const bool apart = options_.predictor_input != PredictorInput::kNormed;
  if (queued_ != nullptr) {
    handover_ = queued_->MakeHandover(n, config_.d_model, apart);
    state_.cold.y = handover_->y();
    if (!options_.MayStream()) return;
    weight_stream_ = queued_->MakeWeightStream({.max_tokens = n,
                                                .d_model = config_.d_model,
                                                .max_neurons = max_cold,
                                                .piece_bytes = options_.stream_piece_bytes});
    return;
  }
  const auto slow_floats = [&](const char* purpose) {
    return AllocateElems<float>(*slow_, n * config_.d_model, purpose);
  };
  float* x = slow_floats("the slow tier's inputs");
  float* predictor_x = apart ? slow_floats("the predictor's inputs") : nullptr;
  handover_ = std::make_unique<HostHandover>(team_, x, predictor_x, state_.cold.y, config_.d_model);
}

void Executor::AllocateFfn(FfnState& state, int64_t max_neurons, Device& device) {
  const int64_t n = options_.max_tokens;
  state.gate = AllocateElems<float>(device, n * max_neurons, "FFN activations");
  state.up = AllocateElems<float>(device, n * max_neurons, "FFN activations");
  state.y = AllocateElems<float>(device, n * config_.d_model, "FFN outputs");
}

// While both tiers run, threads are shared out by the bytes of weights each tier holds, at least
// one each.
void Executor::MakeGroups() {
  const int n = team_.n_threads();
  all_group_ = team_.MakeGroup(n);
  // Behind a queued device all threads are the slow tier's.
  if (!handover_ || n < 2 || queued_ != nullptr) return;
  uint64_t hot_bytes = 0;
  uint64_t cold_bytes = 0;
  for (const LayerWeights& layer : weights_.layers) {
    hot_bytes += layer.hot.weight_bytes();
    cold_bytes += layer.cold.weight_bytes();
  }
  const double share = static_cast<double>(hot_bytes) /
                       static_cast<double>(std::max<uint64_t>(1, hot_bytes + cold_bytes));
  n_fast_lanes_ = std::clamp(static_cast<int>(std::lround(share * n)), 1, n - 1);
  fast_group_ = team_.MakeGroup(n_fast_lanes_);
  slow_group_ = team_.MakeGroup(n - n_fast_lanes_);
}

Executor::Lanes Executor::LanesOf(int thread) {
  const int n = team_.n_threads();
  PassTimer* timer = TimerOf(thread);
  Lanes lanes{.all = {thread, n, all_group_, timer}, .fast = {}, .slow = {}};
  if (!handover_) return lanes;
  if (n == 1) {  // one thread runs the tiers one after the other
    lanes.fast = lanes.slow = Lane{.timer = timer};
  } else if (thread < n_fast_lanes_) {
    lanes.fast = Lane{thread, n_fast_lanes_, fast_group_, timer};
  } else {
    lanes.slow = Lane{thread - n_fast_lanes_, n - n_fast_lanes_, slow_group_, timer};
  }
  return lanes;
}

void Executor::ResetCounts() {
  counts_.tokens = 0;
  counts_.layers.assign(static_cast<size_t>(config_.n_layers), {});
}

void Executor::set_profile(PassProfile* profile) {
  CHECK(profile == nullptr || profile->n_threads() == team_.n_threads());
  profile_ = profile;
  if (profile != nullptr) profile->Resume();
  if (queued_ != nullptr) queued_marks_ = queued_->TimePasses(profile != nullptr);
}

void Executor::set_keep_hidden(bool keep) {
  keep_hidden_ = keep;
  hidden_.assign(keep ? static_cast<size_t>(config_.n_layers * config_.d_model) : 0, 0.0F);
}

Executor::PassArgs Executor::ArgsOf(const Batch& batch, int64_t n_best) {
  PassArgs args{.batch = &batch, .ids = {}, .segments = batch.Segments()};
  for (const BatchRow& row : batch.rows) args.ids.push_back(row.token);
  const int64_t n_wanted = batch.n_wanted();
  args.n_best = n_best;
  if (n_wanted == 0) return args;
  if (n_best > 0) {
    CHECK(n_wanted == 1 && batch.rows.back().wants_logits);
    args.wanted = LogitsWanted::kBest;
  } else if (n_wanted == 1 && batch.rows.back().wants_logits) {
    args.wanted = LogitsWanted::kLast;
  } else {
    args.wanted = n_wanted == args.n() ? LogitsWanted::kAll : LogitsWanted::kSome;
  }
  return args;
}

Batch Executor::OnlySequence(std::span<const int32_t> ids, int64_t first_position,
                             LogitsWanted wanted) const {
  Batch batch;
  batch.sequences = {{all_pages_}};
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool logits =
        wanted == LogitsWanted::kAll || (wanted != LogitsWanted::kNone && i + 1 == ids.size());
    batch.rows.push_back({ids[i], 0, first_position + static_cast<int64_t>(i), logits});
  }
  return batch;
}

void Executor::BeginPass(const PassArgs& args) {
  CHECK(args.n() > 0 && args.n() <= options_.max_tokens);
  if (queued_ != nullptr) {  // its cache has no page table yet
    const auto pages = args.batch->sequences.front().pages;
    CHECK(args.segments.size() == 1);
    CHECK(std::equal(pages.begin(), pages.end(), all_pages_.begin()));
  }
  if (weight_stream_) weight_stream_->BeginPass();
  for (int64_t t = 0; t < args.n(); ++t) {
    const BatchRow& row = args.batch->row(t);
    CHECK(row.token >= 0 && row.token < config_.vocab_size);
    CHECK(row.position >= 0 &&
          row.position / kKvPageTokens < static_cast<int64_t>(args.batch->pages_of(row).size()));
    const int64_t offset = t * angles_.n_frequencies();
    angles_.Fill(row.position, cos_.data() + offset, sin_.data() + offset);
  }
  for (auto& counts : pass_counts_) counts = {};
  streams_ = ChooseStream(args.n());
  if (handover_) handover_->BeginPass();
}

void Executor::Embed(std::span<const int32_t> ids, float* x) {
  const auto n = static_cast<int64_t>(ids.size());
  CHECK(n > 0 && n <= options_.max_tokens);
  if (queued_ != nullptr) {
    if (weight_stream_) weight_stream_->BeginPass();
    queued_->BeginTokens(ids, n, 0);
    fast_.Embed(Lane{}, weights_.token_embd, ids, state_.x);
    queued_->Finish();
    queued_->Download(x, state_.x, static_cast<uint64_t>(n * config_.d_model) * sizeof(float));
    return;
  }
  team_.Run(
      [&](int thread) { fast_.Embed(LanesOf(thread).all, weights_.token_embd, ids, state_.x); });
  std::copy_n(state_.x, n * config_.d_model, x);
}

void Executor::RunLayers(float* x, int64_t n, int64_t first_position, int64_t layer_begin,
                         int64_t layer_end) {
  CHECK(layer_begin >= 0 && layer_end <= config_.n_layers);
  const std::vector<int32_t> no_ids(static_cast<size_t>(n), 0);
  const Batch batch = OnlySequence(no_ids, first_position, LogitsWanted::kNone);
  const PassArgs args = ArgsOf(batch);
  BeginPass(args);
  const uint64_t x_bytes = static_cast<uint64_t>(n * config_.d_model) * sizeof(float);
  fast_.Upload(state_.x, x, x_bytes);
  if (queued_ != nullptr) {
    queued_->BeginTokens({}, n, first_position);
    RunLayersQueued(args, layer_begin, layer_end);
    FinishQueued();
    queued_->Download(x, state_.x, x_bytes);
    return;
  }
  team_.Run([&](int thread) {
    const Lanes lanes = LanesOf(thread);
    uint32_t handovers = 0;
    for (int64_t layer = layer_begin; layer < layer_end; ++layer) {
      RunLayer(lanes, layer, args, &handovers);
    }
  });
  std::copy_n(state_.x, n * config_.d_model, x);
}

std::span<const float> Executor::Run(const Batch& batch) {
  const int64_t n_wanted = batch.n_wanted();
  CHECK(n_wanted <= options_.max_logits);
  RunPass(ArgsOf(batch));
  std::span<const float> logits(state_.logits, static_cast<size_t>(n_wanted * config_.vocab_size));
  if (queued_ != nullptr) {
    host_logits_.resize(logits.size());
    queued_->Download(host_logits_.data(), state_.logits, logits.size_bytes());
    logits = host_logits_;
  }
  EndPass(batch.n_rows());
  return logits;
}

std::span<const TokenLogit> Executor::RunBest(const Batch& batch, int64_t k) {
  CHECK(k >= 1 && k <= max_best());
  RunPass(ArgsOf(batch, k));
  best_ = queued_->Best(k);
  EndPass(batch.n_rows());
  return best_;
}

void Executor::RunPass(const PassArgs& args) {
  const TraceRange range(args.n() == 1 ? "token" : "prompt", args.first_position());
  BeginPass(args);
  if (profile_ != nullptr) profile_->BeginPass();
  if (queued_ != nullptr) {
    PassQueued(args);
  } else {
    team_.Run([&](int thread) { RunLanes(LanesOf(thread), args); });
  }
  CountPass(args.n());
}

// What the pass left has crossed to the host by now.
void Executor::EndPass(int64_t n) {
  if (profile_ == nullptr) return;
  if (queued_ != nullptr) {
    profile_->AddGpuPass(queued_->PassSpans());
    profile_->AddTraffic(queued_->bus_traffic().Since(traffic_before_));
  }
  profile_->EndPass(n);
}

void Executor::CountPass(int64_t n) {
  const auto by_rows = [](const std::array<FfnCount, 2>& tiers) {
    return tiers[0].tokens + tiers[1].tokens > 0;
  };
  if (std::none_of(pass_counts_.begin(), pass_counts_.end(), by_rows)) return;
  counts_.tokens += n;
  for (size_t l = 0; l < pass_counts_.size(); ++l) {
    for (const FfnCount& count : pass_counts_[l]) counts_.layers[l].Add(count);
  }
}

void Executor::RunLanes(const Lanes& lanes, const PassArgs& args) {
  uint32_t handovers = 0;
  fast_.Embed(lanes.all, weights_.token_embd, args.ids, state_.x);
  lanes.all.Mark(PassPart::kEmbed);
  for (int64_t layer = 0; layer < config_.n_layers; ++layer) {
    RunLayer(lanes, layer, args, &handovers);
  }
  RunOutput(lanes.all, args);
}

void Executor::RunLayer(const Lanes& lanes, int64_t layer, const PassArgs& args,
                        uint32_t* handovers) {
  const ModelConfig& c = config_;
  const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
  const RunState& s = state_;
  const Lane& all = lanes.all;
  const int64_t n = args.n();
  const RopeOp rope{c.rope.pairing, c.rope.rot_dim, cos_.data(), sin_.data()};
  const auto& [n_heads, n_kv_heads, head_dim] = c.layer(layer).attention;
  const AttentionOp attention{layer, args.batch, args.segments, n_heads, n_kv_heads, head_dim};
  const LinearOp qkv[] = {{&w.wq, s.q}, {&w.wk, s.k}, {&w.wv, s.v}};
  const LinearOp output[] = {{&w.wo, s.proj}};

  const TraceRange range("layer", layer);
  all.MarkLayer(layer);
  fast_.RmsNorm(all, s.x, w.attn_norm, c.norm_eps, n, c.d_model, s.xn);
  fast_.Linear(all, qkv, s.xn, n);
  all.Mark(PassPart::kQkv);
  fast_.RopeAppend(all, rope, cache_, attention, s.q, s.k, s.v);
  all.Mark(PassPart::kRope);
  fast_.Attend(all, cache_, attention, s.q, s.att);
  all.Mark(PassPart::kAttention);
  fast_.Linear(all, output, s.att, n);
  all.Mark(PassPart::kOutput);
  fast_.AddRmsNorm(all, s.x, s.proj, w.ffn_norm, c.norm_eps, n, c.d_model, s.ffn_x[layer % 2]);
  all.Mark(PassPart::kNorm);
  RunFfn(lanes, layer, n, handovers);  // hot FFN || cold FFN, merged into x
  if (keep_hidden_ && all.rank == 0 && queued_ == nullptr) {
    std::copy_n(s.x + (n - 1) * c.d_model, c.d_model, hidden_.begin() + layer * c.d_model);
  }
}

void Executor::RunFfn(const Lanes& lanes, int64_t layer, int64_t n, uint32_t* handovers) {
  const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
  const RunState& s = state_;
  const bool hot = w.hot.n_neurons > 0;
  const bool streamed = streams_ && w.cold.n_neurons > 0;
  const bool cold = w.cold.n_neurons > 0 && !streamed;
  // A layer that lies on one tier alone is computed there by all lanes.
  const std::optional<Lane> fast_lane = cold ? lanes.fast : lanes.all;
  const std::optional<Lane> slow_lane = hot || queued_ != nullptr ? lanes.slow : lanes.all;

  const float* x = FfnInput(layer);
  const float* predictor_x = PredictorX(layer);
  if (cold && lanes.all.rank == 0) {
    const bool asks = MakeFfnOp(layer, w.cold, true).predictor != nullptr;
    handover_->SendInput(x, asks && predictor_x != x ? predictor_x : nullptr, n);
    lanes.all.Mark(PassPart::kSend);
  }
  if (hot && fast_lane) {
    // With one tier every neuron is asked about, with two only the cold ones.
    FfnOp op = MakeFfnOp(layer, w.hot, slow_ == nullptr);
    op.predictor_x = predictor_x;
    RunTier(*fast_lane, fast_, layer, op, x, n, s.hot);
  }
  if (cold && slow_lane) RunSlowTier(*slow_lane, layer, n, *handovers);
  if (cold) {
    handover_->Merge(lanes.all, fast_, layer, (*handovers)++, s.x, hot ? s.hot.y : nullptr, n);
  } else {
    if (streamed) {
      RunStreamed(layer, x, n);
      lanes.all.Mark(PassPart::kStream);
    }
    const float* const y[] = {s.hot.y};
    fast_.Add(lanes.all, s.x, y, n * config_.d_model);
  }
  if (observer_ != nullptr && queued_ == nullptr) Observe(lanes.all, layer, n);
  lanes.all.Mark(PassPart::kMerge);
}

void Executor::RunSlowTier(const Lane& lane, int64_t layer, int64_t n, uint32_t handover) {
  const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
  const TraceRange range("cold FFN", layer);
  lane.MarkLayer(layer);
  handover_->AwaitInput(lane, handover);
  lane.Mark(PassPart::kAwait);
  FfnOp op = MakeFfnOp(layer, w.cold, true);
  const bool apart = op.predictor != nullptr && PredictorX(layer) != FfnInput(layer);
  op.predictor_x = apart ? handover_->predictor_x() : handover_->x();
  RunTier(lane, *slow_, layer, op, handover_->x(), n, state_.cold);
  if (lane.rank == 0) handover_->SendOutput(handover);
}

FfnOp Executor::MakeFfnOp(int64_t layer, const FfnSlice& slice, bool predicted) const {
  FfnOp op{.slice = &slice, .layer = layer, .activation = config_.activation};
  if (observer_ != nullptr || options_.mode == SparseMode::kDense) return op;
  op.skip_inactive = true;
  if (options_.mode != SparseMode::kPredicted || !predicted) return op;
  const SlicePredictor& predictor = predictors_[static_cast<size_t>(layer)];
  if (predictor.runs) op.predictor = &predictor;
  op.audit = audit_;
  return op;
}

const float* Executor::PredictorX(int64_t layer) const {
  if (predictors_.empty()) return FfnInput(layer);
  switch (predictors_[static_cast<size_t>(layer)].layer.input) {
    case PredictorInput::kNormed:
      return FfnInput(layer);
    case PredictorInput::kResidual:
      return state_.x;
    case PredictorInput::kPreviousNormed:
      return FfnInput(layer + 1);  // the other one: of the layer before
  }
  return nullptr;
}

void Executor::RunTier(const Lane& lane, Device& device, int64_t layer, const FfnOp& op,
                       const float* x, int64_t n, const FfnState& state) {
  const FfnCount count = device.Ffn(lane, op, x, n, state);
  if (lane.rank == 0) pass_counts_[static_cast<size_t>(layer)][&device == &fast_ ? 0 : 1] = count;
}

void Executor::Observe(const Lane& lane, int64_t layer, int64_t n) {
  const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
  if (w.hot.n_neurons > 0)
    observer_->OnFfn(lane, {layer, n, &w.hot, state_.hot.gate, FfnInput(layer)});
  if (w.cold.n_neurons > 0)
    observer_->OnFfn(lane, {layer, n, &w.cold, state_.cold.gate, FfnInput(layer)});
}

// The rows that want logits lie together in xn, run by run.
void Executor::RunOutput(const Lane& lane, const PassArgs& args) {
  if (args.wanted == LogitsWanted::kNone) return;
  lane.MarkLayer(PassSpan::kNoLayer);
  const int64_t d = config_.d_model;
  const LinearOp output[] = {{&weights_.output, state_.logits}};
  int64_t n_wanted = 0;
  for (int64_t begin = 0; begin < args.n();) {
    int64_t end = begin;
    while (end < args.n() && args.batch->row(end).wants_logits) ++end;
    if (end > begin) {
      fast_.RmsNorm(lane, state_.x + begin * d, weights_.output_norm, config_.norm_eps, end - begin,
                    d, state_.xn + n_wanted * d);
      n_wanted += end - begin;
    }
    begin = end + 1;
  }
  fast_.Linear(lane, output, state_.xn, n_wanted);
  if (args.wanted == LogitsWanted::kBest) queued_->FindBest(state_.logits, args.n_best);
  lane.Mark(PassPart::kHead);
}

}  // namespace thermocline
