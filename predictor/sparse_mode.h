// Which neurons a token's FFN computes: the modes, and which of them an activation function allows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace thermocline {

enum class SparseMode : uint8_t {
  kDense,      // every neuron
  kExact,      // gate for all, up and down only where act(gate) != 0: the same result as dense
  kPredicted,  // hot neurons as in exact; cold ones only where a predictor says so: not exact
  kThreshold,  // inputs of matrices, or gates, below a calibrated magnitude are skipped: not exact
};

// What scores a channel of a matrix's input, or a neuron. Those that score low are skipped.
enum class ThresholdMethod : uint8_t {
  kTeal,     // |x_j| (arXiv:2408.14690)
  kWina,     // |x_j| times the norm of column j of the matrix (arXiv:2505.19427)
  kCats,     // |act(gate_i)|, for up and down alone (arXiv:2404.08763)
  kNeurons,  // |act(gate_i)| times what up_i and down_i are on average: the same, weighed
};
inline constexpr size_t kThresholdMethods = 4;

// How much of each layer and matrix a method skips, at the same sum.
enum class ThresholdSplit : uint8_t {
  kAuto,     // what was best when the thresholds were calibrated
  kUniform,  // the same share of every matrix
  kBlock,    // by TEAL's greedy search within each layer
  kLayers,   // layers that suffer less skip more, too
};
inline constexpr size_t kThresholdSplits = 4;

// A choice of thresholds: "teal:0.4" in every matrix, or in attention alone beside another mode of
// the FFN, "exact+teal:0.4".
struct ThresholdChoice {
  ThresholdMethod method = ThresholdMethod::kTeal;
  double sparsity = 0;                           // share of the weights that is skipped
  SparseMode ffn_mode = SparseMode::kThreshold;  // else that of the FFN, beside thresholds

  bool by_gate() const {
    return method == ThresholdMethod::kCats || method == ThresholdMethod::kNeurons;
  }
};
inline constexpr double kMaxSparsity = 0.9;

// Returns nullopt for the name of a plain mode. Throws Error for a choice that is none, and for an
// FFN mode that the activation does not allow.
std::optional<ThresholdChoice> ParseThresholdChoice(std::string_view name, bool has_true_zeros,
                                                    std::string_view activation);
std::string_view ThresholdMethodName(ThresholdMethod method);
std::string_view ThresholdSplitName(ThresholdSplit split);

// "auto" is `exact` where activations have true zeros, else `dense`: never a lossy mode.
// Throws Error for a name that is not a mode, and for `exact` and `predicted` where activations
// have no true zeros; `activation` names them then.
SparseMode ResolveSparseMode(std::string_view name, bool has_true_zeros,
                             std::string_view activation);
std::string_view SparseModeName(SparseMode mode);
// Whether the mode's result may differ from that of dense by more than rounding.
inline bool IsLossy(SparseMode mode) {
  return mode == SparseMode::kPredicted || mode == SparseMode::kThreshold;
}

}  // namespace thermocline
