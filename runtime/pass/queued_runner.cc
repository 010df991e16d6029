#include "runtime/pass/queued_runner.h"

#include <algorithm>

#include "gpu_kernels/base/trace_range.h"
#include "runtime/core/error.h"
#include "runtime/pass/tier_attention.h"

namespace thermocline {
namespace {

constexpr int64_t kNotKept = -1;

}  // namespace

// Passes that enqueue the same have the same key. Few rows do; batches take libraries that are not
// captured, and what is watched is looked at between the layers.
int64_t QueuedRunner::KeyOf(const Pass& pass) const {
  const PassContext& c = context_;
  if (pass.n() > kMaxKeptTokens || c.observer != nullptr || c.keep_hidden) return kNotKept;
  if (pass.encodes || pass.wants_hidden || pass.keeps_cache || pass.wanted == LogitsWanted::kSome)
    return kNotKept;
  const auto variant =
      (static_cast<int64_t>(c.options.mode) * kMaxExecutors + c.options.executor) * kLogitsChoices +
      static_cast<int64_t>(pass.wanted);
  const int64_t flags =
      (c.audit ? 1 : 0) + (c.adapts() ? 2 : 0) + (c.CountsFired(pass.n()) ? 4 : 0);
  const int64_t shape = (variant * 8 + flags) * (kMaxKeptTokens + 1) + pass.n();
  // Thresholds are arguments of what is kept.
  constexpr int64_t kOtherKeys = int64_t{1} << 40;
  const int64_t cuts =
      c.n_cut_rows == 0 ? 0 : 1 + 2 * c.cuts->version + (c.cuts->cut_batches ? 1 : 0);
  return cuts * kOtherKeys + shape * (queued_.max_best() + 1) + pass.n_best;
}

void QueuedRunner::BeginPass(const Pass& pass) {
  queued_.BeginPass(*pass.batch, pass.segments,
                    context_.adapts() ? &context_.adapter_rows : nullptr);
}

// No lane of another tier: those run apart from what is enqueued.
Lanes QueuedRunner::EnqueuingLanes() const {
  const Lane lane{.timer = marks_};
  Lanes lanes{.all = lane, .tiers = {}, .all_when_alone = false};
  lanes.tiers[0] = lane;
  return lanes;
}

void QueuedRunner::RunAll(const Pass& pass) {
  traffic_before_ = queued_.bus_traffic();
  BeginPass(pass);
  const int64_t key = KeyOf(pass);
  if (key == kNotKept) {
    Enqueue(pass);
  } else {
    RunKept(pass, key);
  }
  Finish();
  for (size_t l = 0; l < context_.counts.size(); ++l) {
    const auto layer = static_cast<int64_t>(l);
    if (context_.Has(layer, 0)) context_.counts[l][0] = queued_.CountOf(layer);
  }
}

void QueuedRunner::Enqueue(const Pass& pass) {
  if (marks_ != nullptr) queued_.BeginTimes();
  const Lanes lanes = EnqueuingLanes();
  EmbedRows(context_, lanes.all, pass);
  RunLayersOneByOne(pass);
  if (pass.encodes) StoreEncoderOutput(context_, lanes.all, pass);
  EnqueueHead(lanes.all, pass);
}

void QueuedRunner::EnqueueHead(const Lane& lane, const Pass& pass) {
  if (pass.wanted == LogitsWanted::kNone) return;
  RunHead(context_, lane, pass);
  if (pass.n_best > 0) {
    queued_.FindBest(context_.state.logits, pass.batch->n_wanted(), pass.n_best);
  }
  lane.Mark(PassPart::kHead);
}

void QueuedRunner::RunKept(const Pass& pass, int64_t key) {
  const Lanes lanes = EnqueuingLanes();
  queued_.Run(key, [&] {
    const TraceRange range("capture");
    if (marks_ != nullptr) queued_.BeginTimes();
    EmbedRows(context_, lanes.all, pass);
    for (int64_t layer = pass.layer_begin; layer < pass.layer_end; ++layer) {
      RunLayer(context_, lanes, layer, pass, *this);
    }
    EnqueueHead(lanes.all, pass);
  });
  RunSlowTiers(pass, pass.layer_begin, pass.layer_end);
}

// Layer by layer, so that what is watched can be looked at between them.
void QueuedRunner::RunLayersOneByOne(const Pass& pass) {
  const Lanes lanes = EnqueuingLanes();
  for (int64_t layer = pass.layer_begin; layer < pass.layer_end; ++layer) {
    RunLayer(context_, lanes, layer, pass, *this);
    RunSlowTiers(pass, layer, layer + 1);
    if (context_.observer != nullptr) Observe(layer, pass.n());
    if (!context_.keep_hidden) continue;
    Finish();
    KeepHidden(layer, pass.n());
  }
}

// Fetches the last token's stream, or all of its streams one after the other.
void QueuedRunner::KeepHidden(int64_t layer, int64_t n) {
  const int64_t d = context_.config.d_model;
  const int64_t n_streams = context_.config.streams.n;
  const float* const from = n_streams > 1 ? context_.state.streams : context_.state.x;
  for (int64_t i = 0; i < n_streams; ++i) {
    queued_.Download(context_.hidden.data() + (layer * n_streams + i) * d,
                     from + (i * n + n - 1) * d, static_cast<uint64_t>(d) * sizeof(float));
  }
}

void QueuedRunner::Embed(const Pass& pass, float* x) {
  BeginPass(pass);
  EmbedRows(context_, Lane{}, pass);
  queued_.Finish();
  queued_.Download(x, context_.state.x,
                   static_cast<uint64_t>(pass.n() * context_.config.d_model) * sizeof(float));
}

void QueuedRunner::RunLayers(const Pass& pass, float* x) {
  const uint64_t n_bytes =
      static_cast<uint64_t>(pass.n() * context_.config.d_model) * sizeof(float);
  BeginPass(pass);
  queued_.Upload(context_.state.x, x, n_bytes);
  RunLayersOneByOne(pass);
  Finish();
  queued_.Download(x, context_.state.x, n_bytes);
}

void QueuedRunner::Attention(const Lanes& lanes, int64_t layer, const Pass& pass) {
  if (!context_.AttendsAway(layer)) return Attend(context_, lanes.all, layer, pass);
  SendAttention(context_, lanes.all, layer, pass);
  MergeAttention(context_, lanes.all, layer, pass);
}

void QueuedRunner::Ffn(const Lanes& lanes, int64_t layer, const Pass& pass) {
  ffn_.Run(lanes, layer, pass);
}

void QueuedRunner::RunSlowTiers(const Pass& pass, int64_t layer_begin, int64_t layer_end) {
  if (context_.profile != nullptr) context_.profile->timer(0)->Mark(PassPart::kEnqueue);
  const size_t n_tiers = context_.tiers.size();
  const auto has_slow = [&](int64_t layer) {
    if (context_.AttendsAway(layer)) return true;
    for (size_t tier = 1; tier < n_tiers; ++tier) {
      if (context_.Has(layer, tier)) return true;
    }
    return false;
  };
  bool any = false;
  for (int64_t layer = layer_begin; layer < layer_end; ++layer) any = any || has_slow(layer);
  if (!any) return;
  RunOnHost([&](const Lane& lane) {
    for (int64_t layer = layer_begin; layer < layer_end; ++layer) {
      if (context_.AttendsAway(layer)) AttendAway(context_, lane, layer, pass);
      for (size_t tier = 1; tier < n_tiers; ++tier) {
        if (context_.Has(layer, tier)) ffn_.RunSlowTier(lane, tier, layer, pass);
      }
    }
  });
}

void QueuedRunner::RunOnHost(const std::function<void(const Lane&)>& work) {
  try {
    context_.team.Run([&](int thread) {
      work({thread, context_.team.n_threads(), context_.all_lanes, context_.TimerOf(thread)});
    });
  } catch (...) {
    for (const Tier& tier : context_.tiers) {
      if (tier.handover) tier.handover->Abandon();
    }
    queued_.Finish();
    throw;
  }
}

void QueuedRunner::Fetch(std::vector<float>* to, const float* from, int64_t n) {
  to->resize(static_cast<size_t>(n));
  queued_.Download(to->data(), from, to->size() * sizeof(float));
}

void QueuedRunner::Observe(int64_t layer, int64_t n) {
  Finish();
  Fetch(&x_, FfnInput(context_, layer), n * context_.config.d_model);
  FfnObservation seen = {.layer = layer, .n_tokens = n, .x = x_.data()};
  if (context_.options.keep_attention_input) {
    // Where the layer attends in the host's memory, it is there already.
    const bool away = context_.AttendsAway(layer);
    if (!away) Fetch(&attended_, context_.state.att, n * context_.config.q_dim());
    Fetch(&attention_x_, context_.state.xn, n * context_.config.d_model);
    seen.attended = away ? context_.BuffersOf(layer).att : attended_.data();
    seen.attention_x = attention_x_.data();
  }
  if (context_.Has(layer, 0)) {
    Fetch(&h_, context_.tiers[0].state.gate, n * context_.slice(layer, 0).n_neurons);
  }
  context_.team.Run([&](int thread) {
    const Lane lane{thread, context_.team.n_threads(), context_.all_lanes};
    for (size_t tier = 0; tier < context_.tiers.size(); ++tier) {
      if (!context_.Has(layer, tier)) continue;
      FfnObservation of_tier = seen;
      of_tier.slice = &context_.slice(layer, tier);
      of_tier.h = tier == 0 ? h_.data() : context_.tiers[tier].state.gate;
      context_.observer->OnFfn(lane, of_tier);
    }
  });
}

std::span<const float> QueuedRunner::Hidden(int64_t n) {
  Fetch(&x_, context_.state.xn, n);
  return x_;
}

std::span<const float> QueuedRunner::Logits(int64_t begin, int64_t n) {
  Fetch(&logits_, context_.state.logits + begin, n);
  return logits_;
}

void QueuedRunner::AddTimes(PassProfile* profile) {
  profile->AddGpuPass(queued_.PassSpans());
  profile->AddTraffic(queued_.bus_traffic().Since(traffic_before_));
}

void QueuedRunner::Finish() {
  queued_.Finish();
  for (const Tier& tier : context_.tiers) {
    if (tier.handover) tier.handover->Check();
  }
}

}  // namespace thermocline
