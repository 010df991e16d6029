// Read this first: what a model is here, in three structs. They are the config (its dimensions,
// with one LayerConfig per layer), the weights (every tensor with its shape) and the run state
// (every buffer one pass fills). The executor's layer is a list of ops over these. Which tensor of
// a file is which weight stands in one table per family (tensor_table.h).
//
// Words: d_model is the width of the residual stream, d_ff the number of FFN neurons of a layer. A
// neuron is FFN channel i: row i of gate and up, column i of down. Hot neurons lie on the fast
// tier, cold ones on the slow tier. Matrices are row-major; (rows, cols).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/tensor_view.h"

namespace thermocline {

enum class RopeScaling : uint8_t { kNone, kLinear, kYarn };

struct RopeConfig {
  RopePairing pairing = RopePairing::kAdjacent;
  int64_t rot_dim = 0;       // leading elements of a head that are rotated
  double freq_base = 10000;  // NTK-aware scaling is a larger base, which files store here
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;                 // linear, yarn: context extension
  int64_t original_max_seq_len = 0;  // yarn: context length the model was first trained for
  double yarn_beta_fast = 32;        // yarn: rotations within the original context above which a
  double yarn_beta_slow = 1;         //   frequency is kept, and below which it is divided by factor
  double yarn_ext_factor = 1;        // yarn: 0 turns the ramp off
  double attention_factor = 1;       // yarn: multiplies cos and sin, on top of 0.1 ln(factor) + 1
  std::vector<float> freq_divisors;  // llama-3 scaling: rope_freqs.weight, (rot_dim / 2)
};

// What the layers of a family are made of. A kind that a second family needs is a second value.
enum class NormKind : uint8_t { kRms };          // x / rms(x) * weight
enum class BlockKind : uint8_t { kSequential };  // x += attention(norm(x)), then x += ffn(norm(x))
enum class FfnKind : uint8_t { kGated };         // down (act(gate x) * (up x))

struct AttentionConfig {
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;

  int64_t q_dim() const { return n_heads * head_dim; }
  int64_t kv_dim() const { return n_kv_heads * head_dim; }
  int64_t group() const { return n_heads / n_kv_heads; }  // query heads that share a KV head
};

struct FfnConfig {
  FfnKind kind = FfnKind::kGated;
  Activation activation = Activation::kSilu;
  int64_t d_ff = 0;
};

// One layer. Layers may differ in every number here but head_dim; biases are there where the file
// has them (LinearWeights::bias, FfnSlice::gate_bias).
struct LayerConfig {
  NormKind norm = NormKind::kRms;
  BlockKind block = BlockKind::kSequential;
  AttentionConfig attention;
  FfnConfig ffn;
};

struct ModelConfig {
  std::string architecture;
  std::string name;
  int64_t n_layers = 0;
  int64_t d_model = 0;
  // The most that any layer has, which buffers are sized by. A layer's own numbers stand in
  // `layers`.
  int64_t d_ff = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab_size = 0;
  int64_t max_seq_len = 0;
  float norm_eps = 0;
  Activation activation = Activation::kSilu;  // the activation of every layer
  RopeConfig rope;
  bool tied_output = false;         // the output head is the embedding table
  std::vector<LayerConfig> layers;  // n_layers

  int64_t q_dim() const { return n_heads * head_dim; }
  int64_t kv_dim() const { return n_kv_heads * head_dim; }
  const LayerConfig& layer(int64_t l) const { return layers[static_cast<size_t>(l)]; }
  int64_t d_ff_of(int64_t l) const { return layer(l).ffn.d_ff; }
  int64_t max_group() const;     // the most query heads that share a KV head in any layer
  int64_t n_neurons() const;     // neurons of all layers together
  bool has_equal_ffns() const;   // every layer has d_ff neurons
  bool has_equal_heads() const;  // every layer has n_heads and n_kv_heads
  void MakeLayersEqual();        // n_layers layers with the numbers above
};

struct LinearWeights {
  TensorView w;                 // (d_out, d_in)
  const float* bias = nullptr;  // (d_out) or null
};

enum class DownLayout : uint8_t {
  kPerNeuron,  // (n_neurons, d_model): a neuron's down column is one row; what skipping needs
  kStock,      // (d_model, n_neurons): as GGUF files store it; dense only
};

// The neurons of one layer that lie on one tier, in placement order.
struct FfnSlice {
  int64_t n_neurons = 0;
  TensorView gate;  // (n_neurons, d_model)
  TensorView up;    // (n_neurons, d_model)
  TensorView down;  // see DownLayout
  DownLayout down_layout = DownLayout::kPerNeuron;
  const float* gate_bias = nullptr;     // (n_neurons) or null
  const int32_t* neuron_ids = nullptr;  // (n_neurons) channel in the file; null: 0, 1, 2, ...

  uint64_t weight_bytes() const {
    return n_neurons == 0 ? 0 : gate.weight_bytes() + up.weight_bytes() + down.weight_bytes();
  }
};

struct LayerWeights {
  // n_heads and n_kv_heads are the layer's own (LayerConfig).
  const float* attn_norm = nullptr;  // (d_model)
  LinearWeights wq;                  // (n_heads * head_dim, d_model)
  LinearWeights wk;                  // (n_kv_heads * head_dim, d_model)
  LinearWeights wv;                  // (n_kv_heads * head_dim, d_model)
  LinearWeights wo;                  // (d_model, n_heads * head_dim)
  const float* ffn_norm = nullptr;   // (d_model)
  // The FFN's neurons by tier, from the fastest on: what a tier does not hold is an empty slice.
  std::vector<FfnSlice> slices;
};

struct ModelWeights {
  TensorView token_embd;               // (vocab_size, d_model)
  std::vector<LayerWeights> layers;    // n_layers
  const float* output_norm = nullptr;  // (d_model)
  LinearWeights output;                // (vocab_size, d_model)
};

// What one tier's FFN needs while it runs. n is the tokens of the pass, m the tier's neurons in the
// layer.
struct FfnState {
  float* gate = nullptr;  // (n, m) gate, then act(gate), then h = act(gate) * up
  float* up = nullptr;    // (n, m)
  float* y = nullptr;     // (n, d_model) this tier's part of the FFN's output
};

// Buffers of one pass over n tokens; n is 1 in decode, up to the batch size in prefill.
struct RunState {
  float* x = nullptr;   // (n, d_model) residual stream
  float* xn = nullptr;  // (n, d_model) normalised input of attention
  // (n, d_model) The FFN's input, for even and for odd layers. Both point to `xn`, unless a
  // predictor still needs the previous layer's or an observer what attention read.
  float* ffn_x[2] = {nullptr, nullptr};
  float* q = nullptr;       // (n, n_heads * head_dim)
  float* k = nullptr;       // (n, n_kv_heads * head_dim)
  float* v = nullptr;       // (n, n_kv_heads * head_dim)
  float* att = nullptr;     // (n, n_heads * head_dim) attention's output per head
  float* proj = nullptr;    // (n, d_model) attention's output projection
  float* logits = nullptr;  // (tokens whose logits are wanted, vocab_size)
};

}  // namespace thermocline
