// Of several sources the one that brings most: for each text by the tokens that it got per
// millisecond of draft and verification from each of them.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "runtime/speculate/draft_source.h"
#include "runtime/speculate/speculator.h"

namespace thermocline {

class AutoDraft : public DraftSource {
 public:
  // The cheapest first: where nothing is known, they are tried in this order. They must outlive it.
  // clock: by which it measures what each takes. REQUIRES: 1 to Confidence::kMaxSources.
  explicit AutoDraft(std::vector<DraftSource*> sources, MillisecondClock clock = SteadyMs);

  std::string name() const override;
  DraftCost cost() const override;
  int64_t n_passes() const override;
  // Who has nothing to propose for a text leaves it to the next best.
  void Draft(std::span<const DraftRequest> requests) override;
  void Accepted(int32_t text, int64_t n_accepted, double verify_ms) override;
  void Forget(int32_t text) override;

 private:
  struct Record {
    double tokens_per_ms = 0;  // of late
    int64_t n_drafts = 0;
  };
  struct Text {
    std::vector<Record> records;  // by source
    int64_t n_turns = 0;
    size_t source = 0;  // that drafted last
    double draft_ms = 0;
  };

  Text& TextOf(int32_t text);
  // Sources, the most promising first.
  std::vector<size_t> Ranking(Text& text) const;

  std::vector<DraftSource*> sources_;
  MillisecondClock clock_;
  std::map<int32_t, Text> texts_;
};

}  // namespace thermocline
