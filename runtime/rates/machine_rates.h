// How fast this machine is: what `calibrate` measures and the cost model of a placement counts
// with. Every number is measured with the kernels and the team of threads that passes use; none is
// taken from a data sheet.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/core/dtype.h"

namespace thermocline {

// Which machine rates were measured on. Rates of another one say nothing.
struct MachineIdentity {
  std::string cpu;    // the model, as the system names it
  std::string isa;    // the kernels in use ("avx512 vnni bf16 vbmi")
  std::string cores;  // CPUs that the process may use, as the kernel lists them ("0-3,8")
  std::string gpu;    // its name; empty without one

  bool operator==(const MachineIdentity&) const = default;
  std::string Text() const;  // one line
};
// Of this process, with the GPU of this build, if there is one. root: holds proc and sys.
MachineIdentity ThisMachine(const std::string& root = "/");

// Of the file. Rates are kept apart by it, so that those of an older program are measured anew.
inline constexpr uint64_t kRatesVersion = 2;

// Rows of a pass that products are timed with. Between them the time of a product is taken to grow
// evenly, and beyond the last in proportion to the rows.
inline constexpr int64_t kRateRows[] = {1, 2, 4, 8, 16, 64, 256};
inline constexpr size_t kRateRowCounts = std::size(kRateRows);

// What rates of products go by: processors prefetch rows of some lengths twice as well as others.
struct RateKey {
  DType dtype = DType::kF32;
  int64_t cols = 0;  // weights of a row

  bool operator==(const RateKey&) const = default;
  bool operator<(const RateKey& other) const {
    return std::tie(dtype, cols) < std::tie(other.dtype, other.cols);
  }
};

// Products with weights of one type in rows of one length. n_counts: of HostRates::thread_counts (a
// GPU has one).
struct TypeRates {
  RateKey key;
  // (n_counts, kRateRowCounts) weights per second that are multiplied by so many rows at once, read
  // from memory.
  std::vector<double> linear_weights_per_s = {};
  // (n_counts, kRateRowCounts) the same of a dense FFN whose gate, up and down have a row per
  // neuron: weights of all three per second.
  std::vector<double> ffn_weights_per_s = {};
  // (n_counts) as linear of one row, where the weights lie in a core's cache already.
  std::vector<double> cached_weights_per_s = {};
  // (n_counts) weights per second that are added up, each row times a number (a down projection
  // with a row per neuron), read from memory.
  std::vector<double> sum_weights_per_s = {};
};

struct HostRates {
  std::vector<int64_t> thread_counts = {};    // (n_counts) ascending, the first is 1
  std::vector<double> read_bytes_per_s = {};  // (n_counts) plain reads, all threads together
  // (n_counts) The same of memory in small pages, as that of a mapped file is. Weights that are
  // used where they lie in their file are read no faster. Empty: rates of a program that did not
  // know.
  std::vector<double> mapped_bytes_per_s = {};
  std::vector<double> op_us = {};    // (n_counts) what an op costs beside its bytes
  std::vector<double> wake_us = {};  // (n_counts) what a pass costs beside its ops
  // (n_counts) bytes of keys and values per second that a token of each sequence attends to, where
  // each head of queries has its own.
  std::vector<double> attend_bytes_per_s = {};
  std::vector<double> handover_us = {};  // (n_counts) from one tier to the other and back
  std::vector<TypeRates> types = {};
  // What single rows of a matrix take against all of them: the rate of those read, over that of a
  // plain walk. (n_sizes, n_densities)
  std::vector<double> gather_row_bytes = {};  // (n_sizes) ascending
  std::vector<double> gather_density = {};    // (n_densities) ascending, shares of the rows
  std::vector<double> linear_gather = {};     // of products
  std::vector<double> sum_gather = {};        // of sums
  // Reads of a file past the page cache, at random places, by block size; empty where the system
  // does not let us. (n_blocks)
  std::vector<double> storage_block_bytes = {};
  std::vector<double> storage_bytes_per_s = {};
};

struct GpuRates {
  bool emulated = false;  // by the CPU: says nothing of a GPU
  double read_bytes_per_s = 0;
  double to_gpu_bytes_per_s = 0;
  double from_gpu_bytes_per_s = 0;
  double op_us = 0;                   // a kernel of a kept pass
  double handover_us = 0;             // to the host and back
  std::vector<TypeRates> types = {};  // one count
};

// How quiet the machine was while it was measured.
struct RatesNoise {
  double cpu_share = 1;     // of the timed stretches, what their threads spent on processors
  double others_share = 0;  // of all processors' time, what others used or the host withheld
  // The 90th over the 10th percentile of a measurement's repetitions; the median of all of them.
  double spread = 1;

  bool disturbed() const { return cpu_share < 0.97 || others_share > 0.05 || spread > 1.3; }
};

struct MachineRates {
  std::string path;  // where they were read from; for messages. Empty: measured now
  MachineIdentity machine;
  int64_t measured_at_s = 0;  // since 1970
  HostRates host;
  std::optional<GpuRates> gpu;
  RatesNoise noise;

  // ---- by how many threads; between and beyond the counts measured, as the nearest say ----
  double ReadBytesPerSecond(int n_threads) const;
  double MappedBytesPerSecond(int n_threads) const;  // where it is not known, ReadBytesPerSecond
  double OpUs(int n_threads) const;
  double WakeUs(int n_threads) const;
  double HandoverUs(int n_threads) const;
  double AttendBytesPerSecond(int n_threads) const;
  // Seconds that all of n_weights take in a product with `rows` rows. Of row lengths that were not
  // measured the nearest counts. REQUIRES: HasType.
  double LinearSeconds(const RateKey& key, int n_threads, int64_t rows, double n_weights) const;
  double FfnSeconds(const RateKey& key, int n_threads, int64_t rows, double n_weights) const;
  double CachedSeconds(const RateKey& key, int n_threads, double n_weights) const;
  double SumSeconds(const RateKey& key, int n_threads, double n_weights) const;
  // The share of the plain walk's rate at which rows of so many bytes are read, of which a token
  // takes a share `density`.
  double LinearGather(double row_bytes, double density) const;
  double SumGather(double row_bytes, double density) const;
  // The same machine while its memory gives `shares` (n_counts) of what it was measured to give.
  MachineRates WithMemoryAt(std::span<const double> shares) const;
  bool HasType(DType dtype) const;  // in rows of any length
  bool Has(const RateKey& key) const;
};

// The rates of this type in rows of this length, or the nearest; null where there is none.
const TypeRates* FindRates(std::span<const TypeRates> types, const RateKey& key);

// Rates measured while plain reads gave `then` (n_counts), as they are where they give `now`: what
// is bound by reading takes as much longer or less long, as far as arithmetic allows.
void MoveToMemory(std::span<const double> then, std::span<const double> now, TypeRates* type);

// A value at x of what is known at `at` (ascending): between two points on the line through them,
// outside the value at the nearest. REQUIRES: at not empty, as many values.
double ValueAt(std::span<const double> at, std::span<const double> values, double x);

// Where this machine's rates are kept: $XDG_CACHE_HOME/thermocline, else ~/.cache/thermocline; a
// file per machine. Empty where neither is set.
std::string RatesCachePath(const MachineIdentity& machine);

// A GGUF like every file of ours: one parser that holds against hostile input, and `inspect` shows
// it. Throws Error for what is no file of rates, has a rate that is none, or another version.
MachineRates ReadRates(const std::string& path);
void WriteRates(const std::string& path, const MachineRates& rates);
// Throws Error with both where the rates are another machine's.
void CheckRatesFit(const MachineRates& rates, const MachineIdentity& machine);

}  // namespace thermocline
