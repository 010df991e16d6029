// Decides for whom and how far to draft, asks the source, and learns from what was verified.
// Whoever writes texts (Generator, Scheduler) asks it before each pass what to verify in that, and
// tells it what came of it:
//
//   trees = Draft(texts); feed; MeasurePass(...); for each text: sample while the tree goes along;
//   Verified(...)
//
// How deep a draft goes follows from what a token more of it costs and saves: its chance to be
// accepted (Confidence) against the time to draft it and the time that its row adds to the pass
// (RowTimes), at the rate at which the text is being written. The same decides how wide it is: a
// token beside another costs its row. Where drafting has cost more than it
// saved it pauses, for longer each time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "runtime/sampling/random.h"
#include "runtime/speculate/confidence.h"
#include "runtime/speculate/draft_source.h"
#include "runtime/speculate/draft_tree.h"
#include "runtime/speculate/row_times.h"

namespace thermocline {

struct SpeculateOptions {
  int64_t max_tokens = 16;    // that are drafted for a text at a time
  int64_t max_children = 1;   // of them that may follow the same token; 1: chains
  int64_t max_rows = 64;      // that are drafted for all texts of a pass
  double least_chance = 0;    // a draft ends before a token that is less likely to be accepted
  bool follows_times = true;  // else every draft is as long as it may be, and none pauses
  uint64_t seed = 0;          // of what drafts draw
};

// A text that is about to be written on.
struct SpeculatedText {
  int32_t text = 0;  // DraftRequest::text
  std::span<const int32_t> ids;
  int32_t sequence = -1;
  const Sampler* sampler = nullptr;
  const TokenMask* mask = nullptr;
  int64_t most = 0;   // tokens that may be drafted: there is room for no more
  bool draws = true;  // DraftLimits::draws
  std::function<bool(int32_t)> ends_text = nullptr;
};

struct SpeculateStats {
  int64_t n_drafted = 0;   // tokens that were verified
  int64_t n_accepted = 0;  // of them
  int64_t n_drafts = 0;    // times that a text had some
  int64_t n_plain = 0;     // times that a text was written on without any
  int64_t n_empty = 0;     // of them those for which a source was asked and nothing was worth it
  int64_t n_written = 0;   // tokens that texts got by both
  double draft_ms = 0;
  double verify_ms = 0;        // of passes that verified something
  double plain_ms = 0;         // of the others
  int64_t n_draft_passes = 0;  // that sources ran
  int64_t n_verify_passes = 0;
  int64_t n_plain_passes = 0;
  int64_t n_pauses = 0;  // times that drafting was found not to pay for a text
  // Drafts by their number of tokens, from 1 on: their verifying passes where one text is written.
  std::vector<int64_t> n_of_size = {};
  std::string failure = {};  // why there are no more drafts; empty: there are

  SpeculateStats& operator+=(const SpeculateStats& other);
};

// Milliseconds since any moment, always the same one.
using MillisecondClock = std::function<double()>;
double SteadyMs();

class Speculator {
 public:
  // The source must outlive it. clock: by which it measures what the source takes.
  Speculator(DraftSource& source, const SpeculateOptions& options, int64_t vocab_size,
             MillisecondClock clock = SteadyMs);

  // What to verify behind each text, in their order; an empty tree: nothing. The trees refer to the
  // texts' samplers and masks.
  std::vector<DraftTree> Draft(std::span<const SpeculatedText> texts);
  // The pass that fed these texts took so long. others: rows of the pass that are none of theirs
  // (prompts).
  void MeasurePass(std::span<const DraftTree> trees, int64_t n_others, double ms);
  // What became of a text's draft: the path to `last` was accepted (DraftTree::kText: nothing).
  // tested: whether a token was sampled behind `last`, so that what was drafted there was refused.
  // n_written: tokens that the text got by the pass.
  void Verified(int32_t text, const DraftTree& tree, int32_t last, bool tested, int64_t n_written);
  // The text has ended, or gave its place back.
  void Forget(int32_t text);

  const SpeculateStats& stats() const { return stats_; }
  const SpeculateOptions& options() const { return options_; }
  std::string source_name() const { return source_.name(); }

 private:
  struct Text {
    explicit Text(const Confidence* others) : confidence(others) {}
    Confidence confidence;
    size_t n_ids = 0;     // when it was last asked for
    int64_t n_turns = 0;  // times that it was
    bool was_drafted = false;
    double draft_ms = 0;      // of the draft that is being verified
    double saved_ms = 0;      // per draft, of late
    int64_t n_judged = 0;     // drafts that went into that since the last pause
    size_t pauses_until = 0;  // so many ids
    size_t pause_tokens = 0;  // how long the last pause was
  };

  Text& TextOf(int32_t text);
  bool IsTurn(const Text& text, const SpeculatedText& asked, int64_t n_texts) const;
  DraftTree MakeTree(Text& text, const SpeculatedText& asked, int64_t n_texts, int64_t most);
  // By the tokens that a text's draft has: how likely one more must be, of which one text's takes
  // so long to draft.
  std::vector<double> LeastChances(int64_t n_texts, int64_t n_tokens, double draft_ms) const;
  // Returns how long the source took.
  double AskSource(std::span<const DraftRequest> requests);
  void ShareDraftTime(std::span<const DraftRequest> requests, double ms);
  void Judge(Text& text, double saved_ms);

  DraftSource& source_;
  SpeculateOptions options_;
  int64_t vocab_size_;
  MillisecondClock clock_;
  Random random_;
  Confidence confidence_;  // of all texts
  std::map<int32_t, Text> texts_;
  RowTimes times_;
  double ms_per_drafted_;  // what the source takes for a token
  double gain_ = 1;        // tokens of drafting passes in the time of as many plain ones, of late
  struct LastPass {
    int64_t n_texts = 0;
    int64_t n_drafted = 0;
    int64_t n_draft_passes = 0;
    double draft_ms = 0;
    bool is_pure = false;  // nothing of a prompt was in it
  };
  LastPass last_;
  SpeculateStats stats_;
};

}  // namespace thermocline
