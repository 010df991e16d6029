// A scheduler with a thread of its own, for callers on any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "runtime/schedule/scheduler.h"

namespace thermocline {

// No more requests are taken.
class Stopping : public Error {
 public:
  using Error::Error;
};

class SchedulerThread {
 public:
  SchedulerThread(Engine& engine, const ScheduleOptions& options);
  // Stops.
  ~SchedulerThread();

  // As Scheduler's; throws what that throws, and Stopping once Drain or Stop was called. Waits for
  // no pass. The listener is kept until its OnEnd calls are made.
  RequestId Submit(Request request, std::shared_ptr<RequestListener> listener);
  // Does not wait. OnEnd follows, unless the request has ended.
  void Cancel(RequestId id);

  // Wait until the slot is idle, and for the answer.
  SlotFileResult SaveSlot(int32_t slot, const std::string& path);
  SlotFileResult RestoreSlot(int32_t slot, const std::string& path);
  int64_t EraseSlot(int32_t slot);

  // As they were after the last pass; these never wait for one.
  std::vector<SlotState> slots() const;
  ScheduleStats stats() const;

  // Takes no more requests, and returns when all have ended.
  void Drain();
  // Takes no more requests, cancels all, and returns when the thread has ended.
  void Stop();

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace thermocline
