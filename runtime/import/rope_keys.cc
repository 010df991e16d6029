// How a config turns queries and keys, and what a layer sees of the text before.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/core/error.h"
#include "runtime/import/config_keys.h"

namespace thermocline {
namespace {

constexpr std::string_view kScalings = "default, linear, dynamic, yarn, llama3, longrope or su";

// The parameters of the rotation, wherever this generation of configs has them.
struct RopeParameters {
  std::optional<HfConfig> part;  // rope_parameters or rope_scaling
  std::string type;              // "default", ...
  double base = 10000;
  double local_base = 0;
};

// Returns a part of the parameters of several kinds of layers, or all of them.
std::optional<HfConfig> FullAttentionPart(const HfConfig& config) {
  auto part = config.GetObject("rope_parameters");
  if (!part) part = config.GetObject("rope_scaling");
  if (!part) return part;
  if (auto full = part->GetObject("full_attention")) return full;
  return part;
}

double PositiveOr(const HfConfig& config, std::string_view names, double fallback) {
  const auto value = config.GetFloat(names);
  if (!value) return fallback;
  if (!(*value > 0 && *value < 1e12)) {
    config.Fail(names.substr(0, names.find('|')), "a positive number", fmt::format("{}", *value));
  }
  return *value;
}

RopeParameters ReadRope(const HfImport& family, const HfConfig& config) {
  RopeParameters rope;
  rope.part = FullAttentionPart(config);
  rope.base = PositiveOr(config, "rope_theta|rotary_emb_base", family.rope.base);
  rope.local_base = PositiveOr(config, "rope_local_base_freq", family.rope.local_base);
  rope.type = "default";
  if (!rope.part) return rope;
  rope.base = PositiveOr(*rope.part, "rope_theta", rope.base);
  rope.type = rope.part->GetString("rope_type|type").value_or("default");
  if (const auto all = config.GetObject("rope_parameters")) {
    if (const auto local = all->GetObject("sliding_attention")) {
      rope.local_base = PositiveOr(*local, "rope_theta", rope.local_base);
    }
  }
  return rope;
}

class RopeMapper {
 public:
  RopeMapper(const HfImport& family, const HfConfig& config, ImportedConfig* imported)
      : family_(family),
        config_(config),
        imported_(*imported),
        heads_(HeadLayoutOf(family, config)),
        rope_(ReadRope(family, config)) {}

  void Map() {
    Int("rope.dimension_count", heads_.rot_dim);
    Float("rope.freq_base", rope_.base);
    if (rope_.local_base > 0) Float("rope.freq_base_swa", rope_.local_base);
    if (rope_.type == "default" || rope_.type == "dynamic") {
      // Dynamic scaling changes nothing up to the context that the file states.
      return;
    }
    const HfConfig& part = *rope_.part;
    if (rope_.type == "linear") {
      Text("rope.scaling.type", "linear");
      Float("rope.scaling.factor", RequirePositive(part, "factor"));
    } else if (rope_.type == "yarn") {
      MapYarn(part);
    } else if (rope_.type == "llama3") {
      MapLlama3(part);
    } else if (rope_.type == "longrope" || rope_.type == "su") {
      MapLongRope(part);
    } else {
      part.Fail("rope_type", std::string(kScalings), Printable(rope_.type));
    }
  }

 private:
  void Set(const std::string& key, GgufValue value) {
    imported_.keys.emplace_back(std::string(family_.architecture) + "." + key, std::move(value));
  }
  void Int(const std::string& key, int64_t value) {
    Set(key, GgufValue::u32(static_cast<uint32_t>(value)));
  }
  void Float(const std::string& key, double value) {
    Set(key, GgufValue::f32(static_cast<float>(value)));
  }
  void Text(const std::string& key, std::string value) {
    Set(key, GgufValue::string(std::move(value)));
  }

  static double RequirePositive(const HfConfig& part, std::string_view name) {
    if (part.Find(name) == nullptr) part.Fail(name, "a positive number", "no such key");
    return PositiveOr(part, name, 1);
  }

  int64_t OriginalContext(const HfConfig& part) const {
    constexpr std::string_view kName = "original_max_position_embeddings";
    if (const auto own = part.GetInt(kName, 1, kMaxHfNumber)) return *own;
    if (const auto shared = config_.GetInt(kName, 1, kMaxHfNumber)) return *shared;
    return config_.RequireInt("max_position_embeddings", 1, kMaxHfNumber);
  }

  void MapYarn(const HfConfig& part) {
    const double factor = RequirePositive(part, "factor");
    for (const char* name : {"mscale", "mscale_all_dim"}) {
      if (part.Find(name) != nullptr) part.Fail(name, "no such key", "one");
    }
    if (!part.GetBool("truncate").value_or(true)) part.Fail("truncate", "true", "false");
    Text("rope.scaling.type", "yarn");
    Float("rope.scaling.factor", factor);
    Int("rope.scaling.original_context_length", OriginalContext(part));
    Float("rope.scaling.yarn_beta_fast", PositiveOr(part, "beta_fast", 32));
    Float("rope.scaling.yarn_beta_slow", PositiveOr(part, "beta_slow", 1));
    // What readers of GGUFs multiply by 0.1 ln(factor) + 1, and configs do not.
    if (part.Find("attention_factor|attn_factor") == nullptr) return;
    const double attention = PositiveOr(part, "attention_factor|attn_factor", 1);
    Float("rope.scaling.attn_factor", attention / (0.1 * std::log(std::max(factor, 1.0)) + 1));
  }

  // Adds a tensor of divisors, one per frequency.
  void AddDivisors(const char* name, const std::vector<double>& divisors) {
    ImportedTensor tensor;
    tensor.name = name;
    tensor.dims = {divisors.size()};
    for (const double divisor : divisors) tensor.computed.push_back(static_cast<float>(divisor));
    imported_.tensors.push_back(std::move(tensor));
  }

  // Slow frequencies are divided by a factor, fast ones are not, and some lie between.
  void MapLlama3(const HfConfig& part) {
    const double factor = RequirePositive(part, "factor");
    const double low = PositiveOr(part, "low_freq_factor", 1);
    const double high = PositiveOr(part, "high_freq_factor", 4);
    const auto context = static_cast<double>(OriginalContext(part));
    if (low >= high) {
      part.Fail("high_freq_factor", fmt::format("above low_freq_factor {}", low),
                fmt::format("{}", high));
    }
    std::vector<double> divisors;
    for (int64_t i = 0; i < heads_.rot_dim / 2; ++i) {
      const double frequency =
          std::pow(rope_.base, -2 * static_cast<double>(i) / static_cast<double>(heads_.rot_dim));
      const double turns = context * frequency / (2 * std::numbers::pi);
      if (turns > high) {
        divisors.push_back(1);
      } else if (turns < low) {
        divisors.push_back(factor);
      } else {
        const double kept = (turns - low) / (high - low);
        divisors.push_back(1 / ((1 - kept) / factor + kept));
      }
    }
    AddDivisors("rope_freqs.weight", divisors);
  }

  void MapLongRope(const HfConfig& part) {
    const auto original = static_cast<double>(OriginalContext(part));
    const double scale =
        static_cast<double>(config_.RequireInt("max_position_embeddings", 1, kMaxHfNumber)) /
        original;
    const double by_length =
        scale > 1 && original > 1 ? std::sqrt(1 + std::log(scale) / std::log(original)) : 1;
    Text("rope.scaling.type", "longrope");
    Float("rope.scaling.attn_factor", PositiveOr(part, "attention_factor", by_length));
    for (const bool is_long : {true, false}) {
      const char* name = is_long ? "long_factor" : "short_factor";
      const auto factors = part.GetFloats(name).value_or(std::vector<double>());
      if (factors.size() != static_cast<size_t>(heads_.rot_dim / 2)) {
        part.Fail(name, fmt::format("{} numbers, one per frequency", heads_.rot_dim / 2),
                  fmt::format("{} numbers", factors.size()));
      }
      AddDivisors(is_long ? "rope_factors_long.weight" : "rope_factors_short.weight", factors);
    }
  }

  const HfImport& family_;
  const HfConfig& config_;
  ImportedConfig& imported_;
  HeadLayout heads_;
  RopeParameters rope_;
};

// Layers that are not turned: the last of so many, of which the family's own number needs no key.
void MapUnturnedLayers(const HfImport& family, const HfConfig& config, ImportedConfig* imported) {
  const int64_t own = family.rope.no_rope_every;
  if (own == 0) return;
  const int64_t n_layers = config.n_layers();
  int64_t every = config.GetInt("no_rope_layer_interval", 1, kMaxHfLayers).value_or(own);
  const auto turned = config.GetFloats("no_rope_layers").value_or(std::vector<double>());
  if (!turned.empty()) {
    const auto first = std::ranges::find(turned, 0.0);
    every = first - turned.begin() + 1;  // beyond the last layer where all are turned
    bool regular = static_cast<int64_t>(turned.size()) == n_layers;
    for (size_t l = 0; l < turned.size(); ++l) {
      regular = regular && (turned[l] == 0) == ((static_cast<int64_t>(l) + 1) % every == 0);
    }
    if (!regular) {
      config.Fail(
          "no_rope_layers",
          fmt::format("a number for each of {} layers, 0 for the last of every so many", n_layers),
          "another pattern");
    }
  }
  if (every == own || (every > n_layers && own > n_layers)) return;
  imported->keys.emplace_back(std::string(family.architecture) + ".no_rope_layer_interval",
                              GgufValue::u32(static_cast<uint32_t>(every)));
}

// Returns for each layer whether it sees a window only, by the family's rule or the config's list.
std::vector<uint64_t> WindowedLayers(const HfImport& family, const HfConfig& config) {
  const int64_t n_layers = config.n_layers();
  std::vector<uint64_t> windowed;
  if (const auto types = config.GetStrings("layer_types")) {
    for (const std::string& type : *types) {
      if (type != "sliding_attention" && type != "full_attention") {
        config.Fail("layer_types", "sliding_attention and full_attention", Printable(type));
      }
      windowed.push_back(type == "sliding_attention" ? 1 : 0);
    }
    if (static_cast<int64_t>(windowed.size()) == n_layers) return windowed;
    config.Fail("layer_types", fmt::format("one for each of {} layers", n_layers),
                std::to_string(windowed.size()));
  }
  const int64_t nth = config.GetInt("sliding_window_pattern|_sliding_window_pattern", 1, 1 << 20)
                          .value_or(family.window_pattern);
  const int64_t from = config.GetInt("max_window_layers", 0, 1 << 20).value_or(n_layers);
  for (int64_t l = 0; l < n_layers; ++l) {
    switch (family.window) {
      case HfWindow::kAll:
        windowed.push_back(1);
        break;
      case HfWindow::kAllButNth:
        windowed.push_back((l + 1) % nth != 0 ? 1 : 0);
        break;
      case HfWindow::kFromLayer:
        windowed.push_back(l >= from ? 1 : 0);
        break;
      case HfWindow::kNone:
        windowed.push_back(0);
        break;
    }
  }
  return windowed;
}

}  // namespace

int64_t RotatedDims(const HfImport& family, const HfConfig& config, int64_t head_dim) {
  constexpr std::string_view kNames = "partial_rotary_factor|rotary_pct|rope_pct|rope_percent";
  double share = config.GetFloat(kNames).value_or(family.rope.partial);
  if (const auto part = FullAttentionPart(config)) share = part->GetFloat(kNames).value_or(share);
  const auto dims = static_cast<int64_t>(share * static_cast<double>(head_dim));
  if (!family.rope.turns) return head_dim;
  if (!(share > 0 && share <= 1) || dims < 2 || dims % 2 != 0) {
    config.Fail("partial_rotary_factor",
                fmt::format("a share of {} that is an even number of dimensions", head_dim),
                fmt::format("{}", share));
  }
  return dims;
}

void MapRope(const HfImport& family, const HfConfig& config, ImportedConfig* imported) {
  if (!family.rope.turns) return;
  RopeMapper(family, config, imported).Map();
  MapUnturnedLayers(family, config, imported);
}

void MapWindow(const HfImport& family, const HfConfig& config, ImportedConfig* imported) {
  const auto window = config.GetInt("sliding_window", 0, kMaxHfNumber).value_or(0);
  const bool asked =
      config.GetBool("use_sliding_window").value_or(family.window != HfWindow::kFromLayer);
  if (family.window == HfWindow::kNone) return;
  const std::string prefix = std::string(family.architecture) + ".attention.";
  const auto set = [&](int64_t width) {
    imported->keys.emplace_back(prefix + "sliding_window",
                                GgufValue::u32(static_cast<uint32_t>(width)));
  };
  if (window == 0 || !asked) {
    if (family.says_no_window) set(0);
    return;
  }
  const std::vector<uint64_t> windowed = WindowedLayers(family, config);
  bool any = false;
  bool as_family = true;
  for (size_t l = 0; l < windowed.size(); ++l) {
    const auto nth = static_cast<size_t>(family.window_pattern);
    any = any || windowed[l] != 0;
    as_family = as_family && windowed[l] == (nth > 0 && (l + 1) % nth == 0 ? 0U : 1U);
  }
  if (!any) return;
  set(window);
  if (as_family) return;
  imported->keys.emplace_back(prefix + "sliding_window_pattern",
                              GgufValue::array(GgufType::kBool, windowed));
}

}  // namespace thermocline
