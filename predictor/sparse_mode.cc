#include "predictor/sparse_mode.h"

#include <fmt/format.h>

#include "runtime/core/error.h"

namespace thermocline {

bool HasTrueZeros(Activation activation) {
  return activation == Activation::kRelu || activation == Activation::kReluSqr;
}

SparseMode ResolveSparseMode(std::string_view name, Activation activation) {
  const bool zeros = HasTrueZeros(activation);
  if (name == "auto") return zeros ? SparseMode::kExact : SparseMode::kDense;
  if (name == "dense") return SparseMode::kDense;
  if (name != "exact" && name != "predicted") {
    throw Error({.what = std::string(SettingName(Setting::kSparseMode)),
                 .expected = "auto, dense, exact or predicted",
                 .found = std::string(name),
                 .settings = {{Setting::kSparseMode}}});
  }
  if (!zeros) {
    throw Error({.what = fmt::format("the mode {} needs an activation with true zeros", name),
                 .expected = "relu, reglu or relu_sqr",
                 .found = "a model with silu",
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
  }
  return "";
}

}  // namespace thermocline
