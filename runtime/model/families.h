// Model families as data. Each stands in one file of families/: what its layers are made of, how it
// names its tensors, and what its files do not say. The one layer (runtime/pass/layer_ops.h) runs
// them all; a family that needs nothing new is one such file, and its lines in families/all.h.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/model.h"
#include "runtime/model/tensor_table.h"

namespace thermocline {

// What a model's logits do with the number in ARCH.logit_scale.
enum class LogitScaling : uint8_t { kNone, kMultiply, kDivide };

// The names of norms in a layer, without "blk.N." and ".weight". An empty one is not there.
struct NormNames {
  std::string_view attn = "attn_norm";
  std::string_view ffn = "ffn_norm";
  std::string_view attn_post = {};
  std::string_view ffn_post = {};
  bool attn_required = true;
};

// What a family fixes. What is left out is llama's.
struct FamilyData {
  std::string_view architecture;  // value of general.architecture
  // Of several families with one architecture, files with this tensor are of this one.
  std::string_view marked_by = {};
  RopePairing pairing = RopePairing::kAdjacent;
  Activation default_activation = Activation::kSilu;  // where there is no ARCH.hidden_activation
  bool relu_up = false;  // dReLU, where there is no ARCH.hidden_activation
  NormKind norm = NormKind::kRms;
  NormNames norms = {};
  BlockKind block = BlockKind::kSequential;
  bool reads_block_kind = false;  // ARCH.use_parallel_residual says it
  FfnKind ffn = FfnKind::kGated;
  bool fused_gate_up = false;  // files have both in ffn_up, the gate first
  QkNorm qk_norm = QkNorm::kNone;
  bool qk_norm_required = true;
  bool v_norm = false;
  bool sub_norms = false;  // what heads found and h are normalised
  bool learned_positions = false;
  int64_t position_offset = 0;
  bool streams = false;           // ARCH.altup.num_inputs residual streams
  bool laurel = false;            // a low-rank block beside attention
  bool layer_embeddings = false;  // of ARCH.embedding_length_per_layer_input, of each layer's own
  bool embedding_times_root = false;  // embeddings are multiplied by sqrt(d_model)
  LogitScaling logit_scaling = LogitScaling::kNone;
  bool scales_required = false;  // without these keys a file is of an older kind
  // Of so many layers the last one sees all positions and the others ARCH.attention.sliding_window
  // of them; 0: all have the window. ARCH.attention.sliding_window_pattern says another number.
  int64_t window_pattern = 0;
  double local_freq_base = 0;     // base of layers with a window; 0: as in the others
  bool only_local_turns = false;  // layers that see all positions are not turned
  int64_t no_rope_every = 0;      // nor the last one of so many; 0: all are
  double attention_scale = 0;     // of scores, which no key says; 0: 1 / sqrt(head_dim)
  // With this many layers scores are divided by sqrt(d_model / n_heads), which no key says.
  int64_t layers_scaled_by_width = 0;
  // An encoder comes before the layers, and they attend to its output. Names of its tensors begin
  // with enc., those of the other layers with dec.
  bool encoder = false;
  bool relative_positions = false;  // scores have a bias by distance; nothing is turned
  std::string_view attn_output = "attn_output";  // the output projection's name
  // Where the head is the embedding table, its input is multiplied by 1 / sqrt(d_model).
  bool tied_head_by_root = false;
};

struct Family : FamilyData {
  explicit Family(const FamilyData& data);
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  std::deque<std::string> names;  // that rows point to
  std::vector<TensorRow> rows;
  TensorTable tensors;  // all rows
};

// Returns the family. CHECKs that the architecture is in the table.
const Family& FamilyNamed(std::string_view architecture);

// Returns the family. Throws Error for an architecture that is not in the table, and names those
// that are.
const Family& FindFamily(const GgufReader& gguf);

// Opens a model with each of its matrices under its own name: a file may hold queries, keys and
// values in one tensor, and gate and up. Throws Error as reading does.
GgufReader OpenModelFile(const std::string& path);
// Does the same to a file that is open. A family that is not known is left as it is.
void SplitFusedTensors(GgufReader* gguf);

// Reads and checks every dimension. Throws Error with the key, what was expected and what was
// found.
ModelConfig ReadModelConfig(const GgufReader& gguf, const Family& family);

// Both throw Error for a model whose layers differ in what `who` ("attention on the GPU") takes as
// equal.
void RequireEqualHeads(const ModelConfig& config, const std::string& path, const std::string& who);
void RequireEqualFfns(const ModelConfig& config, const std::string& path, const std::string& who);

// Throws Error for a model with an encoder, which `who` ("profiling") cannot work with.
void RequireNoEncoder(const ModelConfig& config, const std::string& path, const std::string& who);

std::string_view ActivationName(Activation activation);

}  // namespace thermocline
