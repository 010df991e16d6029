#include "predictor/sparse_mode.h"

#include <fmt/format.h>

#include "runtime/core/error.h"

namespace thermocline {

SparseMode ResolveSparseMode(std::string_view name, bool has_true_zeros,
                             std::string_view activation) {
  if (name == "auto") return has_true_zeros ? SparseMode::kExact : SparseMode::kDense;
  if (name == "dense") return SparseMode::kDense;
  if (name != "exact" && name != "predicted") {
    throw Error({.what = std::string(SettingName(Setting::kSparseMode)),
                 .expected = "auto, dense, exact or predicted",
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
  }
  return "";
}

}  // namespace thermocline
