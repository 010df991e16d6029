#include "tools/bench/serve_replay.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <memory>
#include <mutex>
#include <thread>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/schedule/scheduler_thread.h"
#include "runtime/text/token_sets.h"

namespace thermocline {
namespace {

using Clock = std::chrono::steady_clock;

double MsBetween(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

// How many have ended, for who waits for them.
class Ends {
 public:
  void Add() {
    const std::lock_guard lock(mutex_);
    ++n_;
    changed_.notify_all();
  }
  // Waits for n, at most a while.
  int64_t WaitFor(int64_t n) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(100), [&] { return n_ >= n; });
    return n_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t n_ = 0;
};

// Notes when tokens come. Read once it has ended.
class TokenTimes final : public RequestListener {
 public:
  TokenTimes(Clock::time_point start, Clock::time_point arrival, Ends& ends)
      : start_(start), arrival_(arrival), ends_(ends) {}

  bool OnToken(const TokenEvent& event) override {
    (void)event;
    const auto now = Clock::now();
    if (text_.ttft_ms == 0) {
      text_.ttft_ms = MsBetween(arrival_, now);
    } else {
      text_.gaps_ms.push_back(MsBetween(last_, now));
    }
    last_ = now;
    return true;
  }
  void OnEnd(int32_t index, EndReason reason, const RunStats& stats) override {
    (void)index;
    text_.reason = reason;
    text_.stats = stats;
    text_.last_ms = MsBetween(start_, Clock::now());
    ends_.Add();
  }
  const ServedText& text() const { return text_; }

 private:
  Clock::time_point start_;
  Clock::time_point arrival_;
  Ends& ends_;
  Clock::time_point last_;
  ServedText text_;
};

void SleepUntil(Clock::time_point when) {
  while (Clock::now() < when) {
    ThrowIfInterrupted();
    std::this_thread::sleep_until(std::min(when, Clock::now() + std::chrono::milliseconds(100)));
  }
}

}  // namespace

void SummariseServe(const ServeBounds& bounds, ServeResult* result) {
  std::vector<double> ttft;
  std::vector<double> gaps;
  for (const ServedText& text : result->texts) {
    result->all_ms = std::max(result->all_ms, text.last_ms);
    if (text.reason != EndReason::kTokenLimit) continue;
    ++result->n_served;
    result->generated_tokens += text.stats.generated_tokens;
    ttft.push_back(text.ttft_ms);
    gaps.insert(gaps.end(), text.gaps_ms.begin(), text.gaps_ms.end());
    const double worst = text.gaps_ms.empty() ? 0 : std::ranges::max(text.gaps_ms);
    const bool well = (bounds.ttft_ms == 0 || text.ttft_ms <= bounds.ttft_ms) &&
                      (bounds.gap_ms == 0 || worst <= bounds.gap_ms);
    if (well) ++result->n_well;
  }
  result->ttft = PercentilesOf(std::move(ttft));
  result->gaps = PercentilesOf(std::move(gaps));
  const double seconds = std::max(result->all_ms, 1e-3) / 1000;
  result->tokens_per_s = static_cast<double>(result->generated_tokens) / seconds;
  result->requests_per_s = static_cast<double>(result->n_served) / seconds;
  result->well_per_s = static_cast<double>(result->n_well) / seconds;
}

TimesMs PercentilesOf(std::vector<double> ms) {
  TimesMs times{.n = static_cast<int64_t>(ms.size())};
  if (ms.empty()) return times;
  std::ranges::sort(ms);
  const auto at = [&](double share) {
    const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(ms.size())));
    return ms[std::clamp<size_t>(rank, 1, ms.size()) - 1];
  };
  for (const double value : ms) times.mean += value / static_cast<double>(ms.size());
  times.p50 = at(0.5);
  times.p90 = at(0.9);
  times.p99 = at(0.99);
  return times;
}

ServeResult ReplayServe(Engine& engine, const ScheduleOptions& options,
                        const std::vector<ServedRequest>& trace, const ServeBounds& bounds,
                        const ProgressFn& progress) {
  const std::vector<std::vector<int32_t>> prompts =
      MakeServePrompts(trace, engine.config().vocab_size);
  Request common;
  common.sampler.temperature = 0;
  for (const int32_t id : EndTokens(engine.tokenizer())) {
    common.sampler.logit_bias.push_back({id, -std::numeric_limits<float>::infinity()});
  }
  const auto n_all = static_cast<int64_t>(trace.size());
  Ends ends;
  std::vector<std::shared_ptr<TokenTimes>> listeners;
  ServeResult result;
  result.n_slots = options.n_slots;
  SchedulerThread scheduler(engine, options);
  const auto start = Clock::now();
  for (size_t i = 0; i < trace.size(); ++i) {
    const auto arrival =
        start + std::chrono::microseconds(static_cast<int64_t>(trace[i].arrival_ms * 1000));
    SleepUntil(arrival);
    Request request = common;
    request.prompt = prompts[i];
    request.max_tokens = trace[i].max_tokens;
    listeners.push_back(std::make_shared<TokenTimes>(start, arrival, ends));
    scheduler.Submit(std::move(request), listeners.back());
    Report(progress, "serving (requests)", static_cast<size_t>(ends.WaitFor(0)), trace.size());
  }
  for (int64_t n_ended = 0; n_ended < n_all;) {
    ThrowIfInterrupted();
    n_ended = ends.WaitFor(n_all);
    Report(progress, "serving (requests)", static_cast<size_t>(n_ended), trace.size());
  }
  scheduler.Drain();
  result.stats = scheduler.stats();
  for (const auto& listener : listeners) result.texts.push_back(listener->text());
  SummariseServe(bounds, &result);
  return result;
}

}  // namespace thermocline
