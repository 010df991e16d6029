#include "runtime/pass/streamed_runner.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/pass/tier_attention.h"

namespace thermocline {
namespace {

// The CPU's time grows with the tokens: a few tell its rate.
constexpr int64_t kCpuProbeTokens = 64;

FfnSlice FirstNeurons(const FfnSlice& slice, int64_t n) {
  FfnSlice part = slice;
  part.n_neurons = n;
  part.gate = slice.gate.SliceRows(0, n);
  if (slice.is_gated()) part.up = slice.up.SliceRows(0, n);
  part.down = slice.down.SliceRows(0, n);
  return part;
}

// Inputs about as large as normalised ones, none of them 0.
std::vector<float> ProbeInputs(int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  uint32_t state = 1;
  for (float& value : x) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) / 16777216.0F * 2 - 1 + 1e-3F;
  }
  return x;
}

}  // namespace

StreamedRunner::StreamedRunner(PassContext& context, QueuedDevice& queued, int64_t max_neurons)
    : QueuedRunner(context, queued),
      stream_(queued.MakeWeightStream({.max_tokens = context.options.max_tokens,
                                       .d_model = context.config.d_model,
                                       .max_neurons = max_neurons,
                                       .piece_bytes = context.options.stream_piece_bytes})),
      use_{.possible = true, .option = context.options.stream_cold, .rates = {}} {}

bool StreamedRunner::Chooses(int64_t n) {
  if (n <= kMaxKeptTokens || context().observer != nullptr) return false;
  if (context().adapts() || context().n_cut_rows > 0) return false;
  if (use_.option == StreamCold::kAuto && !use_.rates.measured()) Measure(n);
  const bool streams = StreamsBatch(use_.option, use_.rates, n);
  ++(streams ? use_.streamed_batches : use_.cpu_batches);
  return streams;
}

// Measures both on the same neurons and each for the second time, so that neither pays for pages
// that come from a disk.
void StreamedRunner::Measure(int64_t n) {
  const PassContext& c = context();
  for (int64_t layer = 0; layer < c.config.n_layers; ++layer) {
    for (size_t tier = 1; tier < c.tiers.size(); ++tier) {
      if (!c.Has(layer, tier)) continue;
      const FfnSlice& whole = c.slice(layer, tier);
      const FfnSlice slice = FirstNeurons(whole, stream_->ProbeNeurons(whole));
      const FfnOp op = c.MakeFfnOp(layer, slice);
      StreamRates rates = stream_->Measure(c.team, op, FfnInput(c, 0), n, c.tiers.front().state.y);
      rates.cpu_token_bytes_per_s = MeasureCpu(slice, layer, tier, std::min(n, kCpuProbeTokens));
      use_.rates = rates;
      return;
    }
  }
  CHECK(false);  // there is such a slice, or nothing would be streamed
}

double StreamedRunner::MeasureCpu(const FfnSlice& slice, int64_t layer, size_t tier, int64_t n) {
  const PassContext& c = context();
  const FfnOp op = c.MakeFfnOp(layer, slice);
  const std::vector<float> x = ProbeInputs(n * c.config.d_model);
  double seconds = std::numeric_limits<double>::min();
  for (int turn = 0; turn < 2; ++turn) {
    const auto start = std::chrono::steady_clock::now();
    c.team.Run([&](int thread) {
      c.tiers[tier].device->Ffn(Lane{thread, c.team.n_threads(), c.all_lanes}, op, x.data(), n,
                                c.tiers[tier].state);
    });
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return static_cast<double>(slice.weight_bytes()) * static_cast<double>(n) /
         std::max(seconds, std::numeric_limits<double>::epsilon());
}

// The host's threads attend at once: what is streamed behind it waits for them.
void StreamedRunner::Attention(const Lanes& lanes, int64_t layer, const Pass& pass) {
  PassContext& c = context();
  if (!c.AttendsAway(layer)) return QueuedRunner::Attention(lanes, layer, pass);
  SendAttention(c, lanes.all, layer, pass);
  MergeAttention(c, lanes.all, layer, pass);
  RunOnHost([&](const Lane& lane) { AttendAway(c, lane, layer, pass); });
}

void StreamedRunner::Ffn(const Lanes& lanes, int64_t layer, const Pass& pass) {
  PassContext& c = context();
  float* const y = c.tiers.front().state.y;
  bool has_y = c.Has(layer, 0);
  if (has_y) tier_ffn().RunFastTier(lanes.all, layer, pass);
  for (size_t tier = 1; tier < c.tiers.size(); ++tier) {
    if (!c.Has(layer, tier)) continue;
    const FfnOp op = c.MakeFfnOp(layer, c.slice(layer, tier));
    const auto into = has_y ? WeightStream::Into::kAdd : WeightStream::Into::kReplace;
    stream_->Ffn(c.team, op, FfnInput(c, layer), pass.n(), y, into);
    lanes.all.Mark(PassPart::kStream);
    has_y = true;
  }
  tier_ffn().AddFast(lanes.all, layer, pass);
}

// Nothing is left to do there.
void StreamedRunner::RunSlowTiers(const Pass& /*pass*/, int64_t /*layer_begin*/,
                                  int64_t /*layer_end*/) {
  if (context().profile != nullptr) context().profile->timer(0)->Mark(PassPart::kEnqueue);
}

}  // namespace thermocline
