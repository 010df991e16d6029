// Another source's drafts, extended by n-grams: where it ends, what followed earlier in the text
// where that ended like the text and the draft do now. That costs nothing to find, and a row to
// verify. Where what followed is as good as certain the other source is not asked, or ends there.
#pragma once

#include <map>
#include <span>
#include <string>

#include "runtime/speculate/draft_source.h"
#include "runtime/speculate/ngram_draft.h"

namespace thermocline {

class ExtendedDraft : public DraftSource {
 public:
  // It must outlive this.
  explicit ExtendedDraft(DraftSource* source) : source_(source) {}

  std::string name() const override { return source_->name() + "+ngram"; }
  DraftCost cost() const override { return source_->cost(); }
  int64_t n_passes() const override { return source_->n_passes(); }
  void Draft(std::span<const DraftRequest> requests) override;
  void Accepted(int32_t text, int64_t n_accepted, double verify_ms) override {
    source_->Accepted(text, n_accepted, verify_ms);
  }
  void Forget(int32_t text) override;

 private:
  DraftSource* source_;
  std::map<int32_t, NgramIndex> texts_;
};

}  // namespace thermocline
