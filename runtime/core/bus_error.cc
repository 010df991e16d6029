#include "runtime/core/bus_error.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <tuple>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kFailed = 1;

// A mapping, or a free place for one (begin is null). The handler may look at any time, so places
// are used again and never freed, and `message` changes only while the place is free.
struct Mapping {
  std::atomic<const std::byte*> begin{nullptr};
  std::atomic<const std::byte*> end{nullptr};
  std::string message;
  Mapping* next = nullptr;
};

std::atomic<Mapping*> g_mappings{nullptr};
std::mutex g_mutex;  // taken by those who note and forget

Mapping& FreePlace() {
  for (Mapping* place = g_mappings.load(); place != nullptr; place = place->next) {
    if (place->begin.load() == nullptr) return *place;
  }
  auto* place = new Mapping;
  place->next = g_mappings.load();
  g_mappings.store(place);
  return *place;
}

extern "C" void OnBusError(int signal_number, siginfo_t* info, void* /*context*/) {
  const auto* address = static_cast<const std::byte*>(info->si_addr);
  for (const Mapping* place = g_mappings.load(); place != nullptr; place = place->next) {
    const std::byte* begin = place->begin.load();
    if (begin == nullptr || address < begin || address >= place->end.load()) continue;
    std::ignore = ::write(STDERR_FILENO, place->message.data(), place->message.size());
    ::_exit(kFailed);
  }
  (void)::signal(signal_number, SIG_DFL);  // the read is made again, and ends the program
}

}  // namespace

void InstallBusErrorHandler() {
  struct sigaction action {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

void NoteMapping(const std::byte* data, uint64_t n_bytes, const std::string& path) {
  const std::lock_guard lock(g_mutex);
  Mapping& place = FreePlace();
  place.message = "thermocline: " + Printable(path, 400) +
                  ": the file was cut short while it was read (or its disk failed); get it whole "
                  "again and leave it alone while it is in use\n";
  place.end.store(data + n_bytes);
  place.begin.store(data);
}

void ForgetMapping(const std::byte* data) {
  const std::lock_guard lock(g_mutex);
  for (Mapping* place = g_mappings.load(); place != nullptr; place = place->next) {
    if (place->begin.load() == data) place->begin.store(nullptr);
  }
}

}  // namespace thermocline
