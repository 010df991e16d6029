// How a Hugging Face model of a family becomes a GGUF: which key of its config.json is which key of
// the file, which tensor is which, and what is done to a tensor on the way. Data alone; what reads
// it is runtime/import.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

namespace thermocline {

enum class HfTransform : uint8_t {
  kNone,
  kAdjacentQ,    // each head's rows from two halves to adjacent pairs, which rotate together
  kAdjacentK,    // the same over KV heads
  kPlusOne,      // norms that multiply by 1 + weight; biases stay
  kQkvByHead,    // rows q, k, v of each head in turn -> those of q, of k, of v
  kQkvByKvHead,  // each KV head's queries, its k, its v in turn -> the same
  kTranspose,    // (d_in, d_out) -> (d_out, d_in); biases stay
  kTernary,      // BitNet: -1, 0 or 1 times the mean of absolute values
  kStack,        // NAME.0, NAME.1, ... become one tensor, behind each other
  kPadVocab,     // rows of zeros up to the vocabulary's size
};

// A tensor's names. Without an ending they stand for NAME.weight and, where a model has it,
// NAME.bias. "{}" stands for the layer. In the Hugging Face name the family's prefix is left out.
struct HfTensor {
  std::string_view hf;
  std::string_view gguf;
  HfTransform transform = HfTransform::kNone;
  bool required = true;
};

enum class HfKind : uint8_t {
  kInt,    // from 1; or one for each layer
  kIndex,  // from 0
  kFloat,
  kBool,
  kPerRootOfLayers,  // a float, over the root of the number of layers
  kShareOfWidth,     // d_model over it
  kQuantiles,  // shares of a normal distribution, as the multiples of its deviation that bound them
};

// What a key's value is where the config has none.
inline constexpr double kHfRequired = std::numeric_limits<double>::infinity();
inline constexpr double kHfLeftOut = -std::numeric_limits<double>::infinity();
inline constexpr double kHfFourTimes = -4;  // four times d_model

// A number of the config. `hf` may be several names with '|' between them; the first that is there
// counts. `gguf` stands behind "ARCH.".
struct HfKey {
  std::string_view gguf;
  std::string_view hf;
  HfKind kind = HfKind::kInt;
  double fallback = kHfRequired;
};

// A number (or 1 and 0 for true and false) that the config must have where it has the key at all:
// another one asks for what the family is not computed with.
struct HfExpected {
  std::string_view hf;
  double value;
};

enum class HfKvHeads : uint8_t {
  kOwnKey,  // num_key_value_heads; as many as heads where it is absent
  kFalcon,  // num_kv_heads with the newer architecture; else one, or as many as heads
  kEqual,   // as many as heads, and no key in the file
};

// A number of the config that some models leave to the family.
struct HfDefault {
  std::string_view hf;
  double value;
};

// Which layers see a window of `sliding_window` positions, where layer_types does not say it.
enum class HfWindow : uint8_t {
  kNone,       // none does, whatever the config says
  kAll,        // all
  kAllButNth,  // all but the last of `window_pattern`
  kFromLayer,  // from max_window_layers on, if use_sliding_window
};

struct HfRope {
  bool turns = true;          // positions are seen by rotation
  double base = 10000;        // where the config has none
  double local_base = 0;      // of layers with a window; 0: as the others
  double partial = 1;         // the share of a head that is turned, where the config has none
  int64_t no_rope_every = 0;  // the last of so many layers is not turned
};

struct HfImport {
  std::string_view architecture;              // general.architecture
  std::span<const std::string_view> classes;  // in the config's `architectures`
  std::span<const std::string_view> types;    // its model_type, where there is no class
  std::string_view prefix = {};               // of the names of tensors
  std::span<const HfTensor> tensors;          // in the order in which files have them
  std::span<const HfKey> keys;                // beside kHfCommonKeys
  std::span<const HfExpected> expected = {};
  std::span<const HfDefault> defaults = {};
  std::string_view activation = "silu";  // the family's own, as GGUFs name it
  std::string_view activation_keys =
      "hidden_activation|hidden_act|activation_function|activation|act_fn|feed_forward_proj";
  HfKvHeads kv_heads = HfKvHeads::kOwnKey;
  HfWindow window = HfWindow::kNone;
  int64_t window_pattern = 0;
  bool says_no_window = false;  // a file whose layers see everything has the key, with 0
  HfRope rope = {};
  bool tied = false;          // the head is the embedding table, where the config does not say it
  bool narrow_heads = false;  // head_dim is d_model / n_heads, whatever the config says
  bool add_space_prefix = true;  // SentencePiece vocabularies: texts begin with a space
};

// What all families have.
inline constexpr HfKey kHfCommonKeys[] = {
    {"block_count", "num_hidden_layers|n_layer|num_layers"},  // an encoder's, where there is one
    {"context_length", "max_position_embeddings|n_positions|n_ctx"},
    {"embedding_length", "hidden_size|n_embd|d_model"},
    {"attention.head_count", "num_attention_heads|n_head|num_heads"},
};

inline constexpr HfTensor kHfEmbedding = {"embed_tokens", "token_embd"};
inline constexpr HfTensor kHfFinalNorm = {"norm", "output_norm"};
inline constexpr HfTensor kHfHead = {"lm_head", "output", HfTransform::kNone, false};

// Llama's layer: a gated FFN, norms before attention and FFN, q, k and v apart.
inline constexpr HfTensor kHfLlamaTensors[] = {
    kHfEmbedding,
    {"layers.{}.input_layernorm", "blk.{}.attn_norm"},
    {"layers.{}.self_attn.q_proj", "blk.{}.attn_q", HfTransform::kAdjacentQ},
    {"layers.{}.self_attn.k_proj", "blk.{}.attn_k", HfTransform::kAdjacentK},
    {"layers.{}.self_attn.v_proj", "blk.{}.attn_v"},
    {"layers.{}.self_attn.o_proj", "blk.{}.attn_output"},
    {"layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"},
    {"layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"},
    {"layers.{}.mlp.up_proj", "blk.{}.ffn_up"},
    {"layers.{}.mlp.down_proj", "blk.{}.ffn_down"},
    kHfFinalNorm,
    kHfHead,
};
inline constexpr HfKey kHfLlamaKeys[] = {
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HfKind::kFloat, 1e-6},
};

}  // namespace thermocline
