// Read this first: what a model is here, in three structs. They are the config (its dimensions,
// with one LayerConfig per layer), the weights (every tensor with its shape) and the run state
// (every buffer one pass fills). The executor's layer is a list of ops over these. Which tensor of
// a file is which weight stands in one table per family (tensor_table.h).
//
// Words: d_model is the width of the residual stream, d_ff the number of FFN neurons of a layer. A
// neuron is FFN channel i: row i of gate and up, column i of down. Hot neurons lie on the fast
// tier, cold ones on the slow tier. Matrices are row-major; (rows, cols).
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/tensor_view.h"

namespace thermocline {

enum class RopeScaling : uint8_t { kNone, kLinear, kYarn, kLong };

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
  // (rot_dim / 2) llama-3 scaling: rope_freqs.weight. LongRoPE: the divisors of contexts up to the
  // original one, and of longer ones.
  std::vector<float> freq_divisors;
  std::vector<float> long_divisors;
};

// What the layers of a family are made of. A kind that a second family needs is a second value.
enum class NormKind : uint8_t {
  kRms,    // x / rms(x) * weight
  kLayer,  // (x - mean(x)) / std(x) * weight + bias
};
enum class BlockKind : uint8_t {
  kSequential,  // x += attention(norm(x)), then x += ffn(norm(x))
  kParallel,    // x += attention(norm(x)) + ffn(norm(x)), of the same x
};
enum class FfnKind : uint8_t {
  kGated,  // down (act(gate x) * (up x))
  kPlain,  // down act(gate x): there is no up; files name the one matrix ffn_up
};
// What is normalised of queries and keys before they are turned.
enum class QkNorm : uint8_t {
  kNone,
  kPerHead,   // each head, with weights that all heads share: (head_dim)
  kEachHead,  // each head with weights of its own: (n_heads, head_dim)
  kWide,      // all heads together: (n_heads * head_dim)
};
// The rotation of a layer's queries and keys.
enum class LayerRope : uint8_t {
  kNone,   // positions are learned, or not seen
  kMain,   // ModelConfig::rope
  kLocal,  // ModelConfig::local_rope, of layers that see a window
};

inline constexpr int64_t kOwnKv = -1;  // AttentionConfig::kv_layer of a layer with its own

// A bias on the scores that depends on how far a key lies from the query (T5, arXiv:1910.10683).
// Distances share buckets: near ones have one each, farther ones ever wider ones.
struct RelativeConfig {
  int64_t n_buckets = 0;     // 0: there is no bias
  int64_t max_distance = 0;  // from here on all distances share the last bucket
};

struct AttentionConfig {
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  float scale = 0;     // of the scores q . k
  float soft_cap = 0;  // c: scores become c tanh(score / c); 0: they stay
  int64_t window = 0;  // positions that a token sees, its own included; 0: all before it
  QkNorm qk_norm = QkNorm::kNone;
  bool v_norm = false;  // each head of the values is divided by its root mean square
  LayerRope rope = LayerRope::kMain;
  int64_t kv_layer = kOwnKv;  // the earlier layer whose keys and values it reads
  RelativeConfig relative = {};

  bool has_own_kv() const { return kv_layer == kOwnKv; }
  int64_t q_dim() const { return n_heads * head_dim; }
  int64_t kv_dim() const { return n_kv_heads * head_dim; }
  int64_t group() const { return n_heads / n_kv_heads; }  // query heads that share a KV head
};

struct FfnConfig {
  FfnKind kind = FfnKind::kGated;
  Activation activation = Activation::kSilu;
  float activation_threshold = 0;  // with kRelu: smaller gates become 0 (FATReLU)
  bool relu_up = false;            // up goes through ReLU, too (dReLU, arXiv:2406.05955)
  // Before the activation g becomes max(0, g - mean - gate_cut std), with the mean and the standard
  // deviation of all of a token's gates in the layer (statistical top-k, arXiv:2506.06644).
  bool cuts_gates = false;
  float gate_cut = 0;
  bool norms_h = false;  // h goes through an RMS norm (FfnSlice::h_norm)
  int64_t d_ff = 0;

  // Whether a sizeable part of the neurons has an h of exactly 0.
  bool has_true_zeros() const { return cuts_gates || HasTrueZeros(activation); }
  // Whether something is made of all of a token's neurons, which then lie on one tier.
  bool keeps_together() const { return cuts_gates || norms_h; }
};

// Residual streams (AltUp, arXiv:2301.13310). Where there are several, a layer predicts all of them
// from all, computes with the active one, and corrects all by what became of that.
struct StreamsConfig {
  int64_t n = 1;  // 1: there is the residual stream alone
  int64_t active = 0;

  bool several() const { return n > 1; }
};
inline constexpr int64_t kMaxStreams = 16;

// One layer. Layers may differ in every number here but head_dim; biases and the norms behind
// attention and FFN are there where the file has them.
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
  // Of the layers, how many come first as the encoder: they read a text at once, each position
  // sees all of it, and the layers behind (the decoder) attend to what they made of it.
  int64_t n_encoder_layers = 0;
  int32_t decoder_start = -1;  // with an encoder: the token that the decoder's text begins with
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
  RopeConfig local_rope;           // of layers with LayerRope::kLocal
  bool learned_positions = false;  // a row of a table is added to each embedding
  int64_t position_offset = 0;     // the table's row of position 0
  float embedding_scale = 1;       // embeddings are multiplied by it
  float residual_scale = 1;        // and what attention and FFN add to the residual stream
  float logit_scale = 1;           // and logits
  float logit_soft_cap = 0;        // c: logits become c tanh(logit / c); 0: they stay
  bool tied_output = false;        // the output head is the embedding table
  bool by_column = false;          // the file has q, k, v, o, gate and up by column (LinearWeights)
  StreamsConfig streams;
  int64_t laurel_rank = 0;     // of a low-rank block beside attention (arXiv:2411.07501); 0: none
  int64_t layer_embd_dim = 0;  // width of what each layer embeds of a token by itself; 0: nothing
  std::vector<LayerConfig> layers;  // n_layers

  int64_t q_dim() const { return n_heads * head_dim; }
  int64_t kv_dim() const { return n_kv_heads * head_dim; }
  bool has_encoder() const { return n_encoder_layers > 0; }
  bool in_encoder(int64_t l) const { return l < n_encoder_layers; }
  // Layers of the KV cache: those of the decoder with keys and values of their own, which come
  // first. The encoder's layers take turns with the first: none needs what the one before had.
  int64_t n_kv_layers() const;
  int64_t kv_layer(int64_t l) const;
  // Whether layers can attend on another tier than the first: not where they read others' keys and
  // values, or a text of an encoder's, or lie by column in the file.
  bool attention_may_move() const {
    return !has_encoder() && !by_column && n_kv_layers() == n_layers;
  }
  const LayerConfig& layer(int64_t l) const { return layers[static_cast<size_t>(l)]; }
  int64_t d_ff_of(int64_t l) const { return layer(l).ffn.d_ff; }
  int64_t streams_dim() const { return streams.n * d_model; }
  int64_t layer_embds_dim() const { return n_layers * layer_embd_dim; }
  int64_t low_dim() const { return std::max(laurel_rank, layer_embd_dim); }
  int64_t max_group() const;     // the most query heads that share a KV head in any layer
  int64_t n_neurons() const;     // neurons of all layers together
  bool has_equal_ffns() const;   // every layer has d_ff neurons
  bool has_equal_heads() const;  // every layer has n_heads and n_kv_heads
  bool has_local_rope() const;   // some layer has LayerRope::kLocal
  bool has_true_zeros() const;   // some layer's FFN has
  bool cuts_gates() const;       // some layer's FFN does
  void MakeLayersEqual();        // n_layers layers with the numbers above
};

struct LinearWeights {
  TensorView w;                 // (d_out, d_in), or where it is stored by column (d_in, d_out)
  const float* bias = nullptr;  // (d_out) or null
  // A row of w is then what one channel of the input adds to all outputs, so that channels can be
  // skipped.
  bool by_column = false;

  int64_t d_out() const { return by_column ? w.cols : w.rows; }
  int64_t d_in() const { return by_column ? w.rows : w.cols; }
};

// The weight is null where nothing is normalised.
struct NormWeights {
  const float* weight = nullptr;  // (d) or null
  const float* bias = nullptr;    // (d) or null

  explicit operator bool() const { return weight != nullptr; }
};

enum class DownLayout : uint8_t {
  kPerNeuron,  // (n_neurons, d_model): a neuron's down column is one row; what skipping needs
  kStock,      // (d_model, n_neurons): as GGUF files store it; dense only
};

// The neurons of one layer that lie on one tier, in placement order.
struct FfnSlice {
  int64_t n_neurons = 0;
  TensorView gate;  // (n_neurons, d_model), or by column (d_model, n_neurons)
  TensorView up;    // as gate; empty in a plain FFN
  TensorView down;  // see DownLayout
  DownLayout down_layout = DownLayout::kPerNeuron;
  bool by_column = false;               // gate and up, see LinearWeights
  const float* gate_bias = nullptr;     // (n_neurons) or null
  const float* up_bias = nullptr;       // (n_neurons) or null
  const float* h_norm = nullptr;        // (n_neurons) or null: weights of an RMS norm of h
  const int32_t* neuron_ids = nullptr;  // (n_neurons) channel in the file; null: 0, 1, 2, ...

  bool is_gated() const { return up.rows > 0; }
  int64_t d_model() const { return by_column ? gate.rows : gate.cols; }
  uint64_t weight_bytes() const {
    return n_neurons == 0 ? 0 : gate.weight_bytes() + up.weight_bytes() + down.weight_bytes();
  }
};

// What a draft computes in place of the neurons that it leaves out, all of it on the fast tier
// (docs/drafts.md). A model itself has none.
struct LayerStandIn {
  std::vector<FfnSlice> slices;  // some of these neurons, in fewer bits
  // Of the rest, what can be told from the FFN's input: right (left x) + bias.
  LinearWeights left;           // (rank, d_model), or empty
  LinearWeights right;          // (d_model, rank)
  const float* bias = nullptr;  // (d_model) or null

  int64_t rank() const { return left.w.rows; }
  // The most neurons of a slice.
  int64_t max_neurons() const;
};

struct LayerWeights {
  // n_heads and n_kv_heads are the layer's own (LayerConfig).
  NormWeights attn_norm;  // (d_model) before attention
  LinearWeights wq;       // (n_heads * head_dim, d_model)
  LinearWeights wk;       // (n_kv_heads * head_dim, d_model); with another's keys and values empty
  LinearWeights wv;       // (n_kv_heads * head_dim, d_model); the same
  NormWeights q_norm;     // see QkNorm
  NormWeights k_norm;
  NormWeights v_norm;          // (head_dim) of ones, as no file has it
  NormWeights attn_sub_norm;   // (n_heads * head_dim) of what heads found
  LinearWeights wo;            // (d_model, n_heads * head_dim)
  NormWeights attn_post_norm;  // (d_model) of attention's output
  // (n_heads, 2 * max_distance + 1) or null: what a head adds to the score of a key, by its
  // distance behind the query from -max_distance on. Farther keys have the nearest end's.
  const float* relative_bias = nullptr;
  // Attention to the encoder's text, of a decoder's layers alone.
  NormWeights cross_norm;            // (d_model) before it
  LinearWeights cross_q;             // (n_heads * head_dim, d_model)
  LinearWeights cross_k;             // (n_kv_heads * head_dim, d_model) of the encoder's output
  LinearWeights cross_v;             // (n_kv_heads * head_dim, d_model)
  LinearWeights cross_o;             // (d_model, n_heads * head_dim)
  NormWeights ffn_norm;              // (d_model) before the FFN; in parallel blocks without one
                                     //   attn_norm serves both
  const float* down_bias = nullptr;  // (d_model) or null
  NormWeights ffn_post_norm;         // (d_model) of the FFN's output
  // With several streams: what mixes them. A router's output decides by how much.
  NormWeights router_norm;              // (d_model)
  LinearWeights router;                 // (n_streams, d_model)
  const float* predict_coef = nullptr;  // (n_streams * n_streams, n_streams)
  const float* correct_coef = nullptr;  // (n_streams, n_streams)
  // The low-rank block beside attention.
  LinearWeights laurel_left;     // (laurel_rank, d_model)
  LinearWeights laurel_right;    // (d_model, laurel_rank)
  NormWeights laurel_post_norm;  // (d_model)
  // What joins the layer's own embedding to its output.
  const float* layer_gate_scale = nullptr;  // (d_model) of the gate's input, or null
  LinearWeights layer_gate;                 // (layer_embd_dim, d_model)
  LinearWeights layer_proj;                 // (d_model, layer_embd_dim)
  NormWeights layer_post_norm;              // (d_model)
  // The tier that has q, k, v and output, and the norms of what they give; those that are with the
  // residual stream lie on the first, as all else.
  size_t attention_tier = 0;
  // The FFN's neurons by tier, from the fastest on: what a tier does not hold is an empty slice.
  std::vector<FfnSlice> slices;
  LayerStandIn stand_in;  // of a draft's weights
};

struct ModelWeights {
  TensorView token_embd;             // (vocab_size, d_model)
  TensorView position_embd;          // (positions, d_model), where positions are learned
  std::vector<LayerWeights> layers;  // n_layers
  // The layers' own embeddings: a table, and what is made of the token's embedding.
  TensorView layer_embd;          // (vocab_size, n_layers * layer_embd_dim)
  LinearWeights layer_embd_proj;  // (n_layers * layer_embd_dim, d_model)
  NormWeights layer_embd_norm;    // (layer_embd_dim) shared by all layers
  // (n_streams - 1) of (d_model, d_model): the other streams of an embedding, and back.
  std::vector<LinearWeights> to_streams;
  std::vector<LinearWeights> from_streams;
  NormWeights encoder_norm;  // (d_model) of the encoder's output
  NormWeights output_norm;   // (d_model)
  LinearWeights output;      // (vocab_size, d_model)
};

// What one tier's FFN needs while it runs. n is the tokens of the pass, m the tier's neurons in the
// layer.
struct FfnState {
  float* gate = nullptr;  // (n, m) gate, then act(gate), then h: act(gate) * up where gated
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
  float* q = nullptr;     // (n, n_heads * head_dim)
  float* k = nullptr;     // (n, n_kv_heads * head_dim)
  float* v = nullptr;     // (n, n_kv_heads * head_dim)
  float* att = nullptr;   // (n, n_heads * head_dim) attention's output per head
  float* proj = nullptr;  // (n, d_model) attention's output projection
  // (n_streams, n, d_model) with several streams, else null. x is then the active one's within a
  // layer.
  float* streams = nullptr;
  float* route = nullptr;         // (n, n_streams) what the router says; else null
  float* side = nullptr;          // (n, d_model) of what runs beside attention and FFN, or null
  float* low = nullptr;           // (n, max(laurel_rank, layer_embd_dim)), or null
  float* layer_embd = nullptr;    // (n, n_layers * layer_embd_dim), or null
  float* stand_in_low = nullptr;  // (n, the largest rank of a stand-in), or null
  float* stand_in = nullptr;      // (n, d_model) of a low-rank stand-in, or null
  float* logits = nullptr;        // (tokens whose logits are wanted, vocab_size)
};

}  // namespace thermocline
