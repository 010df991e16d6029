// A model's config: the keys of a GGUF, checked one by one.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/core/error.h"
#include "runtime/model/config_reader.h"
#include "runtime/model/families.h"
#include "runtime/model/read_beside.h"
#include "runtime/model/read_encoder.h"

namespace thermocline {
namespace {

struct ActivationEntry {
  std::string_view name;
  Activation activation;
};
constexpr ActivationEntry kActivations[] = {
    {"silu", Activation::kSilu},         {"swiglu", Activation::kSilu},
    {"relu", Activation::kRelu},         {"reglu", Activation::kRelu},
    {"fatrelu", Activation::kRelu},  // with hidden_activation_threshold
    {"drelu", Activation::kRelu},    // of gate and of up
    {"relu_sqr", Activation::kReluSqr},  {"relu2", Activation::kReluSqr},
    {"gelu", Activation::kGelu},         {"gelu_tanh", Activation::kGeluTanh},
    {"gelu_new", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
};

// What a file can ask for and this version does not compute. Such a model would run, and write
// something else than it should, so its keys are refused unless their value asks for nothing.
struct UnsupportedKey {
  std::string_view key;
  std::string_view supported;
};
constexpr UnsupportedKey kUnsupportedKeys[] = {
    {"expert_count", "0: one dense FFN per layer, no experts"},
    {"attention.max_alibi_bias", "0: positions by rotation or learned, no ALiBi"},
    {"attention.clamp_kqv", "0: queries, keys and values that are not clamped"},
};

void RefuseUnsupported(const ConfigReader& keys, const Family& family) {
  for (const UnsupportedKey& entry : kUnsupportedKeys) {
    const double value = keys.GetNumber(entry.key).value_or(0);
    if (value != 0) keys.Fail(entry.key, std::string(entry.supported), fmt::format("{}", value));
  }
  if (!family.reads_block_kind && family.block == BlockKind::kSequential &&
      keys.GetBool("use_parallel_residual").value_or(false)) {
    keys.Fail("use_parallel_residual", "false: attention, then the FFN", "true");
  }
  if (!keys.GetBool("attention.causal").value_or(true)) {
    keys.Fail("attention.causal", "true: a token sees those before it", "false");
  }
}

struct NormKeys {
  std::string_view own;
  std::string_view other;
  std::string_view kind;
};

// Returns the epsilon. A file that has only the other kind's is another kind of model.
float ReadNormEps(const ConfigReader& keys, NormKind kind) {
  constexpr NormKeys kRms = {"attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon",
                             "RMS norms, with attention.layer_norm_rms_epsilon"};
  constexpr NormKeys kLayer = {"attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon",
                               "layer norms, with attention.layer_norm_epsilon"};
  const NormKeys& norm = kind == NormKind::kRms ? kRms : kLayer;
  if (keys.Has(norm.other) && !keys.Has(norm.own)) {
    keys.Fail(norm.other, std::string(norm.kind),
              kind == NormKind::kRms ? "layer norms" : "RMS norms");
  }
  return static_cast<float>(keys.GetPositive(norm.own, 1e-5));
}

// Reads what embeddings, what layers add, and logits are multiplied by.
void ReadScales(const ConfigReader& keys, const Family& family, ModelConfig* config) {
  ModelConfig& c = *config;
  const double root = family.embedding_times_root ? std::sqrt(static_cast<double>(c.d_model)) : 1;
  for (const std::string_view key : {"embedding_scale", "residual_scale", "logit_scale"}) {
    if (family.scales_required && !keys.Has(key)) {
      keys.Fail(key, "a number: models of this family are scaled", "no such key");
    }
  }
  const auto scale = [&](std::string_view key, double fallback) {
    return keys.GetNumber(key).value_or(0) == 0 ? fallback : keys.GetPositive(key, fallback);
  };
  c.embedding_scale = static_cast<float>(scale("embedding_scale", root));
  c.residual_scale = static_cast<float>(scale("residual_scale", 1));
  const double logits = scale("logit_scale", 1);
  if (logits != 1 && family.logit_scaling == LogitScaling::kNone) {
    keys.Fail("logit_scale", "1: logits as they are, in this family", fmt::format("{}", logits));
  }
  c.logit_scale =
      static_cast<float>(family.logit_scaling == LogitScaling::kDivide ? 1 / logits : logits);
  c.logit_soft_cap = static_cast<float>(scale("final_logit_softcapping", 0));
}

// Returns which layers see a window only.
std::vector<bool> LocalLayers(const ConfigReader& keys, const Family& family, int64_t n_layers) {
  constexpr std::string_view kKey = "attention.sliding_window_pattern";
  if (const auto flags = keys.GetBools(kKey)) {
    if (static_cast<int64_t>(flags->size()) == n_layers) return *flags;
    keys.Fail(kKey, fmt::format("a number, or true and false for {} layers", n_layers),
              fmt::format("{} of them", flags->size()));
  }
  const int64_t pattern = keys.GetInt(kKey, family.window_pattern, kMaxLayers);
  std::vector<bool> local(static_cast<size_t>(n_layers), true);
  for (int64_t l = 0; pattern > 0 && l < n_layers; ++l) {
    local[static_cast<size_t>(l)] = l % pattern != pattern - 1;
  }
  return local;
}

// Reads what attention does apart from its dimensions: scale, soft cap, windows, rotations.
void ReadAttention(const ConfigReader& keys, const Family& family, ModelConfig* config) {
  ModelConfig& c = *config;
  const double cap = keys.GetNumber("attn_logit_softcapping").value_or(0);
  if (cap != 0) keys.GetPositive("attn_logit_softcapping", 0);
  const bool by_width = family.layers_scaled_by_width == c.n_layers;
  const int64_t share = by_width ? std::max<int64_t>(1, c.d_model / c.n_heads) : c.head_dim;
  double scale = family.attention_scale != 0 ? family.attention_scale
                                             : 1 / std::sqrt(static_cast<double>(share));
  if (keys.GetNumber("attention.scale").value_or(0) != 0) {
    scale = keys.GetPositive("attention.scale", scale);
  }
  const double window = keys.GetNumber("attention.sliding_window").value_or(0);
  const bool windowed = window != 0 && window < static_cast<double>(c.max_seq_len);
  const int64_t width = windowed ? keys.GetInt("attention.sliding_window", 0, kMaxContext) : 0;
  const std::vector<bool> local = LocalLayers(keys, family, c.n_layers);
  const int64_t no_rope_every =
      keys.GetInt("no_rope_layer_interval", family.no_rope_every, kMaxLayers);
  const bool own_base = family.local_freq_base != 0 || keys.Has("rope.freq_base_swa");
  for (int64_t l = 0; l < c.n_layers; ++l) {
    AttentionConfig& attention = c.layers[static_cast<size_t>(l)].attention;
    const bool is_local = local[static_cast<size_t>(l)];
    attention.scale = static_cast<float>(scale);
    attention.soft_cap = static_cast<float>(cap);
    attention.window = is_local ? width : 0;
    attention.qk_norm = family.qk_norm;
    attention.v_norm = family.v_norm;
    const bool turned = !(family.learned_positions || family.relative_positions ||
                          (family.only_local_turns && !is_local) ||
                          (no_rope_every > 0 && l % no_rope_every == no_rope_every - 1));
    attention.rope = !turned                ? LayerRope::kNone
                     : own_base && is_local ? LayerRope::kLocal
                                            : LayerRope::kMain;
  }
  ShareKv(keys, local, config);
}

Activation ReadActivation(const ConfigReader& keys, Activation fallback) {
  const auto name = keys.GetString("hidden_activation");
  if (!name) return fallback;
  for (const ActivationEntry& entry : kActivations) {
    if (entry.name == *name) return entry.activation;
  }
  keys.Fail("hidden_activation", "silu, relu, reglu, fatrelu, drelu, relu_sqr, gelu or gelu_tanh",
            Printable(*name));
}

// Returns LongRoPE's factor on cos and sin where the file does not say it.
double LongRopeMagnitude(const RopeConfig& rope, int64_t max_seq_len) {
  const auto original = static_cast<double>(rope.original_max_seq_len);
  const double factor = static_cast<double>(max_seq_len) / original;
  return factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original));
}

void ReadRopeScaling(const ConfigReader& keys, const std::string& type, int64_t max_seq_len,
                     RopeConfig* rope) {
  // Older files give linear scaling as one number, the divisor of positions.
  rope->factor = keys.GetPositive("rope.scale_linear", 1);
  if (rope->factor != 1) rope->scaling = RopeScaling::kLinear;
  if (type.empty()) return;
  if (type == "none") {
    rope->scaling = RopeScaling::kNone;
  } else if (type == "linear") {
    rope->scaling = RopeScaling::kLinear;
  } else if (type == "yarn") {
    rope->scaling = RopeScaling::kYarn;
  } else if (type == "longrope") {
    rope->scaling = RopeScaling::kLong;
  } else {
    keys.Fail("rope.scaling.type", "none, linear, yarn or longrope", Printable(type));
  }
  rope->factor = keys.GetPositive("rope.scaling.factor", rope->factor);
  rope->original_max_seq_len =
      keys.GetInt("rope.scaling.original_context_length", max_seq_len, kMaxContext);
  const bool is_long = rope->scaling == RopeScaling::kLong;
  rope->attention_factor = keys.GetPositive("rope.scaling.attn_factor",
                                            is_long ? LongRopeMagnitude(*rope, max_seq_len) : 1);
  rope->yarn_beta_fast = keys.GetPositive("rope.scaling.yarn_beta_fast", 32);
  rope->yarn_beta_slow = keys.GetPositive("rope.scaling.yarn_beta_slow", 1);
}

// Reads a tensor of divisors, one per frequency; none where it is absent.
std::vector<float> ReadRopeDivisors(const GgufReader& gguf, std::string_view name,
                                    int64_t n_frequencies) {
  if (gguf.FindTensor(name) == nullptr) return {};
  const TensorView divisors = gguf.RequireMatrix(name, 1, n_frequencies);
  if (divisors.dtype != DType::kF32) {
    throw Error({.path = gguf.path(),
                 .what = "tensor " + std::string(name),
                 .expected = "type F32",
                 .found = std::string(DTypeName(divisors.dtype))});
  }
  std::vector<float> values(static_cast<size_t>(n_frequencies));
  std::memcpy(values.data(), divisors.data, values.size() * sizeof(float));
  for (const float divisor : values) {
    if (!(divisor > 0)) {
      throw Error({.path = gguf.path(),
                   .what = "tensor " + std::string(name),
                   .expected = "positive divisors",
                   .found = fmt::format("{}", divisor)});
    }
  }
  return values;
}

// Reads llama-3's divisors, or LongRoPE's two lists.
void ReadAllRopeDivisors(const GgufReader& gguf, const ConfigReader& keys, const Family& family,
                         int64_t max_seq_len, RopeConfig* rope) {
  const auto read = [&](TensorRole role) {
    return ReadRopeDivisors(gguf, RowOf(family.tensors, role).name, rope->rot_dim / 2);
  };
  rope->freq_divisors = read(TensorRole::kRopeFreqs);
  std::vector<float> of_short = read(TensorRole::kRopeShort);
  rope->long_divisors = read(TensorRole::kRopeLong);
  const bool lists = !of_short.empty() && !rope->long_divisors.empty();
  if (lists && rope->freq_divisors.empty()) {
    // Files that other tools wrote have the tensors without naming the scaling.
    if (rope->scaling != RopeScaling::kLong) ReadRopeScaling(keys, "longrope", max_seq_len, rope);
    rope->freq_divisors = std::move(of_short);
    return;
  }
  if (rope->scaling == RopeScaling::kLong || !of_short.empty() || !rope->long_divisors.empty()) {
    keys.Fail("rope.scaling.type",
              "longrope together with the tensors rope_factors_short.weight and "
              "rope_factors_long.weight",
              lists ? "rope_freqs.weight beside them" : "not all of these");
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
  ReadRopeScaling(keys, keys.GetString("rope.scaling.type").value_or(""), config.max_seq_len,
                  &rope);
  ReadAllRopeDivisors(gguf, keys, family, config.max_seq_len, &rope);
  return rope;
}

// Returns the rotation of layers with a window where it is another: it is not scaled.
RopeConfig LocalRope(const ConfigReader& keys, const Family& family, const RopeConfig& main) {
  RopeConfig local;
  local.pairing = main.pairing;
  local.rot_dim = main.rot_dim;
  const double base = family.local_freq_base != 0 ? family.local_freq_base : main.freq_base;
  local.freq_base = keys.GetPositive("rope.freq_base_swa", base);
  return local;
}

// Reads layers with their own numbers, and puts the largest of them in the config itself.
void ReadLayers(const ConfigReader& keys, const Family& family, ModelConfig* config) {
  ModelConfig& c = *config;
  const bool parallel = keys.GetBool("use_parallel_residual").value_or(true);
  const std::string activation = keys.GetString("hidden_activation").value_or("");
  const bool relu_up = activation.empty() ? family.relu_up : activation == "drelu";
  const float threshold =
      activation == "fatrelu"
          ? static_cast<float>(keys.RequirePositive("hidden_activation_threshold"))
          : 0.0F;
  if (relu_up && family.ffn == FfnKind::kPlain) {
    keys.Fail("hidden_activation", "another one, as this family has no up projections", "drelu");
  }
  const BlockKind block =
      family.reads_block_kind && !parallel ? BlockKind::kSequential : family.block;
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
    c.layers[l].ffn.kind = family.ffn;
    c.layers[l].ffn.activation_threshold = threshold;
    c.layers[l].ffn.relu_up = relu_up;
    c.layers[l].ffn.norms_h = family.sub_norms;
    c.layers[l].norm = family.norm;
    c.layers[l].block = block;
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
  c.by_column = gguf.Find(kColumnsSourceKey) != nullptr;
  if (family.encoder) {
    c.n_encoder_layers = c.n_layers;
    c.n_layers += keys.GetInt("decoder_block_count", c.n_layers, kMaxLayers);
  }
  keys.set_n_layers(c.n_layers);
  c.d_model = keys.Require("embedding_length", kMaxDim);
  c.max_seq_len = keys.Require("context_length", kMaxContext);
  // PowerInfer computes every sparse model with ReLU and has no key for it.
  c.activation = ReadActivation(keys, gguf.container() == GgufContainer::kPowerInfer
                                          ? Activation::kRelu
                                          : family.default_activation);
  ReadLayers(keys, family, &c);
  c.vocab_size = ReadVocabSize(gguf, keys, family);
  c.norm_eps = ReadNormEps(keys, family.norm);
  RefuseUnsupported(keys, family);
  ReadScales(keys, family, &c);
  ReadAttention(keys, family, &c);
  ReadGateCuts(keys, &c);
  ReadBeside(gguf, keys, family, &c);
  c.learned_positions = family.learned_positions;
  c.position_offset = family.position_offset;
  // PowerInfer counts all rows of its table of positions.
  if (gguf.container() == GgufContainer::kPowerInfer && c.position_offset > 0) {
    if (c.max_seq_len <= c.position_offset) {
      keys.Fail("context_length", fmt::format("more than {}", c.position_offset),
                std::to_string(c.max_seq_len));
    }
    c.max_seq_len -= c.position_offset;
  }
  c.rope = ReadRope(gguf, keys, family, c);
  c.local_rope = LocalRope(keys, family, c.rope);
  c.tied_output = gguf.FindTensor(RowOf(family.tensors, TensorRole::kOutput).name) == nullptr;
  if (family.tied_head_by_root && c.tied_output) {
    c.logit_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.d_model)));
  }
  if (family.encoder) ReadDecoderStart(gguf, &c);
  if (family.relative_positions) ReadRelative(gguf, &c);
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
