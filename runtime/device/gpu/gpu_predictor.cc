#include "runtime/device/gpu/gpu_predictor.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "gpu_kernels/products/matvec.h"
#include "runtime/core/error.h"
#include "runtime/device/gpu/gpu_rows.h"

namespace thermocline {
namespace {

uint64_t ListBytes(const GpuPredictor::Limits& limits) {
  return static_cast<uint64_t>(limits.max_neurons) * sizeof(int32_t);
}

// Where there are matrices.
uint64_t InnerBytes(const GpuPredictor::Limits& limits) {
  return static_cast<uint64_t>(limits.max_tokens * limits.max_rank) * sizeof(float);
}
uint64_t VectorsBytes(const GpuPredictor::Limits& limits) {
  return limits.max_rank == 0
             ? 0
             : GpuVectorsBytes(std::max(limits.max_rank, limits.d_model), limits.max_tokens);
}

DeviceMemory Memory(uint64_t n_bytes) {
  return {std::max<uint64_t>(n_bytes, 16), "the predictor's lists"};
}

}  // namespace

GpuPredictor::GpuPredictor(const Limits& limits)
    : limits_(limits),
      rows_(Memory(ListBytes(limits))),
      masks_(Memory(ListBytes(limits))),
      inner_(Memory(InnerBytes(limits))),
      vectors_(Memory(VectorsBytes(limits))),
      signs_(Memory(GpuSignInputBytes(limits.d_model, limits.max_tokens))) {}

uint64_t GpuPredictor::Bytes(const Limits& limits) {
  return 2 * ListBytes(limits) + InnerBytes(limits) + VectorsBytes(limits) +
         GpuSignInputBytes(limits.d_model, limits.max_tokens);
}

const GpuVectors& GpuPredictor::Prepare(Stream& stream, const float* x, int64_t n_tokens,
                                        int64_t cols, PrepareOp op) {
  at_hand_ = MakeGpuVectors(vectors_.as<void>(), cols, n_tokens);
  GpuPrepare(stream, x, n_tokens, op, at_hand_);
  return at_hand_;
}

void GpuPredictor::ScoreByMatrices(Stream& stream, const LayerPredictor& predictor,
                                   const Input& input, float* scores) {
  const int64_t n = input.n_tokens;
  const int64_t rank = predictor.in_proj.rows;
  auto* inner = inner_.as<float>();
  const GpuVectors& x = input.prepared != nullptr
                            ? *input.prepared
                            : Prepare(stream, input.x, n, limits_.d_model, PrepareOp::kCopy);
  const GpuMatvecOp in{MatrixOf(predictor.in_proj), nullptr, inner};
  GpuMatvec(stream, {&in, 1}, x, n);
  const GpuMatvecOp out{MatrixOf(predictor.out_proj), predictor.points.front().bias, scores};
  const PrepareOp op = predictor.relu ? PrepareOp::kRelu : PrepareOp::kCopy;
  GpuMatvec(stream, {&out, 1}, Prepare(stream, inner, n, rank, op), n);
}

GpuNeuronList GpuPredictor::List(Stream& stream, const SlicePredictor& predictor,
                                 const Input& input, int64_t n_neurons, float* scores,
                                 GpuLayerCounts* counts) {
  CHECK(n_neurons <= limits_.max_neurons && input.n_tokens <= limits_.max_tokens);
  const DeviceSigns& signs = predictor.device_signs;
  if (signs.words != nullptr) {
    const GpuSignRows rows{signs.words, n_neurons, limits_.d_model, signs.scaled_bias};
    GpuSignScores(stream, rows, input.x, input.n_tokens,
                  MakeGpuSignInput(signs_.as<void>(), limits_.d_model, limits_.max_tokens), scores);
  } else {
    ScoreByMatrices(stream, predictor.layer, input, scores);
  }
  // That of matrices is taken into their biases, and 0.
  const float threshold = predictor.layer.points.front().predictor_threshold;
  const GpuNeuronList list{rows_.as<int32_t>(), &counts->listed, masks_.as<uint32_t>()};
  GpuListNeurons(stream, scores, input.n_tokens, n_neurons, threshold, list, &counts->wanted);
  return list;
}

DeviceSigns StoreGpuSigns(const SignRows& rows, Device& device) {
  const auto n_words = static_cast<size_t>(GpuSignWords(rows.d_model()));
  const auto row_bytes = static_cast<size_t>(rows.row_bytes());
  CHECK(row_bytes <= n_words * sizeof(uint32_t));
  std::vector<uint32_t> words(static_cast<size_t>(rows.n_neurons()) * n_words);
  for (int64_t i = 0; i < rows.n_neurons(); ++i) {
    std::memcpy(words.data() + static_cast<size_t>(i) * n_words, rows.row(i), row_bytes);
  }
  const auto store = [&](const void* values, uint64_t n_bytes) {
    void* memory = device.Allocate(n_bytes, "the predictor");
    device.Upload(memory, values, n_bytes);
    return memory;
  };
  DeviceSigns signs;
  signs.words = static_cast<const uint32_t*>(store(words.data(), words.size() * sizeof(uint32_t)));
  const std::span<const float> bias = rows.scaled_bias();
  if (!bias.empty()) {
    signs.scaled_bias = static_cast<const float*>(store(bias.data(), bias.size_bytes()));
  }
  return signs;
}

}  // namespace thermocline
