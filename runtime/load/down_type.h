// How a stock file's down projection lies in memory. Its rows are outputs, so a neuron is a column:
// where neurons are skipped or placed apart, it is transposed to a row per neuron. Blocks of
// weights then run along d_model instead of d_ff, so that weights are rounded once more, to a type
// that adds little (WeightTypeInfo::for_down).
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/core/dtype.h"
#include "runtime/model/model.h"

namespace thermocline {

struct DownStorage {
  DownLayout layout = DownLayout::kPerNeuron;  // kStock: as in the file
  std::optional<DType> dtype = {};             // of rows per neuron; nullopt: as the file's says
  bool all_layers = true;  // false: layers without true zeros stay as in the file

  DownLayout LayoutOf(const FfnConfig& ffn) const {
    return all_layers || ffn.has_true_zeros() ? layout : DownLayout::kStock;
  }
};

// Which other matrices of a file with rows are stored by column, so that channels of their inputs
// can be skipped.
struct ColumnStorage {
  bool attention = false;  // q, k, v and o
  bool ffn = false;        // gate and up
};

// Returns the type of a row per neuron of what a file stores as `in_file`. REQUIRES: rows of
// d_model hold whole blocks of storage.dtype, if any.
inline DType DownTypeOf(DType in_file, int64_t d_model, const DownStorage& storage) {
  if (storage.layout == DownLayout::kStock) return in_file;
  if (storage.dtype) return *storage.dtype;
  return FittingType(GetWeightTypeInfo(in_file).for_down, d_model);
}

}  // namespace thermocline
