#include "tests/support/stack_signals.h"

#include <pthread.h>
#include <sys/time.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>

namespace thermocline {
namespace {

std::atomic<int> n_came;
std::atomic<int> n_came_elsewhere;
uintptr_t stack_begin;
size_t stack_bytes;

extern "C" void OnAlarm(int /*signal_number*/) {
  // A local variable would not do: AddressSanitizer may keep it elsewhere.
  const auto frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  ++n_came;
  if (frame - stack_begin >= stack_bytes) ++n_came_elsewhere;
}

void SetTimer(int microseconds) {
  const timeval interval{.tv_sec = 0, .tv_usec = microseconds};
  const itimerval timer{.it_interval = interval, .it_value = interval};
  setitimer(ITIMER_REAL, &timer, nullptr);
}

}  // namespace

StackSignals::StackSignals() {
  n_came = n_came_elsewhere = 0;
  // Here, since the call allocates memory, which a handler must not.
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  void* begin = nullptr;
  pthread_attr_getstack(&attributes, &begin, &stack_bytes);
  pthread_attr_destroy(&attributes);
  stack_begin = reinterpret_cast<uintptr_t>(begin);
  (void)std::signal(SIGALRM, OnAlarm);
  SetTimer(50);
}

StackSignals::~StackSignals() {
  SetTimer(0);
  (void)std::signal(SIGALRM, SIG_IGN);
}

int StackSignals::came() const { return n_came; }
int StackSignals::came_elsewhere() const { return n_came_elsewhere; }

}  // namespace thermocline
