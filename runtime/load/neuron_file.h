// Single neurons of a model's file, in the form in which memory of the host holds them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/load/down_type.h"
#include "runtime/model/families.h"
#include "runtime/model/model.h"
#include "runtime/model/stored_ffn.h"

namespace thermocline {

// A neuron's rows of gate, up (none in a plain FFN) and down, and its biases where it has some.
struct NeuronRows {
  std::vector<std::byte> gate;
  std::vector<std::byte> up;
  std::vector<std::byte> down;
  float gate_bias = 0;
  float up_bias = 0;
};

class NeuronFile {
 public:
  // All must outlive it. down: how LoadWeights stores down projections.
  NeuronFile(const GgufReader& gguf, const Family& family, const ModelConfig& config,
             const DownStorage& down);

  // Reads the neuron that is `channel` of a layer. REQUIRES: its down is stored per neuron.
  void Read(int64_t layer, int32_t channel, NeuronRows* out) const;

 private:
  using NeuronVector = const float* FfnSlice::*;
  struct Layer {
    FileFfn ffn;
    std::vector<int32_t> row_of;  // by channel; empty: the channel's own number
    std::vector<std::pair<NeuronVector, std::vector<float>>> vectors;  // by the file's rows
  };

  void ReadColumn(const Layer& layer, int64_t row, std::vector<std::byte>* out) const;

  const ModelConfig& config_;
  DownStorage down_;
  std::vector<Layer> layers_;
};

}  // namespace thermocline
