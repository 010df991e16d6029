#include "runtime/pass/host_runner.h"

#include <algorithm>
#include <cmath>

#include "runtime/pass/tier_attention.h"

namespace thermocline {

HostRunner::HostRunner(PassContext& context) : context_(context), ffn_(context) { MakeGroups(); }

// Threads are shared out by the bytes of weights that each group's tiers hold, at least one each.
void HostRunner::MakeGroups() {
  const size_t n_tiers = context_.tiers.size();
  const int n_threads = context_.team.n_threads();
  const size_t n_groups = std::min(n_tiers, static_cast<size_t>(n_threads));
  std::vector<double> bytes(n_groups);
  for (const LayerWeights& layer : context_.weights.layers) {
    for (size_t tier = 0; tier < n_tiers; ++tier) {
      bytes[std::min(tier, n_groups - 1)] += static_cast<double>(layer.slices[tier].weight_bytes());
    }
  }
  int first = 0;
  double rest = 0;
  for (const double b : bytes) rest += b;
  for (size_t g = 0; g < n_groups; ++g) {
    const int n_left = n_threads - first;
    const auto groups_behind = static_cast<int>(n_groups - g - 1);
    const double share = bytes[g] / std::max(1.0, rest);
    const int wanted = static_cast<int>(std::lround(share * n_left));
    const int n = groups_behind == 0 ? n_left : std::clamp(wanted, 1, n_left - groups_behind);
    groups_.push_back({first, n, context_.team.MakeGroup(n)});
    first += n;
    rest -= bytes[g];
  }
}

Lanes HostRunner::LanesOf(int thread) const {
  PassTimer* const timer = context_.TimerOf(thread);
  Lanes lanes{.all = {thread, context_.team.n_threads(), context_.all_lanes, timer}, .tiers = {}};
  for (size_t tier = 0; tier < context_.tiers.size(); ++tier) {
    const Group& group = groups_[std::min(tier, groups_.size() - 1)];
    const int rank = thread - group.first;
    if (rank >= 0 && rank < group.n) lanes.tiers[tier] = Lane{rank, group.n, group.lanes, timer};
  }
  return lanes;
}

void HostRunner::RunLayersOf(const Lanes& lanes, const Pass& pass) {
  for (int64_t layer = pass.layer_begin; layer < pass.layer_end; ++layer) {
    RunLayer(context_, lanes, layer, pass, *this);
    if (!context_.keep_hidden || lanes.all.rank != 0) continue;
    KeepHidden(layer, pass.n());
  }
}

// Keeps the last token's stream, or all of its streams one after the other.
void HostRunner::KeepHidden(int64_t layer, int64_t n) {
  const int64_t d = context_.config.d_model;
  const int64_t n_streams = context_.config.streams.n;
  const float* const from = n_streams > 1 ? context_.state.streams : context_.state.x;
  for (int64_t i = 0; i < n_streams; ++i) {
    std::copy_n(from + (i * n + n - 1) * d, d,
                context_.hidden.begin() + (layer * n_streams + i) * d);
  }
}

void HostRunner::RunAll(const Pass& pass) {
  context_.team.Run([&](int thread) {
    const Lanes lanes = LanesOf(thread);
    EmbedRows(context_, lanes.all, pass);
    RunLayersOf(lanes, pass);
    if (pass.encodes) StoreEncoderOutput(context_, lanes.all, pass);
    if (pass.wanted == LogitsWanted::kNone) return;
    RunHead(context_, lanes.all, pass);
    lanes.all.Mark(PassPart::kHead);
  });
}

void HostRunner::Embed(const Pass& pass, float* x) {
  context_.team.Run([&](int thread) { EmbedRows(context_, LanesOf(thread).all, pass); });
  std::copy_n(context_.state.x, pass.n() * context_.config.d_model, x);
}

void HostRunner::RunLayers(const Pass& pass, float* x) {
  const int64_t n = pass.n() * context_.config.d_model;
  std::copy_n(x, n, context_.state.x);
  context_.team.Run([&](int thread) { RunLayersOf(LanesOf(thread), pass); });
  std::copy_n(context_.state.x, n, x);
}

// One tier's memory is the other's: all lanes are there.
void HostRunner::Attention(const Lanes& lanes, int64_t layer, const Pass& pass) {
  Attend(context_, lanes.all, layer, pass);
}

void HostRunner::Ffn(const Lanes& lanes, int64_t layer, const Pass& pass) {
  ffn_.Run(lanes, layer, pass);
  if (context_.observer == nullptr) return;
  FfnObservation seen = {.layer = layer, .n_tokens = pass.n(), .x = FfnInput(context_, layer)};
  seen.attended = context_.state.att;
  if (context_.options.keep_attention_input) seen.attention_x = context_.state.xn;
  for (size_t tier = 0; tier < context_.tiers.size(); ++tier) {
    if (!context_.Has(layer, tier)) continue;
    seen.slice = &context_.slice(layer, tier);
    seen.h = context_.tiers[tier].state.gate;
    seen.up = context_.tiers[tier].state.up;
    context_.observer->OnFfn(lanes.all, seen);
  }
}

}  // namespace thermocline
