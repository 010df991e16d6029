// What profiling counts: for every layer and neuron, how often it was active and how much it
// contributed, on the text the placement is made from (calibration) and on text kept apart from it
// (held-out), so that a placement is judged on text it has not seen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/placement/threshold_file.h"

namespace thermocline {

// Activity by channel of the model the statistics belong to. Channels of a packed model are those
// of the model it was packed from.
struct LayerActivity {
  std::vector<int64_t> count;  // (d_ff) tokens in which |h_i| > activation_threshold
  std::vector<double> mass;    // (d_ff) sum over tokens of |h_i| * ||w_down,i||_2
};

// Every position of every window counts, also the BOS in front of it: the runtime computes them
// all.
struct SplitActivity {
  int64_t n_tokens = 0;
  std::string corpus_hash;            // hash of the tokens run: 16 hex digits
  std::vector<LayerActivity> layers;  // (n_layers)
};

// Sums over tokens of x^2, by column of the matrices that read x: how much an error of each weight
// counts (`quantize --importance`). Those of down are by channel.
struct LayerInputSquares {
  std::vector<double> attention;  // (d_model) of q, k and v
  std::vector<double> attended;   // (q_dim of the layer) of attention's output
  std::vector<double> ffn;        // (d_model) of gate and up
  std::vector<double> down;       // (d_ff)
};

struct ProfileStats {
  std::string path;  // where it was read from; for messages
  std::string model_fingerprint;
  double activation_threshold = 0;
  double cut_share = 0;        // see ProfileOptions
  int64_t context_tokens = 0;  // of a window, with its BOS
  SplitActivity calibration;
  SplitActivity heldout;
  std::optional<ModelThresholds> thresholds;     // of the calibration; read with OpenThresholds
  std::vector<LayerInputSquares> input_squares;  // (n_layers), of the calibration; empty: not known

  int64_t n_layers() const { return static_cast<int64_t>(calibration.layers.size()); }
  int64_t d_ff() const { return static_cast<int64_t>(calibration.layers.at(0).count.size()); }
};

}  // namespace thermocline
