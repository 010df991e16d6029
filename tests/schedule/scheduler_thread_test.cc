// Many threads ask, cancel and look at once.
#include "runtime/schedule/scheduler_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

EngineOptions SmallEngine(int64_t n_sequences) {
  EngineOptions options;
  options.model_path = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/gqa_relu.gguf";
  options.n_threads = 1;
  options.n_sequences = n_sequences;
  options.context_tokens = 96;
  options.kv_tokens = 160;
  options.batch_tokens = 48;
  return options;
}

// Lets another thread wait for the end.
class Waiter final : public RequestListener {
 public:
  bool OnToken(const TokenEvent& event) override {
    (void)event;
    n_tokens.fetch_add(1);
    return true;
  }
  void OnEnd(int32_t index, EndReason why, const RunStats& stats) override {
    (void)index;
    (void)stats;
    const std::lock_guard lock(mutex_);
    reason_ = why;
    ended_ = true;
    changed_.notify_all();
  }
  EndReason Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_; });
    return reason_;
  }

  std::atomic<int> n_tokens = 0;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  EndReason reason_ = EndReason::kFailed;
};

Request RequestOf(int seed, int64_t max_tokens) {
  Request request;
  for (int i = 0; i < 12 + seed % 30; ++i) request.prompt.push_back(3 + (seed * 7 + i * 13) % 280);
  request.sampler.seed = static_cast<uint64_t>(seed);
  request.max_tokens = max_tokens;
  return request;
}

TEST(SchedulerThread, ServesManyThreads) {
  Engine engine(SmallEngine(3));
  SchedulerThread scheduler(engine, {.n_slots = 3});
  std::atomic<int> n_whole = 0;
  std::atomic<int> n_cancelled = 0;
  std::vector<std::thread> clients;
  for (int client = 0; client < 6; ++client) {
    clients.emplace_back([&, client] {
      for (int i = 0; i < 6; ++i) {
        const auto waiter = std::make_shared<Waiter>();
        const RequestId id = scheduler.Submit(RequestOf(client * 10 + i, 10), waiter);
        if (i % 3 == 1) scheduler.Cancel(id);
        const EndReason reason = waiter->Wait();
        EXPECT_NE(reason, EndReason::kFailed);
        ++(reason == EndReason::kCancelled ? n_cancelled : n_whole);
        EXPECT_EQ(scheduler.slots().size(), 3U);
        EXPECT_GE(scheduler.stats().n_requests, 1);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(n_whole + n_cancelled, 36);
  EXPECT_GE(n_whole, 24);  // who was not cancelled
  scheduler.Drain();
  const ScheduleStats stats = scheduler.stats();
  EXPECT_EQ(stats.n_running + stats.n_waiting, 0);
  EXPECT_THROW(scheduler.Submit(RequestOf(1, 1), std::make_shared<Waiter>()), Stopping);
}

TEST(SchedulerThread, SlotsAreSavedAndErasedBetweenPasses) {
  const TempDir dir;
  Engine engine(SmallEngine(2));
  SchedulerThread scheduler(engine, {.n_slots = 2});
  const auto waiter = std::make_shared<Waiter>();
  Request request = RequestOf(1, 30);
  request.slot = 1;
  scheduler.Submit(request, waiter);
  // Waits for the slot.
  const SlotFileResult saved = scheduler.SaveSlot(1, dir.file("a.slot.gguf"));
  waiter->Wait();
  EXPECT_GE(saved.n_tokens, static_cast<int64_t>(request.prompt.size()));
  EXPECT_EQ(scheduler.EraseSlot(1), saved.n_tokens);
  EXPECT_EQ(scheduler.RestoreSlot(0, dir.file("a.slot.gguf")).n_tokens, saved.n_tokens);
  EXPECT_THROW(scheduler.EraseSlot(7), Error);
  EXPECT_THROW(scheduler.SaveSlot(1, dir.file("b.slot.gguf")), Error);
}

TEST(SchedulerThread, StoppingEndsWhatRuns) {
  Engine engine(SmallEngine(2));
  const auto running = std::make_shared<Waiter>();
  const auto waiting = std::make_shared<Waiter>();
  {
    SchedulerThread scheduler(engine, {.n_slots = 1});
    scheduler.Submit(RequestOf(1, -1), running);
    scheduler.Submit(RequestOf(2, -1), waiting);
    scheduler.Stop();
    EXPECT_THROW(scheduler.Submit(RequestOf(1, 1), waiting), Stopping);
  }
  running->Wait();
  EXPECT_EQ(waiting->Wait(), EndReason::kCancelled);
}

TEST(SchedulerThread, AFullQueueIsSaidAtOnce) {
  Engine engine(SmallEngine(1));
  SchedulerThread scheduler(engine, {.n_slots = 1, .max_waiting = 2});
  std::vector<std::shared_ptr<Waiter>> waiters;
  int n_refused = 0;
  for (int i = 0; i < 30; ++i) {
    waiters.push_back(std::make_shared<Waiter>());
    try {
      scheduler.Submit(RequestOf(i, 40), waiters.back());
    } catch (const QueueFull&) {
      ++n_refused;
      waiters.pop_back();
    }
  }
  EXPECT_GT(n_refused, 0);
  for (const auto& waiter : waiters) EXPECT_NE(waiter->Wait(), EndReason::kFailed);
}

}  // namespace
}  // namespace thermocline
