// Reads the keys of an architecture, each within its bounds.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"

namespace thermocline {

// The most that a dimension may be: far above any model known, low enough that no product of two
// overflows.
inline constexpr uint64_t kMaxDim = 1U << 20;
inline constexpr uint64_t kMaxLayers = 4096;
inline constexpr uint64_t kMaxHeads = 1U << 16;
inline constexpr uint64_t kMaxVocab = 1U << 24;
inline constexpr uint64_t kMaxContext = 1U << 26;

// Every Get and Require throws Error with the key, what was expected and what was found.
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
  double RequirePositive(std::string_view name) const {
    if (!Has(name)) Fail(name, "a positive number", "no such key");
    return GetPositive(name, 0);
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
  // Reads numbers that may be fractions, infinities too, in the same way. Empty where the key is
  // absent.
  std::vector<double> FractionPerLayer(std::string_view name) const {
    const GgufValue* value = gguf_.Find(Key(name));
    if (value == nullptr) return {};
    if (value->type != GgufType::kArray) {
      return std::vector<double>(static_cast<size_t>(n_layers_), GetNumber(name).value_or(0));
    }
    const auto* numbers =
        std::get_if<std::vector<double>>(&std::get<GgufValue::Array>(value->value));
    if (numbers != nullptr && static_cast<int64_t>(numbers->size()) == n_layers_) return *numbers;
    Fail(name, fmt::format("a number, or one for each of {} layers", n_layers_),
         numbers == nullptr ? "an array of something else"
                            : fmt::format("an array of {}", numbers->size()));
  }
  // Reads an index from 0 to max - 1, or another number of that range.
  int64_t GetIndex(std::string_view name, int64_t max) const {
    const auto value = gguf_.GetU64(Key(name));
    if (!value) return 0;
    if (*value >= static_cast<uint64_t>(max)) {
      Fail(name, fmt::format("0 to {}", max - 1), std::to_string(*value));
    }
    return static_cast<int64_t>(*value);
  }
  void set_n_layers(int64_t n_layers) { n_layers_ = n_layers; }

  std::optional<double> GetNumber(std::string_view name) const { return gguf_.GetF64(Key(name)); }
  std::optional<bool> GetBool(std::string_view name) const { return gguf_.GetBool(Key(name)); }
  // An array of booleans; nullopt for what is none.
  std::optional<std::vector<bool>> GetBools(std::string_view name) const {
    const GgufValue* value = gguf_.Find(Key(name));
    if (value == nullptr || value->type != GgufType::kArray) return std::nullopt;
    const auto* flags =
        std::get_if<std::vector<uint64_t>>(&std::get<GgufValue::Array>(value->value));
    if (value->element_type != GgufType::kBool || flags == nullptr) return std::nullopt;
    return std::vector<bool>(flags->begin(), flags->end());
  }
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

}  // namespace thermocline
