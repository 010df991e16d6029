#include "predictor/sparse_mode.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr std::string_view kMethodNames[] = {"teal", "wina", "cats", "neurons"};
static_assert(std::size(kMethodNames) == kThresholdMethods);
constexpr std::string_view kSplitNames[] = {"auto", "uniform", "block", "layers"};
static_assert(std::size(kSplitNames) == kThresholdSplits);

[[noreturn]] void FailChoice(std::string_view name, std::string expected) {
  throw Error({.what = std::string(SettingName(Setting::kSparseMode)),
               .expected = std::move(expected),
               .found = std::string(name),
               .settings = {{Setting::kSparseMode}}});
}

// Returns the share behind the colon; at most kMaxSparsity.
double ParseShare(std::string_view name, std::string_view text) {
  double share = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), share);
  if (error != std::errc() || end != text.data() + text.size() || !(share >= 0) ||
      share > kMaxSparsity) {
    FailChoice(name,
               fmt::format("a share of the weights from 0 to {} behind the colon", kMaxSparsity));
  }
  return share;
}

}  // namespace

std::optional<ThresholdChoice> ParseThresholdChoice(std::string_view name, bool has_true_zeros,
                                                    std::string_view activation) {
  const size_t colon = name.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const size_t plus = name.find('+');
  const bool combined = plus != std::string_view::npos;
  if (combined && plus > colon) FailChoice(name, "MODE+METHOD:SHARE, such as exact+teal:0.4");
  const size_t first = combined ? plus + 1 : 0;
  const std::string_view method = name.substr(first, colon - first);
  ThresholdChoice choice;
  const auto* const found = std::find(std::begin(kMethodNames), std::end(kMethodNames), method);
  if (found == std::end(kMethodNames)) FailChoice(name, "teal, wina, cats or neurons, and a share");
  choice.method = static_cast<ThresholdMethod>(found - std::begin(kMethodNames));
  choice.sparsity = ParseShare(name, name.substr(colon + 1));
  if (!combined) return choice;
  if (choice.by_gate()) FailChoice(name, "teal or wina beside a mode of the FFN");
  choice.ffn_mode = ResolveSparseMode(name.substr(0, plus), has_true_zeros, activation);
  return choice;
}

std::string_view ThresholdMethodName(ThresholdMethod method) {
  return kMethodNames[static_cast<size_t>(method)];
}
std::string_view ThresholdSplitName(ThresholdSplit split) {
  return kSplitNames[static_cast<size_t>(split)];
}

SparseMode ResolveSparseMode(std::string_view name, bool has_true_zeros,
                             std::string_view activation) {
  if (name == "auto") return has_true_zeros ? SparseMode::kExact : SparseMode::kDense;
  if (name == "dense") return SparseMode::kDense;
  if (name != "exact" && name != "predicted") {
    throw Error({.what = std::string(SettingName(Setting::kSparseMode)),
                 .expected = "auto, dense, exact, predicted, or METHOD:SHARE such as teal:0.4",
                 .found = std::string(name),
                 .settings = {{Setting::kSparseMode}}});
  }
  if (!has_true_zeros) {
    throw Error({.what = fmt::format("the mode {} needs an activation with true zeros", name),
                 .expected = "relu, relu_sqr, fatrelu or drelu, or gates that are cut",
                 .found = fmt::format("a model with {}", activation),
                 .hint = "use the mode dense",
                 .settings = {{Setting::kSparseMode, "dense"}}});
  }
  return name == "exact" ? SparseMode::kExact : SparseMode::kPredicted;
}

std::string_view SparseModeName(SparseMode mode) {
  switch (mode) {
    case SparseMode::kDense:
      return "dense";
    case SparseMode::kExact:
      return "exact";
    case SparseMode::kPredicted:
      return "predicted";
    case SparseMode::kThreshold:
      return "threshold";
  }
  return "";
}

}  // namespace thermocline
