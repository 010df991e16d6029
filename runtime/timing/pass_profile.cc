#include "runtime/timing/pass_profile.h"

#include <algorithm>
#include <numeric>

namespace thermocline {
namespace {

double Share(int64_t part_ns, int64_t all_ns) {
  return all_ns == 0 ? 0 : static_cast<double>(part_ns) / static_cast<double>(all_ns);
}

int64_t Sum(const PassTimes& times) {
  return std::accumulate(times.begin(), times.end(), int64_t{0});
}

int64_t IdleNs(const PassTimes& times) {
  int64_t idle_ns = 0;
  for (size_t p = 0; p < times.size(); ++p) {
    if (IsIdle(static_cast<PassPart>(p))) idle_ns += times[p];
  }
  return idle_ns;
}

}  // namespace

PassProfile::PassProfile(int n_threads, int64_t keep_spans)
    : keep_spans_(keep_spans), timers_(static_cast<size_t>(n_threads)) {}

int64_t PassProfile::CountSpans() const {
  size_t n = gpu_spans_.size() + kept_passes_.size();
  for (const PassTimer& timer : timers_) n += timer.spans().size();
  return static_cast<int64_t>(n);
}

void PassProfile::BeginPass() {
  // Once a pass was left out no later one is stored, so that what is stored has no hole.
  keeping_ = CountSpans() < keep_spans_ && static_cast<int64_t>(kept_passes_.size()) == n_passes_;
  begin_ns_ = HostClockNs();
  for (PassTimer& timer : timers_) timer.StartAt(begin_ns_, keeping_);
}

void PassProfile::EndPass(int64_t n_tokens) {
  const int64_t end_ns = HostClockNs();
  for (PassTimer& timer : timers_) {
    timer.set_layer(PassSpan::kNoLayer);
    timer.MarkAt(PassPart::kFinish, end_ns);
  }
  if (keeping_) kept_passes_.push_back({begin_ns_, end_ns, n_tokens});
  ++n_passes_;
  n_tokens_ += n_tokens;
}

void PassProfile::AddGpuPass(std::span<const PassSpan> spans) {
  if (spans.empty()) return;
  has_gpu_ = true;
  if (gpu_end_ns_) gpu_between_ns_ += std::max<int64_t>(0, spans.front().begin_ns - *gpu_end_ns_);
  gpu_end_ns_ = spans.back().end_ns;
  for (const PassSpan& span : spans) {
    gpu_times_[static_cast<size_t>(span.part)] += span.end_ns - span.begin_ns;
  }
  if (keeping_) gpu_spans_.insert(gpu_spans_.end(), spans.begin(), spans.end());
}

double PassProfile::gpu_idle_share() const {
  return Share(IdleNs(gpu_times_) + gpu_between_ns_, Sum(gpu_times_) + gpu_between_ns_);
}

double PassProfile::cpu_idle_share() const {
  int64_t idle_ns = 0;
  int64_t all_ns = 0;
  for (const PassTimer& timer : timers_) {
    idle_ns += IdleNs(timer.times());
    all_ns += Sum(timer.times());
  }
  return Share(idle_ns, all_ns);
}

}  // namespace thermocline
