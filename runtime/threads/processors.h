// Which processors this process may use, how much time it may take on them, and the memory nodes
// beside them, as Linux says it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline {

// Reads numbers of CPUs or nodes as the kernel lists them ("0-3,8"), ascending. Returns nullopt
// where the text is no such list.
std::optional<std::vector<int>> ParseNumberList(std::string_view text);

// Returns the CPUs that the calling thread may run on, ascending. It is empty where the system does
// not say.
std::vector<int> ThreadCpus();

// Confines the calling thread to these CPUs. Returns false where the system refuses; the thread
// then runs where it ran before.
bool SetThreadCpus(std::span<const int> cpus);

// In what follows `root` is the directory that holds proc and sys; tests give one of their own.

// Returns `cpus` by physical core: each entry holds the SMT siblings of one, in the order of their
// first. Where the system does not say which are siblings, each CPU is a core.
std::vector<std::vector<int>> PhysicalCores(std::span<const int> cpus,
                                            const std::string& root = "/");

// Returns those of `cpus` that are of the fast kind where cores differ (Intel's performance cores,
// or what has three quarters of the largest capacity); all of them where none is, or where the
// system does not say.
std::vector<int> FastCpus(std::span<const int> cpus, const std::string& root = "/");

// Returns the processors' worth of time that the process's control groups leave it (cpu.max, or
// cpu.cfs_quota_us), the least of all levels that can be seen. nullopt: no limit.
std::optional<double> CpuQuota(const std::string& root = "/");

// Returns how many threads can run at full speed at once: a physical core of the fast kind each,
// and no more than the quota pays for, rounded down, since a thread that is throttled holds up all
// others at every barrier. It is at least 1.
int UsableCores(std::span<const int> cpus, const std::string& root = "/");

// Returns UsableCores of the CPUs this process may use, which is what `-t 0` stands for.
int DefaultThreadCount();

enum class Pinning : uint8_t { kAuto, kOn, kOff };

// Returns the physical core (its siblings) for each of n_threads threads; empty where they are not
// to be pinned. kAuto pins where the threads are as many as the machine's fast physical cores and
// `cpus` is all that are online: with fewer threads two processes would choose the same cores while
// others are idle, and who restricted the CPUs has plans of their own. kOn pins within `cpus`, to
// fast ones first, and throws Error where they have fewer cores than threads.
std::vector<std::vector<int>> CoresToPin(Pinning pinning, int n_threads, std::span<const int> cpus,
                                         const std::string& root = "/");

// Returns the memory nodes that have processors among `cpus`, ascending; empty where the system
// does not say.
std::vector<int> NodesBeside(std::span<const int> cpus, const std::string& root = "/");

}  // namespace thermocline
