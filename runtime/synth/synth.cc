#include "runtime/synth/synth.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/model/families.h"
#include "runtime/synth/synth_factors.h"
#include "runtime/synth/synth_random.h"
#include "runtime/threads/parallel_for.h"

namespace thermocline {
namespace {

constexpr uint64_t kBlockBytes = uint64_t{32} << 20;  // bytes of rows written at a time
constexpr int64_t kRowsAtOnce = 64;                   // rows made at once by one thread

// What is computed with a mathematical library is rounded to this, so that last digits, in which
// libraries differ, do not reach the file.
constexpr double kGrid = 1.0 / 65536;

float OnGrid(double x) { return static_cast<float>(std::round(x / kGrid) * kGrid); }

// Weights are close to normal with variance 1 / d_in, times a factor. The factors keep a token's
// own direction visible to the last layer: embeddings have elements of variance 1, and all that
// attention and FFN add has no more. Without them the residual stream turns into what attention
// adds, which over random keys is nearly the mean over the tokens before: all tokens get one
// direction, and the same neurons fire in all of them.
struct WeightScales {
  float embedding = 1;
  float attention_output = 1;
  float ffn_down = 1;
};

// Returns the mean square of the FFN's h: up . x has variance 1, so it is that of act(gate . x +
// bias).
double MeanSquareOfH(const SynthOptions& options, const std::vector<double>& quantiles) {
  if (options.activation == Activation::kSilu) return 0.36;
  double sum = 0;
  for (const double q : quantiles) sum += MomentsOf(options.activation, q).mean_square;
  return sum / static_cast<double>(quantiles.size());
}

WeightScales ScalesOf(const SynthOptions& options, const std::vector<double>& quantiles) {
  const double share = 1 / std::sqrt(2.0 * static_cast<double>(options.n_layers));
  WeightScales scales;
  scales.embedding = std::sqrt(static_cast<float>(options.d_model));
  scales.attention_output = OnGrid(share);
  scales.ffn_down = OnGrid(share / std::sqrt(MeanSquareOfH(options, quantiles)));
  return scales;
}

// Returns (d_ff) biases of neurons whose gates have variance 1, hottest first.
std::vector<double> QuantilesOf(const SynthOptions& options) {
  if (!options.activity) return std::vector<double>(static_cast<size_t>(options.d_ff), 0.0);
  std::vector<double> quantiles = FiringProbabilities(*options.activity, options.d_ff);
  for (double& value : quantiles) value = NormalQuantile(value);
  return quantiles;
}

void FillRow(uint64_t seed, float scale, std::span<float> row) {
  const float to_variance_one = std::sqrt(3.0F);
  uint64_t counter = seed;
  for (float& value : row) {
    counter += kCounterStep;
    value = NearNormal(MixBits(counter)) * to_variance_one * scale;
  }
}

ModelConfig ConfigOf(const SynthOptions& options) {
  ModelConfig config;
  config.n_layers = options.n_layers;
  config.d_model = options.d_model;
  config.d_ff = options.d_ff;
  config.n_heads = options.n_heads;
  config.n_kv_heads = options.n_kv_heads;
  config.head_dim = options.d_model / options.n_heads;
  config.vocab_size = options.vocab_size;
  config.activation = options.activation;
  config.MakeLayersEqual();
  return config;
}

class SynthWriter {
 public:
  SynthWriter(const std::string& path, const SynthOptions& options)
      : options_(options),
        quantiles_(QuantilesOf(options)),
        scales_(ScalesOf(options, quantiles_)),
        writer_(path, 64),
        family_(FamilyNamed("llama")),
        config_(ConfigOf(options)),
        gate_norms_(quantiles_.size()) {}

  void Write() {
    SetMetadata();
    ForEachNamed(family_.tensors, config_, [&](const ModelTensor& tensor) { Declare(tensor); });
    for (size_t i = 0; i < tensors_.size(); ++i) {
      Report(options_.progress, "writing tensors", i, tensors_.size());
      WriteTensor(i);
    }
    writer_.Finish();
    Report(options_.progress, "writing tensors", tensors_.size(), tensors_.size());
  }

 private:
  void SetMetadata() {
    const auto u32 = [&](const char* key, int64_t value) {
      writer_.Set(std::string("llama.") + key, GgufValue::u32(static_cast<uint32_t>(value)));
    };
    writer_.Set("general.architecture", GgufValue::string("llama"));
    writer_.Set("general.name", GgufValue::string(fmt::format(
                                    "random-{}x{}x{}-{}", options_.n_layers, options_.d_model,
                                    options_.d_ff, ActivationName(options_.activation))));
    u32("context_length", options_.max_seq_len);
    if (options_.window > 0) {
      u32("attention.sliding_window", options_.window);
    }
    if (options_.window > 0 && options_.window_pattern > 0) {
      u32("attention.sliding_window_pattern", options_.window_pattern);
    }
    u32("embedding_length", options_.d_model);
    u32("block_count", options_.n_layers);
    u32("feed_forward_length", options_.d_ff);
    u32("attention.head_count", options_.n_heads);
    u32("attention.head_count_kv", options_.n_kv_heads);
    u32("rope.dimension_count", options_.d_model / options_.n_heads);
    writer_.Set("llama.attention.layer_norm_rms_epsilon", GgufValue::f32(1e-5F));
    writer_.Set("llama.rope.freq_base", GgufValue::f32(10000.0F));
    writer_.Set("llama.hidden_activation",
                GgufValue::string(std::string(ActivationName(options_.activation))));
    SetVocabulary();
  }

  // Writes <unk>, <s>, </s>, the 256 bytes, then words that no text has.
  void SetVocabulary() {
    std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
    std::vector<int64_t> types = {2, 3, 3};
    for (int byte = 0; byte < 256; ++byte) tokens.push_back(fmt::format("<0x{:02X}>", byte));
    types.resize(tokens.size(), 6);
    for (int64_t i = static_cast<int64_t>(tokens.size()); i < options_.vocab_size; ++i) {
      tokens.push_back(fmt::format("\xe2\x96\x81w{}", i));
    }
    types.resize(tokens.size(), 1);
    std::vector<double> scores(tokens.size(), 0.0);
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = -static_cast<double>(i);
    writer_.Set("tokenizer.ggml.model", GgufValue::string("llama"));
    writer_.Set("tokenizer.ggml.tokens", Array(GgufType::kString, std::move(tokens)));
    writer_.Set("tokenizer.ggml.scores", Array(GgufType::kF32, std::move(scores)));
    writer_.Set("tokenizer.ggml.token_type", Array(GgufType::kI32, std::move(types)));
    writer_.Set("tokenizer.ggml.bos_token_id", GgufValue::u32(1));
    writer_.Set("tokenizer.ggml.eos_token_id", GgufValue::u32(2));
    writer_.Set("tokenizer.ggml.unknown_token_id", GgufValue::u32(0));
  }

  template <typename T>
  static GgufValue Array(GgufType element, std::vector<T> values) {
    return {GgufType::kArray, element, GgufValue::Array(std::move(values))};
  }

  // Whether these models have the tensor: they have all that are required, the head, and with an
  // activity the biases that make neurons fire as they should.
  bool IsWritten(const TensorRow& row) const {
    if (!row.in_form(FfnForm::kStock)) return false;
    if (row.role == TensorRole::kGateBias) return options_.activity.has_value();
    return row.required || row.role == TensorRole::kOutput;
  }

  void Declare(const ModelTensor& tensor) {
    if (!IsWritten(*tensor.row)) return;
    tensors_.push_back(tensor);
    const auto cols = static_cast<uint64_t>(tensor.cols);
    if (tensor.row->use == TensorUse::kVector) {
      writer_.DeclareTensor(tensor.name, DType::kF32, {cols});
    } else {
      writer_.DeclareTensor(tensor.name, options_.dtype,
                            {cols, static_cast<uint64_t>(tensor.rows)});
    }
  }

  float ScaleOf(TensorRole role) const {
    switch (role) {
      case TensorRole::kTokenEmbd:
        return scales_.embedding;
      case TensorRole::kWo:
        return scales_.attention_output;
      case TensorRole::kDown:
        return scales_.ffn_down;
      default:
        return 1;
    }
  }

  void WriteTensor(size_t index) {
    const ModelTensor& tensor = tensors_[index];
    writer_.BeginTensor(tensor.name);
    if (tensor.row->role == TensorRole::kGateBias) {
      WriteVector(GateBiases(tensor.layer));
    } else if (tensor.row->use == TensorUse::kVector) {  // norms
      WriteVector(std::vector<float>(static_cast<size_t>(tensor.cols), 1.0F));
    } else {
      const bool factored = tensor.row->role == TensorRole::kGate && options_.gate_rank > 0;
      if (factored) factors_.emplace(options_, tensor.layer);
      WriteMatrix(tensor, index);
      factors_.reset();
    }
  }

  void WriteVector(const std::vector<float>& values) {
    writer_.Write(values.data(), values.size() * sizeof(float));
  }

  // Returns the gate's biases. REQUIRES: the gate's rows were the last to be written.
  std::vector<float> GateBiases(int64_t layer) const {
    std::vector<float> biases(quantiles_.size());
    const std::vector<int32_t> order = HotToCold(options_.seed, layer, options_.d_ff);
    for (size_t rank = 0; rank < order.size(); ++rank) {
      const auto neuron = static_cast<size_t>(order[rank]);
      biases[neuron] = OnGrid(quantiles_[rank] * gate_norms_[neuron]);
    }
    return biases;
  }

  void WriteMatrix(const ModelTensor& tensor, size_t index) {
    const int64_t bytes = RowBytes(options_.dtype, tensor.cols);
    const int64_t block = std::max<int64_t>(1, static_cast<int64_t>(kBlockBytes) / bytes);
    std::vector<std::byte> out;
    for (int64_t first = 0; first < tensor.rows; first += block) {
      ThrowIfInterrupted();
      const int64_t n = std::min(block, tensor.rows - first);
      out.resize(static_cast<size_t>(n * bytes));
      ParallelFor(n, kRowsAtOnce, options_.n_threads, [&](int, int64_t begin, int64_t end) {
        MakeRows(tensor, index, first + begin, first + end, out.data() + begin * bytes);
      });
      writer_.Write(out.data(), out.size());
    }
  }

  // Makes rows [begin, end) as they are stored, at most kRowsAtOnce.
  void MakeRows(const ModelTensor& tensor, size_t index, int64_t begin, int64_t end,
                std::byte* stored) {
    const int64_t bytes = RowBytes(options_.dtype, tensor.cols);
    const float scale = ScaleOf(tensor.row->role) / std::sqrt(static_cast<float>(tensor.cols));
    const auto cols = static_cast<size_t>(tensor.cols);
    std::vector<float> rows(factors_ ? static_cast<size_t>(end - begin) * cols : cols);
    if (factors_) factors_->MakeRows(begin, end, rows.data());
    for (int64_t r = begin; r < end; ++r) {
      const std::span<float> row(rows.data() + (factors_ ? (r - begin) * tensor.cols : 0), cols);
      if (!factors_) {
        const auto id = (static_cast<uint64_t>(index) << 32) + static_cast<uint64_t>(r);
        FillRow(MixBits(options_.seed ^ MixBits(id)), scale, row);
      }
      QuantizeRow(options_.dtype, row.data(), tensor.cols, stored);
      if (tensor.row->role == TensorRole::kGate && options_.activity) KeepNorm(r, stored, row);
      stored += bytes;
    }
  }

  // Keeps the norm of the row as it is stored, since that is what will be multiplied with.
  void KeepNorm(int64_t neuron, const std::byte* stored, std::span<float> row) {
    const auto cols = static_cast<int64_t>(row.size());
    CpuKernels().dequantize_f32(options_.dtype, stored, 0, cols, row.data());
    double squares = 0;
    for (const float value : row) squares += static_cast<double>(value) * value;
    gate_norms_[static_cast<size_t>(neuron)] = std::sqrt(squares);
  }

  const SynthOptions& options_;
  const std::vector<double> quantiles_;  // (d_ff) see QuantilesOf
  const WeightScales scales_;
  GgufWriter writer_;
  const Family& family_;
  const ModelConfig config_;
  std::vector<ModelTensor> tensors_;
  std::vector<double> gate_norms_;      // (d_ff) norms of the gate written last
  std::optional<GateFactors> factors_;  // factors of the gate being written
};

}  // namespace

void WriteSynthModel(const std::string& path, const SynthOptions& options) {
  CheckSynthOptions(options);
  SynthWriter(path, options).Write();
}

}  // namespace thermocline
