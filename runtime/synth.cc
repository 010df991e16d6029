#include "runtime/synth.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/families.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/team.h"

namespace thermocline {
namespace {

struct Shape {
  std::string_view name;
  int64_t n_layers, d_model, d_ff, n_heads, n_kv_heads, vocab_size, max_seq_len;
};

// Published dimensions of models people know.
constexpr Shape kShapes[] = {
    {"random-1b", 16, 2048, 8192, 16, 16, 32000, 4096},
    {"tinyllama-1.1b", 22, 2048, 5632, 32, 4, 32000, 2048},
    {"llama-7b", 32, 4096, 11008, 32, 32, 32000, 4096},
    {"llama-13b", 40, 5120, 13824, 40, 40, 32000, 4096},
    {"llama-3-8b", 32, 4096, 14336, 32, 8, 128256, 8192},
    {"llama-70b", 80, 8192, 28672, 64, 8, 32000, 4096},
};

constexpr uint64_t kBlockBytes = uint64_t{32} << 20;  // of rows made at a time

uint64_t Mix(uint64_t x) {  // splitmix64's finaliser
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

// Four 16-bit uniforms of one draw added up: variance 4/12 of the range squared, near enough to
// normal for weights, and a few nanoseconds each.
void FillRow(uint64_t seed, float scale, std::vector<float>& row) {
  constexpr float kUnit = 1.0F / 65536.0F;
  const float to_variance_one = std::sqrt(3.0F);
  uint64_t counter = seed;
  for (float& value : row) {
    counter += 0x9e3779b97f4a7c15U;
    const uint64_t bits = Mix(counter);
    const auto sum = static_cast<float>((bits & 0xffff) + ((bits >> 16) & 0xffff) +
                                        ((bits >> 32) & 0xffff) + (bits >> 48));
    value = (sum * kUnit - 2.0F) * to_variance_one * scale;
  }
}

class SynthWriter {
 public:
  SynthWriter(const std::string& path, const SynthOptions& options)
      : options_(options), writer_(path, 64), team_(options.n_threads) {}

  void Write() {
    SetMetadata();
    Declare("token_embd.weight", options_.vocab_size, options_.d_model);
    for (int64_t l = 0; l < options_.n_layers; ++l) DeclareLayer(l);
    DeclareOnes("output_norm.weight");
    Declare("output.weight", options_.vocab_size, options_.d_model);
    for (size_t i = 0; i < tensors_.size(); ++i) {
      Report(options_.progress, "writing tensors", i, tensors_.size());
      WriteTensor(i);
    }
    writer_.Finish();
    Report(options_.progress, "writing tensors", tensors_.size(), tensors_.size());
  }

 private:
  struct Tensor {
    std::string name;
    int64_t rows, cols;
    bool ones;  // a norm's weight
  };

  void SetMetadata() {
    const auto u32 = [&](const char* key, int64_t value) {
      writer_.Set(std::string("llama.") + key, GgufValue::u32(static_cast<uint32_t>(value)));
    };
    writer_.Set("general.architecture", GgufValue::string("llama"));
    writer_.Set("general.name", GgufValue::string(fmt::format(
                                    "random-{}x{}x{}-{}", options_.n_layers, options_.d_model,
                                    options_.d_ff, ActivationName(options_.activation))));
    u32("context_length", options_.max_seq_len);
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

  // <unk>, <s>, </s>, the 256 bytes, then words that no text has.
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

  void Declare(const std::string& name, int64_t rows, int64_t cols) {
    tensors_.push_back({name, rows, cols, false});
    writer_.DeclareTensor(name, options_.dtype,
                          {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)});
  }
  void DeclareOnes(const std::string& name) {
    tensors_.push_back({name, 1, options_.d_model, true});
    writer_.DeclareTensor(name, DType::kF32, {static_cast<uint64_t>(options_.d_model)});
  }

  void DeclareLayer(int64_t l) {
    const int64_t d = options_.d_model;
    const int64_t kv = d / options_.n_heads * options_.n_kv_heads;
    const auto name = [&](const char* part) { return fmt::format("blk.{}.{}.weight", l, part); };
    DeclareOnes(name("attn_norm"));
    Declare(name("attn_q"), d, d);
    Declare(name("attn_k"), kv, d);
    Declare(name("attn_v"), kv, d);
    Declare(name("attn_output"), d, d);
    DeclareOnes(name("ffn_norm"));
    Declare(name("ffn_gate"), options_.d_ff, d);
    Declare(name("ffn_up"), options_.d_ff, d);
    Declare(name("ffn_down"), d, options_.d_ff);
  }

  void WriteTensor(size_t index) {
    const Tensor& tensor = tensors_[index];
    writer_.BeginTensor(tensor.name);
    if (tensor.ones) {
      const std::vector<float> ones(static_cast<size_t>(tensor.cols), 1.0F);
      writer_.Write(ones.data(), ones.size() * sizeof(float));
      return;
    }
    const int64_t bytes = RowBytes(options_.dtype, tensor.cols);
    const int64_t block = std::max<int64_t>(1, static_cast<int64_t>(kBlockBytes) / bytes);
    const float scale = 1.0F / std::sqrt(static_cast<float>(tensor.cols));
    std::vector<std::byte> out;
    for (int64_t first = 0; first < tensor.rows; first += block) {
      ThrowIfInterrupted();
      const int64_t n = std::min(block, tensor.rows - first);
      out.resize(static_cast<size_t>(n * bytes));
      team_.Run([&](int thread) {
        std::vector<float> row(static_cast<size_t>(tensor.cols));
        const auto [begin, end] = Lane{thread, team_.n_threads(), nullptr}.Split(n);
        for (int64_t r = begin; r < end; ++r) {
          const auto id = (static_cast<uint64_t>(index) << 32) + static_cast<uint64_t>(first + r);
          FillRow(Mix(options_.seed ^ Mix(id)), scale, row);
          QuantizeRow(options_.dtype, row.data(), tensor.cols, out.data() + r * bytes);
        }
      });
      writer_.Write(out.data(), out.size());
    }
  }

  const SynthOptions& options_;
  GgufWriter writer_;
  ThreadTeam team_;
  std::vector<Tensor> tensors_;
};

void Validate(const SynthOptions& o) {
  const auto require = [](bool holds, const char* what, const std::string& expected,
                          int64_t found) {
    if (!holds) {
      throw Error({.what = what, .expected = expected, .found = std::to_string(found)});
    }
  };
  constexpr int64_t kMaxDim = 1 << 20;
  require(o.n_layers >= 1 && o.n_layers <= 4096, "--n-layers", "1 to 4096", o.n_layers);
  require(o.d_model >= 32 && o.d_model % 32 == 0 && o.d_model <= kMaxDim, "--d-model",
          "a multiple of 32", o.d_model);
  require(o.d_ff >= 32 && o.d_ff % 32 == 0 && o.d_ff <= kMaxDim, "--d-ff", "a multiple of 32",
          o.d_ff);
  require(o.n_heads >= 1 && o.d_model % (2 * o.n_heads) == 0, "--n-heads",
          fmt::format("a divisor of d_model {} with even heads", o.d_model), o.n_heads);
  require(o.n_kv_heads >= 1 && o.n_heads % o.n_kv_heads == 0, "--n-kv-heads",
          fmt::format("a divisor of {} heads", o.n_heads), o.n_kv_heads);
  require(o.vocab_size >= 260 && o.vocab_size <= (1 << 24), "--vocab-size", "260 to 16777216",
          o.vocab_size);
  require(o.max_seq_len >= 1 && o.max_seq_len <= (1 << 26), "--max-seq-len", "1 to 67108864",
          o.max_seq_len);
}

}  // namespace

std::string ShapeNames() {
  std::string names;
  for (const Shape& shape : kShapes) names += (names.empty() ? "" : ", ") + std::string(shape.name);
  return names;
}

void ApplyShape(std::string_view like, SynthOptions* options) {
  for (const Shape& shape : kShapes) {
    if (shape.name != like) continue;
    options->n_layers = shape.n_layers;
    options->d_model = shape.d_model;
    options->d_ff = shape.d_ff;
    options->n_heads = shape.n_heads;
    options->n_kv_heads = shape.n_kv_heads;
    options->vocab_size = shape.vocab_size;
    options->max_seq_len = shape.max_seq_len;
    return;
  }
  throw Error({.what = "--like", .expected = ShapeNames(), .found = Printable(std::string(like))});
}

void WriteSynthModel(const std::string& path, const SynthOptions& options) {
  Validate(options);
  SynthWriter(path, options).Write();
}

}  // namespace thermocline
