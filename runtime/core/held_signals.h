// Signals that are kept from interrupting a thread. Two kinds of thread want that: one that runs
// compiled code of oneDNN, and workers, which leave signals to the thread that reads and writes.
#pragma once

#include <csignal>

namespace thermocline {

// Holds back the calling thread's signals (Ctrl-C, timers) while it lives; they come afterwards.
// Faults (SIGBUS, SIGSEGV, SIGFPE, SIGILL) still come at once.
//
// Every call of oneDNN's matrix products needs one. Their generated code points the stack register
// at scratch memory on the heap, and a signal that comes then writes its frame over whatever
// lies before that memory.
class HeldSignals {
 public:
  HeldSignals();
  ~HeldSignals();
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

 private:
  sigset_t before_;
};

// Holds back the calling thread's signals for good. For workers.
void HoldSignals();

}  // namespace thermocline
