#include "runtime/model/families.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr Family kFamilies[] = {
    {.architecture = "llama",
     .pairing = RopePairing::kAdjacent,
     .default_activation = Activation::kSilu,
     .names = {.token_embd = "token_embd.weight",
               .output_norm = "output_norm.weight",
               .output = "output.weight",
               .rope_freqs = "rope_freqs.weight",
               .attn_norm = "blk.{}.attn_norm.weight",
               .wq = "blk.{}.attn_q.weight",
               .wk = "blk.{}.attn_k.weight",
               .wv = "blk.{}.attn_v.weight",
               .wo = "blk.{}.attn_output.weight",
               .wq_bias = "blk.{}.attn_q.bias",
               .wk_bias = "blk.{}.attn_k.bias",
               .wv_bias = "blk.{}.attn_v.bias",
               .wo_bias = "blk.{}.attn_output.bias",
               .ffn_norm = "blk.{}.ffn_norm.weight",
               .w_gate = "blk.{}.ffn_gate.weight",
               .w_up = "blk.{}.ffn_up.weight",
               .w_down = "blk.{}.ffn_down.weight",
               .gate_bias = "blk.{}.ffn_gate.bias",
               .w_down_t = "blk.{}.ffn_down_t.weight"}},
};

struct ActivationEntry {
  std::string_view name;
  Activation activation;
};
constexpr ActivationEntry kActivations[] = {
    {"silu", Activation::kSilu},        {"swiglu", Activation::kSilu},
    {"relu", Activation::kRelu},        {"reglu", Activation::kRelu},
    {"relu_sqr", Activation::kReluSqr}, {"relu2", Activation::kReluSqr},
};

// Caps: far above any model known, low enough that no product of two overflows.
constexpr uint64_t kMaxDim = 1U << 20;
constexpr uint64_t kMaxLayers = 4096;
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
  [[noreturn]] void Fail(std::string_view name, std::string expected, std::string found) const {
    throw Error({.path = gguf_.path(),
                 .what = "key " + Key(name),
                 .expected = std::move(expected),
                 .found = std::move(found)});
  }

 private:
  const GgufReader& gguf_;
  std::string prefix_;
};

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

// llama-3's scaling comes as a tensor of divisors, one per frequency.
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

RopeConfig ReadRope(const GgufReader& gguf, const ConfigReader& keys, const Family& family,
                    const ModelConfig& config) {
  RopeConfig rope;
  rope.pairing = family.pairing;
  // Our own key, for a file whose projections were not permuted to the family's pairing.
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
  ReadRopeDivisors(gguf, family.names.rope_freqs, &rope);
  return rope;
}

}  // namespace

const Family& FindFamily(const GgufReader& gguf) {
  const std::string architecture = gguf.RequireString("general.architecture");
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.architecture == architecture) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.architecture);
  }
  throw Error({.path = gguf.path(),
               .what = "model family not supported",
               .expected = known,
               .found = Printable(architecture),
               .hint = "`thermocline inspect` shows what the file holds"});
}

ModelConfig ReadModelConfig(const GgufReader& gguf, const Family& family) {
  const ConfigReader keys(gguf, family.architecture);
  ModelConfig c;
  c.architecture = std::string(family.architecture);
  c.name = gguf.GetString("general.name").value_or("");
  c.n_layers = keys.Require("block_count", kMaxLayers);
  c.d_model = keys.Require("embedding_length", kMaxDim);
  c.d_ff = keys.Require("feed_forward_length", kMaxDim);
  c.n_heads = keys.Require("attention.head_count", 65536);
  c.n_kv_heads = keys.GetInt("attention.head_count_kv", c.n_heads, 65536);
  c.max_seq_len = keys.Require("context_length", kMaxContext);
  if (c.n_heads % c.n_kv_heads != 0) {
    keys.Fail("attention.head_count_kv", fmt::format("a divisor of {} heads", c.n_heads),
              std::to_string(c.n_kv_heads));
  }
  const bool has_key_length = gguf.Find(keys.Key("attention.key_length")) != nullptr;
  if (!has_key_length && c.d_model % c.n_heads != 0) {
    keys.Fail("attention.head_count", fmt::format("a divisor of d_model {}", c.d_model),
              std::to_string(c.n_heads));
  }
  c.head_dim =
      keys.GetInt("attention.key_length", std::max<int64_t>(1, c.d_model / c.n_heads), kMaxDim);
  const int64_t value_dim = keys.GetInt("attention.value_length", c.head_dim, kMaxDim);
  if (value_dim != c.head_dim) {
    keys.Fail("attention.value_length", fmt::format("{} (attention.key_length)", c.head_dim),
              std::to_string(value_dim));
  }
  if (c.q_dim() > static_cast<int64_t>(kMaxDim)) {
    keys.Fail("attention.key_length", fmt::format("at most {} in all heads", kMaxDim),
              std::to_string(c.q_dim()));
  }
  const GgufTensorInfo* embedding = gguf.FindTensor(family.names.token_embd);
  const auto embedded = embedding == nullptr ? 0 : static_cast<int64_t>(embedding->rows());
  c.vocab_size = embedded > 0 ? embedded : keys.Require("vocab_size", kMaxVocab);
  if (c.vocab_size > static_cast<int64_t>(kMaxVocab)) {
    keys.Fail("vocab_size", fmt::format("at most {}", kMaxVocab), std::to_string(c.vocab_size));
  }
  c.norm_eps = static_cast<float>(keys.GetPositive("attention.layer_norm_rms_epsilon", 1e-5));
  // PowerInfer computes every sparse model with ReLU and has no key for it.
  c.activation = ReadActivation(keys, gguf.container() == GgufContainer::kPowerInfer
                                          ? Activation::kRelu
                                          : family.default_activation);
  c.rope = ReadRope(gguf, keys, family, c);
  c.tied_output = gguf.FindTensor(family.names.output) == nullptr;
  return c;
}

std::string LayerTensorName(std::string_view pattern, int64_t layer) {
  const size_t hole = pattern.find("{}");
  CHECK(hole != std::string_view::npos);
  return std::string(pattern.substr(0, hole)) + std::to_string(layer) +
         std::string(pattern.substr(hole + 2));
}

std::string_view ActivationName(Activation activation) {
  for (const ActivationEntry& entry : kActivations) {
    if (entry.activation == activation) return entry.name;
  }
  return "?";
}

}  // namespace thermocline
