// A GPU as a device of a tier, where this build has one.
#pragma once

#include <memory>
#include <string>

#include "runtime/device/device.h"
#include "runtime/device/row_exchange.h"

namespace thermocline {

// What a run needs of the fast tier, whichever it is.
struct FastTierNeeds {
  const ModelConfig* config = nullptr;
  int64_t max_tokens = 1;  // of a pass
  int64_t max_seq_len = 0;
  int64_t max_neurons = 0;  // of a layer on this tier
  bool predicts = false;    // a predictor names neurons of this tier
  int64_t max_rank = 0;     // of its matrices; 0: none
  // Neurons of a layer on the slow tier, where batches may have their weights streamed to this one.
  int64_t max_streamed_neurons = 0;
  uint64_t stream_piece_bytes = 0;
  int64_t max_sequences = 1;  // of a pass
  int64_t max_best_rows = 1;  // of a pass, whose best logits may be wanted
  int64_t n_kv_classes = 1;   // of pages of the KV cache
  int64_t n_adapters = 0;
  int64_t adapter_rank = 0;  // of all adapters together
  bool cuts = false;         // thresholds leave channels of inputs out
  bool by_column = false;    // matrices are stored by column
};

// Throws Error when the GPU cannot be used. REQUIRES: QueryGpuSupport() says there is one.
std::unique_ptr<Device> MakeGpuDevice(const std::string& name, const FastTierNeeds& needs);
// What it has to give now. REQUIRES as above.
uint64_t GpuFreeBytes();
// Its memory beside weights, cache and the executor's buffers.
uint64_t GpuScratchBytes(const FastTierNeeds& needs);
// Pinned memory of the host that weights are streamed from.
uint64_t GpuPinnedBytes(const FastTierNeeds& needs);
// What a row exchange (runtime/device/row_exchange.h) takes there.
uint64_t GpuExchangeBytes(const RowExchangeLimits& limits);
// What a matrix of weights takes there, which for some types is more than in a file.
uint64_t GpuMatrixBytes(DType dtype, int64_t rows, int64_t cols);

}  // namespace thermocline
