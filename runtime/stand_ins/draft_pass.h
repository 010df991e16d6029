// Drafts with what lies on the fast tier: passes through all layers, in which attention, norms and
// head are the model's, and of the neurons only the hot ones and the stand-ins are computed
// (docs/drafts.md). They run on an engine's sequences. What they write of keys and values is the
// draft's: who verifies forgets these tokens (KvSequences::Truncate) and feeds them again.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/pass/executor.h"
#include "runtime/placement/draft_file.h"
#include "runtime/stand_ins/draft_weights.h"

namespace thermocline {

class DraftPass {
 public:
  // Copies the stand-ins to the engine's fast tier. Throws Error where the draft does not go with
  // the model or the engine's placement. The engine must outlive it.
  DraftPass(Engine& engine, const DraftFile& file);
  // Runs weights that somebody else has; they must outlive it, and may change between passes, to
  // maps of up to max_rank.
  DraftPass(Engine& engine, const ModelWeights& weights, int64_t max_rank);

  // Feeds tokens at the ends of sequences, as Engine::FeedSequences does. Logits are valid until
  // the next pass of this draft.
  std::span<const float> Feed(std::span<const SequenceInput> inputs) {
    return engine_.FeedSequencesBy(*executor_, inputs);
  }
  Engine& engine() { return engine_; }
  Executor& executor() { return *executor_; }
  // Bytes of weights that a token reads, but for what it skips; and what of them is the draft's
  // own.
  uint64_t read_bytes() const { return read_bytes_; }
  uint64_t own_bytes() const { return own_bytes_; }

 private:
  void MakeExecutor(const ModelWeights& weights, int64_t least_neurons, int64_t least_rank);

  Engine& engine_;
  std::unique_ptr<DraftWeights> own_;  // null: somebody else's
  std::unique_ptr<Executor> executor_;
  uint64_t read_bytes_ = 0;
  uint64_t own_bytes_ = 0;
};

}  // namespace thermocline
