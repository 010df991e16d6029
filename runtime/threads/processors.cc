#include "runtime/threads/processors.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "runtime/core/control_groups.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCpus = "sys/devices/system/cpu";
constexpr int kMaxNumber = 1 << 16;  // largest number of a CPU or a node
constexpr size_t kMaskWordBits = 8 * sizeof(unsigned long);

std::string FirstLine(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Takes the number at the front of *text off it.
bool TakeNumber(std::string_view* text, int* number) {
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), *number);
  if (error != std::errc() || *number < 0 || *number >= kMaxNumber) return false;
  text->remove_prefix(static_cast<size_t>(end - text->data()));
  return true;
}

bool TakeCharacter(std::string_view* text, char character) {
  if (!text->starts_with(character)) return false;
  text->remove_prefix(1);
  return true;
}

// Reads a group's quota. Version 2 writes "QUOTA PERIOD" to one file, version 1 the two to two. The
// quota is "max" or -1 where there is none.
std::optional<double> QuotaOfGroup(const fs::path& directory) {
  std::istringstream text(FirstLine(directory / "cpu.max") + " " +
                          FirstLine(directory / "cpu.cfs_quota_us") + " " +
                          FirstLine(directory / "cpu.cfs_period_us"));
  double quota = 0;
  double period = 0;
  if (!(text >> quota >> period) || quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

// Returns a CPU's capacity as the scheduler has it, relative to the others'; 0 where it says none.
int CapacityOf(int cpu, const std::string& root) {
  const std::string text =
      FirstLine(fs::path(root) / kCpus / ("cpu" + std::to_string(cpu)) / "cpu_capacity");
  int capacity = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, capacity);
  constexpr int kMost = 1 << 20;
  return error == std::errc() && rest == end && capacity <= kMost ? std::max(capacity, 0) : 0;
}

}  // namespace

std::optional<std::vector<int>> ParseNumberList(std::string_view text) {
  std::set<int> numbers;
  do {
    int first = 0;
    if (!TakeNumber(&text, &first)) return std::nullopt;
    int last = first;
    if (TakeCharacter(&text, '-') && (!TakeNumber(&text, &last) || last < first)) {
      return std::nullopt;
    }
    for (int i = first; i <= last; ++i) numbers.insert(i);
  } while (TakeCharacter(&text, ','));
  if (!text.empty()) return std::nullopt;
  return std::vector<int>(numbers.begin(), numbers.end());
}

std::vector<int> ThreadCpus() {
  // The kernel wants a mask that holds all CPUs it could have, and does not say how many.
  for (size_t n_words = CPU_SETSIZE / kMaskWordBits; n_words <= kMaxNumber / kMaskWordBits;
       n_words *= 2) {
    std::vector<unsigned long> mask(n_words, 0);
    if (sched_getaffinity(0, n_words * sizeof(unsigned long),
                          reinterpret_cast<cpu_set_t*>(mask.data())) != 0) {
      continue;
    }
    std::vector<int> cpus;
    for (size_t i = 0; i < n_words * kMaskWordBits; ++i) {
      if ((mask[i / kMaskWordBits] >> (i % kMaskWordBits) & 1) != 0) {
        cpus.push_back(static_cast<int>(i));
      }
    }
    return cpus;
  }
  return {};
}

bool SetThreadCpus(std::span<const int> cpus) {
  std::vector<unsigned long> mask(kMaxNumber / kMaskWordBits, 0);
  for (const int cpu : cpus) {
    if (cpu < 0 || cpu >= kMaxNumber) return false;
    mask[static_cast<size_t>(cpu) / kMaskWordBits] |= 1UL
                                                      << (static_cast<size_t>(cpu) % kMaskWordBits);
  }
  return sched_setaffinity(0, mask.size() * sizeof(unsigned long),
                           reinterpret_cast<const cpu_set_t*>(mask.data())) == 0;
}

std::vector<std::vector<int>> PhysicalCores(std::span<const int> cpus, const std::string& root) {
  std::vector<std::vector<int>> cores;
  std::map<std::string, size_t> core_of;  // the core that has a list of siblings
  for (const int cpu : cpus) {
    std::string siblings = FirstLine(fs::path(root) / kCpus / ("cpu" + std::to_string(cpu)) /
                                     "topology/thread_siblings_list");
    if (siblings.empty()) siblings = std::to_string(cpu);
    const auto [core, is_new] = core_of.emplace(std::move(siblings), cores.size());
    if (is_new) cores.emplace_back();
    cores[core->second].push_back(cpu);
  }
  return cores;
}

std::vector<int> FastCpus(std::span<const int> cpus, const std::string& root) {
  std::vector<int> fast;
  if (const auto named = ParseNumberList(FirstLine(fs::path(root) / "sys/devices/cpu_core/cpus"))) {
    std::ranges::set_intersection(cpus, *named, std::back_inserter(fast));
  } else {
    std::vector<int> capacities;
    for (const int cpu : cpus) capacities.push_back(CapacityOf(cpu, root));
    const int most = capacities.empty() ? 0 : std::ranges::max(capacities);
    for (size_t i = 0; i < cpus.size(); ++i) {
      if (4 * capacities[i] >= 3 * most) fast.push_back(cpus[i]);
    }
  }
  return fast.empty() ? std::vector<int>(cpus.begin(), cpus.end()) : fast;
}

std::vector<std::vector<int>> CoresToPin(Pinning pinning, int n_threads, std::span<const int> cpus,
                                         const std::string& root) {
  if (pinning == Pinning::kOff) return {};
  const auto n = static_cast<size_t>(n_threads);
  const std::vector<int> fast = FastCpus(cpus, root);
  std::vector<std::vector<int>> cores = PhysicalCores(fast, root);
  if (pinning == Pinning::kAuto) {
    const auto online = ParseNumberList(FirstLine(fs::path(root) / kCpus / "online"));
    const bool all = online && std::ranges::equal(*online, cpus);
    return all && cores.size() == n ? cores : std::vector<std::vector<int>>();
  }
  std::vector<int> others;
  std::ranges::set_difference(cpus, fast, std::back_inserter(others));
  std::ranges::move(PhysicalCores(others, root), std::back_inserter(cores));
  if (cores.size() < n) {
    throw Error({.what = "threads cannot be pinned",
                 .expected = "at most one for each of the " + std::to_string(cores.size()) +
                             " physical cores that may be used",
                 .found = std::to_string(n_threads),
                 .hint = "ask for fewer threads, or do not pin them",
                 .settings = {{Setting::kThreads}, {Setting::kPinning}}});
  }
  cores.resize(n);
  return cores;
}

std::optional<double> CpuQuota(const std::string& root) {
  std::optional<double> least;
  for (const ControlGroup& group : ControlGroupsOf("cpu", root)) {
    const std::optional<double> quota = QuotaOfGroup(group.directory);
    if (quota && (!least || *quota < *least)) least = quota;
  }
  return least;
}

int UsableCores(std::span<const int> cpus, const std::string& root) {
  auto n_cores = static_cast<double>(PhysicalCores(FastCpus(cpus, root), root).size());
  if (const std::optional<double> quota = CpuQuota(root)) {
    n_cores = std::min(n_cores, std::floor(*quota));
  }
  return std::max(1, static_cast<int>(n_cores));
}

int DefaultThreadCount() { return UsableCores(ThreadCpus()); }

std::vector<int> NodesBeside(std::span<const int> cpus, const std::string& root) {
  const fs::path directory = fs::path(root) / "sys/devices/system/node";
  const auto with_memory = ParseNumberList(FirstLine(directory / "has_memory"));
  std::vector<int> nodes;
  if (!with_memory) return nodes;
  for (const int node : *with_memory) {
    const auto of_node =
        ParseNumberList(FirstLine(directory / ("node" + std::to_string(node)) / "cpulist"));
    if (of_node && std::ranges::find_first_of(*of_node, cpus) != of_node->end()) {
      nodes.push_back(node);
    }
  }
  return nodes;
}

}  // namespace thermocline
