// What a run of the engine is to be, in parts: each part of the runtime takes the one that concerns
// it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/dtype.h"
#include "runtime/core/progress.h"
#include "runtime/device/stream_choice.h"
#include "runtime/device/weight_stream.h"
#include "runtime/load/model_predictor.h"
#include "runtime/placement/draft_file.h"
#include "runtime/threads/processors.h"

namespace thermocline {

enum class FastTier : uint8_t {
  kAuto,  // a GPU where there is a real one; else a second CPU device stands in for it
  kCpu,
  kGpu,  // an error where there is none
};

// A LoRA adapter (runtime/lora): a PEFT directory or a GGUF, and a factor on what it adds.
struct LoraOption {
  std::string path;
  double scale = 1;
};

// Which files are read.
struct FileOptions {
  std::string model_path;
  std::string placement_path;  // empty: everything in one tier
  // A draft of the hot neurons (runtime/stand_ins), where the engine is to run one: its order of
  // the neurons is the placement, unless another one is named. A file, or a draft that is there
  // already.
  std::string draft_path;
  std::shared_ptr<const DraftFile> draft;
  std::string predictor;  // a file, or kSignPredictor; empty: the model's own, if any
  // Adapters of the model. A sequence uses all of them unless it is told otherwise
  // (Engine::AddAdapterSet).
  std::vector<LoraOption> loras;
};

// Which neurons are computed.
struct SparseOptions {
  std::string sparse = "auto";  // auto with a predictor is predicted
  double predictor_recall = kDefaultPredictorRecall;
  // Thresholds of the modes METHOD:SHARE: a profile that was made with them, and how the share is
  // split over layers and matrices.
  std::string thresholds_path;
  ThresholdSplit threshold_split = ThresholdSplit::kAuto;
  // Load them in a mode that does not use them, too: for who sets cuts itself.
  bool sets_cuts = false;
};

// What lies on which tier, and how it gets there.
struct TierOptions {
  FastTier fast_tier = FastTier::kAuto;
  // Without a placement, of how many layers the neurons lie on the GPU, from the first on; nullopt:
  // of as many as its memory holds. Attention and KV cache of all layers always lie there.
  std::optional<int64_t> gpu_layers = {};
  // Where not all fit: split them, or leave the GPU out (what watches neurons wants layers whole).
  bool may_split_layers = true;
  // Store down per neuron also where nothing could be skipped (where something could, it always is,
  // so that dense and sparse read the same weights).
  bool always_per_neuron = false;
  // Store q, k, v, gate and up of a file with rows by column where thresholds skip columns of them:
  // it takes memory of its own, and weights are rounded once more, to down_type.
  bool by_column = false;
  // What a stock file's down projections become where they are stored per neuron; nullopt: what
  // adds little to the error of the file's type (WeightTypeInfo::for_down).
  std::optional<DType> down_type = {};
  // Weights that need no rearranging are read from the mapped file; copied, they lie in huge pages,
  // which decodes faster, loads slower and takes memory beside the page cache.
  bool copy_weights = false;
  // Run although more of the host's memory is planned than there is: mapped weights that do not fit
  // are read from the file again for every pass.
  bool overcommit = false;
  // Bytes per second that the slow tier gives at most, to rehearse another machine's ratio; 0: what
  // it can.
  double slow_tier_bytes_per_s = 0;
  // Whether batches have the weights of cold neurons streamed to the fast tier, where that is a
  // GPU.
  StreamCold gpu_stream = StreamCold::kAuto;
  uint64_t stream_piece_bytes = kStreamPieceBytes;
};

// Whether neurons change tiers while the model runs, so that the hot sets follow the text
// (runtime/moves). kAuto: where that is expected to pay.
enum class Adapt : uint8_t { kOff, kAuto, kOn };

struct AdaptOptions {
  Adapt adapt = Adapt::kOff;
  // Plan for a placement (OpenedModel::PlanOf) with what moving its neurons would take.
  bool plan_moves = false;
  // From one layer's turn to the next one's; 0: as many as the turn costs less than half a percent
  // of.
  int64_t adapt_tokens_between = 0;
  bool adapt_in_step = false;  // see MoverOptions
};

struct ThreadOptions {
  int n_threads = 0;  // 0: one per physical core
  Pinning pinning = Pinning::kAuto;
};

struct PrecisionOptions {
  // Of the activations that the CPU multiplies quantised weights by: 8 or 16. 16 are two vectors of
  // 8 (cpu_kernels/two_planes.cc).
  int activation_bits = 8;
};

// How much is fed, and what is kept of it.
struct ContextOptions {
  int64_t context_tokens = 0;  // 0: the model's own, at most kDefaultContext
  int64_t n_sequences = 1;     // at most at a time
  // Tokens that the KV cache has room for, all sequences together; 0: a context for each.
  int64_t kv_tokens = 0;
  int64_t batch_tokens = 512;      // of a pass
  DType cache_type = DType::kF16;  // of keys and values: kF32 (on the CPU), kF16, kQ8_0
  // Keep keys and values also of positions that no window shows any more: for who rolls back far.
  bool keep_all_kv = false;
  bool all_logits = false;  // EvaluateAll will be called
  // Tokens of a pass whose logits may be wanted beside one of each sequence: what is drafted.
  int64_t drafted_rows = 0;
  bool watch_attention = false;  // observers see what attention read, too
};

struct EngineOptions : FileOptions,
                       SparseOptions,
                       TierOptions,
                       AdaptOptions,
                       ThreadOptions,
                       PrecisionOptions,
                       ContextOptions {
  ProgressFn progress;
};

inline constexpr int64_t kDefaultContext = 4096;

}  // namespace thermocline
