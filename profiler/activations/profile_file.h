// Profile files (*.profile.gguf): the statistics of profile_stats.h in a GGUF.
//
// Keys, all `thermocline.`: model_fingerprint, n_layers, d_ff, activation_threshold, cut_share,
// context_tokens, calibration_tokens, heldout_tokens, calibration_corpus_hash, heldout_corpus_hash.
// Tensors: blk.N.ffn_count and blk.N.ffn_mass, and the same with _heldout behind; and, where they
// were summed, blk.N.input_squares.attention, .attended, .ffn and .down (F64).
//
// And thresholds, where they were calibrated (runtime/placement/threshold_file.h).
//
// Counts are I64, exact however long the text (F32 ends at 2^24 tokens); masses are F64, so that a
// placement made from the file is the one made from memory, down to the last tie.
#pragma once

#include <string>
#include <vector>

#include "profiler/activations/profile_stats.h"
#include "runtime/model/model.h"

namespace thermocline {

void WriteProfile(const std::string& path, const ProfileStats& stats);

// Throws Error for a file that is not a profile, or whose numbers cannot be: a count that is
// negative or larger than the tokens, a mass or a sum of squares that is negative or not finite.
ProfileStats ReadProfile(const std::string& path);

// Throws Error with both values when the profile was made of another model, or a shape differs.
// `fingerprints`: those the model goes by (ModelFingerprints).
void CheckProfileFits(const ProfileStats& stats, const ModelConfig& config,
                      const std::string& model_path, const std::vector<std::string>& fingerprints);

}  // namespace thermocline
