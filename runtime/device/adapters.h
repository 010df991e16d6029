// Low-rank adapters while a pass runs (LoRA, arXiv:2106.09685). Weights stay as they are: to a
// matrix's product y = W x an adapter adds y += B (A x), for the rows of the pass whose sequence
// uses it. Rows are grouped by adapter, so that an adapter's factors are read once for all of its
// rows (SGMV, arXiv:2310.18547).
//
// Factors are f32, row-major, in memory of the tier that reads them, in the form in which its
// device sums (LowRankForm). The scale is part of B.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/device/batch.h"

namespace thermocline {

// By rows, for the host: B is (d_out, rank). Down is turned: A is (n_neurons, rank), so that only
// active neurons are read, and B, which is applied to their sum, (rank, d_model).
// By ranks, for a queued device: A is (rank, d_in) and B (rank, d_out) of every matrix.
enum class LowRankForm : uint8_t { kByRows, kByRanks };

// What an adapter adds to one matrix of (d_out, d_in).
struct LowRankMatrix {
  int64_t rank = 0;  // 0: nothing
  const float* a = nullptr;
  const float* b = nullptr;
};

// Of one adapter in one layer: the matrices of attention, and those of a slice of the neurons,
// whose rows lie in the slice's order.
struct AttentionLowRank {
  LowRankMatrix wq;
  LowRankMatrix wk;
  LowRankMatrix wv;
  LowRankMatrix wo;
};
struct FfnLowRank {
  LowRankMatrix gate;
  LowRankMatrix up;
  LowRankMatrix down;
};

// All adapters of a model.
struct ModelAdapters {
  std::vector<int64_t> ranks;                             // (n_adapters) the largest of any matrix
  std::vector<std::vector<AttentionLowRank>> attention;   // (n_layers, n_adapters)
  std::vector<std::vector<std::vector<FfnLowRank>>> ffn;  // (n_layers, n_tiers, n_adapters)
  // Which adapters a sequence may use at once, ascending. BatchSequence::adapter_set is an index;
  // the first set has all.
  std::vector<std::vector<int32_t>> sets;

  int64_t total_rank() const {
    int64_t total = 0;
    for (const int64_t rank : ranks) total += rank;
    return total;
  }
};

// Which adapters the rows of one pass use.
class AdapterRows {
 public:
  struct Group {
    int32_t adapter = 0;
    int64_t offset = 0;         // of its part of what is between A and B: (total_rank) of a row
    std::vector<int32_t> rows;  // ascending
  };

  // REQUIRES: each sequence's set is one of the adapters'.
  void Fill(const ModelAdapters& adapters, const Batch& batch);

  // Those that some row uses, by adapter.
  std::span<const Group> groups() const { return groups_; }
  // Those of one row, as indices of groups.
  std::span<const int32_t> of_row(int64_t row) const {
    const auto begin = static_cast<size_t>(row_begin_[static_cast<size_t>(row)]);
    const auto end = static_cast<size_t>(row_begin_[static_cast<size_t>(row) + 1]);
    return std::span(row_groups_).subspan(begin, end - begin);
  }
  int64_t total_rank() const { return total_rank_; }

 private:
  std::vector<Group> groups_;
  std::vector<int64_t> row_begin_;  // (n_rows + 1) where a row's part of row_groups_ begins
  std::vector<int32_t> row_groups_;
  int64_t total_rank_ = 0;
};

// Matrices of attention that read the same input: out += B (A x).
struct LowRankOp {
  LowRankMatrix AttentionLowRank::*matrix;
  float* out;  // (n, d_out)
  int64_t d_out;
};

}  // namespace thermocline
