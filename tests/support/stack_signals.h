// Where signals arrive: on the stack of the thread that is meant to take them, or elsewhere.
#pragma once

namespace thermocline {

// Sends SIGALRM to the process every 50 us of real time while it lives. One at a time.
class StackSignals {
 public:
  StackSignals();
  ~StackSignals();
  StackSignals(const StackSignals&) = delete;
  StackSignals& operator=(const StackSignals&) = delete;

  int came() const;
  // How many came anywhere but on the stack of the thread that made this: on a worker, or while the
  // stack register pointed elsewhere, where a signal's frame overwrites other memory.
  int came_elsewhere() const;
};

}  // namespace thermocline
