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
#include "runtime/placement/draft_file.h"
#include "runtime/speculate/draft_source.h"
#include "runtime/stand_ins/draft_pass.h"

namespace thermocline {

class HotDraft : public DraftSource {
 public:
  // The model that is to be drafted for, opened with the draft (FileOptions::draft). It must
  // outlive this. Throws Error where the draft does not go with it.
  explicit HotDraft(Engine& engine);

  std::string name() const override { return "hot"; }
  const DraftPass& pass() const { return pass_; }

  // A token of each text per pass.
  void Draft(std::span<const DraftRequest> requests) override;

 private:
  // A text of the requests, while it is drafted for.
  struct Running {
    DraftTree* tree = nullptr;
    int32_t sequence = -1;
    int32_t next = 0;  // the token that the sequence does not have yet
    int32_t at = DraftTree::kText;
  };

  // Whether the cache has room for a token more of each.
  bool HasRoom(std::span<const Running> running) const;
  void Step(std::span<Running> running);
  int64_t BestNeeded(std::span<const Running> running) const;

  Engine& engine_;
  DraftPass pass_;
};

}  // namespace thermocline
