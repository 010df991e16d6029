// Parts of ReadModelConfig: what some families have beside attention and FFN.
#pragma once

#include <vector>

#include "runtime/model/config_reader.h"
#include "runtime/model/families.h"

namespace thermocline {

// Gives the last layers, ARCH.attention.shared_kv_layers of them, the keys and values of the last
// layer of their kind that has its own. local: which layers see a window only. Throws Error where
// there is no such layer, or one with another number of heads.
void ShareKv(const ConfigReader& keys, const std::vector<bool>& local, ModelConfig* config);

// Reads which layers cut their gates, and where (ARCH.activation_sparsity_scale, in standard
// deviations; -inf is a layer that does not). Throws Error for what is no such number.
void ReadGateCuts(const ConfigReader& keys, ModelConfig* config);

// Reads how many residual streams there are, the rank of the block beside attention, and how wide
// the layers' own embeddings are. Throws Error for numbers out of range.
void ReadBeside(const GgufReader& gguf, const ConfigReader& keys, const Family& family,
                ModelConfig* config);

}  // namespace thermocline
