// A layer's predictor as it is stored: factors in their type, thresholds as biases, neurons by
// channel.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "predictor/low_rank.h"
#include "predictor/operating_points.h"
#include "runtime/placement/predictor_file.h"

namespace thermocline {

// Returns (rows, cols) in f32.
std::vector<float> DequantizeRows(const TensorView& w);
// Returns the (rows) Euclidean lengths; above 0.
std::vector<float> RowNorms(const TensorView& w);

// Stores the factors as `dtype`. REQUIRES: dtype kF16 or kQ8_0; for the latter d_model and rank are
// whole blocks.
void StoreFactors(const LowRank& factors, int64_t rank, DType dtype, StoredLayerPredictor* out);

// Stores one operating point per chosen one, recall and density yet unknown. Where the predictor
// has factors, thresholds are per neuron and stored as biases; else the first one stands for all.
void StorePoints(std::span<const ChosenPoint> chosen, bool has_factors, StoredLayerPredictor* out);

// Moves rows from the order of a packed model to that of its source: row i is channel order[i].
void OrderByChannel(std::span<const int32_t> order, StoredLayerPredictor* out);

}  // namespace thermocline
