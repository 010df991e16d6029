#include "runtime/core/interrupt.h"

#include <atomic>

#include "runtime/core/error.h"

namespace thermocline {
namespace {
std::atomic<int> g_requests{0};
std::atomic<int> g_termination{0};  // the signal that asked; 0: none did
static_assert(std::atomic<int>::is_always_lock_free, "used from a signal handler");
}  // namespace

int RequestInterrupt() { return g_requests.fetch_add(1) + 1; }
void RequestTermination(int signal_number) { g_termination.store(signal_number); }
int TerminationSignal() { return g_termination.load(); }
bool InterruptRequested() {
  return g_requests.load(std::memory_order_relaxed) > 0 ||
         g_termination.load(std::memory_order_relaxed) != 0;
}
void ClearInterrupt() { g_requests.store(0); }

void ThrowIfInterrupted() {
  if (InterruptRequested()) throw Interrupted();
}

}  // namespace thermocline
