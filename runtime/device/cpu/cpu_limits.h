// How large a CPU device's passes may be, and from where on they are computed otherwise.
#pragma once

#include <cstdint>

#include "cpu_kernels/kernels.h"
#include "runtime/device/ops.h"
#include "runtime/model/model.h"

namespace thermocline {

// Predicted neurons are computed row by row in batches of up to this many tokens, as their lists
// overlap little. Larger batches touch nearly every neuron.
inline constexpr int64_t kListMaxTokens = kMostSkipRows;

// The most parts that a slice's neurons are cut into. The down rows of a part are summed together,
// and parts are added in their order. The cut depends on the model alone, so the result is the same
// for any number of lanes, and whichever lane took a part.
inline constexpr int64_t kFfnParts = 16;

// Floats beside the head_dim sums of a chunk of positions: its largest score, the sum of its
// weights, and what fills the cache line.
inline constexpr int64_t kChunkExtra = 16;

// Segments of at least this many tokens attend as panels, smaller ones query head by query head:
// few queries do not repay packing keys and values.
inline constexpr int64_t kPanelAttentionTokens = 16;

struct CpuDeviceLimits {
  int n_lanes = 1;         // lanes of the largest group that will run passes
  int64_t max_tokens = 1;  // tokens of a pass
  int64_t d_model = 0;
  int64_t max_d_in = 0;     // longest input of a matrix (d_model, d_ff, n_heads * head_dim, ...)
  int64_t max_neurons = 0;  // neurons of an FFN slice
  int64_t max_seq_len = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  bool predicts = false;      // passes may have a predictor
  bool skips = false;         // or may skip neurons whose activation is 0
  int64_t max_rank = 0;       // of the predictor's matrices
  int64_t adapter_rank = 0;   // of all adapters together
  int64_t max_sequences = 1;  // of a pass
  bool cuts = false;          // passes may leave out channels (ChannelCut)
  bool by_column = false;     // matrices may be stored by column
  int activation_bits = 8;    // of what quantised weights are multiplied by: 8 or 16

  // The kernels of a device with these limits.
  const KernelTable& Kernels() const { return KernelsOf(CpuKernels(), activation_bits); }

  int64_t KvChunk() const;  // positions whose attention is computed together
  // Rows whose chunks of positions, up to a whole context of them, are kept at a time: what rows
  // that share a beginning read once.
  int64_t ChunkedRows() const;
  int64_t MaxRowTokens() const;  // tokens of a pass that goes over its weights row by row
  // Memory of a device beside what it allocates for others.
  uint64_t ScratchBytes(const KernelTable& kernels) const;
  // Whether passes are long enough to attend as panels, and the kernels for them are there.
  bool WantsPanelAttention(const KernelTable& kernels) const;
};

// Returns what a model's passes need at most. max_rank: of the predictor's matrices, 0 for one
// without, or kNoPredictor.
inline constexpr int64_t kNoPredictor = -1;
CpuDeviceLimits MakeCpuDeviceLimits(const ModelConfig& config, int64_t max_tokens,
                                    int64_t max_seq_len, int n_lanes,
                                    int64_t max_rank = kNoPredictor);

}  // namespace thermocline
