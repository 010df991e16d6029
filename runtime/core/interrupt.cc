#include "runtime/core/interrupt.h"

#include <atomic>

#include "runtime/core/error.h"

namespace thermocline {
namespace {
std::atomic<int> g_requests{0};
static_assert(std::atomic<int>::is_always_lock_free, "used from a signal handler");
}  // namespace

int request_interrupt() { return g_requests.fetch_add(1) + 1; }
bool interrupt_requested() { return g_requests.load(std::memory_order_relaxed) > 0; }
void clear_interrupt() { g_requests.store(0); }

void throw_if_interrupted() {
  if (interrupt_requested()) throw Interrupted();
}

}  // namespace thermocline
