// Times ops as passes run them: lanes of a team of threads that meet at barriers, on the cores that
// the executor would pin them to.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/rates/machine_rates.h"
#include "runtime/threads/team.h"

namespace thermocline {

// What of the repetitions of a measurement counts, and what they say of the machine's noise.
class NoiseMeter {
 public:
  NoiseMeter();

  // Takes the repetitions of one measurement; returns their 25th percentile. Other work on the
  // machine only ever makes a repetition longer, and nothing makes one shorter than it is: the
  // quarter of the best says most of the machine and is no single lucky one.
  double Typical(std::vector<double> seconds);
  void AddStretch(double cpu_seconds, double wall_seconds);
  // Over all that was measured until now.
  RatesNoise Result() const;

 private:
  double cpu_seconds_ = 0;
  double wall_seconds_ = 0;
  std::vector<double> spreads_;
  double busy_at_start_s_;  // of the machine's processors, those others used
  double wall_at_start_s_;
};

class TimedLanes {
 public:
  TimedLanes(int n_threads, NoiseMeter* noise);
  int n_threads() const { return team_.n_threads(); }
  ThreadTeam& team() { return team_; }

  // Seconds from when all lanes are awake until the last has done body(lane).
  double Seconds(const std::function<void(const Lane&)>& body);
  // NoiseMeter::Typical of n_times, each behind before().
  double TypicalSeconds(int n_times, const std::function<void()>& before,
                        const std::function<void(const Lane&)>& body);
  // Seconds of a team's turn in which nothing is done.
  double EmptyRunSeconds(int n_times);

 private:
  ThreadTeam team_;
  LaneGroup* group_;
  NoiseMeter* noise_;
};

}  // namespace thermocline
