// Which neurons a token's FFN computes: the modes, and which of them an activation function allows.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace thermocline {

enum class SparseMode : uint8_t {
  kDense,      // every neuron
  kExact,      // gate for all, up and down only where act(gate) != 0: the same result as dense
  kPredicted,  // hot neurons as in exact; cold ones only where a predictor says so: not exact
};

// "auto" is `exact` where activations have true zeros, else `dense`: never a lossy mode.
// Throws Error for a name that is not a mode, and for `exact` and `predicted` where activations
// have no true zeros; `activation` names them then.
SparseMode ResolveSparseMode(std::string_view name, bool has_true_zeros,
                             std::string_view activation);
std::string_view SparseModeName(SparseMode mode);
// Whether the mode's result may differ from that of dense by more than rounding.
inline bool IsLossy(SparseMode mode) { return mode == SparseMode::kPredicted; }

}  // namespace thermocline
