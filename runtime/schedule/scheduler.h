// Continuous batching (Orca, OSDI '22): every pass takes a token of each text that is being
// written, and with what is left of its budget pieces of prompts that wait. Texts join and leave
// between passes. When pages of the KV cache run out, the youngest text gives its own back and is
// read again later.
//
// One thread at a time. SchedulerThread (runtime/schedule/scheduler_thread.h) is for many.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/rates/machine_rates.h"
#include "runtime/schedule/request.h"
#include "runtime/schedule/schedule_stats.h"

namespace thermocline {

struct ScheduleOptions {
  // Texts at a time; at most the engine's n_sequences.
  int32_t n_slots = 1;
  // Requests that may wait; Submit throws QueueFull beyond. 0: any number.
  int64_t max_waiting = 0;
  // How much of a prompt must lie in a slot for it to be chosen for that.
  double slot_similarity = 0.1;
  // While texts are being written, prompts are read in pieces that make a pass take at most about
  // so many times as long as one without them. 0: as much as the budget has room for.
  double max_slowdown = 3;
  // Keep pages of texts that ended, to begin others with.
  bool keeps_prefixes = true;
  // Drafts what texts may go on with, several tokens of which a pass verifies; null: nothing does.
  // A text is known to it by its slot. It must outlive the scheduler, and have been made for no
  // more rows than the engine (ContextOptions::drafted_rows).
  Speculator* speculator = nullptr;
  // Bytes of the host's memory for copies of such pages, and of those of texts that were sent away:
  // where that takes less time than to compute them again.
  uint64_t kv_host_bytes = 0;
  bool kv_host_always = false;  // whatever it takes: for who needs the same from run to run
  // How fast the machine is, so that batches which are small enough skip neurons where that is
  // predicted to pay (runtime/schedule/batch_skip.h). Null: with more than kFewTokens rows they run
  // dense.
  std::shared_ptr<const MachineRates> rates = nullptr;
};

// The queue has as many as it may.
class QueueFull : public Error {
 public:
  using Error::Error;
};

// The prompt does not fit into a context.
class PromptTooLong : public Error {
 public:
  PromptTooLong(int64_t n_prompt, int64_t n_context);
  int64_t n_prompt() const { return n_prompt_; }
  int64_t n_context() const { return n_context_; }

 private:
  int64_t n_prompt_;
  int64_t n_context_;
};

struct SlotState {
  int32_t slot = 0;
  bool busy = false;
  RequestId request = -1;  // that it works on, or worked on last
  int32_t index = 0;       // of its continuations
  int64_t n_tokens = 0;    // that it holds
  RunStats stats = {};     // of its text, where it is busy
};

struct SlotFileResult {
  int64_t n_tokens = 0;
  uint64_t n_bytes = 0;
  double ms = 0;
};

class Scheduler {
 public:
  // Takes the engine's sequences over (the main one is emptied and left alone) until it is
  // destroyed. The engine must outlive it. Throws Error for options that make no sense.
  Scheduler(Engine& engine, const ScheduleOptions& options);
  ~Scheduler();  // ends all requests as kCancelled

  // Throws PromptTooLong, or Error for what makes no sense. May be called on any thread.
  void Check(const Request& request) const;
  // Queues a request, which is called `id` from here on. Throws what Check does, and QueueFull.
  void Submit(RequestId id, Request request, std::shared_ptr<RequestListener> listener);
  // Ends a request now, and gives its pages back; nothing where it has ended already.
  void Cancel(RequestId id);
  void CancelAll();
  // Runs one pass, if anything is to be done. Returns whether anything was.
  bool Step();
  bool idle() const;

  std::vector<SlotState> slots() const;
  bool is_busy(int32_t slot) const;
  // Writes, reads and forgets what an idle slot holds. Throws Error where it is busy or not there,
  // where a file cannot be written, or is not this model's.
  SlotFileResult SaveSlot(int32_t slot, const std::string& path);
  SlotFileResult RestoreSlot(int32_t slot, const std::string& path);
  int64_t EraseSlot(int32_t slot);  // returns how many tokens it held

  ScheduleStats stats() const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace thermocline
