// What a server counts beside what the scheduler counts, and both as Prometheus reads them.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <string>

#include "runtime/schedule/schedule_stats.h"

namespace thermocline {

// Durations by how long they were.
class Histogram {
 public:
  static constexpr std::array<double, 16> kBoundsSeconds = {
      0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120};

  void Add(double seconds);
  // Lines of Prometheus's text format.
  std::string Text(const std::string& name, const std::string& help) const;

 private:
  std::array<int64_t, kBoundsSeconds.size() + 1> counts_{};
  double sum_ = 0;
};

// What is counted elsewhere.
struct MetricsLook {
  ScheduleStats stats;
  int64_t neurons = 0;  // that stats.neurons speaks of, all layers together
  int64_t n_connections = 0;
};

class Metrics {
 public:
  void AddFirstToken(double seconds);
  void AddInterToken(double seconds);
  void AddAnswer(int status);
  // The speeds are those since the last call.
  std::string Text(const MetricsLook& look);

 private:
  std::mutex mutex_;
  Histogram first_token_;
  Histogram inter_token_;
  std::array<int64_t, 6> answers_{};  // by the status's first digit
  ScheduleStats last_;
};

}  // namespace thermocline
