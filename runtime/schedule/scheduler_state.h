// What a scheduler works with; Scheduler is its door.
//
//   scheduler.cc   requests come, are asked about, and go
//   admission.cc   who gets a slot, and what a text begins with
//   pass_plan.cc   which tokens the next pass feeds, and where their pages come from
//   pass.cc        feeds them and hands out what was written
#pragma once

#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/schedule/pass_pace.h"
#include "runtime/schedule/prefix_cache.h"
#include "runtime/schedule/scheduler.h"
#include "runtime/schedule/slots.h"
#include "runtime/schedule/text_run.h"
#include "runtime/speculate/tree_rows.h"

namespace thermocline {

class Scheduler::State {
 public:
  State(Engine& engine, const ScheduleOptions& options);
  ~State();

  // A text, wherever it is.
  struct Entry {
    std::unique_ptr<TextRun> text;
    // It shares its prompt's pages with the request's first one, and waits for that to read them.
    bool waits_for_first = false;
  };
  using Entries = std::list<Entry>;

  // ---- scheduler.cc ----
  void Check(const Request& request) const;
  void Add(RequestId id, Request request, std::shared_ptr<RequestListener> listener);
  void Cancel(RequestId id);
  void CancelAll();
  bool idle() const { return waiting_.empty() && running_.empty(); }
  Slot& SlotAt(int32_t slot);    // throws Error where it is not there
  Slot& IdleSlot(int32_t slot);  // or is at work
  int64_t Erase(int32_t slot);
  SlotFileResult Save(int32_t slot, const std::string& path);
  SlotFileResult Restore(int32_t slot, const std::string& path);
  std::vector<SlotState> SlotStates() const;
  ScheduleStats Stats() const;

  // ---- pass.cc ----
  bool Step();

 private:
  // Tokens that are counted before it is chosen which batches skip neurons; from there on it is
  // chosen anew whenever twice as many were.
  static constexpr int64_t kFirstChoiceTokens = 32;

  // Tokens of a text that a pass feeds: the next n that the KV cache does not have.
  struct Feed {
    Entries::iterator entry;
    int64_t n = 0;
    bool wants_logits = false;  // they are all that it has
    // Where it is being written and there is a draft for it: which of drafts_. Of n tokens the
    // first is the text's, the others are the draft's.
    int32_t draft = -1;
  };

  Slot& SlotOf(const TextRun& text) { return slots_.at(text.stats().slot); }
  int64_t FedOf(const TextRun& text) { return kv_.length(SlotOf(text).sequence); }
  int64_t PendingOf(const TextRun& text) { return text.n_ids() - FedOf(text); }
  // In the order of age.
  void Wait(Entry entry);
  // Ends a text and gives its slot back.
  void Finish(Entries::iterator running, EndReason reason, const std::string& error = {});
  void EndWaiting(Entries::iterator waiting, EndReason reason, const std::string& error = {});
  void LetSiblingsGo(RequestId id);

  // ---- admission.cc ----
  void Admit();
  bool TryAdmit(Entries::iterator waiting);
  void Occupy(Entries::iterator waiting, int32_t slot, int32_t sequence, int64_t n_cached);
  // Whether one who runs is about to read a beginning of the text that it could take over from him,
  // and does not find yet.
  bool WaitsForReader(const TextRun& text);
  // Whether the cache has room for all who run, for the text, and some to grow.
  bool HasPagesFor(const TextRun& text) const;

  // ---- pass_plan.cc ----
  std::vector<Feed> Plan();
  static int64_t RowsOf(std::span<const Feed> plan);
  // Whether it still has its slot.
  static bool IsRunning(const Entry& entry) { return entry.text->stats().slot >= 0; }
  bool IsFedAgain(const TextRun& text);
  bool FeedsAgain(std::span<const Entries::iterator> entries, int64_t n_written);
  void PlanWriter(Entries::iterator entry, std::vector<Feed>* plan);
  // Has the writers' next tokens drafted, as far as there is room.
  void PlanDrafts(std::vector<Feed>* writers);
  int64_t RoomForDraft(const TextRun& text, int64_t most);
  int64_t PlanReader(Entries::iterator entry, int64_t most, std::vector<Feed>* plan);
  void AddFeed(Entries::iterator entry, int64_t n, std::vector<Feed>* plan);
  // Makes pages for n more tokens of the text free, beside those that are planned. Returns whether
  // it could.
  bool MakeRoom(const TextRun& text, int64_t n_tokens);
  bool MakeLastPageItsOwn(int32_t sequence, size_t page_class);
  bool DropOldest(size_t page_class);
  // Whether copies of pages cost less time than reading their tokens again, as measured so far.
  bool CopiesPay() const;
  void FailForPages(Entries::iterator entry);
  void Preempt(Entries::iterator running);

  // ---- pass.cc ----
  // The logits of a pass, by the texts that want some.
  struct PassLogits {
    std::span<const float> all = {};
    std::span<const std::vector<TokenLogit>> best = {};
    int64_t n_best = 0;
  };
  void Run(const std::vector<Feed>& plan);
  PassLogits FeedPass(const std::vector<Feed>& plan, std::span<const SequenceInput> inputs);
  static int64_t MostDeciding(const std::vector<Feed>& plan);
  void Count(const std::vector<Feed>& plan, double ms);
  // Chooses anew, now and then, which batches skip neurons.
  void ChooseSkipping();
  void KeepPages(const std::vector<Feed>& plan);
  void HandOut(const std::vector<Feed>& plan, const PassLogits& logits);
  NextLogits LogitsOf(const TextRun& text, const PassLogits& logits, size_t row);
  void EmbedSome(const Feed& feed);
  std::vector<Entries::iterator> ForkSiblings(Entries::iterator first);
  void WriteNext(Entries::iterator entry, const NextLogits& logits, size_t row);
  // Throws what TextRun::Write does.
  TextRun::Written WriteToken(TextRun& text, const NextLogits& logits, size_t row,
                              const Proposal* proposal);
  // Ends a text that has ended, and makes room in one whose context is full.
  void GoOn(Entries::iterator entry, const TextRun::Written& written);
  // Writes as many tokens as go along with the draft, and one more.
  void WriteDrafted(const Feed& feed, const PassLogits& logits, size_t first_row);
  bool IsDrafted(const Feed& feed) const {
    return feed.draft >= 0 && !drafts_[static_cast<size_t>(feed.draft)].empty();
  }
  void ShiftContext(TextRun& text);

  Engine& engine_;
  ScheduleOptions options_;
  KvSequences& kv_;
  std::unique_ptr<HostPages> host_pages_;  // null: none
  PrefixCache prefixes_;
  Slots slots_;
  Entries running_;  // the oldest first
  Entries waiting_;
  std::vector<int64_t> planned_pages_;   // by class, while a pass is planned
  std::vector<DraftTree> drafts_;        // of the pass, where there is a speculator
  std::map<int32_t, TreeRows> drafted_;  // of those that propose something, as they are fed
  PassPace pace_;
  bool fed_again_last_ = false;  // the last pass planned fed again what texts had written before
  int64_t next_order_ = 0;
  int64_t next_choice_tokens_ = kFirstChoiceTokens;  // when so many tokens were counted
  ScheduleStats stats_;
};

}  // namespace thermocline
