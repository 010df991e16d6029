#include "profiler/activations/activation_counter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/model/stored_ffn.h"

namespace thermocline {
namespace {

// How many neurons' sums are kept at hand while the tokens of a pass go by. Lanes' shares are cut
// at multiples of it, so that two lanes seldom write to one cache line.
constexpr int64_t kBlockNeurons = 64;

// Adds the squares of columns [begin, end) of x to *sums. x: (n_tokens, sums->size()).
void AddSquares(const float* x, int64_t n_tokens, int64_t begin, int64_t end,
                std::vector<double>* sums) {
  const auto width = static_cast<int64_t>(sums->size());
  for (int64_t first = begin; first < end; first += kBlockNeurons) {
    const auto n = static_cast<size_t>(std::min(kBlockNeurons, end - first));
    std::array<double, kBlockNeurons> sum{};
    for (int64_t t = 0; t < n_tokens; ++t) {
      const float* row = x + t * width + first;
      for (size_t i = 0; i < n; ++i) sum[i] += static_cast<double>(row[i]) * row[i];
    }
    for (size_t i = 0; i < n; ++i) (*sums)[static_cast<size_t>(first) + i] += sum[i];
  }
}

}  // namespace

std::vector<double> DownNorms(const TensorView& down, DownLayout layout) {
  const bool per_neuron = layout == DownLayout::kPerNeuron;
  std::vector<double> squares(static_cast<size_t>(per_neuron ? down.rows : down.cols), 0.0);
  std::vector<float> row(static_cast<size_t>(down.cols));
  for (int64_t r = 0; r < down.rows; ++r) {
    CpuKernels().dequantize_f32(down.dtype, down.row(r), 0, down.cols, row.data());
    for (size_t c = 0; c < row.size(); ++c) {
      const auto value = static_cast<double>(row[c]);
      squares[per_neuron ? static_cast<size_t>(r) : c] += value * value;
    }
  }
  for (double& square : squares) square = std::sqrt(square);
  return squares;
}

std::vector<std::vector<double>> ChannelNorms(const OpenedModel& model,
                                              const ChannelOrders& orders) {
  const ModelConfig& config = model.config();
  CHECK(orders.empty() || static_cast<int64_t>(orders.size()) == config.n_layers);
  std::vector<std::vector<double>> norms;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    ThrowIfInterrupted();
    const FileFfn file = ReadFileFfn(model.gguf(), model.family(), config, l);
    std::vector<double> in_file = DownNorms(file.down, file.layout);
    if (orders.empty()) {
      norms.push_back(std::move(in_file));
      continue;
    }
    std::vector<double>& by_channel = norms.emplace_back(in_file.size());
    for (size_t i = 0; i < in_file.size(); ++i) {
      by_channel[static_cast<size_t>(orders[static_cast<size_t>(l)][i])] = in_file[i];
    }
  }
  return norms;
}

ActivationCounter::ActivationCounter(const ModelConfig& config,
                                     std::vector<std::vector<double>> norms,
                                     const ChannelOrders& orders, double activation_threshold)
    : config_(config),
      orders_(orders),
      thresholds_(static_cast<size_t>(config.n_layers), activation_threshold),
      norms_(std::move(norms)) {
  CHECK(static_cast<int64_t>(norms_.size()) == config.n_layers);
}

void ActivationCounter::CountInto(SplitActivity* split, LruBaseline* lru) {
  split_ = split;
  lru_ = lru;
  if (split->layers.empty()) {
    const auto d_ff = static_cast<size_t>(config_.d_ff);
    split->layers.assign(static_cast<size_t>(config_.n_layers),
                         {std::vector<int64_t>(d_ff, 0), std::vector<double>(d_ff, 0.0)});
  }
}

void ActivationCounter::SumSquaresInto(std::vector<LayerInputSquares>* squares) {
  squares_ = squares;
  if (squares == nullptr || !squares->empty()) return;
  for (const LayerConfig& layer : config_.layers) {
    const auto d_model = static_cast<size_t>(config_.d_model);
    const auto q_dim = static_cast<size_t>(layer.attention.n_heads * layer.attention.head_dim);
    squares->push_back({std::vector<double>(d_model), std::vector<double>(q_dim),
                        std::vector<double>(d_model),
                        std::vector<double>(static_cast<size_t>(layer.ffn.d_ff))});
  }
}

const int32_t* ActivationCounter::ChannelsOf(const FfnObservation& observation) const {
  if (observation.slice->neuron_ids != nullptr) return observation.slice->neuron_ids;
  CHECK(observation.slice->n_neurons == config_.d_ff);  // in file order, so the whole layer
  return orders_.empty() ? nullptr : orders_[static_cast<size_t>(observation.layer)].data();
}

bool ActivationCounter::IsActive(int64_t layer, float h) const {
  return std::abs(static_cast<double>(h)) > thresholds_[static_cast<size_t>(layer)];
}

void ActivationCounter::OnFfn(const Lane& lane, const FfnObservation& observation) {
  const auto [begin, end] = lane.Split(observation.slice->n_neurons, kBlockNeurons);
  CountNeurons(observation, begin, end);
  if (squares_ != nullptr) SumSquares(lane, observation);
  if (lru_ != nullptr && lane.rank == 0) FeedLru(observation);
  lane.Sync();
}

void ActivationCounter::CountNeurons(const FfnObservation& observation, int64_t begin,
                                     int64_t end) {
  const int32_t* channels = ChannelsOf(observation);
  const auto layer = static_cast<size_t>(observation.layer);
  LayerActivity& activity = split_->layers[layer];
  const int64_t m = observation.slice->n_neurons;
  for (int64_t first = begin; first < end; first += kBlockNeurons) {
    const auto n = static_cast<size_t>(std::min(kBlockNeurons, end - first));
    std::array<int64_t, kBlockNeurons> count{};
    std::array<double, kBlockNeurons> sum{};
    std::array<double, kBlockNeurons> square{};
    for (int64_t t = 0; t < observation.n_tokens; ++t) {
      const float* h = observation.h + t * m + first;
      for (size_t i = 0; i < n; ++i) {
        count[i] += IsActive(observation.layer, h[i]) ? 1 : 0;
        sum[i] += std::abs(static_cast<double>(h[i]));
        square[i] += static_cast<double>(h[i]) * h[i];
      }
    }
    for (size_t i = 0; i < n; ++i) {
      const size_t row = static_cast<size_t>(first) + i;
      const size_t channel = channels == nullptr ? row : static_cast<size_t>(channels[row]);
      activity.count[channel] += count[i];
      activity.mass[channel] += sum[i] * norms_[layer][channel];
      if (squares_ != nullptr) (*squares_)[layer].down[channel] += square[i];
    }
  }
}

void ActivationCounter::SumSquares(const Lane& lane, const FfnObservation& observation) {
  CHECK(observation.attention_x != nullptr && observation.slice->n_neurons == config_.d_ff);
  LayerInputSquares& squares = (*squares_)[static_cast<size_t>(observation.layer)];
  const auto add = [&](const float* x, std::vector<double>* sums) {
    const auto [begin, end] = lane.Split(static_cast<int64_t>(sums->size()), kBlockNeurons);
    AddSquares(x, observation.n_tokens, begin, end, sums);
  };
  add(observation.attention_x, &squares.attention);
  add(observation.attended, &squares.attended);
  add(observation.x, &squares.ffn);
}

void ActivationCounter::FeedLru(const FfnObservation& observation) {
  const int64_t m = observation.slice->n_neurons;
  CHECK(m == config_.d_ff && observation.slice->neuron_ids == nullptr);
  for (int64_t t = 0; t < observation.n_tokens; ++t) {
    const float* h = observation.h + t * m;
    active_.clear();
    for (int64_t i = 0; i < m; ++i) {
      if (IsActive(observation.layer, h[i])) active_.push_back(static_cast<int32_t>(i));
    }
    lru_->OnToken(observation.layer, active_);
  }
}

}  // namespace thermocline
