// Models that the tests of the command line run.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/gguf/gguf_writer.h"
#include "runtime/model/families.h"
#include "runtime/placement/placement.h"
#include "runtime/synth/synth.h"
#include "tests/placement/placements.h"

namespace thermocline {

inline std::string GoldenModel(const std::string& name) {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/" + name + ".gguf";
}

inline std::string DemoModel() {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/classics-9m-relu-q8_0.gguf";
}

// Writes a copy of a model that brings a chat template.
inline void WriteWithTemplate(const std::string& model_path, const std::string& chat_template,
                              const std::string& path) {
  const GgufReader model(model_path);
  GgufWriter writer(path);
  for (const std::string& key : model.keys()) writer.Set(key, *model.Find(key));
  writer.Set("tokenizer.chat_template", GgufValue::string(chat_template));
  for (const auto& tensor : model.tensors()) {
    writer.DeclareTensor(tensor.name, tensor.dtype, tensor.dims);
  }
  for (const auto& tensor : model.tensors()) {
    writer.WriteTensor(tensor.name, model.TensorData(tensor), tensor.n_bytes);
  }
  writer.Finish();
}

// Writes a placement with shuffled orders and 40 % of the neurons hot.
inline void WriteShuffledPlacement(const std::string& model_path, const std::string& path) {
  const GgufReader gguf(model_path);
  const ModelConfig config = ReadModelConfig(gguf, FindFamily(gguf));
  WritePlacement(path, ShuffledPlacement(gguf.fingerprint(), config.n_layers, config.d_ff, 0.4));
}

// Writes about 70 MB of random weights: long enough at work to be interrupted.
inline void WriteLargeModel(const std::string& path) {
  SynthOptions options;
  options.n_layers = 2;
  options.d_model = 1024;
  options.d_ff = 4096;
  options.n_heads = 8;
  options.n_kv_heads = 8;
  options.vocab_size = 2048;
  options.max_seq_len = 16384;
  options.dtype = DType::kF16;
  options.activation = Activation::kRelu;
  options.n_threads = 2;
  WriteSynthModel(path, options);
}

}  // namespace thermocline
