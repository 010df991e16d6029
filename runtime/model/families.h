// Model families as data: what a family fixes, and its tensors. A new family of the same block
// structure is a new row in families.cc, and a new table where its tensors differ.
#pragma once

#include <string>
#include <string_view>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/model.h"
#include "runtime/model/tensor_table.h"

namespace thermocline {

struct Family {
  std::string_view architecture;  // value of general.architecture
  RopePairing pairing;
  Activation default_activation;  // where the file has no ARCH.hidden_activation
  TensorTable tensors;
};

// Returns the family. CHECKs that the architecture is in the table.
const Family& FamilyNamed(std::string_view architecture);

// Returns the family. Throws Error for an architecture that is not in the table, and names those
// that are.
const Family& FindFamily(const GgufReader& gguf);

// Reads and checks every dimension. Throws Error with the key, what was expected and what was
// found.
ModelConfig ReadModelConfig(const GgufReader& gguf, const Family& family);

// Both throw Error for a model whose layers differ in what `who` ("attention on the GPU") takes as
// equal.
void RequireEqualHeads(const ModelConfig& config, const std::string& path, const std::string& who);
void RequireEqualFfns(const ModelConfig& config, const std::string& path, const std::string& who);

std::string_view ActivationName(Activation activation);

}  // namespace thermocline
