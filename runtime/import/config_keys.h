// A config.json as the keys of a GGUF, and the tensors that follow from it alone.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "runtime/gguf/gguf.h"
#include "runtime/import/hf_config.h"
#include "runtime/import/imported_tensor.h"
#include "runtime/model/hf_import.h"

namespace thermocline {

using GgufKeys = std::vector<std::pair<std::string, GgufValue>>;

// What a config became.
struct ImportedConfig {
  GgufKeys keys;                        // "ARCH...."
  std::vector<ImportedTensor> tensors;  // rope_freqs.weight, rope_factors_*.weight
  std::vector<std::string> notes;       // what a user should know
};

// Throws Error for a config that asks for what the family is not computed with.
ImportedConfig MapConfig(const HfImport& family, const HfConfig& config);

// Elements of a head that are rotated.
int64_t RotatedDims(const HfImport& family, const HfConfig& config, int64_t head_dim);

// Parts of MapConfig. `prefix` is "ARCH.".
void MapRope(const HfImport& family, const HfConfig& config, ImportedConfig* imported);
void MapWindow(const HfImport& family, const HfConfig& config, ImportedConfig* imported);

}  // namespace thermocline
