// A neuron placement: for every layer the order of its neurons, hot to cold, how many of them
// lie in each tier, and on which its attention does. The order is a permutation of the layer's
// channels; the first n_on[0] of it lie on the first tier, the next n_on[1] on the second, and so
// on.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/model.h"

namespace thermocline {

inline constexpr int64_t kClusterNeurons = 32;  // residency is decided for clusters of this many

// The tiers that a placement knows, from the fastest on; files say them by these names.
enum PlacementTier : uint8_t { kVram, kDram, kNvme };
inline constexpr std::array<const char*, 3> kPlacementTierNames = {"vram", "dram", "nvme"};
inline constexpr size_t kPlacementTiers = kPlacementTierNames.size();

struct LayerPlacement {
  std::vector<int32_t> neuron_order;            // (d_ff of the layer)
  std::array<int64_t, kPlacementTiers> n_on{};  // neurons by tier
  // Where the layer attends, with its keys and values.
  PlacementTier attention = kVram;
};

// The time that a placement was expected to take, and for what.
struct PlacementPrediction {
  double ms_per_token = 0;
  std::string mode;  // SparseModeName
  int64_t n_threads = 0;
  int64_t context_tokens = 0;   // that a token attends to
  double fast_bytes_per_s = 0;  // plain reads of the tiers
  double slow_bytes_per_s = 0;
  std::string machine;  // whose rates they are
};

struct Placement {
  std::string path;               // where it was read from; for messages
  std::string model_fingerprint;  // the model it was made for
  // Whether it was read from a file of PowerInfer's, which names no model and one budget only: the
  // fingerprint is empty, ram_budget_bytes 0.
  bool imported = false;
  uint64_t vram_budget_bytes = 0;
  uint64_t ram_budget_bytes = 0;
  std::optional<PlacementPrediction> prediction;  // absent: it was made without rates
  std::vector<LayerPlacement> layers;
};

// (n_layers) 1 where a layer attends on another tier than the first.
std::vector<uint8_t> AttendsAway(const Placement& placement);

// Reads our own files and PowerInfer's .gpuidx (powerinfer_file.h), told apart by what they hold.
// Throws Error for a file that is not a placement, or whose orders are not permutations.
Placement ReadPlacement(const std::string& path);
void WritePlacement(const std::string& path, const Placement& placement);

// What a run with an imported placement tells its user.
inline constexpr const char* kImportedPlacementNote =
    "the placement is PowerInfer's and names no model: only its layers and neurons were compared";

// Throws Error with both values when the placement was made for another model, or a shape differs.
// `fingerprints`: those the model goes by (its own; a packed model also its source's). For an
// imported placement only the shape can be checked.
void CheckPlacementFits(const Placement& placement, const ModelConfig& config,
                        const std::string& model_path,
                        const std::vector<std::string>& fingerprints);

// Returns a model's own fingerprint, and for a packed one that of the file it was packed from.
std::vector<std::string> ModelFingerprints(const GgufReader& gguf);

// Returns the fingerprint that profiles and placements of this model carry: a packed model's
// source's.
std::string PlacementFingerprint(const GgufReader& gguf);

}  // namespace thermocline
