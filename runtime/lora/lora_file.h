// Reads LoRA adapters (arXiv:2106.09685) for a model: directories as PEFT writes them
// (adapter_config.json and adapter_model.safetensors) and GGUF files as llama.cpp's
// convert_lora_to_gguf.py writes them (general.type = adapter, adapter.type = lora). Either becomes
// the same: of each layer's matrices those that the adapter changes, y += scale B (A x).
//
// A file is untrusted: names, ranks and shapes are checked against the model before anything is
// read. Errors name the tensor or the key, what was expected and what was found. What an adapter
// may hold and is not computed here is refused: DoRA, biases, whole modules, embeddings, the output
// head, ranks or alphas of a matrix's own, aLoRA.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/mapped_file.h"
#include "runtime/core/tensor_view.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/families.h"
#include "runtime/model/model.h"

namespace thermocline {

// The matrices of a layer that an adapter may change. kGate is the one matrix before the activation
// in a plain FFN, too.
enum class LoraTarget : uint8_t { kQ, kK, kV, kOutput, kGate, kUp, kDown };
inline constexpr size_t kLoraTargets = 7;

inline constexpr int64_t kMaxLoraRank = 4096;

// The matrix's dimensions, as (d_out, d_in), and its name in a GGUF: "attn_q".
struct LoraShape {
  int64_t d_out = 0;
  int64_t d_in = 0;
};
LoraShape ShapeOf(LoraTarget target, const ModelConfig& config, int64_t layer);
std::string_view NameOf(LoraTarget target, const Family& family);

// What the adapter adds to one matrix, as it lies in the file.
struct LoraMatrix {
  int64_t rank = 0;             // 0: nothing
  float scale = 0;              // alpha / rank (rsLoRA: alpha / sqrt(rank)), times the user's
  TensorView a;                 // (rank, d_in)
  TensorView b;                 // (at least d_out, rank)
  std::vector<int32_t> b_rows;  // (d_out) which rows of b, in the GGUF's order of the matrix's rows

  // Widen to f32: (rank, d_in), and times the factor (d_out, rank).
  std::vector<float> A() const;
  std::vector<float> B(float factor) const;
};

// An adapter in memory: a GGUF's bytes, or what a PEFT directory's two files hold.
struct LoraBytes {
  std::span<const std::byte> weights;
  std::optional<std::string_view> peft_config;  // adapter_config.json
};

class LoraFile {
 public:
  // Opens and checks the adapter. path: a directory or a GGUF. scale: the user's factor. Throws
  // Error for what is no adapter of the model.
  LoraFile(const std::string& path, double scale, const ModelConfig& config, const Family& family);

  // The same of bytes, which must outlive it. path: for messages.
  LoraFile(const std::string& path, const LoraBytes& bytes, double scale, const ModelConfig& config,
           const Family& family);

  const std::string& path() const { return path_; }
  const LoraMatrix& matrix(int64_t layer, LoraTarget target) const {
    return layers_[static_cast<size_t>(layer)][static_cast<size_t>(target)];
  }
  int64_t n_layers() const { return static_cast<int64_t>(layers_.size()); }
  int64_t max_rank() const;
  int64_t n_matrices() const;
  // Bytes of the factors in f32: of a layer's attention, and of its FFN on a tier that holds so
  // many of its neurons (0 where it holds none).
  uint64_t AttentionBytes(int64_t layer) const;
  uint64_t FfnBytes(int64_t layer, int64_t n_neurons) const;

 private:
  friend class LoraReader;

  LoraFile(const std::string& path, const ModelConfig& config);

  std::string path_;
  std::optional<GgufReader> gguf_;
  std::optional<MappedFile> safetensors_;
  std::vector<std::array<LoraMatrix, kLoraTargets>> layers_;
  int64_t d_model_;
};

}  // namespace thermocline
