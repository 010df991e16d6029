#include "runtime/schedule/scheduler_thread.h"

#include <fmt/format.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <list>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/core/error.h"

namespace thermocline {

class SchedulerThread::State {
 public:
  State(Engine& engine, const ScheduleOptions& options)
      : options_(options),
        scheduler_(engine, options),
        slots_(scheduler_.slots()),
        stats_(scheduler_.stats()),
        thread_([this] { Loop(); }) {}
  ~State() { Stop(); }

  RequestId Submit(Request request, std::shared_ptr<RequestListener> listener);
  void Cancel(RequestId id);
  // Runs `work` on the scheduler's thread once the slot is idle, and waits for its answer.
  template <typename Answer, typename Work>
  Answer WhenIdle(int32_t slot, Work work);
  SlotFileResult SaveSlot(int32_t slot, const std::string& path) {
    return WhenIdle<SlotFileResult>(slot, [&] { return scheduler_.SaveSlot(slot, path); });
  }
  SlotFileResult RestoreSlot(int32_t slot, const std::string& path) {
    return WhenIdle<SlotFileResult>(slot, [&] { return scheduler_.RestoreSlot(slot, path); });
  }
  int64_t EraseSlot(int32_t slot) {
    return WhenIdle<int64_t>(slot, [&] { return scheduler_.EraseSlot(slot); });
  }
  std::vector<SlotState> slots() const {
    const std::lock_guard lock(mutex_);
    return slots_;
  }
  ScheduleStats stats() const {
    const std::lock_guard lock(mutex_);
    return stats_;
  }
  void Drain();
  void Stop();

 private:
  struct NewRequest {
    RequestId id = 0;
    Request request;
    std::shared_ptr<RequestListener> listener;
  };
  struct SlotWork {
    int32_t slot = 0;
    std::function<void()> work;
  };
  // What other threads ask for between two passes.
  struct Inbox {
    std::deque<NewRequest> requests;
    std::vector<RequestId> cancelled;
    std::list<SlotWork> slot_work;
    bool empty() const { return requests.empty() && cancelled.empty() && slot_work.empty(); }
  };

  void Loop();
  void TakeIn(Inbox& inbox);
  void DoSlotWork();
  // n_seen: texts that have come in since the last time.
  void Publish(int64_t n_seen);
  void CheckOpen(size_t n_new) const;

  const ScheduleOptions options_;
  Scheduler scheduler_;            // the thread's own, but for Check
  std::list<SlotWork> slot_work_;  // that waits for its slot

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Inbox inbox_;
  std::vector<SlotState> slots_;
  ScheduleStats stats_;
  int64_t n_unseen_ = 0;  // texts that came and are not in stats_ yet
  RequestId next_id_ = 1;
  bool closed_ = false;   // no more requests
  bool stopped_ = false;  // and those there are end
  bool idle_ = true;
  std::mutex joining_;
  std::thread thread_;
};

void SchedulerThread::State::CheckOpen(size_t n_new) const {
  if (closed_) throw Stopping({.what = "the scheduler is being stopped"});
  if (options_.max_waiting == 0) return;
  const int64_t n_waiting = n_unseen_ + static_cast<int64_t>(n_new) + stats_.n_waiting;
  if (n_waiting <= options_.max_waiting + options_.n_slots - stats_.n_running) return;
  throw QueueFull({.what = "too many requests wait",
                   .expected = fmt::format("at most {}", options_.max_waiting),
                   .found = std::to_string(stats_.n_waiting)});
}

RequestId SchedulerThread::State::Submit(Request request,
                                         std::shared_ptr<RequestListener> listener) {
  scheduler_.Check(request);
  const std::lock_guard lock(mutex_);
  CheckOpen(static_cast<size_t>(request.n));
  const RequestId id = next_id_++;
  n_unseen_ += request.n;
  inbox_.requests.push_back({id, std::move(request), std::move(listener)});
  idle_ = false;
  changed_.notify_all();
  return id;
}

void SchedulerThread::State::Cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  inbox_.cancelled.push_back(id);
  changed_.notify_all();
}

template <typename Answer, typename Work>
Answer SchedulerThread::State::WhenIdle(int32_t slot, Work work) {
  std::packaged_task<Answer()> task(std::move(work));
  std::future<Answer> answer = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) throw Stopping({.what = "the scheduler is being stopped"});
    inbox_.slot_work.push_back({slot, std::ref(task)});
    changed_.notify_all();
  }
  return answer.get();
}

void SchedulerThread::State::TakeIn(Inbox& inbox) {
  for (NewRequest& added : inbox.requests) {
    const int32_t n = added.request.n;
    try {
      scheduler_.Submit(added.id, std::move(added.request), added.listener);
    } catch (const Error& error) {
      // It was checked, but more wait now than did then.
      RunStats stats;
      stats.error = error.what();
      for (int32_t index = 0; index < n; ++index) {
        added.listener->OnEnd(index, EndReason::kFailed, stats);
      }
    }
  }
  for (const RequestId id : inbox.cancelled) scheduler_.Cancel(id);
  slot_work_.splice(slot_work_.end(), inbox.slot_work);
}

void SchedulerThread::State::DoSlotWork() {
  const auto n_slots = static_cast<int32_t>(options_.n_slots);
  slot_work_.remove_if([&](SlotWork& work) {
    const bool there = work.slot >= 0 && work.slot < n_slots;
    if (there && scheduler_.is_busy(work.slot)) return false;
    work.work();  // says itself that the slot is not there
    return true;
  });
}

void SchedulerThread::State::Publish(int64_t n_seen) {
  std::vector<SlotState> slots = scheduler_.slots();
  ScheduleStats stats = scheduler_.stats();
  const std::lock_guard lock(mutex_);
  slots_ = std::move(slots);
  stats_ = std::move(stats);
  n_unseen_ -= n_seen;
  idle_ = scheduler_.idle() && inbox_.empty() && slot_work_.empty();
  changed_.notify_all();
}

void SchedulerThread::State::Loop() {
  while (true) {
    Inbox inbox;
    int64_t n_seen = 0;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] {
        return !inbox_.empty() || !scheduler_.idle() || !slot_work_.empty() || stopped_;
      });
      std::swap(inbox, inbox_);
      n_seen = n_unseen_;
      if (stopped_) {
        lock.unlock();
        TakeIn(inbox);
        scheduler_.CancelAll();
        DoSlotWork();
        Publish(n_seen);
        return;
      }
    }
    TakeIn(inbox);
    scheduler_.Step();
    DoSlotWork();  // behind the requests that came before it
    Publish(n_seen);
  }
}

void SchedulerThread::State::Drain() {
  std::unique_lock lock(mutex_);
  closed_ = true;
  changed_.wait(lock, [&] { return idle_ || stopped_; });
}

void SchedulerThread::State::Stop() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = stopped_ = true;
    changed_.notify_all();
  }
  const std::lock_guard lock(joining_);
  if (thread_.joinable()) thread_.join();
}

SchedulerThread::SchedulerThread(Engine& engine, const ScheduleOptions& options)
    : state_(std::make_unique<State>(engine, options)) {}

SchedulerThread::~SchedulerThread() = default;

RequestId SchedulerThread::Submit(Request request, std::shared_ptr<RequestListener> listener) {
  return state_->Submit(std::move(request), std::move(listener));
}

void SchedulerThread::Cancel(RequestId id) { state_->Cancel(id); }

SlotFileResult SchedulerThread::SaveSlot(int32_t slot, const std::string& path) {
  return state_->SaveSlot(slot, path);
}

SlotFileResult SchedulerThread::RestoreSlot(int32_t slot, const std::string& path) {
  return state_->RestoreSlot(slot, path);
}

int64_t SchedulerThread::EraseSlot(int32_t slot) { return state_->EraseSlot(slot); }

std::vector<SlotState> SchedulerThread::slots() const { return state_->slots(); }
ScheduleStats SchedulerThread::stats() const { return state_->stats(); }
void SchedulerThread::Drain() { state_->Drain(); }
void SchedulerThread::Stop() { state_->Stop(); }

}  // namespace thermocline
