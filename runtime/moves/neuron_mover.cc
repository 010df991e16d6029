#include "runtime/moves/neuron_mover.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr size_t kFast = 0;
constexpr size_t kSlow = 1;
// Gate, up, down, the predictor's row, two biases and the predictor's.
constexpr int64_t kPartsOfNeuron = 7;

std::vector<MovePolicy::Layer> LayersOf(const MovedModel& model) {
  std::vector<MovePolicy::Layer> layers;
  for (size_t l = 0; l < model.weights->weights.layers.size(); ++l) {
    const FfnConfig& ffn = model.config->layer(static_cast<int64_t>(l)).ffn;
    const std::vector<FfnSlice>& slices = model.weights->weights.layers[l].slices;
    if (NeuronMover::MayMove(ffn)) {
      layers.push_back({slices[kFast].n_neurons, slices[kSlow].n_neurons});
    } else {
      layers.push_back({});
    }
  }
  return layers;
}

std::vector<DType> RowTypes(const MovedModel& model) {
  std::vector<DType> types;
  const auto add = [&](const TensorView& matrix) {
    if (matrix.rows > 0) types.push_back(matrix.dtype);
  };
  for (const LayerWeights& layer : model.weights->weights.layers) {
    for (const FfnSlice& slice : layer.slices) {
      if (slice.n_neurons == 0) continue;
      add(slice.gate);
      add(slice.up);
      add(slice.down);
    }
  }
  return types;
}

// The slow tier's predictor of a layer, where its neurons' parts must move with them.
const SlicePredictor* PredictorOf(const MovedModel& model, int64_t layer) {
  if (model.loaded_predictor == nullptr || model.loaded_predictor->layers.empty()) return nullptr;
  return &model.loaded_predictor->layers[static_cast<size_t>(layer)][kSlow];
}

uint64_t PredictorRowBytes(const MovedModel& model) {
  uint64_t most = 0;
  for (int64_t l = 0; model.predictor != nullptr && l < model.config->n_layers; ++l) {
    most = std::max(most, model.predictor->OutRowBytes(l));
  }
  return most;
}

void CopyRow(const TensorView& matrix, int64_t row, std::vector<std::byte>* out) {
  const std::byte* const from = matrix.row(row);
  out->assign(from, from + RowBytes(matrix.dtype, matrix.cols));
}

}  // namespace

RowExchangeLimits NeuronMover::ExchangeLimits(int64_t d_model, std::vector<DType> row_types,
                                              uint64_t predictor_bytes) {
  return {.max_rows = kPartsOfNeuron * kClusterNeurons,
          .dtypes = std::move(row_types),
          .cols = d_model,
          .other_row_bytes = predictor_bytes};
}

uint64_t NeuronMover::CounterBytes(int64_t n_neurons) {
  return static_cast<uint64_t>(n_neurons) * sizeof(uint32_t);
}

NeuronMover::NeuronMover(const MovedModel& model, const MoverOptions& options)
    : model_(model),
      options_(options),
      file_(*model.gguf, *model.family, *model.config, model.down),
      policy_(LayersOf(model), options),
      seen_tokens_(model.weights->weights.layers.size()) {
  CHECK(model.tiers.size() == 2 && options.max_swaps <= kClusterNeurons);
  MakeCounters(LayersOf(model));
  const RowExchangeLimits limits =
      ExchangeLimits(model.config->d_model, RowTypes(model), PredictorRowBytes(model));
  for (Device* const device : model.tiers) exchanges_.push_back(device->MakeRowExchange(limits));
  thread_ = std::thread([this] { Work(); });
}

NeuronMover::~NeuronMover() {
  {
    const std::lock_guard lock(mutex_);
    state_ = State::kStop;
  }
  changed_.notify_all();
  thread_.join();
}

void NeuronMover::MakeCounters(std::span<const MovePolicy::Layer> layers) {
  for (const MovePolicy::Layer& layer : layers) {
    std::vector<uint32_t*>& counters = fired_.emplace_back(model_.tiers.size());
    seen_.emplace_back(static_cast<size_t>(layer.Moves() ? layer.n_neurons() : 0));
    if (!layer.Moves()) continue;
    const int64_t on[] = {layer.n_fast, layer.n_slow};
    for (size_t tier = 0; tier < model_.tiers.size(); ++tier) {
      counters[tier] = static_cast<uint32_t*>(
          model_.tiers[tier]->Allocate(CounterBytes(on[tier]), "counters of neurons"));
    }
  }
}

const FfnSlice& NeuronMover::slice(int64_t layer, size_t tier) const {
  return model_.weights->weights.layers[static_cast<size_t>(layer)].slices[tier];
}

NeuronMover::Place NeuronMover::PlaceOf(int64_t layer, int64_t position) const {
  const int64_t n_fast = slice(layer, kFast).n_neurons;
  return position < n_fast ? Place{kFast, position} : Place{kSlow, position - n_fast};
}

void NeuronMover::BetweenPasses(int64_t n_tokens) {
  n_tokens_ += n_tokens;
  if (!TakeOver(/*wait=*/false)) {
    policy_.CountTokens(n_tokens);
    return;
  }
  const int64_t layer = policy_.NextLayer(n_tokens);
  if (layer < 0) return;
  BeginTurn(layer);
  if (options_.in_step) Settle();
}

void NeuronMover::Settle() { TakeOver(/*wait=*/true); }

bool NeuronMover::TakeOver(bool wait) {
  std::unique_lock lock(mutex_);
  if (wait) changed_.wait(lock, [&] { return state_ != State::kWorking; });
  if (state_ == State::kWorking) return false;
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  if (state_ == State::kStaged) {
    Commit();
    state_ = State::kIdle;
  }
  return true;
}

std::vector<uint32_t> NeuronMover::ReadCounters(int64_t layer) const {
  std::vector<uint32_t> counters;
  for (size_t tier = 0; tier < model_.tiers.size(); ++tier) {
    const auto n = static_cast<size_t>(slice(layer, tier).n_neurons);
    const uint32_t* const from = fired_[static_cast<size_t>(layer)][tier];
    counters.resize(counters.size() + n);
    uint32_t* const to = counters.data() + counters.size() - n;
    if (QueuedDevice* const queued = model_.tiers[tier]->queued()) {
      queued->Download(to, from, n * sizeof(uint32_t));
    } else {
      std::copy_n(from, n, to);
    }
  }
  return counters;
}

void NeuronMover::BeginTurn(int64_t layer) {
  const auto l = static_cast<size_t>(layer);
  turn_ = {layer, n_tokens_ - std::exchange(seen_tokens_[l], n_tokens_), ReadCounters(layer), {}};
  // Counters run on and come round; differences do not mind.
  for (size_t i = 0; i < turn_.fired.size(); ++i) {
    const uint32_t now = turn_.fired[i];
    turn_.fired[i] = now - std::exchange(seen_[l][i], now);
  }
  {
    const std::lock_guard lock(mutex_);
    state_ = State::kWorking;
  }
  changed_.notify_all();
}

// On both tiers at once, as far as passes see.
void NeuronMover::Commit() {
  if (turn_.swaps.empty()) return;
  for (const auto& exchange : exchanges_) exchange->Commit();
  const auto l = static_cast<size_t>(turn_.layer);
  std::vector<int32_t>& order = model_.weights->neuron_orders[l];
  const SlicePredictor* const predictor = PredictorOf(model_, turn_.layer);
  for (const NeuronSwap& swap : turn_.swaps) {
    std::swap(order[static_cast<size_t>(swap.fast)], order[static_cast<size_t>(swap.slow)]);
    if (predictor == nullptr || predictor->signs == nullptr) continue;
    const int64_t slot = PlaceOf(turn_.layer, swap.slow).slot;
    for (const auto& signs : model_.loaded_predictor->signs) {
      if (signs.get() == predictor->signs) signs->Pack(slot, slot + 1);
    }
  }
  n_swaps_ += static_cast<int64_t>(turn_.swaps.size());
  turn_.swaps.clear();
}

std::vector<int32_t> NeuronMover::LearnedOrder(int64_t layer) const {
  const std::vector<int32_t>& order = model_.weights->neuron_orders[static_cast<size_t>(layer)];
  if (!policy_.IsWarm(layer)) return order;
  std::vector<int64_t> positions(order.size());
  std::iota(positions.begin(), positions.end(), int64_t{0});
  const auto hotter = [&](int64_t a, int64_t b) {
    return policy_.heat(layer).Share(a) > policy_.heat(layer).Share(b);
  };
  const auto slow = positions.begin() + slice(layer, kFast).n_neurons;
  std::stable_sort(positions.begin(), slow, hotter);
  std::stable_sort(slow, positions.end(), hotter);
  std::vector<int32_t> learned;
  for (const int64_t position : positions) learned.push_back(order[static_cast<size_t>(position)]);
  return learned;
}

void NeuronMover::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return state_ == State::kWorking || state_ == State::kStop; });
    if (state_ == State::kStop) return;
    lock.unlock();
    std::exception_ptr failure;
    try {
      TakeTurn();
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    failure_ = failure;
    // Who stops meanwhile does not wait for what is staged.
    if (state_ == State::kWorking) state_ = State::kStaged;
    changed_.notify_all();
  }
}

void NeuronMover::TakeTurn() {
  turn_.swaps = policy_.Turn(turn_.layer, turn_.fired, turn_.n_tokens);
  const std::vector<int32_t>& order =
      model_.weights->neuron_orders[static_cast<size_t>(turn_.layer)];
  NeuronRows from_fast;
  NeuronRows from_slow;
  for (const NeuronSwap& swap : turn_.swaps) {
    ReadNeuron(turn_.layer, swap.fast, &from_fast);
    ReadNeuron(turn_.layer, swap.slow, &from_slow);
    StageNeuron(turn_.layer, swap.slow, order[static_cast<size_t>(swap.fast)], from_fast);
    StageNeuron(turn_.layer, swap.fast, order[static_cast<size_t>(swap.slow)], from_slow);
  }
  for (const auto& exchange : exchanges_) exchange->Send();
}

// Memory of the host has it as it is stored; a queued device has it in a form of its own, so that
// the file is read again.
void NeuronMover::ReadNeuron(int64_t layer, int64_t position, NeuronRows* rows) const {
  const Place place = PlaceOf(layer, position);
  const FfnSlice& from = slice(layer, place.tier);
  if (model_.tiers[place.tier]->queued() != nullptr) {
    const auto& order = model_.weights->neuron_orders[static_cast<size_t>(layer)];
    file_.Read(layer, order[static_cast<size_t>(position)], rows);
    return;
  }
  CopyRow(from.gate, place.slot, &rows->gate);
  if (from.is_gated()) CopyRow(from.up, place.slot, &rows->up);
  CopyRow(from.down, place.slot, &rows->down);
  if (from.gate_bias != nullptr) rows->gate_bias = from.gate_bias[place.slot];
  if (from.up_bias != nullptr) rows->up_bias = from.up_bias[place.slot];
}

void NeuronMover::StageNeuron(int64_t layer, int64_t position, int32_t channel,
                              const NeuronRows& rows) {
  const Place place = PlaceOf(layer, position);
  const FfnSlice& to = slice(layer, place.tier);
  RowExchange& exchange = *exchanges_[place.tier];
  exchange.StageRow(to.gate, place.slot, rows.gate.data());
  if (to.is_gated()) exchange.StageRow(to.up, place.slot, rows.up.data());
  exchange.StageRow(to.down, place.slot, rows.down.data());
  if (to.gate_bias != nullptr) exchange.StageFloat(to.gate_bias + place.slot, rows.gate_bias);
  if (to.up_bias != nullptr) exchange.StageFloat(to.up_bias + place.slot, rows.up_bias);
  const SlicePredictor* const predictor = PredictorOf(model_, layer);
  if (place.tier != kSlow || predictor == nullptr || predictor->layer.out_proj.rows == 0) return;
  const ModelPredictor::NeuronPart part = model_.predictor->PartOf(layer, channel);
  exchange.StageRow(predictor->layer.out_proj, place.slot, part.out_row);
  exchange.StageFloat(predictor->layer.points.front().bias + place.slot, part.bias);
}

}  // namespace thermocline
