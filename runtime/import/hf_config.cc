#include "runtime/import/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/core/error.h"
#include "runtime/model/families/all.h"
#include "runtime/safetensors/bounded_json.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr JsonBounds kConfigBounds = {
    .max_bytes = 16U << 20, .max_depth = 32, .max_values = 1U << 20};

bool Contains(std::span<const std::string_view> names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

std::string KnownModels() {
  std::string known;
  for (const HfImport* family : kAllImports) {
    known += (known.empty() ? "" : ", ") + std::string(family->classes.front());
  }
  return known;
}

}  // namespace

HfConfig HfConfig::Read(const std::string& directory) {
  const std::string path = directory + "/config.json";
  return {ReadJsonFile(path, kConfigBounds), path};
}

HfConfig::HfConfig(Json json, std::string path) : json_(std::move(json)), path_(std::move(path)) {
  if (!json_.is_object()) {
    throw Error(
        {.path = path_, .what = "not a config", .expected = "an object", .found = JsonKind(json_)});
  }
  const auto text = json_.find("text_config");
  if (text == json_.end() || !text->is_object()) return;
  const Json part = *text;
  // What the model as a whole says of itself stays.
  for (const auto& [key, value] : part.items()) {
    if (key != "architectures" && key != "model_type") json_[key] = value;
  }
}

const Json* HfConfig::Find(std::string_view names, std::string* name) const {
  while (!names.empty()) {
    const size_t bar = std::min(names.find('|'), names.size());
    const auto found = json_.find(names.substr(0, bar));
    if (found != json_.end() && !found->is_null()) {
      if (name != nullptr) *name = names.substr(0, bar);
      return &*found;
    }
    names.remove_prefix(std::min(bar + 1, names.size()));
  }
  return nullptr;
}

void HfConfig::Fail(std::string_view name, std::string expected, std::string found,
                    std::string hint) const {
  throw Error({.path = path_,
               .what = fmt::format("key {}{}", prefix_, name),
               .expected = std::move(expected),
               .found = std::move(found),
               .hint = std::move(hint)});
}

std::optional<int64_t> HfConfig::GetInt(std::string_view names, int64_t min, int64_t max) const {
  std::string name;
  const Json* value = Find(names, &name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) ||
      number != std::floor(number)) {
    Fail(name, fmt::format("an integer from {} to {}", min, max), JsonKind(*value));
  }
  return static_cast<int64_t>(number);
}

std::optional<double> HfConfig::GetFloat(std::string_view names) const {
  std::string name;
  const Json* value = Find(names, &name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(std::abs(number) <= 1e30)) Fail(name, "a number", JsonKind(*value));
  return number;
}

std::optional<bool> HfConfig::GetBool(std::string_view names) const {
  std::string name;
  const Json* value = Find(names, &name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) Fail(name, "true or false", JsonKind(*value));
  return value->get<bool>();
}

std::optional<std::string> HfConfig::GetString(std::string_view names) const {
  std::string name;
  const Json* value = Find(names, &name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) Fail(name, "a string", JsonKind(*value));
  return value->get<std::string>();
}

std::optional<std::vector<std::string>> HfConfig::GetStrings(std::string_view names) const {
  std::string name;
  const Json* value = Find(names, &name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) Fail(name, "an array of strings", JsonKind(*value));
  std::vector<std::string> strings;
  for (const Json& element : *value) {
    if (!element.is_string()) Fail(name, "an array of strings", JsonKind(element) + " in it");
    strings.push_back(element.get<std::string>());
  }
  return strings;
}

std::optional<std::vector<double>> HfConfig::GetFloats(std::string_view names) const {
  std::string name;
  const Json* value = Find(names, &name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) Fail(name, "an array of numbers", JsonKind(*value));
  std::vector<double> numbers;
  for (const Json& element : *value) {
    const double number = element.is_number() ? element.get<double>() : std::nan("");
    if (!(std::abs(number) <= 1e30)) {
      Fail(name, "an array of numbers", JsonKind(element) + " in it");
    }
    numbers.push_back(number);
  }
  return numbers;
}

int64_t HfConfig::RequireInt(std::string_view names, int64_t min, int64_t max) const {
  if (const auto value = GetInt(names, min, max)) return *value;
  Fail(names.substr(0, names.find('|')), fmt::format("an integer from {} to {}", min, max),
       "no such key");
}

std::optional<HfConfig> HfConfig::GetObject(std::string_view name) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) Fail(name, "an object", JsonKind(*value));
  HfConfig part(*value, path_);
  part.prefix_ = fmt::format("{}{}.", prefix_, name);
  return part;
}

void HfConfig::AddDefaults(std::span<const HfDefault> defaults) {
  for (const HfDefault& entry : defaults) {
    if (Find(entry.hf) == nullptr) json_[std::string(entry.hf)] = entry.value;
  }
}

int64_t HfConfig::n_layers() const {
  return RequireInt("num_hidden_layers|n_layer|num_layers", 1, kMaxHfLayers);
}

int64_t HfConfig::d_model() const { return RequireInt("hidden_size|n_embd|d_model", 1, kMaxHfDim); }

int64_t HfConfig::n_heads() const {
  return RequireInt("num_attention_heads|n_head|num_heads", 1, 1 << 16);
}

int64_t HfConfig::n_kv_heads(HfKvHeads how) const {
  const int64_t heads = n_heads();
  int64_t kv_heads = heads;
  std::string_view name = "num_key_value_heads";
  if (how == HfKvHeads::kOwnKey) kv_heads = GetInt(name, 1, heads).value_or(heads);
  if (how == HfKvHeads::kFalcon) {
    name = "num_kv_heads|n_head_kv";
    if (GetBool("new_decoder_architecture").value_or(false)) {
      kv_heads = GetInt(name, 1, heads).value_or(heads);
    } else if (GetBool("multi_query").value_or(true)) {
      kv_heads = 1;
    }
  }
  if (heads % kv_heads != 0) {
    Fail(name.substr(0, name.find('|')), fmt::format("a divisor of {} heads", heads),
         std::to_string(kv_heads));
  }
  return kv_heads;
}

int64_t HfConfig::head_dim(bool narrow) const {
  if (!narrow) {
    if (const auto dim = GetInt("head_dim|d_kv", 1, kMaxHfDim)) return *dim;
  }
  if (d_model() % n_heads() != 0) {
    Fail("num_attention_heads", fmt::format("a divisor of hidden_size {}", d_model()),
         std::to_string(n_heads()));
  }
  return d_model() / n_heads();
}

const HfImport& FindHfImport(const HfConfig& config) {
  const auto classes = config.GetStrings("architectures").value_or(std::vector<std::string>());
  const std::string type = config.GetString("model_type").value_or("");
  for (const HfImport* family : kAllImports) {
    if (!classes.empty() && Contains(family->classes, classes.front())) return *family;
  }
  for (const HfImport* family : kAllImports) {
    if (classes.empty() && Contains(family->types, type)) return *family;
  }
  const bool is_class = !classes.empty();
  config.Fail(
      is_class ? "architectures" : "model_type", "one of " + KnownModels(),
      is_class || !type.empty() ? Printable(is_class ? classes.front() : type) : "no such key");
}

}  // namespace thermocline
