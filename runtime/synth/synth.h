// Models of random weights with the shape asked for. They show what a machine does with a model of
// some size before a download, and serve measurements. What such a model writes is noise.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cpu_kernels/kernels.h"
#include "runtime/core/dtype.h"
#include "runtime/core/progress.h"
#include "runtime/synth/synth_activity.h"

namespace thermocline {

inline constexpr int64_t kMaxGateRank = 8192;

struct SynthOptions {
  int64_t n_layers = 16;
  int64_t d_model = 2048;
  int64_t d_ff = 8192;
  int64_t n_heads = 16;
  int64_t n_kv_heads = 16;
  int64_t vocab_size = 32000;
  int64_t max_seq_len = 4096;
  // Positions that layers see, their own included; 0: all before. With window_pattern n every nth
  // layer sees all nevertheless; 0: none does.
  int64_t window = 0;
  int64_t window_pattern = 0;
  DType dtype = DType::kQ8_0;
  Activation activation = Activation::kSilu;
  // How many neurons fire, and how unevenly, by a gate bias per neuron. Without it there are no
  // biases, so that each neuron of a ReLU kind fires in half of the tokens. REQUIRES: a ReLU kind.
  std::optional<ActivityTarget> activity;
  // Where it is above 0, every gate matrix is a product of two factors of this rank, rounded to
  // dtype, so that a predictor of that rank knows it but for the rounding (GateFactors).
  int64_t gate_rank = 0;
  uint64_t seed = 1;
  int n_threads = 1;
  ProgressFn progress;
};

// Sets the dimensions to those of a known model ("llama-7b", ...). Throws Error listing the names
// for another word.
void ApplyShape(std::string_view like, SynthOptions* options);
std::string ShapeNames();

// Throws Error for dimensions that do not go together, or an activation without true zeros beside
// an activity.
void CheckSynthOptions(const SynthOptions& options);

// Writes a llama-architecture GGUF, streaming. The same options give the same file on every machine
// and for any number of threads. Throws what CheckSynthOptions and FiringProbabilities do.
void WriteSynthModel(const std::string& path, const SynthOptions& options);

}  // namespace thermocline
