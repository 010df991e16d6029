// A config.json, read key by key: whatever kind of value stands there, there is the number asked
// for or an Error that names the key.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/model/hf_import.h"

namespace thermocline {

// Bounds of a model: far above any that is known, low enough that no product of two overflows.
inline constexpr int64_t kMaxHfDim = 1 << 20;
inline constexpr int64_t kMaxHfLayers = 4096;
inline constexpr int64_t kMaxHfNumber = int64_t{1} << 26;  // any other integer

class HfConfig {
 public:
  // Reads DIRECTORY/config.json.
  static HfConfig Read(const std::string& directory);
  // `path` is for messages. Keys of text_config, which models of several kinds of input have, count
  // before those beside it.
  HfConfig(nlohmann::json json, std::string path);

  const std::string& path() const { return path_; }

  // Each returns the value of the first of `names` ("a|b|c") that is there and not null. They throw
  // Error for a value of another kind.
  std::optional<int64_t> GetInt(std::string_view names, int64_t min, int64_t max) const;
  std::optional<double> GetFloat(std::string_view names) const;
  std::optional<bool> GetBool(std::string_view names) const;
  std::optional<std::string> GetString(std::string_view names) const;
  std::optional<std::vector<std::string>> GetStrings(std::string_view names) const;
  std::optional<std::vector<double>> GetFloats(std::string_view names) const;
  int64_t RequireInt(std::string_view names, int64_t min, int64_t max) const;
  // An object; null where it is absent. The part's messages name the whole key.
  std::optional<HfConfig> GetObject(std::string_view name) const;
  // Gives keys that are absent, or null, a value.
  void AddDefaults(std::span<const HfDefault> defaults);
  // The value itself, or null.
  const nlohmann::json* Find(std::string_view names, std::string* name = nullptr) const;

  [[noreturn]] void Fail(std::string_view name, std::string expected, std::string found,
                         std::string hint = "") const;

  // What several parts of the import need.
  int64_t n_layers() const;
  int64_t d_model() const;
  int64_t n_heads() const;
  int64_t n_kv_heads(HfKvHeads how) const;
  // narrow: d_model / n_heads, whatever head_dim says.
  int64_t head_dim(bool narrow) const;

 private:
  nlohmann::json json_;
  std::string path_;
  std::string prefix_;  // of names in messages: "rope_scaling."
};

// Returns how a model is imported. Throws Error for one that is not known, and names those that
// are.
const HfImport& FindHfImport(const HfConfig& config);

}  // namespace thermocline
