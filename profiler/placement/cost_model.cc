#include "profiler/placement/cost_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/device/cpu/cpu_limits.h"
#include "runtime/model/tensor_table.h"

namespace thermocline {
namespace {

// Ops of a layer beside its FFN, each with a barrier: norm, q k v, rotation and cache, attention,
// output, add and norm.
constexpr double kAttentionOps = 6;
// Of a slice of an FFN: what is multiplied, and the sum of its parts.
constexpr double kFfnOps = 2;
constexpr double kMsPerSecond = 1e3;
constexpr double kUsPerSecond = 1e6;

bool IsFfn(TensorRole role) {
  return role == TensorRole::kGate || role == TensorRole::kUp || role == TensorRole::kDown ||
         role == TensorRole::kDownT || role == TensorRole::kUpDown;
}

RateKey KeyOf(const GgufTensorInfo& info) {
  return {info.dtype, static_cast<int64_t>(info.cols())};
}

double Elements(const GgufTensorInfo& info) { return static_cast<double>(info.n_elements); }

double BytesPerWeight(DType dtype) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  return static_cast<double>(info.block_bytes) / static_cast<double>(info.block_elems);
}

// What a down projection becomes where neurons lie one by one.
DType PlacedDownType(const OpenedModel& model, DType in_file) {
  const DownStorage storage{.dtype = model.options().down_type};
  return DownTypeOf(in_file, model.config().d_model, storage);
}

// The matrix that makes logits.
const GgufTensorInfo& HeadTensor(const OpenedModel& model) {
  const GgufTensorInfo* output = nullptr;
  const GgufTensorInfo* table = nullptr;
  ForEachTensor(model.gguf(), model.family().tensors, model.config(),
                [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
                  if (info == nullptr || tensor.unused) return;
                  if (tensor.row->role == TensorRole::kOutput) output = info;
                  if (tensor.row->role == TensorRole::kTokenEmbd) table = info;
                });
  CHECK(output != nullptr || table != nullptr);
  return output != nullptr ? *output : *table;
}

}  // namespace

double PassTime::total_ms() const {
  double total = head_ms + pass_ms;
  for (const LayerTime& layer : layers) total += layer.attention_ms + layer.ffn_ms;
  return total;
}

CostModel::CostModel(const OpenedModel& model, const ProfileStats& stats,
                     std::span<const std::vector<int32_t>> orders, const MachineRates& rates,
                     const PassShape& shape)
    : model_(model),
      rates_(rates),
      shape_(shape),
      fast_is_host_(model.gpu().empty()),
      head_{KeyOf(HeadTensor(model)), Elements(HeadTensor(model)), false, HeadTensor(model).name} {
  CHECK(fast_is_host_ || rates.gpu.has_value());
  const SplitActivity& counted = stats.calibration;
  for (int64_t l = 0; l < model.config().n_layers; ++l) {
    const auto i = static_cast<size_t>(l);
    LayerCost& cost = layers_.emplace_back(ReadLayer(l));
    CountActive(i < counted.layers.size() ? &counted.layers[i] : nullptr,
                orders.empty() ? nullptr : &orders[i], counted.n_tokens, &cost);
  }
}

CostModel::LayerCost CostModel::ReadLayer(int64_t layer) const {
  const ModelConfig& config = model_.config();
  LayerCost cost;
  const auto d_ff = static_cast<double>(config.d_ff_of(layer));
  // Of gate, up and down: a row per neuron, of d_model weights.
  const auto row = [&](DType dtype, double n_weights) {
    return NeuronRow{
        {dtype, config.d_model}, n_weights / d_ff, n_weights / d_ff * BytesPerWeight(dtype)};
  };
  ForEachLayerTensor(model_.gguf(), model_.family().tensors, config, layer,
                     [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
                       if (info == nullptr || tensor.unused) return;
                       const TensorRole role = tensor.row->role;
                       if (role == TensorRole::kGate) cost.gate = row(info->dtype, Elements(*info));
                       if (role == TensorRole::kUp) cost.up = row(info->dtype, Elements(*info));
                       if (role == TensorRole::kDownT)
                         cost.down = row(info->dtype, Elements(*info));
                       if (role == TensorRole::kDown) {
                         cost.down = row(PlacedDownType(model_, info->dtype), Elements(*info));
                       }
                       if (role == TensorRole::kUpDown) {
                         cost.up = cost.down = row(info->dtype, Elements(*info) / 2);
                       }
                       const bool whole = tensor.row->use == TensorUse::kMatrix && !IsFfn(role);
                       if (whole && tensor.row->tier == TensorTier::kFast) {
                         cost.attention.push_back({KeyOf(*info), Elements(*info),
                                                   tensor.row->goes_with_attention(), tensor.name});
                       }
                     });
  const ModelPredictor* predictor = model_.predictor();
  if (shape_.mode != SparseMode::kPredicted || predictor == nullptr) return cost;
  cost.predicted = std::clamp(predictor->Density(layer).value_or(1), 0.0, 1.0);
  cost.predictor_bytes_per_neuron =
      static_cast<double>(predictor->Bytes(layer, config.d_ff_of(layer))) / d_ff;
  return cost;
}

void CostModel::CountActive(const LayerActivity* activity, const std::vector<int32_t>* order,
                            int64_t n_tokens, LayerCost* cost) const {
  const bool counted = activity != nullptr && n_tokens > 0;
  const auto layer = static_cast<int64_t>(layers_.size()) - 1;
  const int64_t d_ff = model_.config().d_ff_of(layer);
  const auto rows = static_cast<double>(shape_.rows);
  cost->active.push_back(0);
  cost->in_any_row.push_back(0);
  for (int64_t i = 0; i < d_ff; ++i) {
    const int64_t id = order == nullptr ? i : (*order)[static_cast<size_t>(i)];
    double share = 1;
    if (counted) {
      share = static_cast<double>(activity->count[static_cast<size_t>(id)]) /
              static_cast<double>(n_tokens);
    }
    share = std::clamp(share, 0.0, 1.0);
    cost->active.push_back(cost->active.back() + share);
    cost->in_any_row.push_back(cost->in_any_row.back() + 1 - std::pow(1 - share, rows));
  }
}

double CostModel::Product(const RateKey& key, double n_weights, int n_threads, int64_t rows) const {
  return n_weights == 0 ? 0 : rates_.LinearSeconds(key, n_threads, rows, n_weights);
}

double CostModel::GpuProduct(const RateKey& key, double n_weights, int64_t rows) const {
  const GpuRates& gpu = *rates_.gpu;
  const TypeRates* const type = FindRates(gpu.types, key);
  if (type == nullptr) return n_weights * BytesPerWeight(key.dtype) / gpu.read_bytes_per_s;
  std::vector<double> at;
  std::vector<double> seconds;
  for (size_t r = 0; r < kRateRowCounts; ++r) {
    at.push_back(static_cast<double>(kRateRows[r]));
    seconds.push_back(n_weights / type->linear_weights_per_s[r]);
  }
  const auto n = static_cast<double>(rows);
  return ValueAt(at, seconds, n) * std::max(1.0, n / at.back());
}

double CostModel::OnTier(const RateKey& key, double n_weights, int64_t rows, bool on_host) const {
  return on_host ? Product(key, n_weights, shape_.n_threads, rows)
                 : GpuProduct(key, n_weights, rows);
}

double CostModel::OfFile(const RateKey& key, double n_weights, int64_t rows, bool on_host) const {
  const double seconds = OnTier(key, n_weights, rows, on_host);
  if (!on_host) return seconds;
  return std::max(seconds, n_weights * BytesPerWeight(key.dtype) /
                               rates_.MappedBytesPerSecond(shape_.n_threads));
}

// What a draft has in fewer bits lies in memory of its own.
double CostModel::Whole(const DraftFile* draft, const Matrix& matrix, int64_t rows,
                        bool on_host) const {
  if (draft != nullptr) {
    for (const DraftReplacement& other : draft->replacements) {
      if (other.name != matrix.name) continue;
      const TensorView& view = other.matrix.view;
      return OnTier({view.dtype, view.cols}, matrix.n_weights, rows, on_host);
    }
  }
  return OfFile(matrix.key, matrix.n_weights, rows, on_host);
}

double CostModel::OpSeconds(bool on_host) const {
  return (on_host ? rates_.OpUs(shape_.n_threads) : rates_.gpu->op_us) / kUsPerSecond;
}

// Of the keys and values that the rows attend to.
double CostModel::CacheSeconds(int64_t layer, bool on_host) const {
  const AttentionConfig& a = model_.config().layer(layer).attention;
  const auto rows = static_cast<double>(shape_.rows);
  const bool one_sequence = shape_.prompt || shape_.verify;
  double seen = static_cast<double>(shape_.context_tokens) + (one_sequence ? rows / 2 : 1);
  if (a.window > 0) seen = std::min(seen, static_cast<double>(a.window));
  const DType dtype = model_.options().cache_type;
  if (shape_.prompt || (shape_.verify && shape_.rows >= kPanelAttentionTokens)) {
    // Products of panels: of each query with the keys, and of the weights with the values.
    return OnTier({dtype, a.head_dim}, 2 * seen * static_cast<double>(a.q_dim()), shape_.rows,
                  on_host);
  }
  // Rows of one sequence find in a cache what the first of them has read; heads of queries that
  // share keys and values do, too.
  const double n_read = shape_.verify ? 1 : rows;
  const double n_weights = 2 * seen * static_cast<double>(a.kv_dim());
  const double n_bytes = n_read * n_weights * BytesPerWeight(dtype);
  if (!on_host) return n_bytes / rates_.gpu->read_bytes_per_s;
  const double n_cached = rows * static_cast<double>(a.group()) - n_read;
  return n_bytes / rates_.AttendBytesPerSecond(shape_.n_threads) +
         n_cached * rates_.CachedSeconds({dtype, a.head_dim}, shape_.n_threads, n_weights);
}

// Away, what attention reads and gives is handed over, unless both tiers are one memory.
double CostModel::AttentionSeconds(int64_t layer, bool away, const DraftFile* draft) const {
  const bool on_host = fast_is_host_ || away;
  double seconds = kAttentionOps * OpSeconds(on_host) + CacheSeconds(layer, on_host);
  for (const Matrix& matrix : layers_[static_cast<size_t>(layer)].attention) {
    const bool here = matrix.goes_with_attention ? on_host : fast_is_host_;
    seconds += Whole(draft, matrix, shape_.rows, here);
  }
  return seconds + (away && !fast_is_host_ ? HandoverMs() / kMsPerSecond : 0);
}

double CostModel::HeadSeconds(const DraftFile* draft) const {
  const int64_t logits = shape_.prompt ? 1 : shape_.rows;
  return 2 * FastOpSeconds() + Whole(draft, head_, logits, fast_is_host_);
}

// There and back, of a layer's inputs and outputs.
double CostModel::HandoverMs() const {
  const double bytes = 2.0 * static_cast<double>(shape_.rows) *
                       static_cast<double>(model_.config().d_model) * sizeof(float);
  double us = rates_.HandoverUs(shape_.n_threads);
  double bytes_per_s = rates_.ReadBytesPerSecond(1);
  if (!fast_is_host_) {
    us = rates_.gpu->handover_us;
    bytes_per_s = std::min(rates_.gpu->to_gpu_bytes_per_s, rates_.gpu->from_gpu_bytes_per_s);
  }
  return us / 1e3 + kMsPerSecond * bytes / bytes_per_s;
}

// Row by row, as few rows are computed where a neuron's down column is a row.
double CostModel::RowsSlice(const Slice& slice) const {
  const LayerCost& cost = *slice.layer;
  const auto begin = static_cast<size_t>(slice.begin);
  const auto end = static_cast<size_t>(slice.end);
  const auto m = static_cast<double>(slice.end - slice.begin);
  const auto rows = static_cast<double>(shape_.rows);
  // Neurons whose up and down a row reads, and any of the rows.
  double per_row = cost.active[end] - cost.active[begin];
  double any_row = cost.in_any_row[end] - cost.in_any_row[begin];
  double gates = m;
  double seconds = 0;
  double gate_gather = 1;
  if (slice.asks && cost.predicted < kListEfficiency) {
    // Of the neurons named, those here are as many as of the active ones.
    const double all_active = std::max(cost.active.back(), 1e-9);
    const auto d_ff = static_cast<double>(cost.active.size() - 1);
    const double named = std::min(m, cost.predicted * d_ff * per_row / all_active);
    gates = m * (1 - std::pow(1 - named / m, rows));
    gate_gather = rates_.LinearGather(cost.gate.n_bytes, gates / m);
    seconds += cost.predictor_bytes_per_neuron * m / rates_.ReadBytesPerSecond(slice.n_threads) +
               kFfnOps * rates_.OpUs(slice.n_threads) / kUsPerSecond;
    per_row = std::min(per_row, named);
    any_row = std::min(any_row, gates);
  }
  const double density = any_row / m;
  // What a row costs where one before it has read the neuron.
  const auto again = [&](const NeuronRow& row, double n) {
    if (row.n_weights == 0 || n <= 0 || shape_.rows == 1) return 0.0;
    const double first = rates_.FfnSeconds(row.key, slice.n_threads, 1, n * row.n_weights);
    const double two = rates_.FfnSeconds(row.key, slice.n_threads, 2, n * row.n_weights);
    return std::max(0.0, two - first);
  };
  seconds += Product(cost.gate.key, gates * cost.gate.n_weights, slice.n_threads, 1) / gate_gather +
             again(cost.gate, (rows - 1) * gates);
  seconds += Product(cost.up.key, any_row * cost.up.n_weights, slice.n_threads, 1) /
                 rates_.LinearGather(cost.up.n_bytes, density) +
             again(cost.up, rows * per_row - any_row);
  seconds += rates_.SumSeconds(cost.down.key, slice.n_threads, any_row * cost.down.n_weights) /
                 rates_.SumGather(cost.down.n_bytes, density) +
             again(cost.down, rows * per_row - any_row);
  // The parts' sums are written and read once more.
  const int64_t n_parts = std::min(kFfnParts, CeilDiv(slice.end - slice.begin, kClusterNeurons));
  const double part_bytes = static_cast<double>(2 * n_parts) * rows * cost.down.n_weights *
                            static_cast<double>(sizeof(float));
  return seconds + part_bytes / rates_.ReadBytesPerSecond(slice.n_threads);
}

double CostModel::HostSlice(const Slice& slice) const {
  if (slice.end == slice.begin) return 0;
  const LayerCost& cost = *slice.layer;
  const double ops = kFfnOps * rates_.OpUs(slice.n_threads) / kUsPerSecond;
  const bool listed = slice.asks && shape_.rows <= kListMaxTokens;
  const bool sparse = shape_.mode != SparseMode::kDense;
  if (sparse && (shape_.rows <= kFewTokens || listed)) return ops + RowsSlice(slice);
  const auto m = static_cast<double>(slice.end - slice.begin);
  double seconds = 0;  // ops are part of what was measured
  for (const NeuronRow& row : {cost.gate, cost.up, cost.down}) {
    if (row.n_weights == 0) continue;
    seconds += rates_.FfnSeconds(row.key, slice.n_threads, shape_.rows, m * row.n_weights);
  }
  return seconds;
}

double CostModel::GpuSlice(const Slice& slice) const {
  if (slice.end == slice.begin) return 0;
  const LayerCost& cost = *slice.layer;
  const auto m = static_cast<double>(slice.end - slice.begin);
  double read = m;
  if (shape_.mode != SparseMode::kDense && shape_.rows <= kMaxKeptTokens) {
    read = cost.in_any_row[static_cast<size_t>(slice.end)] -
           cost.in_any_row[static_cast<size_t>(slice.begin)];
  }
  return kFfnOps * FastOpSeconds() +
         GpuProduct(cost.gate.key, m * cost.gate.n_weights, shape_.rows) +
         GpuProduct(cost.up.key, read * cost.up.n_weights, shape_.rows) +
         GpuProduct(cost.down.key, read * cost.down.n_weights, shape_.rows);
}

double CostModel::PacedSeconds(const Slice& slice) const {
  const double limit = shape_.slow_bytes_per_s > 0 ? shape_.slow_bytes_per_s
                                                   : model_.options().slow_tier_bytes_per_s;
  if (limit == 0 || slice.end == slice.begin) return 0;
  const LayerCost& cost = *slice.layer;
  const auto m = static_cast<double>(slice.end - slice.begin);
  const bool by_row = shape_.mode != SparseMode::kDense && shape_.rows <= kFewTokens;
  const double per_row =
      cost.active[static_cast<size_t>(slice.end)] - cost.active[static_cast<size_t>(slice.begin)];
  const double others = by_row ? std::min(m, static_cast<double>(shape_.rows) * per_row) : m;
  return (m * cost.gate.n_bytes + others * (cost.up.n_bytes + cost.down.n_bytes)) / limit;
}

LayerTime CostModel::Layer(int64_t layer, int64_t n_hot, int fast_threads, bool away) const {
  const LayerCost& cost = layers_[static_cast<size_t>(layer)];
  const auto d_ff = static_cast<int64_t>(cost.active.size()) - 1;
  const int all = shape_.n_threads;
  const bool both = n_hot > 0 && n_hot < d_ff;
  const bool predicted = shape_.mode == SparseMode::kPredicted;
  LayerTime time;
  time.attention_ms = kMsPerSecond * AttentionSeconds(layer, away);
  // A tier that has a layer to itself has all of the host's threads.
  const bool parted = both && fast_is_host_ && all > 1;
  const Slice hot{&cost, 0, n_hot, parted ? fast_threads : all, predicted && !shape_.placed};
  const Slice cold{&cost, n_hot, d_ff, parted ? all - fast_threads : all, predicted};
  time.fast_ms = kMsPerSecond * (fast_is_host_ ? HostSlice(hot) : GpuSlice(hot));
  time.slow_ms = kMsPerSecond * HostSlice(cold);
  const double add_ms = kMsPerSecond * FastOpSeconds();
  if (n_hot < d_ff) time.handover_ms = HandoverMs();
  time.ffn_ms = std::max(time.fast_ms, time.slow_ms);
  if (both && fast_is_host_ && all == 1) {
    time.ffn_ms = time.fast_ms + time.slow_ms;  // one thread does one after the other
  } else if (parted) {
    // While both read, each gets its share of what the memory gives to all, as far as products with
    // these weights reach that at all.
    const auto rate = [&](int n_threads) {
      return 1 / rates_.FfnSeconds(cost.gate.key, n_threads, 1, cost.gate.n_weights);
    };
    const double apart = rate(fast_threads) + rate(all - fast_threads);
    const double share = std::min(1.0, rate(all) / apart);
    const double first = std::min(time.fast_ms, time.slow_ms);
    time.ffn_ms = first / share + time.ffn_ms - first;
  }
  // While it is held back it takes nothing of the memory's rate.
  const double paced_ms = kMsPerSecond * PacedSeconds(cold);
  time.slow_ms = std::max(time.slow_ms, paced_ms);
  time.ffn_ms = std::max(time.ffn_ms, paced_ms) + time.handover_ms + add_ms;
  return time;
}

int CostModel::FastThreads(std::span<const int64_t> n_hot) const {
  const int all = shape_.n_threads;
  if (!fast_is_host_ || !shape_.placed || all == 1) return all;
  double hot = 0;
  double total = 0;
  for (size_t l = 0; l < layers_.size(); ++l) {
    hot += static_cast<double>(n_hot[l]) * layers_[l].neuron_bytes();
    total += static_cast<double>(layers_[l].active.size() - 1) * layers_[l].neuron_bytes();
  }
  const auto wanted = static_cast<int>(std::lround(hot / std::max(1.0, total) * all));
  return std::clamp(wanted, 1, all - 1);
}

PassTime CostModel::Pass(std::span<const int64_t> n_hot, std::span<const uint8_t> away) const {
  CHECK(n_hot.size() == layers_.size() && (away.empty() || away.size() == layers_.size()));
  PassTime pass;
  const int fast_threads = FastThreads(n_hot);
  for (size_t l = 0; l < layers_.size(); ++l) {
    pass.layers.push_back(
        Layer(static_cast<int64_t>(l), n_hot[l], fast_threads, !away.empty() && away[l] != 0));
  }
  pass.head_ms = kMsPerSecond * HeadSeconds(nullptr);
  pass.pass_ms = rates_.WakeUs(shape_.n_threads) / 1e3;
  return pass;
}

double CostModel::DraftFfnSeconds(int64_t layer, const DraftFile& draft) const {
  const LayerCost& cost = layers_[static_cast<size_t>(layer)];
  const DraftLayer& of_draft = draft.layers[static_cast<size_t>(layer)];
  const auto seconds_of = [&](const LayerCost& of, int64_t begin, int64_t end) {
    const Slice slice{&of, begin, end, shape_.n_threads, false};
    return fast_is_host_ ? HostSlice(slice) : GpuSlice(slice);
  };
  double seconds = seconds_of(cost, 0, of_draft.n_hot);
  int64_t begin = of_draft.n_hot;
  LayerCost of_slice = cost;  // the same neurons in fewer bits
  for (const DraftSlice& slice : of_draft.slices) {
    if (slice.n_neurons == 0) continue;
    const auto in_fewer_bits = [](const DraftMatrix& matrix, NeuronRow* row) {
      if (matrix.view.empty()) return;
      row->key = {matrix.view.dtype, matrix.view.cols};
      row->n_bytes = row->n_weights * BytesPerWeight(matrix.view.dtype);
    };
    in_fewer_bits(slice.gate, &of_slice.gate);
    in_fewer_bits(slice.up, &of_slice.up);
    in_fewer_bits(slice.down, &of_slice.down);
    seconds += seconds_of(of_slice, begin, begin + slice.n_neurons);
    begin += slice.n_neurons;
  }
  for (const DraftMatrix* map : {&of_draft.left, &of_draft.right}) {
    if (map->view.empty()) continue;
    const auto n_weights = static_cast<double>(map->view.rows * map->view.cols);
    seconds += FastOpSeconds() +
               OnTier({map->view.dtype, map->view.cols}, n_weights, shape_.rows, fast_is_host_);
  }
  return seconds;
}

PassTime CostModel::Draft(const DraftFile& draft) const {
  CHECK(draft.layers.size() == layers_.size());
  PassTime pass;
  for (size_t l = 0; l < layers_.size(); ++l) {
    const auto layer = static_cast<int64_t>(l);
    LayerTime& time = pass.layers.emplace_back();
    time.attention_ms = kMsPerSecond * AttentionSeconds(layer, /*away=*/false, &draft);
    time.fast_ms = time.ffn_ms = kMsPerSecond * DraftFfnSeconds(layer, draft);
  }
  pass.head_ms = kMsPerSecond * HeadSeconds(&draft);
  pass.pass_ms = rates_.WakeUs(shape_.n_threads) / 1e3;
  return pass;
}

namespace {

void AddTypes(const DraftFile& draft, std::vector<RateKey>* types) {
  const auto add = [&](const DraftMatrix& matrix) {
    if (!matrix.view.empty()) types->push_back({matrix.view.dtype, matrix.view.cols});
  };
  for (const DraftLayer& layer : draft.layers) {
    for (const DraftSlice& slice : layer.slices) {
      for (const DraftMatrix* matrix : {&slice.gate, &slice.up, &slice.down}) add(*matrix);
    }
    add(layer.left);
    add(layer.right);
  }
  for (const DraftReplacement& other : draft.replacements) add(other.matrix);
}

}  // namespace

std::vector<RateKey> RateTypesOf(const OpenedModel& model, const DraftFile* draft) {
  const int64_t d_model = model.config().d_model;
  // Of the cache any length will do, in whole blocks.
  const DType cache = model.options().cache_type;
  std::vector<RateKey> types = {KeyOf(HeadTensor(model)), {FittingType(cache, d_model), d_model}};
  ForEachTensor(model.gguf(), model.family().tensors, model.config(),
                [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
                  if (info == nullptr || tensor.unused || tensor.layer == kNoLayer) return;
                  if (tensor.row->use != TensorUse::kMatrix) return;
                  const TensorRole role = tensor.row->role;
                  const DType dtype =
                      role == TensorRole::kDown ? PlacedDownType(model, info->dtype) : info->dtype;
                  types.push_back(IsFfn(role) ? RateKey{dtype, d_model} : KeyOf(*info));
                });
  if (draft != nullptr) AddTypes(*draft, &types);
  std::sort(types.begin(), types.end());
  types.erase(std::unique(types.begin(), types.end()), types.end());
  return types;
}

}  // namespace thermocline
