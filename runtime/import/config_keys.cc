#include "runtime/import/config_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

// The names of activations in configs, and in GGUFs. "gelu" is exact in both.
struct ActivationName {
  std::string_view hf;
  std::string_view gguf;
};
constexpr ActivationName kActivationNames[] = {
    {"silu", "silu"},           {"swish", "silu"},
    {"relu", "relu"},           {"relu2", "relu_sqr"},
    {"gelu", "gelu"},           {"gelu_new", "gelu_tanh"},
    {"gelu_fast", "gelu_tanh"}, {"gelu_pytorch_tanh", "gelu_tanh"},
    {"gelu_tanh", "gelu_tanh"}, {"relu_squared", "relu_sqr"},
    {"fatrelu", "fatrelu"},     {"gated-gelu", "gelu_tanh"},
    {"gated-silu", "silu"},     {"gated-relu", "relu"},
};

// What no family here is computed with.
constexpr std::string_view kExperts =
    "num_local_experts|num_experts|n_routed_experts|moe_num_experts";

GgufValue ValueOf(const HfKey& key, double number) {
  switch (key.kind) {
    case HfKind::kFloat:
    case HfKind::kPerRootOfLayers:
    case HfKind::kShareOfWidth:
      return GgufValue::f32(static_cast<float>(number));
    case HfKind::kBool:
      return GgufValue::boolean(number != 0);
    default:
      break;
  }
  return GgufValue::u32(static_cast<uint32_t>(number));
}

std::optional<double> NumberOf(const HfConfig& config, const HfKey& key) {
  if (key.kind == HfKind::kFloat) return config.GetFloat(key.hf);
  if (key.kind == HfKind::kInt || key.kind == HfKind::kIndex) {
    const auto integer = config.GetInt(key.hf, key.kind == HfKind::kInt ? 1 : 0, kMaxHfNumber);
    return integer ? std::optional<double>(static_cast<double>(*integer)) : std::nullopt;
  }
  if (key.kind == HfKind::kPerRootOfLayers || key.kind == HfKind::kShareOfWidth) {
    const auto given = config.GetFloat(key.hf);
    if (!given) return given;
    if (!(*given > 0)) config.Fail(key.hf, "a number above 0", fmt::format("{}", *given));
    return key.kind == HfKind::kShareOfWidth
               ? static_cast<double>(config.d_model()) / *given
               : *given / std::sqrt(static_cast<double>(config.n_layers()));
  }
  const auto flag = config.GetBool(key.hf);
  return flag ? std::optional<double>(*flag ? 1 : 0) : std::nullopt;
}

// Returns the x below which a share of a normal distribution lies, by bisection.
double NormalQuantile(double share) {
  double low = -10;
  double high = 10;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < share ? low : high) = middle;
  }
  const double middle = (low + high) / 2;
  return std::abs(middle) < 1e-9 ? 0 : middle;  // half of it lies below 0
}

// One number for each layer: of neurons, or what bounds a share of them.
void MapList(const HfConfig& config, const std::string& name, const HfKey& key, GgufKeys* keys) {
  const std::vector<double> numbers = *config.GetFloats(key.hf);
  const bool quantiles = key.kind == HfKind::kQuantiles;
  std::vector<double> scales;
  std::vector<uint64_t> counts;
  for (const double number : numbers) {
    const bool fits = quantiles
                          ? number >= 0 && number < 1
                          : number >= 1 && number <= kMaxHfDim && number == std::floor(number);
    if (!fits) {
      config.Fail(key.hf, quantiles ? "shares from 0 to 1" : "integers from 1",
                  fmt::format("{}", number));
    }
    // Nothing lies below a share of 0.
    scales.push_back(number == 0 ? -HUGE_VAL : NormalQuantile(number));
    counts.push_back(static_cast<uint64_t>(number));
  }
  if (static_cast<int64_t>(numbers.size()) != config.n_layers()) {
    config.Fail(key.hf, fmt::format("one number for each of {} layers", config.n_layers()),
                fmt::format("{} numbers", numbers.size()));
  }
  keys->emplace_back(name, quantiles ? GgufValue::array(GgufType::kF32, std::move(scales))
                                     : GgufValue::array(GgufType::kU32, std::move(counts)));
}

void MapKey(const HfConfig& config, const std::string& prefix, const HfKey& key, GgufKeys* keys) {
  const nlohmann::json* value = config.Find(key.hf);
  const bool may_be_list = key.gguf == "feed_forward_length" || key.kind == HfKind::kQuantiles;
  if (value != nullptr && value->is_array() && may_be_list) {
    return MapList(config, prefix + std::string(key.gguf), key, keys);
  }
  auto number = NumberOf(config, key);
  if (!number && key.fallback == kHfLeftOut) return;
  if (!number && key.fallback == kHfRequired) {
    config.Fail(key.hf.substr(0, key.hf.find('|')), "a number", "no such key");
  }
  if (!number) {
    number =
        key.fallback == kHfFourTimes ? 4.0 * static_cast<double>(config.d_model()) : key.fallback;
  }
  keys->emplace_back(prefix + std::string(key.gguf), ValueOf(key, *number));
}

void CheckExpected(const HfImport& family, const HfConfig& config) {
  for (const HfExpected& entry : family.expected) {
    const nlohmann::json* value = config.Find(entry.hf);
    if (value == nullptr) continue;
    const bool is_flag = value->is_boolean();
    const double number = is_flag ? (value->get<bool>() ? 1 : 0) : *config.GetFloat(entry.hf);
    if (number == entry.value) continue;
    const std::string expected =
        is_flag ? (entry.value != 0 ? "true" : "false") : fmt::format("{}", entry.value);
    config.Fail(entry.hf, fmt::format("{}, as {} is computed", expected, family.architecture),
                is_flag ? (number != 0 ? "true" : "false") : fmt::format("{}", number));
  }
  if (const auto experts = config.GetInt(kExperts, 0, kMaxHfNumber).value_or(0); experts > 1) {
    std::string name;
    config.Find(kExperts, &name);
    config.Fail(name, "no experts: one dense FFN per layer", std::to_string(experts));
  }
  // OPT's smaller embedding, which is projected.
  if (config.GetInt("word_embed_proj_dim", 1, kMaxHfDim).value_or(config.d_model()) !=
      config.d_model()) {
    config.Fail("word_embed_proj_dim", fmt::format("{}, hidden_size", config.d_model()),
                "another width");
  }
}

void MapActivation(const HfImport& family, const HfConfig& config, ImportedConfig* imported) {
  std::string name;
  config.Find(family.activation_keys, &name);
  const auto activation = config.GetString(family.activation_keys);
  if (!activation) return;
  std::string known;
  for (const ActivationName& entry : kActivationNames) {
    known += (known.empty() ? "" : ", ") + std::string(entry.hf);
    if (entry.hf != *activation) continue;
    if (entry.gguf == family.activation) return;
    const std::string key = std::string(family.architecture) + ".hidden_activation";
    imported->keys.emplace_back(key, GgufValue::string(std::string(entry.gguf)));
    // What a gate must reach (arXiv:2402.13516).
    if (entry.gguf != "fatrelu") return;
    const double threshold = config.GetFloat("hidden_act_param").value_or(0);
    if (!(threshold > 0)) {
      config.Fail("hidden_act_param", "above 0, with fatrelu", fmt::format("{}", threshold));
    }
    imported->keys.emplace_back(key + "_threshold", GgufValue::f32(static_cast<float>(threshold)));
    return;
  }
  config.Fail(name, known, Printable(*activation));
}

void MapHeads(const HfImport& family, const HfConfig& config, ImportedConfig* imported) {
  const std::string prefix = std::string(family.architecture) + ".attention.";
  const HeadLayout heads = HeadLayoutOf(family, config);
  const auto set = [&](const char* key, int64_t value) {
    imported->keys.emplace_back(prefix + key, GgufValue::u32(static_cast<uint32_t>(value)));
  };
  if (family.kv_heads != HfKvHeads::kEqual) set("head_count_kv", heads.n_kv_heads);
  if (!family.narrow_heads && config.Find("head_dim") != nullptr) {
    set("key_length", heads.head_dim);
    set("value_length", heads.head_dim);
  }
  // Gemma's scores are scaled by a number of its own.
  if (const auto scalar = config.GetFloat("query_pre_attn_scalar")) {
    if (*scalar <= 0) config.Fail("query_pre_attn_scalar", "above 0", fmt::format("{}", *scalar));
    if (*scalar != static_cast<double>(heads.head_dim)) {
      imported->keys.emplace_back(prefix + "scale",
                                  GgufValue::f32(static_cast<float>(1 / std::sqrt(*scalar))));
    }
  }
}

}  // namespace

ImportedConfig MapConfig(const HfImport& family, const HfConfig& config) {
  CheckExpected(family, config);
  ImportedConfig imported;
  const std::string prefix = std::string(family.architecture) + ".";
  for (const HfKey& key : kHfCommonKeys) {
    const bool has_own =
        std::ranges::find(family.keys, key.gguf, &HfKey::gguf) != family.keys.end();
    if (!has_own) MapKey(config, prefix, key, &imported.keys);
  }
  for (const HfKey& key : family.keys) MapKey(config, prefix, key, &imported.keys);
  MapHeads(family, config, &imported);
  MapActivation(family, config, &imported);
  MapRope(family, config, &imported);
  MapWindow(family, config, &imported);
  return imported;
}

}  // namespace thermocline
