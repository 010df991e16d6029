#include "runtime/core/held_signals.h"

#include <pthread.h>

#include <initializer_list>

namespace thermocline {
namespace {

// Returns all signals but faults. A fault is the faulting thread's own: held back, it would end the
// program without a word.
sigset_t AllButFaults() {
  sigset_t signals;
  sigfillset(&signals);
  for (const int fault : {SIGBUS, SIGSEGV, SIGFPE, SIGILL}) sigdelset(&signals, fault);
  return signals;
}

}  // namespace

HeldSignals::HeldSignals() {
  const sigset_t signals = AllButFaults();
  pthread_sigmask(SIG_BLOCK, &signals, &before_);
}

HeldSignals::~HeldSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

void HoldSignals() {
  const sigset_t signals = AllButFaults();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

}  // namespace thermocline
