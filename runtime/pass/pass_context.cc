#include "runtime/pass/pass_context.h"

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

template <typename T>
T* AllocateElems(DeviceStore& device, int64_t n, const char* purpose) {
  return static_cast<T*>(device.Allocate(static_cast<uint64_t>(n) * sizeof(T), purpose));
}

bool LooksAhead(const ExecutorOptions& options) {
  return options.predictor_input == PredictorInput::kPreviousNormed;
}

// Whether the FFN's inputs have memory of their own, beside xn.
bool ApartFromXn(const ExecutorOptions& options) {
  return LooksAhead(options) || options.keep_attention_input;
}

// Whether predictors read another vector than the FFN does.
bool ReadsApart(const ExecutorOptions& options) {
  return options.predictor_input != PredictorInput::kNormed;
}

bool RunsBeside(const ModelConfig& config) {
  return config.streams.several() || config.low_dim() > 0;
}

// Floats of a token for streams and what runs beside attention and FFN.
int64_t BesideDim(const ModelConfig& config) {
  const int64_t streams = config.streams.several() ? config.streams_dim() + config.streams.n : 0;
  return streams + (RunsBeside(config) ? config.d_model : 0) + config.low_dim() +
         config.layer_embds_dim();
}

}  // namespace

PassContext::PassContext(const ModelConfig& model_config, const ModelWeights& model_weights,
                         const ExecutorOptions& executor_options, ThreadTeam& thread_team,
                         KvCache& kv_cache, std::span<Device* const> devices,
                         std::span<const LayerPredictors> slice_predictors,
                         const ModelAdapters* model_adapters)
    : config(model_config),
      weights(model_weights),
      options(executor_options),
      team(thread_team),
      cache(kv_cache),
      predictors(slice_predictors),
      adapters(model_adapters),
      all_lanes(team.MakeGroup(team.n_threads())),
      main_turns_(config.rope) {
  if (config.has_local_rope()) local_turns_.emplace(config.local_rope);
  CHECK(predictors.empty() || predictors.size() == weights.layers.size());
  CHECK(!devices.empty() && devices.size() <= kMaxTiers);
  for (const LayerWeights& layer : weights.layers) CHECK(layer.slices.size() == devices.size());
  AllocateTiers(devices);
  AllocateState();
  counts.resize(weights.layers.size(), std::vector<FfnCount>(tiers.size()));
}

void PassContext::Turns::Resize(int64_t max_tokens) {
  cos.resize(static_cast<size_t>(max_tokens * angles.n_frequencies()));
  sin.resize(cos.size());
}

void PassContext::Turns::Fill(int64_t token, int64_t position) {
  const int64_t offset = token * angles.n_frequencies();
  angles.Fill(position, cos.data() + offset, sin.data() + offset);
}

FfnOp PassContext::MakeFfnOp(int64_t layer, const FfnSlice& slice) const {
  const FfnConfig& ffn = config.layer(layer).ffn;
  return {.slice = &slice,
          .layer = layer,
          .activation = ffn.activation,
          .activation_threshold = ffn.activation_threshold,
          .relu_up = ffn.relu_up,
          .cuts_gates = ffn.cuts_gates,
          .gate_cut = ffn.gate_cut,
          .h_norm_eps = config.norm_eps};
}

RopeOp PassContext::rope(int64_t layer) const {
  const LayerRope kind = config.layer(layer).attention.rope;
  if (kind == LayerRope::kNone) return {.layer_rope = kind};
  const bool local = kind == LayerRope::kLocal;
  const RopeConfig& rope = local ? config.local_rope : config.rope;
  const Turns& turns = local ? *local_turns_ : main_turns_;
  return {kind, rope.pairing, rope.rot_dim, turns.cos.data(), turns.sin.data()};
}

std::vector<uint64_t> PassContext::BufferBytes(const ModelConfig& config,
                                               const ExecutorOptions& options,
                                               std::span<const TierShare> shares) {
  const int64_t n = options.max_tokens;
  // x, xn, proj; two more of the FFN's inputs where a predictor looks ahead or xn is to be kept.
  const int64_t residual = (ApartFromXn(options) ? 5 : 3) * config.d_model;
  const int64_t attention = 2 * config.q_dim() + 2 * config.kv_dim();
  const int64_t beside = BesideDim(config);
  std::vector<uint64_t> bytes;
  for (size_t tier = 0; tier < shares.size(); ++tier) {
    const TierShare& share = shares[tier];
    const int64_t ffn = n * (2 * share.max_neurons + config.d_model);  // gate, up, y
    int64_t floats =
        ffn + n * (residual + attention + beside) + options.max_logits * config.vocab_size;
    // Other tiers have x, and what the predictor reads where that is another.
    if (tier > 0) floats = ffn + (ReadsApart(options) ? 2 : 1) * n * config.d_model;
    if (tier > 0 && share.max_neurons == 0 && !share.attends_apart) floats = 0;
    if (share.attends_apart) floats += n * attention;
    bytes.push_back(static_cast<uint64_t>(floats) * sizeof(float));
  }
  return bytes;
}

void PassContext::AllocateState() {
  const int64_t n = options.max_tokens;
  const auto floats = [&](int64_t elems, const char* purpose) {
    return AllocateElems<float>(fast(), elems, purpose);
  };
  state.x = floats(n * config.d_model, "the residual stream");
  state.xn = floats(n * config.d_model, "normalised inputs");
  for (float*& x : state.ffn_x) {
    x = ApartFromXn(options) ? floats(n * config.d_model, "FFN inputs") : state.xn;
  }
  state.q = floats(n * config.q_dim(), "queries");
  state.k = floats(n * config.kv_dim(), "keys");
  state.v = floats(n * config.kv_dim(), "values");
  state.att = floats(n * config.q_dim(), "attention outputs");
  state.proj = floats(n * config.d_model, "attention projections");
  if (config.streams.several()) {
    state.streams = floats(n * config.streams_dim(), "residual streams");
    state.route = floats(n * config.streams.n, "the router");
  }
  if (RunsBeside(config)) state.side = floats(n * config.d_model, "what runs beside attention");
  if (config.low_dim() > 0) state.low = floats(n * config.low_dim(), "what runs beside attention");
  if (config.layer_embd_dim > 0) {
    state.layer_embd = floats(n * config.layer_embds_dim(), "the layers' embeddings");
  }
  int64_t rank = options.least_rank;
  for (const LayerWeights& layer : weights.layers) rank = std::max(rank, layer.stand_in.rank());
  if (rank > 0) {
    state.stand_in_low = floats(n * rank, "stand-ins");
    state.stand_in = floats(n * config.d_model, "stand-ins");
  }
  state.logits = floats(options.max_logits * config.vocab_size, "logits");
  main_turns_.Resize(n);
  if (local_turns_) local_turns_->Resize(n);
}

void PassContext::AllocateTiers(std::span<Device* const> devices) {
  const int64_t n = options.max_tokens;
  for (size_t t = 0; t < devices.size(); ++t) {
    Tier& tier = tiers.emplace_back();
    tier.device = devices[t];
    int64_t max_neurons = t == 0 ? options.least_neurons : 0;
    bool attends_apart = false;
    tier.ffns_before.push_back(0);
    tier.attention_before.push_back(0);
    for (const LayerWeights& layer : weights.layers) {
      const int64_t n_neurons = layer.slices[t].n_neurons;
      const bool attends = t > 0 && layer.attention_tier == t && fast().queued() != nullptr;
      max_neurons = std::max(max_neurons, n_neurons);
      if (t == 0) max_neurons = std::max(max_neurons, layer.stand_in.max_neurons());
      attends_apart = attends_apart || attends;
      tier.ffns_before.push_back(tier.ffns_before.back() + (n_neurons > 0 ? 1U : 0U));
      tier.attention_before.push_back(tier.attention_before.back() + (attends ? 1U : 0U));
    }
    if (t > 0 && max_neurons == 0 && !attends_apart) continue;
    tier.state.gate = AllocateElems<float>(*tier.device, n * max_neurons, "FFN activations");
    tier.state.up = AllocateElems<float>(*tier.device, n * max_neurons, "FFN activations");
    if (t == 0 || fast().queued() == nullptr) {
      tier.state.y = AllocateElems<float>(*tier.device, n * config.d_model, "FFN outputs");
    }
    if (t > 0) tier.handover = MakeHandover(tier);
    if (attends_apart) AllocateAttention(tier);
    const bool is_paced = t > 0 && options.slow_bytes_per_s > 0;
    if (is_paced) tier.pace = std::make_unique<ReadPace>(options.slow_bytes_per_s);
  }
}

void PassContext::AllocateAttention(Tier& tier) {
  const auto floats = [&](int64_t width, const char* purpose) {
    return AllocateElems<float>(*tier.device, options.max_tokens * width, purpose);
  };
  tier.attention = {.x = tier.handover->x(),
                    .q = floats(config.q_dim(), "queries"),
                    .k = floats(config.kv_dim(), "keys"),
                    .v = floats(config.kv_dim(), "values"),
                    .att = floats(config.q_dim(), "attention outputs"),
                    .out = tier.handover->y()};
}

AttentionBuffers PassContext::BuffersOf(int64_t layer) const {
  if (AttendsAway(layer)) return tiers[AttentionTier(layer)].attention;
  return {state.xn, state.q, state.k, state.v, state.att, state.proj};
}

uint32_t PassContext::HandoversBefore(size_t tier, int64_t layer, const Pass& pass) const {
  const auto since = [&](const std::vector<uint32_t>& before) {
    return before[static_cast<size_t>(layer)] - before[static_cast<size_t>(pass.layer_begin)];
  };
  const uint32_t own = AttendsAway(layer) && AttentionTier(layer) == tier ? 1 : 0;
  const uint32_t ffns = streams_ffn ? 0 : since(tiers[tier].ffns_before);
  return ffns + since(tiers[tier].attention_before) + own;
}

std::unique_ptr<Handover> PassContext::MakeHandover(Tier& tier) {
  const int64_t n = options.max_tokens;
  if (QueuedDevice* const queued = fast().queued()) {
    auto handover = queued->MakeHandover(n, config.d_model, ReadsApart(options));
    tier.state.y = handover->y();
    return handover;
  }
  const auto floats = [&](const char* purpose) {
    return AllocateElems<float>(*tier.device, n * config.d_model, purpose);
  };
  float* const x = floats("the slow tier's inputs");
  float* const predictor_x = ReadsApart(options) ? floats("the predictor's inputs") : nullptr;
  return std::make_unique<HostHandover>(team, x, predictor_x, tier.state.y, config.d_model);
}

// All that the row sees must be there.
void PassContext::CheckPages(const Batch& batch, const BatchRow& row) const {
  const BatchSequence& sequence = batch.sequence_of(row);
  const std::vector<KvPageClass>& classes = cache.layout().classes;
  const BatchBranch* const branch = batch.branch_of(row);
  CHECK(branch == nullptr ||
        static_cast<int64_t>(branch->places.size()) == row.position + 1 - branch->begin);
  CHECK(row.position >= 0 && sequence.tables.size() == classes.size());
  for (size_t c = 0; c < classes.size(); ++c) {
    const KvPageTable& table = sequence.tables[c];
    CHECK(table.Has(row.position) && table.Has(classes[c].FirstSeen(row.position)));
    if (branch == nullptr) continue;
    CHECK(std::ranges::all_of(branch->places, [&](int64_t place) { return table.Has(place); }));
  }
  CHECK(!config.has_encoder() || sequence.encoder_length > 0);
}

// Batches run dense unless somebody measures, and an observer sees the dense pass.
void PassContext::MarkCutRows(const Pass& pass) {
  n_cut_rows = 0;
  if (cuts == nullptr || options.mode != SparseMode::kThreshold || observer != nullptr) return;
  if (pass.encodes || (pass.n() >= kGemmMinTokens && !cuts->cut_batches)) return;
  CHECK(static_cast<int64_t>(cuts->rows.size()) >= pass.n());
  for (int64_t t = 0; t < pass.n(); ++t) {
    const bool cut = pass.batch->row(t).position >= kUncutPositions;
    cuts->rows[static_cast<size_t>(t)] = cut ? 1 : 0;
    n_cut_rows += cut ? 1 : 0;
  }
}

void PassContext::BeginPass(const Pass& pass) {
  CHECK(pass.n() > 0 && pass.n() <= options.max_tokens);
  for (int64_t t = 0; t < pass.n(); ++t) {
    const BatchRow& row = pass.batch->row(t);
    CHECK(row.token >= 0 && row.token < config.vocab_size);
    CheckPages(*pass.batch, row);
    main_turns_.Fill(t, row.position);
    if (local_turns_) local_turns_->Fill(t, row.position);
  }
  MarkCutRows(pass);
  streams_ffn = false;
  if (adapters != nullptr) adapter_rows.Fill(*adapters, *pass.batch);
  for (auto& layer : counts) std::ranges::fill(layer, FfnCount{});
  for (const Tier& tier : tiers) {
    if (tier.handover) tier.handover->BeginPass();
  }
}

}  // namespace thermocline
