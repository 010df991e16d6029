// Steps whose fast tier works behind the host: one thread enqueues its part of a pass, or has a
// kept one carried out again; then all threads are the slow tier and go through the layers with it.
#include <algorithm>

#include "gpu_kernels/base/trace_range.h"
#include "runtime/core/error.h"
#include "runtime/device/handover.h"
#include "runtime/pass/executor.h"

namespace thermocline {

// Steps that enqueue the same have the same key. Few tokens do; a batch says its positions in
// arguments.
int64_t Executor::PassKey(const PassArgs& args) const {
  if (args.n() > kMaxKeptTokens || observer_ != nullptr || keep_hidden_)
    return QueuedDevice::kNoKey;
  if (args.wanted == LogitsWanted::kSome) return QueuedDevice::kNoKey;
  const auto variant =
      static_cast<int64_t>(options_.mode) * kLogitsChoices + static_cast<int64_t>(args.wanted);
  const int64_t shape = (variant * 2 + (audit_ ? 1 : 0)) * (kMaxKeptTokens + 1) + args.n();
  return shape * (queued_->max_best() + 1) + args.n_best;
}

void Executor::PassQueued(const PassArgs& args) {
  traffic_before_ = queued_->bus_traffic();
  queued_->BeginTokens(args.ids, args.n(), args.first_position());
  EnqueueAndRun(args);
  FinishQueued();
  for (size_t l = 0; l < pass_counts_.size(); ++l) {
    if (weights_.layers[l].hot.n_neurons == 0) continue;
    pass_counts_[l][0] = queued_->CountOf(static_cast<int64_t>(l));
  }
}

void Executor::EnqueueAndRun(const PassArgs& args) {
  const int64_t n_layers = config_.n_layers;
  const Lanes lanes = QueuedLanes();
  const auto begin = [&] {
    if (queued_marks_ != nullptr) queued_->BeginTimes();
  };
  const int64_t key = PassKey(args);
  if (key == QueuedDevice::kNoKey) {
    begin();
    fast_.Embed(lanes.all, weights_.token_embd, args.ids, state_.x);
    lanes.all.Mark(PassPart::kEmbed);
    RunLayersQueued(args, 0, n_layers);
    RunOutput(lanes.all, args);
    return;
  }
  queued_->Run(key, [&] {
    const TraceRange range("capture");
    begin();
    RunLanes(lanes, args);
  });
  uint32_t handovers = 0;
  RunSlowTiers(args.n(), 0, n_layers, &handovers);
}

// The lanes that enqueue.
Executor::Lanes Executor::QueuedLanes() const {
  const Lane lane{.timer = queued_marks_};
  return {.all = lane, .fast = lane, .slow = {}};
}

// Layer by layer, so that what is watched can be looked at between them.
void Executor::RunLayersQueued(const PassArgs& args, int64_t layer_begin, int64_t layer_end) {
  const Lanes lanes = QueuedLanes();
  uint32_t enqueued = 0;
  uint32_t handovers = 0;
  for (int64_t layer = layer_begin; layer < layer_end; ++layer) {
    RunLayer(lanes, layer, args, &enqueued);
    RunSlowTiers(args.n(), layer, layer + 1, &handovers);
    if (observer_ != nullptr) ObserveQueued(layer, args.n());
    if (!keep_hidden_) continue;
    FinishQueued();
    const int64_t d = config_.d_model;
    queued_->Download(hidden_.data() + layer * d, state_.x + (args.n() - 1) * d,
                      static_cast<uint64_t>(d) * sizeof(float));
  }
}

void Executor::RunSlowTiers(int64_t n, int64_t layer_begin, int64_t layer_end,
                            uint32_t* handovers) {
  const auto is_cold = [&](int64_t layer) {
    return !streams_ && weights_.layers[static_cast<size_t>(layer)].cold.n_neurons > 0;
  };
  if (profile_ != nullptr) profile_->timer(0)->Mark(PassPart::kEnqueue);
  const uint32_t first = *handovers;
  for (int64_t layer = layer_begin; layer < layer_end; ++layer)
    *handovers += is_cold(layer) ? 1 : 0;
  if (*handovers == first) return;
  try {
    team_.Run([&](int thread) {
      const Lane lane{thread, team_.n_threads(), all_group_, TimerOf(thread)};
      uint32_t handover = first;
      for (int64_t layer = layer_begin; layer < layer_end; ++layer) {
        if (is_cold(layer)) RunSlowTier(lane, layer, n, handover++);
      }
    });
  } catch (...) {
    handover_->Abandon();
    queued_->Finish();
    throw;
  }
}

void Executor::ObserveQueued(int64_t layer, int64_t n) {
  FinishQueued();
  const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
  const auto fetch = [&](std::vector<float>& to, const float* from, int64_t width) {
    to.resize(static_cast<size_t>(n * width));
    queued_->Download(to.data(), from, to.size() * sizeof(float));
  };
  fetch(host_x_, FfnInput(layer), config_.d_model);
  if (w.hot.n_neurons > 0) fetch(host_h_, state_.hot.gate, w.hot.n_neurons);
  team_.Run([&](int thread) {
    const Lane lane{thread, team_.n_threads(), all_group_};
    if (w.hot.n_neurons > 0) {
      observer_->OnFfn(lane, {layer, n, &w.hot, host_h_.data(), host_x_.data()});
    }
    if (w.cold.n_neurons > 0) {
      observer_->OnFfn(lane, {layer, n, &w.cold, state_.cold.gate, host_x_.data()});
    }
  });
}

void Executor::FinishQueued() {
  queued_->Finish();
  if (handover_) handover_->Check();
}

}  // namespace thermocline
