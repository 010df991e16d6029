// Which channels of their inputs matrices read where small ones are left out (TEAL,
// arXiv:2408.14690; WINA, arXiv:2505.19427), and which gates count (CATS, arXiv:2404.08763).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "predictor/sparse_mode.h"

namespace thermocline {

// The matrices whose inputs are cut. kActivated is none: it stands for the activated gates.
enum class CutMatrix : uint8_t { kQ, kK, kV, kO, kGate, kUp, kDown, kActivated };
inline constexpr size_t kCutMatrices = 8;

// Channel j is read where |x_j| factors[j] >= least, and counts as 0 elsewhere.
struct ChannelCut {
  float least = 0;                       // 0: every channel is read
  const float* factors = nullptr;        // (d_in) in the device's memory, or null: all 1
  const uint8_t* rows = nullptr;         // (n) whether a row of the pass is cut at all
  std::atomic<int64_t>* kept = nullptr;  // how many channels, not 0, were read of rows that are cut
  int32_t counter = 0;                   // which of the model's: layer * kCutMatrices + matrix

  bool CutsRow(int64_t row) const { return rows[row] != 0; }
};

struct FfnCuts {
  ChannelCut gate, up, down;
  ChannelCut activated;  // gates that are smaller become 0, and their neurons are skipped
  bool by_gate = false;  // `activated` alone is in use
};

struct LayerCuts {
  ChannelCut q, k, v, o;
  std::vector<FfnCuts> ffn;  // by tier
};

// How many channels of each matrix were read, summed over rows.
struct ChannelCounts {
  int64_t rows = 0;                                          // that were cut
  std::vector<std::array<int64_t, kCutMatrices>> kept = {};  // (n_layers)

  void Add(const ChannelCounts& other) {
    kept.resize(std::max(kept.size(), other.kept.size()));
    rows += other.rows;
    for (size_t l = 0; l < other.kept.size(); ++l) {
      for (size_t m = 0; m < kCutMatrices; ++m) kept[l][m] += other.kept[l][m];
    }
  }
};

// The cuts of a model while it runs.
struct ChannelCuts {
  // What FFNs do: kThreshold, or another mode beside cuts in attention alone.
  SparseMode ffn_mode = SparseMode::kThreshold;
  // Cut the rows of batches, too, which otherwise run dense: for who measures what a mode costs.
  bool cut_batches = false;
  // Another number whenever a threshold changed: a queued device keeps passes as they were made.
  int64_t version = 0;
  std::vector<LayerCuts> layers;  // (n_layers)
  std::vector<uint8_t> rows;      // (max_tokens) what ChannelCut::rows point to; a queued device
                                  // goes by the rows' positions
  // (n_layers) what ChannelCut::kept point to.
  std::vector<std::array<std::atomic<int64_t>, kCutMatrices>> kept;
};

// Rows at the first positions of a text are never cut: later tokens lean on them heavily.
inline constexpr int64_t kUncutPositions = 4;

}  // namespace thermocline
