#include "profiler/thresholds/layer_runner.h"

#include <utility>

#include "runtime/core/error.h"
#include "runtime/device/cpu/cpu_device.h"

namespace thermocline {
namespace {

constexpr size_t kOfGate = static_cast<size_t>(CutMatrix::kGate);
constexpr size_t kOfUp = static_cast<size_t>(CutMatrix::kUp);
constexpr size_t kOfDown = static_cast<size_t>(CutMatrix::kDown);

CpuDeviceLimits LimitsOf(const Engine& engine, int64_t n_tokens, int n_lanes) {
  CpuDeviceLimits limits =
      MakeCpuDeviceLimits(engine.config(), n_tokens, n_tokens, n_lanes, kNoPredictor);
  limits.cuts = true;
  limits.by_column = engine.model().has_columns();
  limits.activation_bits = engine.model().options().activation_bits;
  return limits;
}

}  // namespace

LayerRunner::LayerRunner(Engine& engine, ModelCuts& cuts, int64_t n_tokens, int n_lanes)
    : engine_(engine),
      cuts_(cuts),
      n_(n_tokens),
      device_(std::make_unique<CpuDevice>("the search", LimitsOf(engine, n_tokens, n_lanes))),
      team_(n_lanes),
      lanes_(team_.MakeGroup(n_lanes)),
      cache_(device_->MakeKvCache(engine.config(), engine.model().options().cache_type,
                                  MakeKvLayout(engine.config(), KvPagesFor(n_tokens)), 0)),
      own_cuts_(cuts.MakeCuts(n_tokens)) {
  Device* const tiers[] = {device_.get()};
  const ExecutorOptions options{
      .max_tokens = n_tokens, .max_logits = 1, .mode = SparseMode::kDense};
  executor_ =
      std::make_unique<Executor>(engine.config(), engine.weights(), options, team_, *cache_, tiers);
  own_cuts_->cut_batches = true;
  for (int64_t t = kUncutPositions; t < n_tokens; ++t) {
    own_cuts_->rows[static_cast<size_t>(t)] = 1;
  }
  executor_->set_cuts(own_cuts_.get());
}

LayerRunner::~LayerRunner() = default;

bool LayerRunner::HasParts(int64_t layer) const {
  const ModelConfig& config = engine_.config();
  const LayerConfig& own = config.layer(layer);
  const LayerWeights& w = engine_.weights().layers[static_cast<size_t>(layer)];
  const FfnSlice& slice = w.slices.front();
  const bool plain = own.ffn.kind == FfnKind::kGated && !own.ffn.relu_up && !own.ffn.cuts_gates &&
                     !own.ffn.norms_h && own.ffn.activation_threshold == 0;
  return plain && executor_->RunsAttentionAlone(layer) && slice.gate_bias == nullptr &&
         slice.up_bias == nullptr && w.down_bias == nullptr && !w.ffn_post_norm &&
         config.residual_scale == 1 && slice.down_layout == DownLayout::kPerNeuron;
}

void LayerRunner::Begin(int64_t layer, ThresholdMethod method, const std::vector<float>& x) {
  CHECK(static_cast<int64_t>(x.size()) == n_ * engine_.config().d_model);
  layer_ = layer;
  method_ = method;
  x_ = &x;
  in_parts_ = HasParts(layer);
  const auto neurons = static_cast<size_t>(n_ * engine_.config().d_ff_of(layer));
  for (Inside* inside : {&accepted_, &tried_}) {
    inside->x.resize(x.size());
    for (std::vector<float>* wide : {&inside->gate, &inside->up, &inside->h}) {
      wide->resize(neurons);
    }
  }
  y_.resize(x.size());
  in_parts_ ? RunFrom(0, SparseMode::kDense) : RunWhole(SparseMode::kDense);
  std::swap(accepted_, tried_);
  dense_ = y_;
}

void LayerRunner::RunWhole(SparseMode mode) {
  y_ = *x_;
  executor_->set_mode(mode);
  executor_->RunLayers(y_.data(), n_, 0, layer_, layer_ + 1);
}

void LayerRunner::RunFrom(size_t matrix, SparseMode mode) {
  const ModelConfig& config = engine_.config();
  const LayerWeights& w = engine_.weights().layers[static_cast<size_t>(layer_)];
  const FfnSlice& slice = w.slices.front();
  const FfnCuts& cuts = own_cuts_->layers[static_cast<size_t>(layer_)].ffn.front();
  const int64_t d = config.d_model;
  const int64_t m = slice.n_neurons;
  const bool attends = matrix < kOfGate;
  if (attends) {
    tried_.attended = *x_;
    executor_->set_mode(mode);
    executor_->RunAttention(tried_.attended.data(), n_, 0, layer_);
  }
  const bool gates = attends || matrix == kOfGate;
  const bool ups = attends || matrix == kOfUp;
  Inside& of_x = attends ? tried_ : accepted_;
  const LinearWeights gate = {.w = slice.gate, .by_column = slice.by_column};
  const LinearWeights up = {.w = slice.up, .by_column = slice.by_column};
  const LinearWeights down = {.w = slice.down, .by_column = true};
  const LinearOp gate_op[] = {{&gate, tried_.gate.data(), CutOf(cuts.gate, mode)}};
  const LinearOp up_op[] = {{&up, tried_.up.data(), CutOf(cuts.up, mode)}};
  const LinearOp down_op[] = {{&down, y_.data(), CutOf(cuts.down, mode)}};
  const NormOp norm = {config.layer(layer_).norm, w.ffn_norm, config.norm_eps};
  const float* const h = matrix == kOfDown ? accepted_.h.data() : tried_.h.data();
  const float* const added[] = {of_x.attended.data()};
  team_.Run([&](int thread) {
    const Lane lane{thread, team_.n_threads(), lanes_};
    if (attends) device_->Norm(lane, norm, tried_.attended.data(), n_, d, tried_.x.data());
    if (gates) device_->Linear(lane, gate_op, of_x.x.data(), n_);
    if (ups) device_->Linear(lane, up_op, of_x.x.data(), n_);
    if (gates || ups) {
      const std::vector<float>& from = gates ? tried_.gate : accepted_.gate;
      const auto [begin, end] = lane.Split(n_ * m, 16);
      std::copy(from.begin() + begin, from.begin() + end, tried_.h.begin() + begin);
      lane.Sync();
      device_->ActivateMultiply(lane, config.layer(layer_).ffn.activation, tried_.h.data(),
                                (ups ? tried_.up : accepted_.up).data(), m, n_, m);
    }
    device_->Linear(lane, down_op, h, n_);
    device_->Add(lane, y_.data(), added, n_ * d);
  });
}

const std::vector<float>& LayerRunner::Try(size_t matrix, const MatrixShares& shares) {
  cuts_.Set(layer_, method_, shares, own_cuts_.get());
  tried_matrix_ = matrix;
  tried_shares_ = shares;
  in_parts_ ? RunFrom(matrix, SparseMode::kThreshold) : RunWhole(SparseMode::kThreshold);
  return y_;
}

void LayerRunner::Accept(size_t matrix, const MatrixShares& shares) {
  if (!in_parts_) return;
  if (tried_matrix_ != matrix || tried_shares_ != shares) Try(matrix, shares);
  if (matrix < kOfGate) {
    std::swap(accepted_, tried_);
    return;
  }
  if (matrix == kOfGate) std::swap(accepted_.gate, tried_.gate);
  if (matrix == kOfUp) std::swap(accepted_.up, tried_.up);
  if (matrix != kOfDown) std::swap(accepted_.h, tried_.h);
}

}  // namespace thermocline
