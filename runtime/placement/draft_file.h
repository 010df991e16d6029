// Draft files (*.draft.gguf): what the fast tier computes to draft for one model, beside what lies
// there of the model anyway (docs/drafts.md).
//
// A layer's neurons are parted, in the file's order of them, into the hot ones, which a draft
// computes with the model's own weights; some that have stand-ins, the same neurons in fewer bits;
// and the rest, which are left out. Of what these add, a bias or a map of low rank may give back a
// part. Other matrices may have stand-ins in fewer bits, too, under the names that they have in the
// model's file.
//
// Keys, all `thermocline.`: model_fingerprint, n_layers, d_model, d_ff, and of the draft
//   draft.slices              0 to kMaxDraftSlices: groups of neurons with stand-ins in each layer
//   draft.rank                of the low-rank maps; 0: there are none
//   draft.bias                bool: there are biases (always with maps)
//   draft.ranking             frequency, mass, acceptance: what the order goes by
//   draft.calibration_tokens, draft.heldout_tokens, draft.corpus_hash
//   draft.acceptance          what one drafted token was accepted with on held-out text, as sampled
//   draft.agreement           how often its likeliest token was the model's; both in [0, 1]
// and where chains were drafted behind texts that the model wrote
//   draft.chain_texts, draft.chain_positions, draft.chain_depth
//   draft.chain_prompt        and with their ids, tokens of each text up to the first position
// Tensors per layer:
//   blk.N.draft_order             (d_ff)            I32: hot, the slices, the rest
//   blk.N.draft_counts            (1 + slices)      I32: neurons that are hot, and of each slice
//   blk.N.draft_gate.S.weight     (n, d_model)      of slice S, a row per neuron, any type of
//   blk.N.draft_up.S.weight       (n, d_model)        weights; no up in a plain FFN
//   blk.N.draft_down.S.weight     (n, d_model)
//   blk.N.draft_gate.S.bias       (n)               F32, where the model has such
//   blk.N.draft_up.S.bias         (n)
//   blk.N.draft_left.weight       (rank, d_model)   any type of weights
//   blk.N.draft_right.weight      (d_model, rank)
//   blk.N.draft_bias              (d_model)         F32
// And where there are chains:
//   chains.draft_certainty        (texts * positions * depth) F32, in [0, 1]
//   chains.draft_accepted         (texts * positions)         I32, 0 to depth
//   chains.draft_ids              (texts * (prompt + positions + depth)) I32, tokens; optional
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/families.h"
#include "runtime/model/model.h"
#include "runtime/placement/placement.h"

namespace thermocline {

inline constexpr int64_t kMaxDraftSlices = 4;
inline constexpr int64_t kMaxChainDepth = 64;
inline constexpr int64_t kDraftRankUnit = kQuantBlock;  // so that Q8_0 rows are whole blocks

enum class DraftRanking : uint8_t { kFrequency, kMass, kAcceptance };
std::string_view DraftRankingName(DraftRanking ranking);

// Weights that lie in a file's mapping, or in `bytes`.
struct DraftMatrix {
  TensorView view;
  std::shared_ptr<const std::vector<std::byte>> bytes = {};
};

struct DraftSlice {
  int64_t n_neurons = 0;
  DraftMatrix gate, up, down;    // (n_neurons, d_model); up is empty in a plain FFN
  std::vector<float> gate_bias;  // (n_neurons) or empty
  std::vector<float> up_bias;
};

struct DraftLayer {
  std::vector<int32_t> order;  // (d_ff) hot, those of the slices, those left out
  int64_t n_hot = 0;
  std::vector<DraftSlice> slices;
  DraftMatrix left;         // (rank, d_model)
  DraftMatrix right;        // (d_model, rank)
  std::vector<float> bias;  // (d_model) or empty

  int64_t n_left_out() const;
  // Bytes of what the draft has of its own.
  uint64_t own_bytes() const;
};

// A matrix of the model in fewer bits.
struct DraftReplacement {
  std::string name;  // in the model's file
  DraftMatrix matrix;
};

// What was drafted behind every position of texts that the model wrote greedily: from it follows
// how many tokens a pass writes, however drafts are ended. With the texts themselves it also
// follows what extends the drafts.
struct DraftChains {
  int64_t n_texts = 0;            // each of n_positions() positions, one behind the other
  int64_t depth = 0;              // tokens of each chain
  std::vector<float> certainty;   // (n_texts * n_positions, depth) what the draft gave each token
  std::vector<int32_t> accepted;  // (n_texts * n_positions) how many the text went on with
  // (n_texts, n_prompt + n_positions + depth) the texts; empty: they are not known. The first
  // position of a text is that behind n_prompt tokens.
  std::vector<int32_t> ids;
  int64_t n_prompt = 0;

  bool empty() const { return accepted.empty(); }
  bool has_ids() const { return !ids.empty(); }
  int64_t n_positions() const {
    return n_texts == 0 ? 0 : static_cast<int64_t>(accepted.size()) / n_texts;
  }
};

struct DraftFile {
  std::string path;  // where it was read from; for messages
  std::string model_fingerprint;
  int64_t d_model = 0;
  int64_t d_ff = 0;
  int64_t rank = 0;
  DraftRanking ranking = DraftRanking::kMass;
  int64_t calibration_tokens = 0;
  int64_t heldout_tokens = 0;
  std::string corpus_hash;
  double acceptance = 0;
  double agreement = 0;
  DraftChains chains;
  std::vector<DraftLayer> layers;
  std::vector<DraftReplacement> replacements;
  std::shared_ptr<const GgufReader> mapping;  // the file that this was read from

  bool has_bias() const { return !layers.empty() && !layers.front().bias.empty(); }
  uint64_t own_bytes() const;
  int64_t n_hot() const;  // of all layers
};

// REQUIRES: layers of one shape.
void WriteDraft(const std::string& path, const DraftFile& file);

// Throws Error for a file that is not a draft, or whose numbers cannot be: shapes that do not go
// together, counts over their caps, orders that are not permutations, values that are not finite.
DraftFile ReadDraft(const std::string& path);
DraftFile ReadDraft(std::shared_ptr<const GgufReader> mapping);

// Throws Error with both values when the draft was made for another model, or a shape differs.
// `fingerprints`: those the model goes by (ModelFingerprints).
void CheckDraftFits(const DraftFile& file, const GgufReader& gguf, const Family& family,
                    const ModelConfig& config);

// Returns a placement with the draft's order: the hot neurons on the first tier and the others on
// the second, or all on the first.
Placement PlacementOfDraft(const DraftFile& file, bool on_one_tier);

// Throws Error unless the first tier has the draft's hot neurons first, in any order.
void CheckDraftPlacement(const DraftFile& file, const Placement& placement);

}  // namespace thermocline
