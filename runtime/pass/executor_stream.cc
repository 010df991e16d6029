// Batches whose cold neurons' weights are streamed to a fast tier that works behind the host
// (runtime/device/weight_stream.h), and what decides between that and the slow tier.
#include <algorithm>
#include <chrono>
#include <limits>

#include "runtime/core/error.h"
#include "runtime/pass/executor.h"

namespace thermocline {
namespace {

// The CPU's time grows with the tokens: a few tell its rate.
constexpr int64_t kCpuProbeTokens = 64;

FfnSlice FirstNeurons(const FfnSlice& slice, int64_t n) {
  FfnSlice part = slice;
  part.n_neurons = n;
  part.gate = slice.gate.SliceRows(0, n);
  part.up = slice.up.SliceRows(0, n);
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

// Observers want h of cold neurons in host memory, which the slow tier leaves there.
bool Executor::ChooseStream(int64_t n) {
  if (!weight_stream_ || n <= kMaxKeptTokens || observer_ != nullptr) return false;
  const bool asks = options_.stream_cold == StreamCold::kAuto;
  if (asks && !stream_use_.rates.measured()) MeasureStream(n);
  const bool streams = StreamsBatch(options_.stream_cold, stream_use_.rates, n);
  ++(streams ? stream_use_.streamed_batches : stream_use_.cpu_batches);
  return streams;
}

StreamUse Executor::stream_use() const {
  StreamUse use = stream_use_;
  use.possible = weight_stream_ != nullptr;
  use.option = options_.stream_cold;
  return use;
}

// Both on the same neurons and each for the second time, so that neither pays for pages that come
// from a disk.
void Executor::MeasureStream(int64_t n) {
  const auto first = std::ranges::find_if(
      weights_.layers, [](const LayerWeights& layer) { return layer.cold.n_neurons > 0; });
  CHECK(first != weights_.layers.end());
  const FfnSlice slice = FirstNeurons(first->cold, weight_stream_->ProbeNeurons(first->cold));
  const FfnOp op{.slice = &slice, .activation = config_.activation};
  StreamRates rates = weight_stream_->Measure(team_, op, FfnInput(0), n, state_.hot.y);
  rates.cpu_token_bytes_per_s = MeasureCpu(slice, std::min(n, kCpuProbeTokens));
  stream_use_.rates = rates;
}

double Executor::MeasureCpu(const FfnSlice& slice, int64_t n) {
  const FfnOp op{.slice = &slice, .activation = config_.activation};
  const std::vector<float> x = ProbeInputs(n * config_.d_model);
  double seconds = std::numeric_limits<double>::min();
  for (int turn = 0; turn < 2; ++turn) {
    const auto start = std::chrono::steady_clock::now();
    team_.Run([&](int thread) {
      slow_->Ffn(Lane{thread, team_.n_threads(), all_group_}, op, x.data(), n, state_.cold);
    });
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return static_cast<double>(slice.weight_bytes()) * static_cast<double>(n) /
         std::max(seconds, std::numeric_limits<double>::epsilon());
}

// Adds the cold neurons' part to the hot ones' output, or makes it where there are none.
void Executor::RunStreamed(int64_t layer, const float* x, int64_t n) {
  const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
  const FfnOp op{.slice = &w.cold, .layer = layer, .activation = config_.activation};
  const auto into = w.hot.n_neurons > 0 ? WeightStream::Into::kAdd : WeightStream::Into::kReplace;
  weight_stream_->Ffn(team_, op, x, n, state_.hot.y, into);
}

}  // namespace thermocline
