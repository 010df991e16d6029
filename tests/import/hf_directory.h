// A directory as Hugging Face has models: a tiny one of any family, whose files a test changes.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/import/import_model.h"
#include "tests/safetensors/safetensors_bytes.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {

class HfDirectory {
 public:
  nlohmann::json config;
  SafetensorsBytes tensors;

  // Adds a tensor of F32 whose values count up from a number of its own.
  void Add(const std::string& name, const std::vector<uint64_t>& shape) {
    tensors.AddF32(name, shape, Values(name, shape));
  }
  static std::vector<float> Values(const std::string& name, const std::vector<uint64_t>& shape) {
    size_t n = 1;
    for (const uint64_t dim : shape) n *= dim;
    const auto first = static_cast<float>(std::hash<std::string>()(name) % 97);
    std::vector<float> values;
    for (size_t i = 0; i < n; ++i) values.push_back((first + static_cast<float>(i)) / 64);
    return values;
  }

  const std::string& path() const { return dir_->path(); }
  std::string out() const { return dir_->file("out.gguf"); }
  void WriteFile(const std::string& name, const std::string& text) const {
    WriteWholeFile(dir_->file(name), text);
  }
  void Write() const {
    WriteFile("config.json", config.dump());
    WriteFile("model.safetensors", tensors.bytes());
  }

  // Writes the files and converts them. Returns the message of an Error, or "".
  std::string Convert(const ImportOptions& options = {}) {
    Write();
    return MessageOf([&] { report = ImportModel(path(), out(), options); });
  }
  ImportReport report;

 private:
  std::shared_ptr<TempDir> dir_ = std::make_shared<TempDir>();
};

// d_model 8, 2 layers, 4 heads of 4 over 2 KV heads, d_ff 12, 16 tokens.
inline HfDirectory TinyLlama() {
  HfDirectory model;
  model.config = {{"architectures", {"LlamaForCausalLM"}},
                  {"model_type", "llama"},
                  {"hidden_size", 8},
                  {"intermediate_size", 12},
                  {"num_hidden_layers", 2},
                  {"num_attention_heads", 4},
                  {"num_key_value_heads", 2},
                  {"head_dim", 4},
                  {"max_position_embeddings", 64},
                  {"rms_norm_eps", 1e-5},
                  {"rope_theta", 500.0},
                  {"hidden_act", "silu"},
                  {"tie_word_embeddings", false},
                  {"vocab_size", 16}};
  model.Add("model.embed_tokens.weight", {16, 8});
  for (const std::string l : {"model.layers.0.", "model.layers.1."}) {
    model.Add(l + "input_layernorm.weight", {8});
    model.Add(l + "self_attn.q_proj.weight", {16, 8});
    model.Add(l + "self_attn.k_proj.weight", {8, 8});
    model.Add(l + "self_attn.v_proj.weight", {8, 8});
    model.Add(l + "self_attn.o_proj.weight", {8, 16});
    model.Add(l + "post_attention_layernorm.weight", {8});
    model.Add(l + "mlp.gate_proj.weight", {12, 8});
    model.Add(l + "mlp.up_proj.weight", {12, 8});
    model.Add(l + "mlp.down_proj.weight", {8, 12});
  }
  model.Add("model.norm.weight", {8});
  model.Add("lm_head.weight", {16, 8});
  return model;
}

// The F32 values of a tensor of a GGUF.
inline std::vector<float> ValuesOf(const GgufReader& gguf, const std::string& name) {
  const GgufTensorInfo* tensor = gguf.FindTensor(name);
  if (tensor == nullptr || tensor->dtype != DType::kF32) return {};
  std::vector<float> values(tensor->n_elements);
  std::memcpy(values.data(), gguf.TensorData(*tensor), tensor->n_bytes);
  return values;
}

}  // namespace thermocline
