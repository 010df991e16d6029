#include "predictor/sparse_mode.h"

#include "runtime/core/error.h"

namespace thermocline {

bool HasTrueZeros(Activation activation) {
  return activation == Activation::kRelu || activation == Activation::kReluSqr;
}

SparseMode ResolveSparseMode(std::string_view name, Activation activation) {
  const bool zeros = HasTrueZeros(activation);
  if (name == "auto") return zeros ? SparseMode::kExact : SparseMode::kDense;
  if (name == "dense") return SparseMode::kDense;
  if (name != "exact") {
    throw Error(
        {.what = "--sparse", .expected = "auto, dense or exact", .found = std::string(name)});
  }
  if (!zeros) {
    throw Error({.what = "--sparse exact needs an activation with true zeros",
                 .expected = "relu, reglu or relu_sqr",
                 .found = "a model with silu",
                 .hint = "use --sparse dense"});
  }
  return SparseMode::kExact;
}

std::string_view SparseModeName(SparseMode mode) {
  return mode == SparseMode::kDense ? "dense" : "exact";
}

}  // namespace thermocline
