// A model's config: the keys of a GGUF, checked one by one.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "runtime/core/error.h"
#include "runtime/model/families.h"

namespace thermocline {
namespace {

struct ActivationEntry {
  std::string_view name;
  Activation activation;
};
constexpr ActivationEntry kActivations[] = {
    {"silu", Activation::kSilu},        {"swiglu", Activation::kSilu},
    {"relu", Activation::kRelu},        {"reglu", Activation::kRelu},
    {"relu_sqr", Activation::kReluSqr}, {"relu2", Activation::kReluSqr},
};

// The most that a dimension may be: far above any model known, low enough that no product of two
// overflows.
constexpr uint64_t kMaxDim = 1U << 20;
constexpr uint64_t kMaxLayers = 4096;
constexpr uint64_t kMaxHeads = 1U << 16;
constexpr uint64_t kMaxVocab = 1U << 24;
constexpr uint64_t kMaxContext = 1U << 26;

class ConfigReader {
 public:
  ConfigReader(const GgufReader& gguf, std::string_view architecture)
      : gguf_(gguf), prefix_(std::string(architecture) + ".") {}

  std::string Key(std::string_view name) const { return prefix_ + std::string(name); }

  int64_t Require(std::string_view name, uint64_t max) const {
    return static_cast<int64_t>(gguf_.RequireU64(Key(name), 1, max));
  }
  int64_t GetInt(std::string_view name, int64_t fallback, uint64_t max) const {
    const auto value = gguf_.GetU64(Key(name));
    if (!value) return fallback;
    if (*value < 1 || *value > max) {
      Fail(name, fmt::format("1 to {}", max), std::to_string(*value));
    }
    return static_cast<int64_t>(*value);
  }
  double GetPositive(std::string_view name, double fallback) const {
    const auto value = gguf_.GetF64(Key(name));
    if (!value) return fallback;
    if (!(*value > 0 && *value < 1e12)) Fail(name, "a positive number", fmt::format("{}", *value));
    return *value;
  }
  std::optional<std::string> GetString(std::string_view name) const {
    return gguf_.GetString(Key(name));
  }
  // Reads one number for all layers, or an array with one per layer. `fallback` counts where the
  // key is absent.
  std::vector<int64_t> PerLayer(std::string_view name, const std::vector<int64_t>& fallback,
                                uint64_t max) const {
    const GgufValue* value = gguf_.Find(Key(name));
    if (value == nullptr && !fallback.empty()) return fallback;
    if (value == nullptr || value->type != GgufType::kArray) {
      return std::vector<int64_t>(static_cast<size_t>(n_layers_), Require(name, max));
    }
    std::vector<int64_t> numbers;
    std::visit(
        [&]<typename T>(const std::vector<T>& elements) {
          if constexpr (std::is_integral_v<T>) {
            for (const T element : elements) numbers.push_back(ElementOf(name, element, max));
          }
        },
        std::get<GgufValue::Array>(value->value));
    if (static_cast<int64_t>(numbers.size()) == n_layers_) return numbers;
    Fail(name, fmt::format("an integer, or one for each of {} layers", n_layers_),
         numbers.empty() ? "an array of something else"
                         : fmt::format("an array of {}", numbers.size()));
  }
  void set_n_layers(int64_t n_layers) { n_layers_ = n_layers; }

  std::optional<double> GetNumber(std::string_view name) const { return gguf_.GetF64(Key(name)); }
  std::optional<bool> GetBool(std::string_view name) const { return gguf_.GetBool(Key(name)); }
  bool Has(std::string_view name) const { return gguf_.Find(Key(name)) != nullptr; }

  [[noreturn]] void Fail(std::string_view name, std::string expected, std::string found) const {
    throw Error({.path = gguf_.path(),
                 .what = "key " + Key(name),
                 .expected = std::move(expected),
                 .found = std::move(found)});
  }

 private:
  template <typename T>
  int64_t ElementOf(std::string_view name, T element, uint64_t max) const {
    if (element < 1 || static_cast<uint64_t>(element) > max) {
      Fail(name, fmt::format("1 to {} in every layer", max), std::to_string(element));
    }
    return static_cast<int64_t>(element);
  }

  const GgufReader& gguf_;
  std::string prefix_;
  int64_t n_layers_ = 0;
};

// What a file can ask for and this version does not compute. Such a model would run, and write
// something else than it should, so its keys are refused unless their value asks for nothing.
struct UnsupportedKey {
  std::string_view key;
  double neutral;  // another value that asks for nothing; 0 does everywhere
  std::string_view supported;
};
constexpr UnsupportedKey kUnsupportedKeys[] = {
    {"expert_count", 0, "0: one dense FFN per layer, no experts"},
    {"attn_logit_softcapping", 0, "0: attention scores without a soft cap"},
    {"final_logit_softcapping", 0, "0: logits without a soft cap"},
    {"attention.max_alibi_bias", 0, "0: positions by rotation, no ALiBi"},
    {"attention.clamp_kqv", 0, "0: queries, keys and values that are not clamped"},
    {"embedding_scale", 1, "1: embeddings as they are stored"},
    {"residual_scale", 1, "1: what a layer adds is not scaled"},
    {"logit_scale", 1, "1: logits as they are"},
};

void RefuseUnsupported(const ConfigReader& keys, const ModelConfig& config) {
  const auto refuse = [&](std::string_view key, std::string_view supported, std::string found) {
    keys.Fail(key, std::string(supported), std::move(found));
  };
  for (const UnsupportedKey& entry : kUnsupportedKeys) {
    const double value = keys.GetNumber(entry.key).value_or(0);
    if (value == 0 || value == entry.neutral) continue;
    refuse(entry.key, entry.supported, fmt::format("{}", value));
  }
  // A window that no context is longer than leaves nothing out.
  const double window = keys.GetNumber("attention.sliding_window").value_or(0);
  if (window != 0 && window < static_cast<double>(config.max_seq_len)) {
    refuse("attention.sliding_window",
           fmt::format("0, or no less than the context of {}: every position is attended to",
                       config.max_seq_len),
           fmt::format("{}", window));
  }
  const double scale = keys.GetNumber("attention.scale").value_or(0);
  const double standard = 1 / std::sqrt(static_cast<double>(config.head_dim));
  if (scale != 0 && std::abs(scale - standard) > 1e-4 * standard) {
    refuse("attention.scale", fmt::format("{:.6g}, 1 / sqrt(head_dim)", standard),
           fmt::format("{:.6g}", scale));
  }
  if (keys.GetBool("use_parallel_residual").value_or(false)) {
    refuse("use_parallel_residual", "false: attention, then the FFN", "true");
  }
  if (!keys.GetBool("attention.causal").value_or(true)) {
    refuse("attention.causal", "true: a token sees those before it", "false");
  }
  if (keys.Has("attention.layer_norm_epsilon") && !keys.Has("attention.layer_norm_rms_epsilon")) {
    refuse("attention.layer_norm_epsilon", "RMS norms, with attention.layer_norm_rms_epsilon",
           "layer norms");
  }
}

Activation ReadActivation(const ConfigReader& keys, Activation fallback) {
  const auto name = keys.GetString("hidden_activation");
  if (!name) return fallback;
  for (const ActivationEntry& entry : kActivations) {
    if (entry.name == *name) return entry.activation;
  }
  keys.Fail("hidden_activation", "silu, relu, reglu or relu_sqr", Printable(*name));
}

void ReadRopeScaling(const ConfigReader& keys, int64_t max_seq_len, RopeConfig* rope) {
  // Older files give linear scaling as one number, the divisor of positions.
  rope->factor = keys.GetPositive("rope.scale_linear", 1);
  if (rope->factor != 1) rope->scaling = RopeScaling::kLinear;
  const std::string type = keys.GetString("rope.scaling.type").value_or("");
  if (type.empty()) return;
  if (type == "none") {
    rope->scaling = RopeScaling::kNone;
  } else if (type == "linear") {
    rope->scaling = RopeScaling::kLinear;
  } else if (type == "yarn") {
    rope->scaling = RopeScaling::kYarn;
  } else {
    keys.Fail("rope.scaling.type", "none, linear or yarn", Printable(type));
  }
  rope->factor = keys.GetPositive("rope.scaling.factor", rope->factor);
  rope->original_max_seq_len =
      keys.GetInt("rope.scaling.original_context_length", max_seq_len, kMaxContext);
  rope->attention_factor = keys.GetPositive("rope.scaling.attn_factor", 1);
  rope->yarn_beta_fast = keys.GetPositive("rope.scaling.yarn_beta_fast", 32);
  rope->yarn_beta_slow = keys.GetPositive("rope.scaling.yarn_beta_slow", 1);
}

// Reads llama-3's scaling, which comes as a tensor of divisors, one per frequency.
void ReadRopeDivisors(const GgufReader& gguf, std::string_view name, RopeConfig* rope) {
  if (gguf.FindTensor(name) == nullptr) return;
  const TensorView divisors = gguf.RequireMatrix(name, 1, rope->rot_dim / 2);
  if (divisors.dtype != DType::kF32) {
    throw Error({.path = gguf.path(),
                 .what = "tensor " + std::string(name),
                 .expected = "type F32",
                 .found = std::string(DTypeName(divisors.dtype))});
  }
  const auto* values = reinterpret_cast<const float*>(divisors.data);
  rope->freq_divisors.assign(values, values + divisors.cols);
  for (const float divisor : rope->freq_divisors) {
    if (!(divisor > 0)) {
      throw Error({.path = gguf.path(),
                   .what = "tensor " + std::string(name),
                   .expected = "positive divisors",
                   .found = fmt::format("{}", divisor)});
    }
  }
}

// Reads the width of a head. Without a key heads share d_model, which only works where all layers
// have the same number.
int64_t ReadHeadDim(const ConfigReader& keys, const ModelConfig& c, int64_t least_heads) {
  if (!keys.Has("attention.key_length")) {
    if (least_heads != c.n_heads) {
      keys.Fail("attention.key_length", "a number, where layers differ in attention.head_count",
                "no such key");
    }
    if (c.d_model % c.n_heads != 0) {
      keys.Fail("attention.head_count", fmt::format("a divisor of d_model {}", c.d_model),
                std::to_string(c.n_heads));
    }
  }
  const int64_t head_dim =
      keys.GetInt("attention.key_length", std::max<int64_t>(1, c.d_model / c.n_heads), kMaxDim);
  const int64_t value_dim = keys.GetInt("attention.value_length", head_dim, kMaxDim);
  if (value_dim != head_dim) {
    keys.Fail("attention.value_length", fmt::format("{} (attention.key_length)", head_dim),
              std::to_string(value_dim));
  }
  if (c.n_heads * head_dim > static_cast<int64_t>(kMaxDim)) {
    keys.Fail("attention.key_length", fmt::format("at most {} in all heads", kMaxDim),
              std::to_string(c.n_heads * head_dim));
  }
  return head_dim;
}

RopeConfig ReadRope(const GgufReader& gguf, const ConfigReader& keys, const Family& family,
                    const ModelConfig& config) {
  RopeConfig rope;
  rope.pairing = family.pairing;
  // This key is our own, for a file whose projections were not permuted to the family's pairing.
  if (const auto pairing = gguf.GetString("thermocline.rope.pairing")) {
    if (*pairing != "adjacent" && *pairing != "halves") {
      throw Error({.path = gguf.path(),
                   .what = "key thermocline.rope.pairing",
                   .expected = "adjacent or halves",
                   .found = Printable(*pairing)});
    }
    rope.pairing = *pairing == "halves" ? RopePairing::kHalves : RopePairing::kAdjacent;
  }
  rope.rot_dim =
      keys.GetInt("rope.dimension_count", config.head_dim, static_cast<uint64_t>(config.head_dim));
  if (rope.rot_dim % 2 != 0) {
    keys.Fail("rope.dimension_count", "an even number", std::to_string(rope.rot_dim));
  }
  rope.freq_base = keys.GetPositive("rope.freq_base", 10000);
  ReadRopeScaling(keys, config.max_seq_len, &rope);
  ReadRopeDivisors(gguf, RowOf(family.tensors, TensorRole::kRopeFreqs).name, &rope);
  return rope;
}

// Reads layers with their own numbers, and puts the largest of them in the config itself.
void ReadLayers(const ConfigReader& keys, ModelConfig* config) {
  ModelConfig& c = *config;
  const std::vector<int64_t> d_ff = keys.PerLayer("feed_forward_length", {}, kMaxDim);
  const std::vector<int64_t> n_heads = keys.PerLayer("attention.head_count", {}, kMaxHeads);
  const std::vector<int64_t> n_kv_heads =
      keys.PerLayer("attention.head_count_kv", n_heads, kMaxHeads);
  c.d_ff = *std::ranges::max_element(d_ff);
  c.n_heads = *std::ranges::max_element(n_heads);
  c.n_kv_heads = *std::ranges::max_element(n_kv_heads);
  c.head_dim = ReadHeadDim(keys, c, *std::ranges::min_element(n_heads));
  c.MakeLayersEqual();
  for (size_t l = 0; l < c.layers.size(); ++l) {
    if (n_heads[l] % n_kv_heads[l] != 0) {
      keys.Fail("attention.head_count_kv",
                fmt::format("a divisor of {} heads in layer {}", n_heads[l], l),
                std::to_string(n_kv_heads[l]));
    }
    c.layers[l].attention.n_heads = n_heads[l];
    c.layers[l].attention.n_kv_heads = n_kv_heads[l];
    c.layers[l].ffn.d_ff = d_ff[l];
  }
}

int64_t ReadVocabSize(const GgufReader& gguf, const ConfigReader& keys, const Family& family) {
  const std::string_view name = RowOf(family.tensors, TensorRole::kTokenEmbd).name;
  const GgufTensorInfo* embedding = gguf.FindTensor(name);
  if (embedding == nullptr) return keys.Require("vocab_size", kMaxVocab);
  const auto rows = static_cast<int64_t>(embedding->rows());
  const int64_t stated = keys.GetInt("vocab_size", rows, kMaxVocab);
  if (rows > static_cast<int64_t>(kMaxVocab)) {
    keys.Fail("vocab_size", fmt::format("at most {}", kMaxVocab), std::to_string(rows));
  }
  if (stated != rows) {
    keys.Fail("vocab_size", fmt::format("{}, one per row of {}", rows, name),
              std::to_string(stated));
  }
  return rows;
}

}  // namespace

ModelConfig ReadModelConfig(const GgufReader& gguf, const Family& family) {
  ConfigReader keys(gguf, family.architecture);
  ModelConfig c;
  c.architecture = std::string(family.architecture);
  c.name = gguf.GetString("general.name").value_or("");
  c.n_layers = keys.Require("block_count", kMaxLayers);
  keys.set_n_layers(c.n_layers);
  c.d_model = keys.Require("embedding_length", kMaxDim);
  c.max_seq_len = keys.Require("context_length", kMaxContext);
  // PowerInfer computes every sparse model with ReLU and has no key for it.
  c.activation = ReadActivation(keys, gguf.container() == GgufContainer::kPowerInfer
                                          ? Activation::kRelu
                                          : family.default_activation);
  ReadLayers(keys, &c);
  c.vocab_size = ReadVocabSize(gguf, keys, family);
  c.norm_eps = static_cast<float>(keys.GetPositive("attention.layer_norm_rms_epsilon", 1e-5));
  RefuseUnsupported(keys, c);
  c.rope = ReadRope(gguf, keys, family, c);
  c.tied_output = gguf.FindTensor(RowOf(family.tensors, TensorRole::kOutput).name) == nullptr;
  return c;
}

void RequireEqualHeads(const ModelConfig& config, const std::string& path, const std::string& who) {
  if (config.has_equal_heads()) return;
  throw Error({.path = path,
               .what = who + " does not take layers with different numbers of heads",
               .expected = fmt::format("{} heads and {} KV heads in every layer", config.n_heads,
                                       config.n_kv_heads),
               .found = "key " + config.architecture +
                        ".attention.head_count or head_count_kv with one number per layer",
               .hint = "run the model on the CPU",
               .settings = {{Setting::kFastTier, "cpu"}}});
}

void RequireEqualFfns(const ModelConfig& config, const std::string& path, const std::string& who) {
  if (config.has_equal_ffns()) return;
  throw Error({.path = path,
               .what = who + " does not take layers with different numbers of neurons",
               .expected = fmt::format("{} neurons in every layer", config.d_ff),
               .found = "key " + config.architecture + ".feed_forward_length with one per layer",
               .hint = "the model as it is can be run",
               .jobs = {Job::kRun}});
}

std::string_view ActivationName(Activation activation) {
  for (const ActivationEntry& entry : kActivations) {
    if (entry.activation == activation) return entry.name;
  }
  return "?";
}

}  // namespace thermocline
