#include "runtime/rates/machine_rates.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cpu_kernels/kernels.h"
#include "gpu_kernels/base/gpu_support.h"
#include "runtime/core/error.h"
#include "runtime/core/fnv1a.h"
#include "runtime/threads/processors.h"

namespace thermocline {
namespace {

std::string CpuModel(const std::string& root) {
  std::ifstream info(root + "/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t colon = line.find(": ");
    return colon == std::string::npos ? "" : line.substr(colon + 2);
  }
  return "";
}

std::string ListText(std::span<const int> numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    if (!text.empty()) text += ',';
    text += std::to_string(numbers[i]);
    if (end - i > 1) text += fmt::format("-{}", numbers[end - 1]);
    i = end;
  }
  return text;
}

double AtThreads(const HostRates& host, std::span<const double> values, int n_threads) {
  const std::vector<double> at(host.thread_counts.begin(), host.thread_counts.end());
  return ValueAt(at, values, n_threads);
}

const TypeRates& TypeOf(const HostRates& host, const RateKey& key) {
  const TypeRates* const found = FindRates(host.types, key);
  CHECK(found != nullptr);
  return *found;
}

struct RatePoint {
  int n_threads;
  int64_t rows;
};

// rates: (n_counts, kRateRowCounts) weights per second.
double SecondsOf(const HostRates& host, const std::vector<double>& rates, const RatePoint& point,
                 double n_weights) {
  std::vector<double> at;
  std::vector<double> seconds;
  for (size_t r = 0; r < kRateRowCounts; ++r) {
    std::vector<double> by_count;
    for (size_t c = 0; c < host.thread_counts.size(); ++c) {
      by_count.push_back(rates[c * kRateRowCounts + r]);
    }
    at.push_back(static_cast<double>(kRateRows[r]));
    seconds.push_back(n_weights / AtThreads(host, by_count, point.n_threads));
  }
  const auto n = static_cast<double>(point.rows);
  return ValueAt(at, seconds, n) * std::max(1.0, n / at.back());
}

// Of plain reads: what goes faster than that waits for memory.
constexpr double kBoundByReading = 0.6;

// Between sizes and densities on the plane through the nearest.
double Gather(const HostRates& host, const std::vector<double>& grid, double row_bytes,
              double density) {
  const size_t n_densities = host.gather_density.size();
  std::vector<double> by_size;
  for (size_t i = 0; i < host.gather_row_bytes.size(); ++i) {
    by_size.push_back(ValueAt(host.gather_density,
                              std::span(grid).subspan(i * n_densities, n_densities), density));
  }
  return ValueAt(host.gather_row_bytes, by_size, row_bytes);
}

}  // namespace

std::string MachineIdentity::Text() const {
  return fmt::format("{}, {}, CPUs {}{}", cpu, isa, cores, gpu.empty() ? "" : ", GPU " + gpu);
}

MachineIdentity ThisMachine(const std::string& root) {
  const GpuSupport gpu = QueryGpuSupport();
  return {CpuModel(root), std::string(CpuKernels().features), ListText(ThreadCpus()),
          gpu.available ? gpu.device : ""};
}

double ValueAt(std::span<const double> at, std::span<const double> values, double x) {
  CHECK(!at.empty() && at.size() == values.size());
  if (x <= at.front()) return values.front();
  for (size_t i = 1; i < at.size(); ++i) {
    if (x > at[i]) continue;
    const double share = (x - at[i - 1]) / (at[i] - at[i - 1]);
    return values[i - 1] + share * (values[i] - values[i - 1]);
  }
  return values.back();
}

double MachineRates::ReadBytesPerSecond(int n_threads) const {
  return AtThreads(host, host.read_bytes_per_s, n_threads);
}
double MachineRates::MappedBytesPerSecond(int n_threads) const {
  if (host.mapped_bytes_per_s.empty()) return ReadBytesPerSecond(n_threads);
  return AtThreads(host, host.mapped_bytes_per_s, n_threads);
}
double MachineRates::OpUs(int n_threads) const { return AtThreads(host, host.op_us, n_threads); }
double MachineRates::WakeUs(int n_threads) const {
  return AtThreads(host, host.wake_us, n_threads);
}
double MachineRates::HandoverUs(int n_threads) const {
  return AtThreads(host, host.handover_us, n_threads);
}
double MachineRates::AttendBytesPerSecond(int n_threads) const {
  return AtThreads(host, host.attend_bytes_per_s, n_threads);
}

const TypeRates* FindRates(std::span<const TypeRates> types, const RateKey& key) {
  const TypeRates* best = nullptr;
  // How many times as long, either way.
  const auto distance = [&](const TypeRates& type) {
    return std::fabs(std::log(static_cast<double>(type.key.cols)) -
                     std::log(static_cast<double>(key.cols)));
  };
  for (const TypeRates& type : types) {
    if (type.key.dtype != key.dtype) continue;
    if (best == nullptr || distance(type) < distance(*best)) best = &type;
  }
  return best;
}

MachineRates MachineRates::WithMemoryAt(std::span<const double> shares) const {
  CHECK(shares.size() == host.thread_counts.size());
  MachineRates scaled = *this;
  for (size_t count = 0; count < shares.size(); ++count) {
    scaled.host.read_bytes_per_s[count] *= shares[count];
    if (!host.mapped_bytes_per_s.empty()) scaled.host.mapped_bytes_per_s[count] *= shares[count];
    scaled.host.attend_bytes_per_s[count] *= std::min(1.0, shares[count]);
  }
  for (TypeRates& type : scaled.host.types) {
    MoveToMemory(host.read_bytes_per_s, scaled.host.read_bytes_per_s, &type);
  }
  return scaled;
}

void MoveToMemory(std::span<const double> then, std::span<const double> now, TypeRates* type) {
  CHECK(then.size() == now.size());
  // Of a whole number of every type's blocks.
  const double bytes_per_weight = static_cast<double>(RowBytes(type->key.dtype, kSuperBlock)) /
                                  static_cast<double>(kSuperBlock);
  for (std::vector<double>* rates :
       {&type->linear_weights_per_s, &type->ffn_weights_per_s, &type->sum_weights_per_s}) {
    const size_t n_per_count = rates->size() / then.size();
    for (size_t i = 0; i < rates->size(); ++i) {
      double& rate = (*rates)[i];
      const size_t count = i / n_per_count;
      if (rate * bytes_per_weight < kBoundByReading * then[count]) continue;
      const double arithmetic = std::max(rate, type->cached_weights_per_s[count]);
      rate = std::min(rate * now[count] / then[count], arithmetic);
    }
  }
}

bool MachineRates::HasType(DType dtype) const {
  return FindRates(host.types, {dtype, 1}) != nullptr;
}

bool MachineRates::Has(const RateKey& key) const {
  const TypeRates* const found = FindRates(host.types, key);
  return found != nullptr && found->key == key;
}

double MachineRates::LinearSeconds(const RateKey& key, int n_threads, int64_t rows,
                                   double n_weights) const {
  return SecondsOf(host, TypeOf(host, key).linear_weights_per_s, {n_threads, rows}, n_weights);
}

double MachineRates::FfnSeconds(const RateKey& key, int n_threads, int64_t rows,
                                double n_weights) const {
  return SecondsOf(host, TypeOf(host, key).ffn_weights_per_s, {n_threads, rows}, n_weights);
}

double MachineRates::CachedSeconds(const RateKey& key, int n_threads, double n_weights) const {
  return n_weights / AtThreads(host, TypeOf(host, key).cached_weights_per_s, n_threads);
}

double MachineRates::SumSeconds(const RateKey& key, int n_threads, double n_weights) const {
  return n_weights / AtThreads(host, TypeOf(host, key).sum_weights_per_s, n_threads);
}

double MachineRates::LinearGather(double row_bytes, double density) const {
  return Gather(host, host.linear_gather, row_bytes, density);
}
double MachineRates::SumGather(double row_bytes, double density) const {
  return Gather(host, host.sum_gather, row_bytes, density);
}

std::string RatesCachePath(const MachineIdentity& machine) {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  const char* const home = std::getenv("HOME");
  std::filesystem::path folder;
  if (cache != nullptr && *cache == '/') {
    folder = cache;
  } else if (home != nullptr && *home == '/') {
    folder = std::filesystem::path(home) / ".cache";
  } else {
    return "";
  }
  Fnv1a hash;
  for (const std::string& part : {machine.cpu, machine.isa, machine.cores, machine.gpu}) {
    hash.AddText(part);
  }
  hash.AddText(fmt::format("version {}", kRatesVersion));
  return folder / "thermocline" / (hash.Text() + ".rates.gguf");
}

void CheckRatesFit(const MachineRates& rates, const MachineIdentity& machine) {
  if (rates.machine == machine) return;
  throw Error({.path = rates.path,
               .what = "the rates were measured on another machine",
               .expected = Printable(machine.Text(), 300),
               .found = Printable(rates.machine.Text(), 300),
               .hint = "calibrate this one"});
}

}  // namespace thermocline
