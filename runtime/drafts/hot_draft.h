// Drafts by the fast tier's share of the model itself: attention and head, the hot neurons, and
// what stands in for the others (docs/drafts.md). It shares the sequences and the KV cache with the
// model that verifies: that rewrites what is drafted.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/engine/growth_pass.h"
#include "runtime/placement/draft_file.h"
#include "runtime/speculate/draft_growth.h"
#include "runtime/speculate/draft_source.h"
#include "runtime/stand_ins/draft_pass.h"

namespace thermocline {

class HotDraft : public DraftSource {
 public:
  // The model that is to be drafted for, opened with the draft (FileOptions::draft). It must
  // outlive this. Throws Error where the draft does not go with it.
  explicit HotDraft(Engine& engine);

  std::string name() const override { return "hot"; }
  int64_t n_passes() const override { return n_passes_; }
  const DraftPass& pass() const { return pass_; }

  // A token of each text per pass, or what of its tree is about as likely (DraftGrowth).
  void Draft(std::span<const DraftRequest> requests) override;

 private:
  // A text of the requests, while it is drafted for.
  struct Running {
    DraftGrowth growth;
    int32_t sequence = -1;
    int32_t next = 0;  // the token that the sequence does not have yet
    int64_t tree_begin = 0;
  };

  // Whether the cache has pages for what is to be fed.
  bool HasRoom(std::span<const SequenceInput> inputs) const;
  // A pass of the texts' next tokens, and those of their trees' next ones, which return whether
  // there was room for them, and any.
  bool ReadTexts(std::span<Running> running);
  bool GrowTrees(std::span<Running> running);
  bool Run(GrowthPass& pass);

  Engine& engine_;
  DraftPass pass_;
  int64_t n_passes_ = 0;
};

}  // namespace thermocline
