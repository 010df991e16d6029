// Drafts that were recorded when a draft was made (DraftChains), as a source: what is to be
// expected of a Speculator is had from a real one, whose source drafts what the draft did then.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/placement/draft_file.h"
#include "runtime/speculate/draft_source.h"

namespace thermocline {

// The texts behind whose positions chains were drafted. Where only the numbers of accepted tokens
// are known the tokens are made up.
class RecordedTexts {
 public:
  // REQUIRES: chains that are not empty; they must outlive this.
  explicit RecordedTexts(const DraftChains& chains);

  int64_t n_prompt() const { return n_prompt_; }  // tokens before the first position
  // What was written behind the prompt, by the first tokens of a text: up to the last position, and
  // as many tokens behind that as a chain has.
  std::span<const int32_t> Of(int64_t text) const;
  // One that no text has: what a chain has where it is wrong. Its true token was not recorded.
  int32_t wrong_token() const { return wrong_token_; }
  int64_t vocab_size() const { return wrong_token_ + 1; }

 private:
  std::vector<int32_t> made_up_;
  std::span<const int32_t> ids_;
  int64_t n_prompt_ = 1;
  int64_t n_ids_ = 0;  // of a text
  int32_t wrong_token_ = 1;
};

class RecordedDraft : public DraftSource {
 public:
  // pass_ms: what a pass that drafts a token takes. Both must outlive this.
  RecordedDraft(const DraftChains& chains, const RecordedTexts& texts, double pass_ms)
      : chains_(chains), texts_(texts), pass_ms_(pass_ms) {}

  std::string name() const override { return "recorded"; }
  int64_t n_passes() const override { return n_passes_; }
  // Which of the texts is drafted for.
  void set_text(int64_t text) { text_ = text; }
  // What its passes have taken, all together.
  double passed_ms() const { return static_cast<double>(n_passes_) * pass_ms_; }
  // REQUIRES: requests that end at a position of the text.
  void Draft(std::span<const DraftRequest> requests) override;

 private:
  const DraftChains& chains_;
  const RecordedTexts& texts_;
  double pass_ms_;
  int64_t text_ = 0;
  int64_t n_passes_ = 0;
};

}  // namespace thermocline
