// From a predictor file to what runs on a device.
#include <cstring>
#include <numeric>

#include "runtime/core/error.h"
#include "runtime/gguf/own_files.h"
#include "runtime/predictor_file.h"
#include "runtime/weights.h"

namespace thermocline {
namespace {

TensorView Upload(const TensorView& w, std::span<const int32_t> rows, Device& device) {
  const int64_t row_bytes = RowBytes(w.dtype, w.cols);
  const auto n = static_cast<int64_t>(rows.size());
  auto* memory = static_cast<std::byte*>(
      device.Allocate(static_cast<uint64_t>(n * row_bytes), "the predictor"));
  for (int64_t i = 0; i < n; ++i) {
    device.Upload(memory + i * row_bytes, w.row(rows[static_cast<size_t>(i)]),
                  static_cast<uint64_t>(row_bytes));
  }
  return DenseView(memory, w.dtype, n, w.cols);
}

}  // namespace

size_t ChoosePoint(const LayerPredictor& predictor, double wanted_recall) {
  CHECK(!predictor.points.empty());
  // Ascending in both, so the first that is good enough is the least dense.
  for (size_t p = 0; p < predictor.points.size(); ++p) {
    if (static_cast<double>(predictor.points[p].recall) >= wanted_recall) return p;
  }
  return predictor.points.size() - 1;
}

std::vector<int32_t> SliceChannels(const GgufReader& gguf, int64_t layer, const FfnSlice& slice) {
  const auto n = static_cast<size_t>(slice.n_neurons);
  if (slice.neuron_ids != nullptr) return {slice.neuron_ids, slice.neuron_ids + n};
  if (IsPacked(gguf)) {
    return ReadVector<int32_t>(gguf, LayerTensorName(kPackedOrder, layer), DType::kI32,
                               slice.n_neurons);
  }
  std::vector<int32_t> channels(n);
  std::iota(channels.begin(), channels.end(), 0);
  return channels;
}

LayerPredictor LoadSlicePredictor(const PredictorFile& file, int64_t layer,
                                  std::span<const int32_t> channels, size_t point, Device& device,
                                  const TensorView* in_proj) {
  const LayerPredictor& stored = file.layers.at(static_cast<size_t>(layer)).predictor;
  LayerPredictor out;
  out.relu = stored.relu;
  out.input = stored.input;
  out.points = {stored.points.at(point)};
  if (file.kind == PredictorKind::kSign) return out;
  for (const int32_t channel : channels) CHECK(channel >= 0 && channel < file.d_ff);
  std::vector<int32_t> all(static_cast<size_t>(file.rank));
  std::iota(all.begin(), all.end(), 0);
  out.in_proj = in_proj != nullptr ? *in_proj : Upload(stored.in_proj, all, device);
  out.out_proj = Upload(stored.out_proj, channels, device);
  std::vector<float> bias;
  for (const int32_t channel : channels) bias.push_back(out.points[0].bias[channel]);
  auto* memory = device.Allocate(bias.size() * sizeof(float), "the predictor");
  device.Upload(memory, bias.data(), bias.size() * sizeof(float));
  out.points[0].bias = static_cast<const float*>(memory);
  return out;
}

}  // namespace thermocline
