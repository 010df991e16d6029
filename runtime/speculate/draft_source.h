// Where drafts come from: looking the text up in itself, a small model, the fast tier's share of
// the model. A source proposes what may come next; the loop (runtime/speculate/speculator.h) has
// the whole model verify it in one pass, and tells the source how far it was right.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "runtime/speculate/draft_tree.h"

namespace thermocline {

// A text that is to be drafted for.
struct DraftRequest {
  // Which text it is, from 0 on, below as many as are written at a time. A number is used again for
  // another text when one has ended (Forget).
  int32_t text = 0;
  // All of it: the prompt and what was written. It may have changed in any way since the last time
  // (a context that was shifted, a text that began anew), so a source that keeps something of a
  // text (a KV cache of its own) compares.
  std::span<const int32_t> ids;
  // Its sequence in the KV cache of the model that verifies, which has all ids but the last one. A
  // source that drafts with that cache leaves the sequence as long as it was
  // (KvSequences::Truncate) and may have written anything behind that: the verifying pass writes it
  // anew.
  int32_t sequence = -1;
  DraftTree* tree = nullptr;  // empty; what is proposed goes here, or nothing
};

// What a source says of its own times before they are measured; 0: it does not know.
struct DraftCost {
  double ms_per_token = 0;  // of one text
};

// One thread at a time.
class DraftSource {
 public:
  virtual ~DraftSource() = default;
  // As it is called on the command line: `ngram`, `model`, ...
  virtual std::string name() const = 0;
  virtual DraftCost cost() const { return {}; }
  // Passes of a model that it has run.
  virtual int64_t n_passes() const { return 0; }

  // Proposes for each text what it can, while DraftTree::WantsMore says that more is wanted. Those
  // that run a model take a token of each text per pass. What it throws ends all drafting, and no
  // text. REQUIRES: no text twice.
  virtual void Draft(std::span<const DraftRequest> requests) = 0;
  // The last proposal for the text was verified: of the drafted path the first n_accepted tokens
  // stand in it now (one more follows them, which nobody drafted, unless the text ended). Not
  // called for texts that were not drafted for, nor always: what counts are the ids of the next
  // request.
  virtual void Accepted(int32_t text, int64_t n_accepted, double verify_ms) {
    (void)text, (void)n_accepted, (void)verify_ms;
  }
  // The text has ended, or gave its place back: what is kept of it can go.
  virtual void Forget(int32_t text) { (void)text; }
};

}  // namespace thermocline
