// Model families as data: which keys and tensors of a GGUF are which of ours, and what the family
// fixes. A new family of the same block structure is a new row of the table in families.cc.
#pragma once

#include <string>
#include <string_view>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/model.h"

namespace thermocline {

// GGUF names of a family's tensors; "{}" stands for the layer. An empty name: the family has none.
struct TensorNames {
  std::string_view token_embd, output_norm, output, rope_freqs;
  std::string_view attn_norm, wq, wk, wv, wo, wq_bias, wk_bias, wv_bias, wo_bias;
  std::string_view ffn_norm, w_gate, w_up, w_down, gate_bias;
  std::string_view w_down_t;  // down with one row per neuron, as PowerInfer stores it
};

struct Family {
  std::string_view architecture;  // value of general.architecture
  RopePairing pairing;
  Activation default_activation;  // where the file has no ARCH.hidden_activation
  TensorNames names;
};

// Throws Error for an architecture that is not in the table, naming those that are.
const Family& FindFamily(const GgufReader& gguf);

// Reads and checks every dimension. Throws Error with the key, what was expected and what was
// found.
ModelConfig ReadModelConfig(const GgufReader& gguf, const Family& family);

// "blk.{}.ffn_up.weight" -> "blk.7.ffn_up.weight".
std::string LayerTensorName(std::string_view pattern, int64_t layer);

std::string_view ActivationName(Activation activation);

}  // namespace thermocline
