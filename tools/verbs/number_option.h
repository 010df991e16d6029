// Options that take a number. What was typed must be one number, whole where the option counts,
// finite and within bounds. Anything else is a usage error that shows it beside what is allowed.
#pragma once

#include <CLI/CLI.hpp>
#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>

namespace thermocline {

template <typename T>
struct Bounds {
  T least = std::numeric_limits<T>::lowest();
  T most = std::numeric_limits<T>::max();
  // Whether the bounds themselves are left out.
  bool above = false;
  bool below = false;
};

// Hands the number typed to `take`. T: int32_t, int64_t, uint64_t, float or double.
template <typename T>
CLI::Option* AddNumberFunction(CLI::App& verb, const std::string& flags,
                               std::function<void(T)> take, Bounds<std::type_identity_t<T>> bounds,
                               const std::string& help);

// Adds an option that goes into *value, which must outlive the parsing.
template <typename T>
CLI::Option* AddNumberOption(CLI::App& verb, const std::string& flags, T* value,
                             Bounds<std::type_identity_t<T>> bounds, const std::string& help) {
  return AddNumberFunction<T>(
      verb, flags, [value](T number) { *value = number; }, bounds, help);
}

}  // namespace thermocline
