// PowerInfer's files, read as they are (arXiv 2312.12456; github.com/SJTU-IPADS/PowerInfer). They
// are GGUF under the magic 'PWRI'.
//
// The model holds a predictor: blk.N.fc1.weight (rank, d_model) and blk.N.fc2.weight (d_ff, rank),
// with ReLU between them and no biases; the rank may differ from layer to layer. Its input is the
// residual stream before the FFN's norm, its cut powerinfer.sparse_threshold (0 where the key is
// absent). The down projection is blk.N.ffn_down_t.weight (d_ff, d_model): see FfnForm in
// tensor_table.h.
//
// The placement, MODEL.generated.gpuidx, holds blk.N.gpu_idx (d_ff), 1 for a neuron on the GPU and
// else 0, and blk.N.gpu_bucket, the ids of those with a 1.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "predictor/predictor.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/model.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/placement/placement.h"

namespace thermocline {

// Whether the file has PowerInfer's predictor. It is true also for what `quantize` and `pack` made
// of such a model.
bool HasPowerInferPredictor(const GgufReader& gguf);

// Throws Error where a file that has such a predictor has it in part or misshapen. Types are not
// looked at: a run that does not predict needs none.
void CheckPowerInferPredictor(const GgufReader& gguf, const ModelConfig& config);

// Reads one predictor per layer, each with one operating point: the file's threshold, with recall
// and density 0 as the file does not tell them. PowerInfer computes a neuron whose score is the
// threshold or above. The views point into the mapping of `gguf`. Rows of out_proj are in the order
// of this file's gate rows, so in a packed file hot to cold: there they are not counted by
// FfnSlice::neuron_ids, which name the channels of the file it was packed from. Throws Error where
// the file has no predictor, or one that cannot be computed with.
std::vector<LayerPredictor> ReadPowerInferPredictor(const GgufReader& gguf,
                                                    const ModelConfig& config);

bool IsPowerInferPlacement(const GgufReader& gguf);

// Reads a placement: GPU neurons in the order of the bucket, then the others ascending. The result
// is `imported`, as nothing in the file says which model it was made for. Throws Error where the
// two lists of a layer do not agree.
Placement ReadPowerInferPlacement(const GgufReader& gguf);

}  // namespace thermocline
